"""What a process does when another one of its training ends."""

import subprocess
import sys
import time

import pytest

from keras_fcn.distribution import watch

pytestmark = pytest.mark.any_backend

# The module alone, so that no process imports Keras.
PROCESS = """
import importlib.util, os, pathlib, socket, sys, time
spec = importlib.util.spec_from_file_location("watch", {module!r})
watch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(watch)
watch.SECONDS_TO_FAIL = 1
FOLDER, INDEX, COUNT = pathlib.Path({folder!r}), {index}, {count}

def gather(told):
    if INDEX == 0:
        stranger = socket.create_connection(("127.0.0.1", told[0]))
        stranger.sendall(bytes(16))
        (FOLDER / "unfinished").write_text(repr(told))
        (FOLDER / "unfinished").rename(FOLDER / "told")
    while not (FOLDER / "told").exists():
        time.sleep(0.01)
    return [eval((FOLDER / "told").read_text())]

watched = watch.Watch(INDEX == 0, COUNT, "127.0.0.1", gather, "Another one has ended.")
"""
ENDED = "keras-fcn: error: Another one has ended.\n"


@pytest.fixture
def run(tmp_path):
    """Function of what each process does to exit codes, standard errors and seconds."""

    def run(*blocks):
        processes, started = [], time.monotonic()
        for index, block in enumerate(blocks):
            place = {"folder": str(tmp_path), "index": index, "count": len(blocks)}
            code = PROCESS.format(module=watch.__file__, **place) + block
            processes.append(
                subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
            )
        told = [process.communicate(timeout=60)[1] for process in processes]
        return [process.returncode for process in processes], told, time.monotonic() - started

    return run


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_process_ends_all_others_in_whatever_they_do(run, killed):
    blocks = ["time.sleep(50)", "watched.wait_for_first()", "while True: pass"]
    blocks[killed] = "time.sleep(0.2); os.kill(os.getpid(), 9)"
    codes, told, seconds = run(*blocks)
    assert codes == [-9 if number == killed else 1 for number in range(3)]
    assert told == ["" if number == killed else ENDED for number in range(3)]
    assert seconds < 20


def test_the_first_process_may_take_as_long_as_it_likes(run):
    first = "time.sleep(0.5); watched.wait_for_first(); watched.end(False)"
    other = "start = time.time(); watched.wait_for_first(); watched.end(False);"
    other += "sys.exit(int(10 * (time.time() - start)))"
    codes, told, _ = run(first, other)
    assert codes[0] == 0
    assert codes[1] >= 3
    assert told == ["", ""]


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_process_that_is_done_leaves_the_others_alone(run, earlier):
    blocks = ["time.sleep(0.2); watched.end(False)"] * 2
    blocks[earlier] = "watched.end(False)"
    assert run(*blocks)[:2] == ([0, 0], ["", ""])


@pytest.mark.parametrize("earlier", [0, 1])
def test_an_error_that_all_find_is_told_by_all(run, earlier):
    error = "print('Own error', file=sys.stderr); watched.end(True)"
    blocks = [f"time.sleep(0.2); {error}"] * 2
    blocks[earlier] = error
    codes, told, seconds = run(*blocks)
    assert (codes, told) == ([1, 1], ["Own error\n"] * 2)
    assert seconds < 20


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_process_ends_the_others(run, failing):
    blocks = ["time.sleep(50)"] * 2
    blocks[failing] = "print('Own error', file=sys.stderr); watched.end(True)"
    codes, told, seconds = run(*blocks)
    assert codes == [1, 1]
    assert told[failing] == "Own error\n"
    assert told[1 - failing] == ENDED
    assert seconds < 20


def test_what_a_backend_logs_at_the_end_does_not_stand_behind_the_message(run):
    log = "end = os._exit; os._exit = lambda code: (os.write(2, b'log'), end(code)); time.sleep(50)"
    codes, told, _ = run("time.sleep(0.2); os.kill(os.getpid(), 9)", log)
    assert codes == [-9, 1]
    assert told[1] == ENDED
