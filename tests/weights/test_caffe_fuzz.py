"""Every input ends in arrays that the file can hold, or in a ValueError.

FUZZ_INPUTS=100000 pytest -s tests/weights/test_caffe_fuzz.py
"""

import math
import os
import resource

import numpy as np
import pytest
from caffe import bytes_field, layer, number_field, varint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_fcn.weights import open_file

pytestmark = pytest.mark.any_backend

INPUTS = int(os.environ.get("FUZZ_INPUTS", "2000"))
VALID = (
    bytes_field(1, b"a network")
    + layer("conv1_1", "Convolution", [np.ones((2, 3, 3, 3)), np.ones(2)], v1=True, legacy=True)
    + layer("relu1_1", "ReLU", [])
    + layer("fc6", "InnerProduct", [np.ones((2, 49)), np.ones(2)])
    + layer("upscore", "Deconvolution", [np.ones((2, 2, 4, 4))], double=True)
)
numbers = st.one_of(st.integers(0, 300), st.sampled_from([2**31, 2**32, 2**60, 2**63, 2**64 - 1]))
positions = st.integers(0, len(VALID))


def mutate(changes):
    content = bytearray(VALID)
    for kind, position, value in changes:
        position = min(position, len(content))
        if kind == "flip" and position < len(content):
            content[position] ^= 1 << value % 8
        elif kind == "cut":
            del content[position : position + value % 64]
        elif kind == "end":
            del content[position:]
        elif kind == "number":
            content[position : position + 1] = varint(value)
        elif kind == "copy":
            content[position:position] = content[value % len(VALID) :][:64]
    return bytes(content)


kinds = st.sampled_from(["flip", "cut", "end", "number", "copy"])
mutated = st.lists(st.tuples(kinds, positions, numbers), min_size=1, max_size=6).map(mutate)
fields = st.recursive(
    st.one_of(
        st.binary(max_size=40),
        st.builds(number_field, st.integers(1, 10), numbers),
        st.builds(lambda number, size: varint(number << 3 | 2) + varint(size), numbers, numbers),
    ),
    lambda inner: st.builds(
        bytes_field,
        st.sampled_from([1, 2, 4, 5, 6, 7, 8, 100]),
        st.lists(inner, max_size=4).map(b"".join),
    ),
    max_leaves=12,
)
messages = st.lists(fields, max_size=5).map(b"".join)


def read(content, path):
    """Returns whether the reader took the content for a file."""
    path.write_bytes(content)
    try:
        with open_file(path) as contents:
            entries = contents.entries
            arrays = {key: entry.read() for key, entry in entries.items()}
    except ValueError:
        return False
    assert arrays
    assert sum(4 * math.prod(array.shape) for array in arrays.values()) <= len(content)
    assert all(arrays[key].shape == entry.shape for key, entry in entries.items())
    return True


@pytest.mark.parametrize(
    "inputs", [INPUTS // 10, pytest.param(INPUTS, marks=pytest.mark.gate)], ids=["some", "all"]
)
def test_no_input_breaks_the_reader(inputs, tmp_path):
    tried, taken = 0, 0

    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(content=st.one_of(mutated, messages, st.binary(max_size=200)))
    def try_one(content):
        nonlocal tried, taken
        tried += 1
        taken += read(content, tmp_path / "net.caffemodel")

    try_one()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{tried} inputs, {taken} of them read; peak memory {peak:.0f} MiB")
    assert tried >= inputs
    assert 0 < taken < tried
