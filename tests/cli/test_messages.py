import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import keras_fcn
from keras_fcn.cli import main, of_this_command
from keras_fcn.cli.parser import build_parser
from keras_fcn.data.formats import FORMATS


@pytest.mark.any_backend
def test_the_command_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "keras_fcn", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("0.")


@pytest.mark.any_backend
class TestBackends:
    """In processes of their own, because a process imports one backend."""

    @staticmethod
    def error_of(backend, code):
        run = f"import sys; {code}; from keras_fcn.cli import main; sys.exit(main(['weights']))"
        done = subprocess.run(
            [sys.executable, "-c", run],
            capture_output=True,
            text=True,
            env={**os.environ, "KERAS_BACKEND": backend},
        )
        assert done.returncode == 1
        return done.stderr.strip()

    @pytest.mark.parametrize("backend", ["jax", "torch"])
    def test_one_that_is_not_installed_is_an_error_with_the_remedy(self, backend):
        absent = (
            "import importlib.abc\n"
            "class Absent(importlib.abc.MetaPathFinder):\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        if name == {backend!r}:\n"
            "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
            "sys.meta_path.insert(0, Absent())"
        )
        error = self.error_of(backend, f"exec({absent!r})")
        assert error == (
            f"keras-fcn: error: {backend} must be installed for the backend {backend!r}: "
            f"pip install 'keras-fcn[{backend}]'"
        )

    def test_one_that_keras_does_not_have_is_an_error_with_the_names(self):
        assert self.error_of("pytorch", "pass") == (
            "keras-fcn: error: The environment variable KERAS_BACKEND must be tensorflow, jax or "
            "torch. Received: KERAS_BACKEND=pytorch."
        )


@pytest.mark.any_backend
def test_an_unknown_option_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--no-such-option"])
    assert exit_.value.code == 2


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("predict camvid photo.jpg --color-blind", "--colour-blind"),
        ("predict camvid photo.jpg --batchsize=2", "--batch-size"),
        ("train --learning-rats 1", "--learning-rate"),
        ("evaluat camvid", "evaluate"),
        ("data chek data", "check"),
        ("predict camvid photo.jpg --probabilities npy", "npz"),
    ],
)
def test_a_misspelt_option_command_or_choice_is_proposed(command, meant, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(command.split())
    assert exit_.value.code == 2
    assert capsys.readouterr().err.endswith(f" Did you mean {meant}?\n")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["predict", "camvdi", "photo.png"], "camvid"),
        (["evaluate", "camvid", "camvd"], "camvid"),
        (["train", "paper_voc_fcn8", "--out", "run"], "paper_voc_fcn8s"),
        (["data", "check", ".", "--label-space", "camvdi"], "camvid"),
    ],
    ids=str,
)
def test_a_misspelt_name_is_proposed(command, meant, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("photo.png")
    assert main(command) == 1
    assert capsys.readouterr().err.endswith(f" Did you mean {meant}?\n")


@pytest.mark.any_backend
class TestMessages:
    """An option that a message names is one of the command that prints it."""

    @staticmethod
    def helps():
        parser = build_parser()
        return {
            name: parser.parse_args(arguments).parser.format_help()
            for name, arguments in {
                "train": ["train"],
                "evaluate": ["evaluate", "model"],
                "predict": ["predict", "model", "image"],
                "serve": ["serve", "model"],
                "convert": ["convert", "source", "target"],
                "check": ["data", "check", "folder"],
                "preview": ["data", "preview", "folder"],
                **{name: ["data", "import", name, "in", "out"] for name in FORMATS},
                "demo": ["demo"],
                "reproduce": ["reproduce", "pascal_voc"],
                "push": ["push", "run", "repo"],
            }.items()
        }

    @staticmethod
    def messages():
        """Every text in the package that names an option, by its file."""
        package = Path(keras_fcn.__file__).parent
        for path in sorted(package.rglob("*.py")):
            tree, inner = ast.parse(path.read_text()), set()
            documented = {
                ast.get_docstring(node, clean=False)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            }
            for node in ast.walk(tree):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                inner.update(map(id, parts if parts != [node] else ()))
                if id(node) in inner:
                    continue
                texts = [p.value if isinstance(p, ast.Constant) else "X" for p in parts]
                text = "".join(map(str, texts))
                if re.search(r"--[a-z]", text) and text not in documented and "{" not in text:
                    yield path.relative_to(package).as_posix(), text

    # Of files that one command alone, or some, come to.
    TRAIN_ALONE = re.compile(
        r"training/(loop|failures|splits|trainer|run|objective|environment|push|model_c)"
    )

    def test_name_options_that_the_command_has(self):
        helps, seen = self.helps(), 0
        for file, text in self.messages():
            if file.startswith("cli/") or "torchrun" in text:
                continue
            names = ["train"] if self.TRAIN_ALONE.match(file) else helps
            if file in ("training/trained.py", "export/exported.py"):
                names = ["evaluate", "predict", "serve"]
            if file.startswith("serve/"):
                names = ["serve"]
            for name in names:
                shown = of_this_command(text, helps[name])
                for option in re.findall(r"--[a-z][a-z-]*", shown):
                    assert re.search(f"{option}(?![a-z-])", helps[name]), (name, file, text)
                    seen += 1
        assert seen > 20

    @pytest.mark.parametrize(
        ("images", "labels", "sentence"),
        [
            ("images", "absent", "`labels` (--labels) must be a folder. Received: absent."),
            ("absent", "labels", "`images` (--images) must be a folder. Received: absent."),
            ("images", "images", "`images` and `labels` (--images, --labels) must be two folders."),
        ],
    )
    def test_name_the_option_of_a_folder(self, images, labels, sentence, data, monkeypatch, capsys):
        monkeypatch.chdir(data)
        assert main(["evaluate", "camvid", "--images", images, "--labels", labels]) == 1
        assert sentence in capsys.readouterr().err

    def test_brackets_of_foreign_options_are_left_out(self, data, capsys):
        message = "Pass `ignore_class=7` (--ignore-class 7), or `palette` (--palette)."
        helps = self.helps()
        assert of_this_command(message, helps["train"]) == message
        shown = "Pass `ignore_class=7`, or `palette` (--palette)."
        assert of_this_command(message, helps["evaluate"]) == shown


def options_with_a_default(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_with_a_default(command)
        elif action.default not in (None, False, [], argparse.SUPPRESS):
            yield parser.prog, action


@pytest.mark.any_backend
def test_the_help_of_an_option_states_its_default():
    silent = [
        f"{command} {action.option_strings}"
        for command, action in options_with_a_default(build_parser())
        if "default" not in (action.help or "")
    ]
    assert silent == []
