"""What a prediction and a step cost, counted by the backend and not timed."""

import re

import helpers
import keras
import numpy as np
import pytest

import keras_fcn

BACKEND = keras.backend.backend()
SIDE = 90
NUM_CLASSES = 5
FC_UNITS = 16
# A quarter of VGG-16's, of which most arithmetic still is that of the convolutions.
FILTERS = (16, 32, 64, 128, 128)
# (inputs, outputs) of each convolution, by block.
CONVOLUTIONS = [
    [(3, 16), (16, 16)],
    [(16, 32), (32, 32)],
    [(32, 64), (64, 64), (64, 64)],
    [(64, 128), (128, 128), (128, 128)],
    [(128, 128), (128, 128), (128, 128)],
]


def model(**arguments):
    options = {"filters": FILTERS, "fc_units": FC_UNITS, "data_format": "channels_last"}
    return keras_fcn.FCN8s(NUM_CLASSES, **{**options, **arguments})


def image(side=SIDE):
    return np.random.default_rng(0).integers(0, 256, (1, side, side, 3)).astype("float32")


def multiplications(sides):
    """Of the whole FCN-8s, its convolutions computed on maps of `sides`, several for each block."""
    total = 0
    for maps, convolutions in zip(sides, CONVOLUTIONS, strict=True):
        weights = sum(9 * inputs * outputs for inputs, outputs in convolutions)
        total += weights * sum(side**2 for side in maps)
    (pool3,), (pool4,) = sides[3:]
    fc7 = -(-pool4 // 2) - 6
    total += fc7**2 * (49 * 128 * FC_UNITS + FC_UNITS**2 + FC_UNITS * NUM_CLASSES)
    total += (pool4**2 * 128 + pool3**2 * 64) * NUM_CLASSES
    scores4, scores3 = 2 * fc7 + 2, 2 * (2 * fc7 + 2) + 2
    deconvolutions = fc7**2 * 4**2 + scores4**2 * 4**2 + scores3**2 * 16**2
    return total + deconvolutions * NUM_CLASSES**2


class TestArithmetic:
    # The image with its padding has 288 pixels a side. Of pool1 rows 48 to 96 depend on the image,
    # of pool2 rows 23 to 49, and 5 to 7 more on either side are needed for those to be right.
    whole = ((288,), (144,), (72,), (36,), (18,))
    apart = ((90 + 10, 64), (101 - 42, 32), (56 - 16, 16), (36,), (18,))

    def test_the_border_is_left_out(self):
        expected = 2 * multiplications(self.apart)
        assert expected < 0.6 * 2 * multiplications(self.whole)
        # JAX and TensorFlow count what is done to single values, too, and JAX leaves out what is
        # multiplied by a convolution's own zeros.
        assert 0.93 * expected < flop_of_a_prediction(model()) < 1.06 * expected


class TestKernelOfFc6:
    def test_a_prediction_never_copies_it(self):
        assert tensors_like_fc6(model(), prediction) == 0

    def test_a_step_makes_its_gradient_alone(self):
        assert tensors_like_fc6(model(), gradients) == 1


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles nothing unless asked to")
def test_a_size_is_compiled_once(monkeypatch):
    fcn = model(padding="same")
    traces = 0
    call = fcn.call

    def counted(*args, **kwargs):
        nonlocal traces
        traces += 1
        return call(*args, **kwargs)

    monkeypatch.setattr(fcn, "call", counted)
    for side in (33, 40, 47, 40, 33):
        fcn.predict(image(side), verbose=0)
    # TensorFlow takes sizes for unknown from the second one on; JAX knows every one.
    assert traces == {"tensorflow": 2, "jax": 3}[BACKEND]


@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow and PyTorch run one operation at a time")
def test_a_step_of_jax_copies_no_kernel_and_keeps_no_indices(monkeypatch):
    import jax

    if jax.__version_info__ < (0, 10):
        pytest.skip("XLA copies kernels in JAX 0.8 and 0.9, and does not name them before.")
    jit, jitted = jax.jit, []

    def kept(*args, **kwargs):
        jitted.append(jit(*args, **kwargs))
        return jitted[-1]

    monkeypatch.setattr(jax, "jit", kept)
    fcn = model(padding="same")
    fcn.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batch = (image(), np.zeros((1, SIDE, SIDE), "int32"), None)
    fcn._symbolic_build(data_batch=batch)
    fcn.make_train_function()
    state = fcn._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    text = jitted[0].lower(state, batch).compile().as_text()
    assert "%state_0__0_" in text  # The name of a kernel.
    assert not re.findall(r"f32\[\d+,\d+,\d+,\d+\]\S* copy\(%state_0\S*", text)
    # XLA's own pools carry four indices for every value of a map.
    assert not re.findall(r"s32\[1,90,90,16\]", text)


def prediction(fcn, images):
    return fcn(images)


def gradients(fcn, images):
    """Of the sum of the logits, by the trainable variables."""
    return helpers.gradients_of(fcn, images, keras.ops.sum)


def tensorflow_graph(fcn, function=prediction):
    import tensorflow as tf

    specification = tf.TensorSpec((1, SIDE, SIDE, 3), "float32")
    return tf.function(lambda x: function(fcn, x)).get_concrete_function(specification).graph


def jax_compiled(fcn, function=prediction):
    import jax

    variables = fcn.trainable_variables + fcn.non_trainable_variables

    def run(values, images):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(fcn, images)

    return jax.jit(run).lower([variable.value for variable in variables], image()).compile()


def flop_of_a_prediction(fcn):
    if BACKEND == "torch":
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            fcn(image())
        return counter.get_total_flops()
    if BACKEND == "jax":
        return jax_compiled(fcn).cost_analysis()["flops"]
    from tensorflow.compat.v1 import profiler
    from tensorflow.python.profiler import option_builder

    options = option_builder.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return profiler.profile(tensorflow_graph(fcn), options=options).total_float_ops


def tensors_like_fc6(fcn, function):
    """Returns how many operations make a tensor of as many values as fc6's kernel has."""
    kernel = fcn.get_layer("fc6").kernel
    size = int(np.prod(kernel.shape))
    if BACKEND == "torch":
        from torch.utils._python_dispatch import TorchDispatchMode

        made = []  # Kept, so that none takes the place of another.

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                result = function(*args, **(kwargs or {}))
                if getattr(result, "numel", lambda: 0)() == size:
                    made.append(result)
                return result

        with Watch():
            function(fcn, keras.ops.convert_to_tensor(image()))
        places = {tensor.data_ptr() for tensor in made}
        assert kernel.value.data_ptr() in places
        return len(places) - 1
    if BACKEND == "jax":
        text = jax_compiled(fcn, function).as_text()
        shapes = re.findall(r"= f32\[([\d,]+)\]\S* (copy|transpose|fusion|dot)\(", text)
        return sum(np.prod([int(n) for n in shape.split(",")]) == size for shape, _ in shapes)
    views = ("ReadVariableOp", "Reshape", "Placeholder", "Identity", "Const")
    return sum(
        op.type not in views and tensor.shape.num_elements() == size
        for op in tensorflow_graph(fcn, function).get_operations()
        for tensor in op.outputs
    )
