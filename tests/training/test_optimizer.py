import keras
import numpy as np
import pytest

from keras_fcn.training.optimizer import PAPER_MULTIPLIERS, AdamW, CoupledSGD

BACKEND = keras.backend.backend()
STEPS = 100
RATE, MOMENTUM, DECAY = 1e-3, 0.99, 5e-4


def make_model(**options):
    """Two layers whose squared error is easy to write down again."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh", name="first"),
            keras.layers.Dense(3, name="second", bias_initializer="ones"),
        ]
    )
    model.compile(CoupledSGD(RATE, MOMENTUM, DECAY, **options), "mean_squared_error")
    return model


def batches(count=STEPS):
    generator = np.random.default_rng(1)
    for _ in range(count):
        yield (
            generator.standard_normal((4, 6), dtype="float32"),
            generator.standard_normal((4, 3), dtype="float32"),
        )


def by_hand(weights, multipliers):
    """The same training in float64 NumPy, from Caffe's formula."""
    weights = [value.astype("float64") for value in weights]
    steps = [np.zeros_like(value) for value in weights]
    for x, y in batches():
        kernel_1, bias_1, kernel_2, bias_2 = weights
        hidden = np.tanh(x @ kernel_1 + bias_1)
        error = 2 * (hidden @ kernel_2 + bias_2 - y) / y.size
        through = (error @ kernel_2.T) * (1 - hidden**2)
        gradients = [x.T @ through, through.sum(0), hidden.T @ error, error.sum(0)]
        for index, gradient in enumerate(gradients):
            rate, decay = multipliers[index]
            steps[index] = MOMENTUM * steps[index] + RATE * rate * (
                gradient + DECAY * decay * weights[index]
            )
            weights[index] = weights[index] - steps[index]
    return weights


KERNEL, BIAS = (1.0, 1.0), (2.0, 0.0)


class TestAgainstCaffesFormula:
    # JAX takes half a minute to compile each operation by itself, PyTorch to compile the step.
    @pytest.mark.parametrize(
        "jit_compile",
        [
            pytest.param(False, marks=pytest.mark.slow if BACKEND == "jax" else ()),
            pytest.param(True, marks=pytest.mark.slow if BACKEND == "torch" else ()),
        ],
    )
    def test_100_steps(self, jit_compile):
        model = make_model()
        expected = by_hand(model.get_weights(), [KERNEL, BIAS, KERNEL, BIAS])
        model.jit_compile = jit_compile
        for x, y in batches():
            model.train_on_batch(x, y)
        for value, wanted in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)

    def test_the_first_pattern_that_is_found_counts(self):
        multipliers = {"second/kernel": (3.0, 0.5), "kernel": (0.0, 1.0)}
        model = make_model(multipliers=multipliers)
        first = model.get_weights()[0]
        expected = by_hand(model.get_weights(), [(0, 1), (1, 1), (3, 0.5), (1, 1)])
        for x, y in batches():
            model.train_on_batch(x, y)
        np.testing.assert_array_equal(model.get_weights()[0], first)
        for value, wanted in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)

    @pytest.mark.gate
    @pytest.mark.any_backend
    def test_pytorchs_sgd_with_parameter_groups(self):
        torch = pytest.importorskip("torch", reason="compared with PyTorch's own SGD")
        model = make_model()
        weights = [torch.tensor(value, requires_grad=True) for value in model.get_weights()]
        kernels, biases = weights[::2], weights[1::2]
        theirs = torch.optim.SGD(
            [
                {"params": kernels, "lr": RATE, "weight_decay": DECAY},
                {"params": biases, "lr": 2 * RATE, "weight_decay": 0.0},
            ],
            momentum=MOMENTUM,
        )
        for x, y in batches():
            model.train_on_batch(x, y)
            hidden = torch.tanh(torch.from_numpy(x) @ weights[0] + weights[1])
            loss = torch.nn.functional.mse_loss(hidden @ weights[2] + weights[3], torch.tensor(y))
            theirs.zero_grad()
            loss.backward()
            theirs.step()
        for value, wanted in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(value, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_saved_optimizer_goes_on_where_it_stopped(tmp_path):
    unbroken, model = make_model(), make_model()
    data = list(batches(20))
    for x, y in data:
        unbroken.train_on_batch(x, y)
    for x, y in data[:10]:
        model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.optimizer.multipliers == PAPER_MULTIPLIERS
    assert (model.optimizer.momentum, model.optimizer.decay) == (MOMENTUM, DECAY)
    for x, y in data[10:]:
        model.train_on_batch(x, y)
    for value, wanted in zip(model.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-7)


def test_two_accumulated_batches_are_one_step_of_their_mean():
    one, two = make_model(), make_model(gradient_accumulation_steps=2)
    for (x, y), (other_x, other_y) in zip(batches(10), list(batches(20))[10:], strict=True):
        one.train_on_batch(np.concatenate([x, other_x]), np.concatenate([y, other_y]))
        two.train_on_batch(x, y)
        two.train_on_batch(other_x, other_y)
    for value, wanted in zip(two.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_float32_weights_and_steps(policy):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, dtype=policy)])
    model.compile(CoupledSGD(1e-2, 0.9), "mean_squared_error")
    x, y = next(batches(1))
    before = model.evaluate(x, y, verbose=0)
    for _ in range(20):
        model.train_on_batch(x, y)
    assert model.evaluate(x, y, verbose=0) < before
    variables = [*model.trainable_variables, *model.optimizer.variables]
    assert {str(variable.dtype) for variable in variables} <= {"float32", "int32", "int64", "bool"}


@pytest.mark.parametrize(
    "wrong", [{"momentum": 1.0}, {"decay": -1.0}, {"multipliers": {"bias": (1, -2)}}]
)
def test_wrong_arguments_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}` must"):
        CoupledSGD(1e-3, **wrong)


class TestAdamW:
    @pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"use_ema": True}])
    def test_50_steps_of_kerass(self, options):
        trained = []
        for optimizer_class in (keras.optimizers.AdamW, AdamW):
            model = make_model()
            optimizer = optimizer_class(1e-2, weight_decay=0.1, **options)
            optimizer.exclude_from_weight_decay(var_names=["bias"])
            model.compile(optimizer, "mean_squared_error")
            for x, y in batches(50):
                model.train_on_batch(x, y)
            trained.append([*model.get_weights(), *(v.numpy() for v in optimizer.variables[2:])])
        theirs, ours = trained
        for value, wanted in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Reads TensorFlow's graph.")
@pytest.mark.parametrize(
    ("make", "copies"),
    # The scaled gradient and the decay; the gradient as it is, and the decay.
    [(lambda: CoupledSGD(RATE, MOMENTUM, DECAY), 2), (lambda: AdamW(RATE, weight_decay=0.1), 2)],
)
def test_an_update_makes_few_tensors_of_the_size_of_a_kernel(make, copies):
    """fc6's kernel has 411 MB. Multiplications read and write whole tensors."""
    import tensorflow as tf

    kernel, optimizer = keras.Variable(np.ones((7, 5), "float32"), name="kernel"), make()
    optimizer.build([kernel])
    update = tf.function(lambda gradient: optimizer.apply([gradient], [kernel]))
    graph = update.get_concrete_function(tf.TensorSpec((7, 5))).graph
    made = [
        operation.type
        for operation in graph.get_operations()
        if operation.type not in ("Placeholder", "ReadVariableOp", "Identity", "IdentityN")
        and any(output.shape == (7, 5) for output in operation.outputs)
    ]
    assert len(made) <= copies, made
