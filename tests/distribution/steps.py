"""Trains small models on one device or several and writes the results; run as a process.

Arguments: an output folder, and JSON that overrides values of `DEFAULTS`. Each scenario writes a
file `SCENARIO-RANK.npz`. If there are several processes, the second one then ends.
"""

import contextlib
import functools
import json
import sys
from pathlib import Path

import numpy as np

DEFAULTS = {
    "backend": "tensorflow",
    "devices": 1,
    "rank": 0,
    "world_size": 1,
    "scenarios": [],
}
SCENARIOS = {
    "paper's sum": {"loss": "sum"},
    "mean": {"evaluated": True},
    "gradients in bfloat16": {"gradients": "bfloat16"},
    "focal": {"loss": "focal"},
    "dice": {"loss": "dice"},
    "lovasz": {"loss": "lovasz"},
    "ohem": {"loss": "ohem"},
    "weighted sum": {"loss": "weighted sum"},
    "uneven batches": {"examples": 13, "batch_size": 6},
    "generator": {"generator": True, "examples": 19, "evaluated": True},
    "batch by batch": {"batch_by_batch": True, "examples": 24},
    "dropout": {"dropout_rate": 0.5},
    "dropout again": {"dropout_rate": 0.5},
    "fcn": {"fcn": True, "examples": 16},
    "two heads": {"fcn": True, "heads": 2, "examples": 12},
    "split kernels": {"parallel": "model", "evaluated": True},
}
DEFAULT_SCENARIO = {
    "loss": "mean",
    "examples": 24,
    "batch_size": 8,  # Divisible by the number of devices: JAX cannot shard other batches.
    "dropout_rate": 0,
    "generator": False,
    "batch_by_batch": False,
    "fcn": False,
    "heads": 1,
    "gradients": None,
    "evaluated": False,
    "parallel": "data",  # Or "model", of two shards.
}
NUM_CLASSES, IGNORED = 3, 255


