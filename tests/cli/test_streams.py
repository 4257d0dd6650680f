import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from cli.command_line import train, without_duplicates

from keras_fcn.cli import main
from keras_fcn.cli.parser import build_parser
from keras_fcn.training import trainer


@pytest.mark.any_backend
class TestStreams:
    """Results go to standard output, everything else to standard error."""

    CHECK = ("data", "check", "--num-classes", "3", "--ignore-class", "255")

    @pytest.fixture
    def data(self, data):
        return without_duplicates(data)

    def test_of_a_check(self, data, capsys):
        assert main([*self.CHECK, str(data)]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith(f"{data.name}: 4 pairs\n")
        assert "checking files" not in printed.out
        assert printed.err.splitlines() == [f"checking files: {done}/4" for done in range(1, 5)]

    def test_of_a_training(self, data, three_layers, capsys):
        options = ("--val-images", str(data / "images"), "--val-labels", str(data / "labels"))
        assert train(data, "--ignore-class", "255", *options) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith("run: best epoch, 1 of 1:\n  pixel accuracy ")
        assert printed.out.endswith(f"Run: {data / 'run'}\n")
        assert "epoch 1: validation loss 1." in printed.err
        assert re.search(r"epoch 1/1: 4/4 loss 1\.\d+, \d+ s left", printed.err)

    @pytest.mark.parametrize("unbuffered", [False, True])
    def test_a_closed_pipe_ends_quietly(self, data, monkeypatch, capsys, unbuffered):
        read_end, write_end = os.pipe()
        os.close(read_end)
        # As PYTHONUNBUFFERED, which containers set, opens it: nothing waits for a flush.
        binary = os.fdopen(write_end, "wb", buffering=0 if unbuffered else -1)
        with io.TextIOWrapper(binary, write_through=unbuffered) as pipe:
            monkeypatch.setattr(sys, "stdout", pipe)
            assert main([*self.CHECK, str(data)]) == 141
            monkeypatch.undo()
        assert "error" not in capsys.readouterr().err

    def test_a_training_goes_on_though_nobody_reads_its_progress(
        self, data, three_layers, monkeypatch
    ):
        read_end, write_end = os.pipe()
        os.close(read_end)
        with open(write_end, "w", buffering=1) as pipe, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", pipe)
            assert train(data, "--ignore-class", "255") == 0
            # What is left in the buffer would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())

    def test_letters_that_a_terminal_lacks_are_escaped(self, data, monkeypatch):
        space = data / "classes.toml"
        # As Windows's Notepad writes it.
        space.write_text('class_names = ["Straße", "Grün", "c"]\nignore_class = 255\n', "utf-8-sig")
        for folder in ("images", "labels"):
            (data / folder / "a.png").rename(data / folder / "Straße.png")
        terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
        monkeypatch.setattr(sys, "stdout", terminal)
        assert main(["data", "check", str(data), "--label-space", str(space)]) == 0
        terminal.flush()
        assert b"Stra\\xdfe" in terminal.buffer.getvalue()

    @pytest.mark.parametrize("has_begun", [True, False])
    def test_an_interrupted_training_says_how_to_go_on(self, data, monkeypatch, capsys, has_begun):
        def interrupted(*args, **kwargs):
            if has_begun:
                (data / "run").mkdir()
                (data / "run" / "config.toml").touch()
            raise KeyboardInterrupt

        monkeypatch.setattr(trainer, "train", interrupted)
        assert train(data) == 130
        way = f"; resume with: keras-fcn train --resume {data / 'run'}" if has_begun else ""
        assert capsys.readouterr().err == f"keras-fcn: interrupted{way}\n"

    def test_the_command_that_resumes_keeps_the_options_of_the_process(self, data, monkeypatch):
        def interrupted(*args, **kwargs):
            (data / "a run").mkdir()
            (data / "a run" / "config.toml").touch()
            raise KeyboardInterrupt

        monkeypatch.setattr(trainer, "train", interrupted)
        options = ["--devices=cpu:0,cpu:1", "--checkpoint-every=5", "--keep-state"]
        options += ["--track=tensorboard", "--out", str(data / "a run")]
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            assert main(["train", "--images=i", "--labels=l", *options]) == 130
        command = errors.getvalue().rpartition("resume with: keras-fcn ")[2]
        parsed = build_parser().parse_args(shlex.split(command))
        assert parsed.resume == str(data / "a run")
        assert (parsed.devices, parsed.checkpoint_every) == ("cpu:0,cpu:1", 5)
        assert (parsed.keep_state, parsed.track) == (True, ["tensorboard"])

    def test_sigterm_ends_a_training_as_ctrl_c_does(self, data, monkeypatch, capsys):
        ended = []

        def stopped(*args, **kwargs):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                # Python handles the signal before the next line.
                ended.append("goes on")
            except KeyboardInterrupt:
                # A second SIGTERM would not wait.
                ended.append(signal.getsignal(signal.SIGTERM))
                raise

        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            monkeypatch.setattr(trainer, "train", stopped)
            assert train(data) == 143
            assert ended == [signal.SIG_DFL]
        finally:
            signal.signal(signal.SIGTERM, before)
        assert capsys.readouterr().err == "keras-fcn: terminated\n"


@pytest.mark.gate
def test_a_command_that_saves_a_model_prints_nothing_of_tensorflows_start(caffemodel, tmp_path):
    """On JAX and PyTorch, Keras imports TensorFlow when it saves a model."""
    target = tmp_path / "net.keras"
    command = ["convert", caffemodel.path, str(target), "--label-space", "pascal_voc"]
    done = subprocess.run(
        [sys.executable, "-m", "keras_fcn", *command], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert target.is_file()
