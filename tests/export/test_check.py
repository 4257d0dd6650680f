"""What the comparison of a file with its model finds, computed by hand."""

import types

import numpy as np
import pytest

from keras_fcn.export import check, child

pytestmark = pytest.mark.any_backend

# Two pixels of three classes.
LOGITS = np.array([[[[4.0, 3.0, -8.0], [1.0, 1.5, 0.0]]]], "float32")


def traced(output, data_format="channels_last"):
    metadata = types.SimpleNamespace(
        output=output, data_format=data_format, size=None, batch_size=None, num_channels=3
    )
    model = types.SimpleNamespace(classifier_activation=None)
    return types.SimpleNamespace(metadata=metadata, model=model, expected=lambda images: LOGITS)


def test_logits_differ_by_a_fraction_of_the_largest():
    changed = LOGITS.copy()
    changed[0, 0, 1, 0] += 0.4
    assert check.difference(LOGITS, changed, traced("logits")) == pytest.approx(0.4 / 8)


def test_probabilities_differ_by_their_own_difference():
    exponents = np.exp(LOGITS)
    probabilities = exponents / exponents.sum(-1, keepdims=True)
    probabilities[0, 0, 0, 2] += 0.25
    assert check.difference(LOGITS, probabilities, traced("probabilities")) == pytest.approx(0.25)


@pytest.mark.parametrize(("labels", "margin"), [((0, 1), 0), ((0, 0), 0.5 / 8), ((1, 0), 1 / 8)])
def test_labels_differ_by_the_margin_of_the_logits(labels, margin):
    labels = np.array([[labels]])
    assert check.difference(LOGITS, labels, traced("labels")) == pytest.approx(margin)
    first = LOGITS.transpose(0, 3, 1, 2)
    assert check.difference(first, labels, traced("labels", "channels_first")) == pytest.approx(
        margin
    )


@pytest.mark.parametrize("output", ["logits", "labels"])
def test_another_shape_and_nan_are_refused(output):
    with pytest.raises(ValueError, match="at 1x1 the file returned a shape or values"):
        check.differences(traced(output), lambda images: np.zeros((1, 5, 5)))
    if output == "logits":
        with pytest.raises(ValueError, match="at 1x1 the file returned a shape or values"):
            check.differences(traced(output), lambda images: LOGITS * np.nan)


@pytest.mark.parametrize(("quantization", "limit"), [(None, 1e-4), ("float16", 2e-2)])
def test_a_file_that_differs_too_much_is_refused_with_the_numbers(quantization, limit):
    asked = traced("logits")
    asked.metadata.quantization = quantization
    largest = np.abs(LOGITS).max()
    assert max(child.checked(asked, lambda images: LOGITS + 0.5 * limit * largest).values()) > 0
    with pytest.raises(ValueError, match=rf"at most {limit:g} of the largest.* 1x1, .*23x58"):
        child.checked(asked, lambda images: LOGITS + 1.5 * limit * largest)


def test_a_failing_runtime_is_one_line():
    def run(images):
        raise RuntimeError("Trace:\n node 5\n shapes differ\n")

    with pytest.raises(ValueError, match=r"^at 1x1 the runtime failed: shapes differ$"):
        check.differences(traced("logits"), run)
