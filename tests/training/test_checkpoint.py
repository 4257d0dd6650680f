import keras
import numpy as np
import pytest

from keras_fcn.training.checkpoint import NotFiniteError, read_facts, restore_state, save_state

pytestmark = pytest.mark.any_backend


def groups(*values):
    """Two groups of variables, of which the second holds one."""
    variables = [keras.Variable(value, dtype=_dtype(value), trainable=False) for value in values]
    return {"model": variables[:-1], "optimizer": variables[-1:]}


def _dtype(value):
    return "int32" if isinstance(value, int) else "float32"


def values_of(variables):
    return [keras.ops.convert_to_numpy(v).tolist() for group in variables.values() for v in group]


@pytest.fixture
def path(tmp_path):
    """A state of a matrix, a vector and a number of steps."""
    path = tmp_path / "last.npz"
    variables = groups([[1.5, 2.0], [3.0, 4.0]], [5.0], 7)
    save_state(path, variables, {"epoch": 2, "history": [{"loss": 0.25}]})
    return path


def test_variables_and_facts_come_back(path):
    variables = groups([[0.0, 0.0], [0.0, 0.0]], [0.0], 0)
    restore_state(path, variables)
    assert values_of(variables) == [[[1.5, 2.0], [3.0, 4.0]], [5.0], 7]
    assert read_facts(path) == {"epoch": 2, "history": [{"loss": 0.25}]}


def test_it_is_an_npz_file_whose_names_are_group_and_place(path):
    with np.load(path, allow_pickle=False) as arrays:
        names = ["model/000", "model/001", "optimizer/000"]
        assert sorted(set(arrays.files) - {"facts.json"}) == names
        assert arrays["model/001"].tolist() == [5.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(tmp_path, value):
    with pytest.raises(NotFiniteError, match=str(value)):
        save_state(tmp_path / "last.npz", groups([1.0, value], 0), {})


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (([[0.0, 0.0]], [0.0], 0), r"model/000.npy of shape \(2, 2\) for \(1, 2\)"),
        (([[0.0, 0.0], [0.0, 0.0]], 0), "3 variables for 2; model/001.npy is only in one"),
    ],
)
def test_the_state_of_another_model_is_refused(path, others, message):
    with pytest.raises(ValueError, match=f"must be the state of this model.*{message}"):
        restore_state(path, groups(*others))


def flip_a_bit(path, of):
    state = bytearray(path.read_bytes())
    state[state.index(of)] ^= 1
    path.write_bytes(state)


def test_a_changed_weight_is_found(path):
    flip_a_bit(path, np.float32([1.5, 2.0, 3.0, 4.0]).tobytes())
    with pytest.raises(ValueError, match=r"last\.npz is damaged"):
        restore_state(path, groups([[0.0, 0.0], [0.0, 0.0]], [0.0], 0))


def test_a_changed_fact_is_found(path):
    flip_a_bit(path, b"0.25")
    with pytest.raises(ValueError, match=r"last\.npz is damaged"):
        read_facts(path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_ends_too_early_is_damaged(path, share):
    state = path.read_bytes()
    path.write_bytes(state[: int(share * len(state))])
    with pytest.raises(ValueError, match=r"last\.npz is damaged"):
        read_facts(path)
