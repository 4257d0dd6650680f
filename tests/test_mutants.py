"""The faults of `mutants` can still be made; `python -m tests.mutants` looks who finds them."""

from pathlib import Path

import mutants
import pytest

import keras_fcn

pytestmark = pytest.mark.any_backend
PACKAGE = Path(keras_fcn.__file__).parent


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_changes_one_place_to_what_python_reads(mutant, tmp_path):
    target = tmp_path / mutant.file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text((PACKAGE / mutant.file).read_text())
    mutants.apply(mutant, tmp_path)
    assert target.read_text() != (PACKAGE / mutant.file).read_text()
    compile(target.read_text(), mutant.file, "exec")


def test_the_tests_that_should_find_a_fault_exist():
    folder = Path(__file__).parent
    named = {name for mutant in mutants.MUTANTS for name in mutant.tests.split()}
    assert not [name for name in sorted(named) if not (folder / name).is_file()]


def test_faults_are_in_every_room_and_in_the_code_of_every_backend():
    rooms = {mutant.file.partition("/")[0].removesuffix(".py") for mutant in mutants.MUTANTS}
    rooms_with_code = {
        path.name.removesuffix(".py")
        for path in PACKAGE.iterdir()
        if not path.name.startswith("_") and path.name not in ("version.py", "py.typed")
    }
    assert rooms - {"_registration"} == rooms_with_code
    assert {mutant.backend for mutant in mutants.MUTANTS} == {"tensorflow", "jax", "torch"}
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS)


def test_a_fault_that_is_not_in_the_code_any_more_is_named(tmp_path):
    (tmp_path / "metrics.py").write_text("x = 1\n")
    mutant = next(m for m in mutants.MUTANTS if m.file == "metrics.py")
    with pytest.raises(ValueError, match=r"metrics\.py must hold once"):
        mutants.apply(mutant, tmp_path)


def test_what_is_chosen_by_name_alone_is_hunted(capsys, monkeypatch):
    monkeypatch.setattr(mutants, "hunt", lambda mutant, *_: ("nothing", "", 0.0))
    assert mutants.main(["--only", "BGR"]) == 1
    assert "nothing  1 of 1" in capsys.readouterr().out
