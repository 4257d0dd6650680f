"""A process ends when another process of its training ends."""

import subprocess
import sys
import time

import pytest

from keras_fcn.distribution import watch

pytestmark = pytest.mark.any_backend

# Loads only this module, so that no process imports Keras.
PROCESS = """
import importlib.util, os, pathlib, socket, sys, time
spec = importlib.util.spec_from_file_location("watch", {module!r})
watch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(watch)
watch.SECONDS_TO_FAIL = 1
FOLDER, RANK, WORLD_SIZE = pathlib.Path({folder!r}), {rank}, {world_size}

def gather(told):
    if RANK == 0:
        stranger = socket.create_connection(("127.0.0.1", told[0]))
        stranger.sendall(bytes(16))
        (FOLDER / "unfinished").write_text(repr(told))
        (FOLDER / "unfinished").rename(FOLDER / "told")
    while not (FOLDER / "told").exists():
        time.sleep(0.01)
    return [eval((FOLDER / "told").read_text())]

watched = watch.Watch(RANK == 0, WORLD_SIZE, "127.0.0.1", gather, "Another one has ended.")
"""
ENDED = "keras-fcn: error: Another one has ended.\n"


@pytest.fixture
def run(tmp_path):
    """Function from the code of each process to exit codes, standard errors and seconds."""

    def run(*blocks):
        processes, started = [], time.monotonic()
        for rank, block in enumerate(blocks):
            place = {"folder": str(tmp_path), "rank": rank, "world_size": len(blocks)}
            code = PROCESS.format(module=watch.__file__, **place) + block
            processes.append(
                subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
            )
        told = [process.communicate(timeout=60)[1] for process in processes]
        return [process.returncode for process in processes], told, time.monotonic() - started

    return run


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_process_ends_all_others_whatever_they_are_doing(run, killed):
    blocks = ["time.sleep(50)", "watched.wait_for_first()", "while True: pass"]
    blocks[killed] = "time.sleep(0.2); os.kill(os.getpid(), 9)"
    codes, told, seconds = run(*blocks)
    assert codes == [-9 if rank == killed else 1 for rank in range(3)]
    assert told == ["" if rank == killed else ENDED for rank in range(3)]
    assert seconds < 20


def test_waiting_for_the_first_process_has_no_timeout(run):
    first = "time.sleep(0.5); watched.wait_for_first(); watched.end()"
    other = "start = time.time(); watched.wait_for_first(); watched.end();"
    other += "sys.exit(int(10 * (time.time() - start)))"
    codes, told, _ = run(first, other)
    assert codes[0] == 0
    assert codes[1] >= 3
    assert told == ["", ""]


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_process_that_is_done_does_not_end_the_others(run, earlier):
    blocks = ["time.sleep(0.2); watched.end()"] * 2
    blocks[earlier] = "watched.end()"
    assert run(*blocks)[:2] == ([0, 0], ["", ""])


@pytest.mark.parametrize("earlier", [0, 1])
def test_an_error_that_all_processes_find_is_reported_by_all(run, earlier):
    error = "print('Own error', file=sys.stderr); watched.end(1)"
    blocks = [f"time.sleep(0.2); {error}"] * 2
    blocks[earlier] = error
    codes, told, seconds = run(*blocks)
    assert (codes, told) == ([1, 1], ["Own error\n"] * 2)
    assert seconds < 20


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_process_ends_the_others(run, failing):
    blocks = ["time.sleep(50)"] * 2
    blocks[failing] = "print('Own error', file=sys.stderr); watched.end(1)"
    codes, told, seconds = run(*blocks)
    assert codes == [1, 1]
    assert told[failing] == "Own error\n"
    assert told[1 - failing] == ENDED
    assert seconds < 20


@pytest.mark.parametrize("earlier", [0, 1])
def test_an_interrupted_process_ends_with_its_exit_code_and_the_others_with_1(run, earlier):
    blocks = ["time.sleep(50)"] * 2
    blocks[earlier] = "watched.end(143)"
    codes, told, _ = run(*blocks)
    assert codes == [143 if rank == earlier else 1 for rank in range(2)]
    assert told == ["" if rank == earlier else ENDED for rank in range(2)]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 1)])
def test_a_signal_to_a_process_that_waits_in_c_is_its_exit_code(run, name, code):
    """Python runs the handler when C returns, which it never does: the mutex is locked twice."""
    waits = f"""
import ctypes, signal, threading
number = signal.{name}
signal.signal(number, lambda *_: None)
threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
lock(mutex), lock(mutex)
"""
    codes, told, _ = run("time.sleep(1); watched.end(130)", waits)
    assert codes == [130, code]
    assert told == ["", ENDED]


def test_no_backend_log_follows_the_final_message(run):
    log = "end = os._exit; os._exit = lambda code: (os.write(2, b'log'), end(code)); time.sleep(50)"
    codes, told, _ = run("time.sleep(0.2); os.kill(os.getpid(), 9)", log)
    assert codes == [-9, 1]
    assert told[1] == ENDED
