"""The API pages, without a browser: nothing public is missing, and all that is named exists."""

import importlib
import inspect
import itertools
import pkgutil
import re
import runpy
from pathlib import Path

import keras
import optuna
import pytest

import keras_fcn
from keras_fcn.training import Recipe
from keras_fcn.training.recipe import SETTINGS
from keras_fcn.training.settings import as_table

pytestmark = pytest.mark.any_backend

API = Path(__file__).parents[1] / "docs" / "api"
# The names behind `:::`, from which mkdocstrings makes the pages.
NAMED = sorted(
    name
    for page in API.glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
)
PACKAGES = [
    package.name
    for package in pkgutil.walk_packages(keras_fcn.__path__, "keras_fcn.")
    if package.ispkg and ".builders" not in package.name
]
PUBLIC = sorted(
    {
        f"{package}.{name}"
        for package in ["keras_fcn", *PACKAGES]
        for name in getattr(importlib.import_module(package), "__all__", [])
    }
)


def find(name):
    """The object of a dotted name; a module only where nothing else has the name."""
    parent, _, last = name.rpartition(".")
    if not parent:
        return importlib.import_module(name)
    owner = find(parent)
    if not inspect.ismodule(owner) and inspect.ismodule(module := _module(parent)):
        owner = module
    if hasattr(owner, last):
        return getattr(owner, last)
    return importlib.import_module(name)


def _module(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def shown_names():
    """The names that have a place on a page."""
    for name in NAMED:
        yield name
        module = _module(name)
        if not inspect.ismodule(module):
            continue
        yield from (f"{name}.{attribute}" for attribute in _attributes_with_docstring(module))
        for member in getattr(module, "__all__", vars(module)):
            value = getattr(module, member)
            # A submodule of the same name would be shown in place of the member.
            is_shadowed = _module(f"{name}.{member}") is not None
            is_own = getattr(value, "__module__", None) == name or hasattr(module, "__all__")
            if is_own and not is_shadowed and not member.startswith("_"):
                yield f"{name}.{member}"


def _attributes_with_docstring(module):
    return re.findall(r'^(\w+)(?::[^=\n]+)? = [^\n]*\n"""', inspect.getsource(module), re.MULTILINE)


@pytest.mark.parametrize("name", NAMED)
def test_a_page_names_what_exists(name):
    assert find(name) is not None


def test_every_dotted_name_in_the_text_of_a_page_exists():
    pages = [*API.parent.rglob("*.md"), *API.parents[1].glob("README*.md")]
    names = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        names.update(re.findall(r"(?<![\w./])keras_fcn(?:\.\w+)+", text))
    assert len(names) > 100
    # A tag of MLflow.
    names.remove("keras_fcn.run")
    missing = []
    for name in sorted(names):
        try:
            find(name)
        except (AttributeError, ImportError):
            missing.append(name)
    assert not missing


def test_every_public_name_has_a_page():
    assert len(PUBLIC) > 60
    shown = set(shown_names())
    objects = {id(find(name)) for name in shown}
    missing = []
    for name in PUBLIC:
        value = find(name)
        if inspect.ismodule(value):
            is_shown = any(other.startswith(f"{name}.") for other in shown) or name in shown
        else:
            is_shown = name in shown or id(value) in objects
        if not is_shown and name != "keras_fcn.__version__":
            missing.append(name)
    assert not missing


def test_the_overview_names_every_page_and_the_version():
    overview = (API / "index.md").read_text()
    assert "keras_fcn.__version__" in overview
    for page in API.glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in overview


@pytest.mark.gate
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the guides say TensorFlow")
@pytest.mark.parametrize("guide", ["evaluation", "moving", "troubleshooting"])
def test_the_code_of_a_guide_runs(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (API.parent / "guides" / f"{guide}.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), f"{guide}.md", "exec"), {})


@pytest.mark.gate
def test_the_program_of_the_transforms_prints_what_its_guide_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program = API.parent / "guides" / "programs" / "transforms.py"
    runpy.run_path(str(program), run_name="__main__")
    assert capsys.readouterr().out == program.with_suffix(".txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["transforms.jpg"]


@pytest.mark.gate
@pytest.mark.filterwarnings("ignore:.*weights=.camvid.:UserWarning")
def test_the_search_with_optuna_trains_and_prunes(tmp_path, monkeypatch):
    """The program itself takes minutes."""
    monkeypatch.chdir(tmp_path)
    program = API.parent / "guides" / "programs" / "tune.py"
    score = runpy.run_path(str(program))["score"]
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(lower=2))
    study.enqueue_trial({"learning_rate": 2e-4, "weight_decay": 1e-3})
    study.optimize(score, n_trials=1)
    (trial,) = study.trials
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert list(trial.intermediate_values) == [0]
    study = optuna.create_study(direction="maximize")
    # The number of a trial is the name of its run.
    study.add_trial(trial)
    study.enqueue_trial({"learning_rate": 2e-4, "weight_decay": 1e-3})
    study.optimize(score, n_trials=1)
    assert study.best_value > 0.3


def test_the_guide_has_tables_of_all_settings():
    """Write a table again with `print(as_table(Recipe, names))`."""
    page = (API.parent / "guides" / "recipes.md").read_text()
    tables = page.partition("## Settings")[2].split("\n### ")[1:]
    names = [re.findall(r"^\| `(\w+)`", table, re.MULTILINE) for table in tables]
    assert sorted(itertools.chain(*names)) == sorted(SETTINGS)
    for table, group in zip(tables, names, strict=True):
        assert as_table(Recipe, group) in table


def test_every_example_states_a_learning_rate():
    """A name stands for Keras's default, which spoils weights that were trained before."""
    root = API.parents[1]
    pages = [*root.glob("README*.md"), *(root / "docs").rglob("*.md")]
    pages += [*(root / "docs").rglob("*.py"), *(root / "keras_fcn").rglob("*.py")]
    by_name = re.compile(
        r"compile\(\s*(?:optimizer\s*=\s*)?[\"'](?:adam|adamw|sgd|rmsprop|nadam|lion)[\"']", re.I
    )
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    assert sum("compile(" in text for text in texts.values()) > 5
    assert not [page.name for page, text in texts.items() if by_name.search(text)]