def examples(count):
    """Images and label maps; the number of ignored pixels differs widely between examples."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 32, 32, 3)).astype("uint8")
    label_maps = generator.integers(0, NUM_CLASSES, (count, 32, 32)).astype("int32")
    for number, label_map in enumerate(label_maps):
        label_map[: (number * 13) % 32] = IGNORED
    return images, label_maps


def shard(arrays, batch_size, rank, world_size):
    """The shard of one process: its part of each global batch."""
    rows = batches([np.arange(len(arrays[0]))], batch_size)
    mine = np.concatenate([np.array_split(batch, world_size)[rank] for (batch,) in rows])
    return [array[mine] for array in arrays]


def batches(arrays, batch_size):
    for start in range(0, len(arrays[0]), batch_size):
        yield tuple(array[start : start + batch_size] for array in arrays)


def objective(name):
    import keras

    from keras_fcn import losses
    from keras_fcn.training.optimizer import CoupledSGD

    options = {"ignore_class": IGNORED}
    cross_entropy = losses.SparseCategoricalCrossentropy(from_logits=True, **options)
    if name == "sum":
        cross_entropy.reduction = "sum"
        return CoupledSGD(1e-5), cross_entropy
    loss = {
        "mean": cross_entropy,
        "focal": losses.Focal(**options),
        "dice": losses.Dice(**options),
        "lovasz": losses.LovaszSoftmax(**options),
        "ohem": losses.OHEM(0.2, 0.3, **options),
        "weighted sum": losses.WeightedSum([cross_entropy, losses.Dice(**options)], [1, 0.5]),
    }[name]
    # Adam divides by the gradient's magnitude: its default epsilon would amplify rounding errors.
    return keras.optimizers.AdamW(1e-2, epsilon=1e-3), loss


def small_model(dropout_rate):
    import keras

    from keras_fcn.backends import backend
    from keras_fcn.layers import ConvolutionalizedDense, Dropout

    class Small(backend.trainer(), keras.Model):
        data_format = "channels_last"

    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1)(image)
    options = {"padding": "same", "activation": "relu"}
    x = ConvolutionalizedDense(8, 3, **options, name="fc6")(x)
    x = Dropout(dropout_rate, seed=3)(x)
    x = ConvolutionalizedDense(8, 1, **options, name="fc7")(x)
    return Small(image, ConvolutionalizedDense(NUM_CLASSES, 1, name="score_fr")(x))


def fcn(dropout_rate, heads):
    from helpers import NARROW_FILTERS

    from keras_fcn import FCN16s, FCN32s
    from keras_fcn.models.deep_supervision import with_coarser_heads

    options = {"filters": NARROW_FILTERS, "fc_units": 16, "padding": "same"}
    model = (FCN16s if heads == 2 else FCN32s)(NUM_CLASSES, **options, dropout_rate=dropout_rate)
    layer = model.get_layer("score_fr")  # With zeros, no earlier layer would get a gradient.
    layer.kernel.assign(np.random.default_rng(1).normal(0, 1e-2, layer.kernel.shape))
    return with_coarser_heads(model) if heads == 2 else model


def run(scenario, rank=0, world_size=1, on_several=False):
    """Returns a dictionary of arrays; runs on a single device unless `on_several`."""
    import keras

    from keras_fcn.metrics import MeanIoU

    options = {**DEFAULT_SCENARIO, **SCENARIOS[scenario]}
    batch_size = -(-options["batch_size"] // world_size)
    keras.utils.set_random_seed(7)
    context = context_of(options) if on_several else contextlib.nullcontext
    with context():
        if options["fcn"]:
            model = fcn(options["dropout_rate"], options["heads"])
        else:
            model = small_model(options["dropout_rate"])
        optimizer, loss = objective(options["loss"])
        metric = MeanIoU(NUM_CLASSES, ignore_class=IGNORED)
        if options["heads"] == 2:
            model.compile(optimizer, [loss] * 2, metrics=[[metric], []])
        else:
            model.compile(optimizer, loss, metrics=[metric])
    start = {v.path: keras.ops.convert_to_numpy(v.value) for v in model.trainable_variables}

    data = shard(examples(options["examples"]), options["batch_size"], rank, world_size)
    if options["heads"] == 2:
        data[1] = [data[1]] * 2
    if options["batch_by_batch"]:
        losses = [model.train_on_batch(*batch)[0] for batch in batches(data, batch_size)]
    elif options["generator"]:
        losses = model.fit(batches(data, batch_size), verbose=0).history["loss"]
    else:
        losses = model.fit(*data, batch_size, shuffle=False, verbose=0).history["loss"]

    result = {}
    if options["batch_by_batch"]:
        images, label_maps = shard(examples(8), 8, rank, world_size)
        losses.append(model.test_on_batch(images, label_maps)[0])
        result["prediction"] = model.predict_on_batch(images)
    elif options["evaluated"]:
        # The last batch has a single example, so most replicas and processes get none.
        images, label_maps = shard(examples(17), options["batch_size"], rank, world_size)
        if options["generator"]:
            losses.append(model.evaluate(batches((images, label_maps), batch_size), verbose=0)[0])
        else:
            losses.append(model.evaluate(images, label_maps, batch_size, verbose=0)[0])
        result["prediction"] = model.predict(images, batch_size, verbose=0)
    result |= {"losses": losses, "matrix": metric.confusion_matrix(), "mean_iou": metric.result()}
    for variable in model.trainable_variables:
        result[f"weights of {variable.path}"] = keras.ops.convert_to_numpy(variable.value)
        result[f"start of {variable.path}"] = start[variable.path]
    kernel = model.get_layer("fc6").kernel.value
    if keras.backend.backend() == "jax":
        result["outputs of fc6 on a device"] = kernel.addressable_shards[0].data.shape[-1]
    elif options["dropout_rate"]:
        with context():
            result["masks"] = masks()
    if world_size > 1:
        from keras_fcn.distribution.processes import gather

        result["told"] = gather("first" if rank == 0 else "the second")
    return result


def context_of(options):
    from keras_fcn.distribution import data_parallel, model_parallel

    if options["parallel"] == "model":
        return functools.partial(model_parallel, 2)
    return functools.partial(data_parallel, gradients=options["gradients"])


def masks():
    """The dropout masks of one layer on the replicas of this process."""
    import tensorflow as tf

    from keras_fcn.layers import Dropout

    strategy, layer = tf.distribute.get_strategy(), Dropout(0.5, seed=3)
    layer.build((1, 64))
    dropped = strategy.run(lambda: layer(tf.ones((1, 64)), training=True))
    return np.concatenate([mask.numpy() for mask in strategy.experimental_local_results(dropped)])


def main(folder, arguments):
    arguments = {**DEFAULTS, **arguments}
    if arguments["backend"] == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * arguments["devices"]
        tf.config.set_logical_device_configuration(cpu, logical)
    elif arguments["world_size"] > 1:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    import keras

    for scenario in arguments["scenarios"]:
        result = run(scenario, arguments["rank"], arguments["world_size"], on_several=True)
        assert keras.distribution.distribution() is None, "the global distribution has changed"
        np.savez(Path(folder) / f"{scenario}-{arguments['rank']}.npz", **result)
        print(scenario, flush=True)
    if arguments["world_size"] > 1:
        from distribution.lost import lose_the_second

        lose_the_second()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
