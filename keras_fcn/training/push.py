"""Publishes the model of a run on the Hugging Face Hub."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import tomli_w

from keras_fcn.io import hub
from keras_fcn.io.atomic import atomic_write
from keras_fcn.training.model_card import model_card, scores_of
from keras_fcn.training.recipe import PATHS, as_settings
from keras_fcn.training.run import MODEL, Run
from keras_fcn.training.trained import open_run

CLASSES = "classes.toml"
"""Name of the published label space."""


def push(
    run: str | os.PathLike,
    repo: str,
    *,
    revision: str | None = None,
    private: bool = False,
    license: str | None = None,
) -> str:
    """Uploads the best model of a finished run in one commit, and returns its address.

    The commit holds the model, a model card with scores, classes and training command
    (`README.md`), the label space (`classes.toml`), all settings (`recipe.toml`), the scores of the
    best epoch (`scores.json`) and of every epoch (`metrics.csv`). Paths of this machine are left
    out of the settings. A repository that does not exist is created.

    Args:
        run: The run folder; that of a staged recipe stands for its last stage.
        repo: `"hf://OWNER/REPO"`.
        revision: Branch, which is created if it does not exist; `None` for `main`.
        private: Whether the repository is private. One that exists and is public is an error.
        license: One of the Hub's identifiers, such as `"cc-by-4.0"`, or the name of another
            licence; `None` if it is not known.

    Returns:
        `"hf://OWNER/REPO/best.keras@COMMIT"`, which `weights` takes.

    Raises:
        FileNotFoundError: If there is no such run.
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the Hub cannot be reached.
        PermissionError: If there is no token (`HF_TOKEN`), or the Hub refuses it.
        ValueError: If the run is not finished, or `repo` has another form.

    Examples:
        >>> push("runs/camvid", "hf://owner/camvid-fcn8s")  # doctest: +SKIP
        'hf://owner/camvid-fcn8s/best.keras@5f0c…'
    """
    name = hub.repository_of(repo)
    finished = _finished(run)
    files = _files(finished, name, license)
    message = f"Add the model of the recipe {finished.recipe()[0]}"
    commit = hub.upload(name, files, message, revision=revision, private=private)
    return str(hub.HubFile(name, MODEL, commit))


def write_published(
    run: str | os.PathLike, repo: str, folder: str | os.PathLike, *, license: str | None = None
) -> None:
    """Writes the files that `push` uploads into a new folder.

    Args:
        run: As in `push`, as are `repo` and `license`.
        repo: `"hf://OWNER/REPO"`, which the model card names.
        folder: Folder to create.
        license: See `push`.

    Raises:
        FileExistsError: If the folder exists.
        FileNotFoundError, ImportError, ValueError: As `push`.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"`folder` must be a new folder (--dry-run). Received: {folder}.")
    files = _files(_finished(run), hub.repository_of(repo), license)
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        for name, content in files.items():
            if isinstance(content, Path):
                shutil.copyfile(content, temporary / name)
            else:
                (temporary / name).write_bytes(content)


def _finished(path):
    run = open_run(path)
    if not run.is_finished:
        raise ValueError(
            f"RUN must be a finished run. Received: {run.path}, which has no report yet. Finish it "
            f"with `keras-fcn train --resume {path}`."
        )
    return run


def _files(run: Run, repo: str, license: str | None) -> dict[str, Path | bytes]:
    """Returns path or content of each published file by its name."""
    hub.check_hub()
    files: dict[str, Path | bytes] = {
        "README.md": model_card(run, repo, license).encode(),
        MODEL: run.best_model_path,
        CLASSES: _toml(dataclasses.asdict(run.label_space())),
        "recipe.toml": _toml({"recipe": run.recipe()[0], "settings": _settings(run)}),
        "scores.json": (json.dumps(scores_of(run), indent=2) + "\n").encode(),
    }
    if run.history_path.is_file():
        files["metrics.csv"] = run.history_path
    return files


def _settings(run):
    """Returns the settings of a run without the folders and paths of this machine."""
    settings = {
        name: value
        for name, value in as_settings(run.recipe()[1]).items()
        if name not in PATHS and value is not None
    }
    if os.path.isabs(settings.get("label_space") or ""):
        settings["label_space"] = CLASSES
    if os.path.isabs(settings.get("weights") or ""):
        settings["weights"] = Path(settings["weights"]).name
    if settings.get("stream_weights"):
        settings["stream_weights"] = [
            Path(path).name if os.path.isabs(path) else path for path in settings["stream_weights"]
        ]
    return settings


def _toml(values):
    return tomli_w.dumps({k: v for k, v in values.items() if v is not None}).encode()
