"""One process of a data-parallel training of FCN-8s: reports step times, bytes sent and losses.

Arguments: JSON that overrides values of `OPTIONS`, and the output file of process 0.
"""

import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path

OPTIONS = {
    "fc_units": 4096,
    "size": 64,  # Height and width of the images in pixels.
    "batch_size": 1,  # Per process.
    "gradients": None,
    "weights": None,  # VGG-16 weight file, to train on drawn shapes; `None`: random data.
    "seed": 0,
    "warmup": 2,  # Steps before the measured ones; DDP rebuilds its buckets after the first step.
    "steps": 4,
    "ddp": {},  # Options of `DistributedDataParallel`.
    "trace": None,  # File for a profile of the last step.
}
RANDOM_CLASSES, LEARNING_RATE = 21, 1e-4


def sent_bytes():
    """Returns the bytes sent over the loopback of this network namespace so far."""
    (line,) = (line for line in Path("/proc/net/dev").read_text().splitlines() if "lo:" in line)
    return int(line.split(":")[1].split()[8])


def compiled_model(options):
    """Returns the compiled model; call it inside `data_parallel` if there are several processes."""
    import keras

    from keras_fcn import FCN8s, losses
    from keras_fcn.data.drawn_shapes import SHAPES
    from keras_fcn.training.optimizer import CoupledSGD

    keras.utils.set_random_seed(options["seed"])
    learns = options["weights"] is not None
    model = FCN8s(
        SHAPES.num_classes if learns else RANDOM_CLASSES,
        weights=options["weights"],
        padding="same",
        fc_units=options["fc_units"],
        input_shape=(options["size"], options["size"], 3),
        data_format="channels_last",
        dropout_rate=0.0 if learns else 0.5,
    )
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.AdamW(LEARNING_RATE) if learns else CoupledSGD(1e-10)
    model.compile(optimizer, loss)
    return model


def shard_of_data(options, rank, world_size):
    """Returns the images and label maps of one process's shard."""
    import numpy as np

    from keras_fcn.data.drawn_shapes import draw_shapes

    count = (options["warmup"] + options["steps"]) * options["batch_size"]
    if options["weights"] is not None:
        drawn = draw_shapes(count * world_size, options["size"], options["seed"])
        return [array[rank::world_size] for array in drawn]
    generator = np.random.default_rng(rank)
    images = generator.integers(0, 256, (count, options["size"], options["size"], 3))
    label_maps = generator.integers(0, RANDOM_CLASSES, images.shape[:3])
    return images.astype("uint8"), label_maps.astype("int32")


def measuring(options):
    """Returns the measuring callback; its class is defined here because Keras is imported late."""
    import keras

    from keras_fcn.distribution import processes

    class Measuring(keras.callbacks.Callback):
        profiler = None

        def on_train_begin(self, logs=None):
            self.seconds, self.losses, self.total_loss = [], [], 0.0
            self.sent = sent_bytes()

        def on_train_batch_begin(self, batch, logs=None):
            if options["trace"] and batch + 1 == options["warmup"] + options["steps"]:
                import torch

                self.profiler = torch.profiler.profile()
                self.profiler.start()
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            total = float(logs["loss"]) * (batch + 1)  # Keras logs the running mean.
            ended, done = time.perf_counter(), batch + 1 - options["warmup"]
            self.losses.append(total - self.total_loss)
            self.total_loss = total
            if done > 0:
                self.seconds.append(ended - self.started)
            if self.profiler is not None:
                self.profiler.stop()
                if processes.rank() == 0:
                    self.profiler.export_chrome_trace(options["trace"])
            if done == 0:
                processes.gather(None)  # Barrier: no message is in flight after it.
                self.sent = sent_bytes()
            elif done == options["steps"]:
                processes.gather(None)
                self.sent = (sent_bytes() - self.sent) / processes.world_size() / options["steps"]

    return Measuring()


def watch_buckets(options):
    """Sets options of `DistributedDataParallel`; returns a list that records bytes per bucket."""
    from keras_fcn.backends import torch_trainer

    kind, send = torch_trainer.DistributedDataParallel, torch_trainer.summed_gradients
    buckets = []

    def sent(dtype, bucket):
        buckets.append(bucket.buffer().nbytes // (1 if dtype is None else 2))
        if bucket.is_last():
            buckets.append(None)  # The end of a step.
        return send(dtype, bucket)

    torch_trainer.summed_gradients = sent
    torch_trainer.DistributedDataParallel = lambda module, **own: kind(module, **(own | options))
    return buckets


def main(options, out):
    """Trains and writes the measurements."""
    options = {**OPTIONS, **options}
    backend, buckets = os.environ["KERAS_BACKEND"], []
    if backend == "jax":
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    from keras_fcn.distribution import data_parallel, processes

    if backend == "torch":
        buckets = watch_buckets(options["ddp"])
    together = int(os.environ["PROCESSES"]) > 1
    with data_parallel(gradients=options["gradients"]) if together else contextlib.nullcontext():
        model = compiled_model(options)
    data = shard_of_data(options, processes.rank(), processes.world_size())
    measured = measuring(options)
    fixed = {"batch_size": options["batch_size"], "shuffle": False, "verbose": 0}
    model.fit(*data, callbacks=[measured], **fixed)
    if processes.rank() == 0:
        ends = [number for number, size in enumerate(buckets) if size is None]
        result = {
            "seconds": measured.seconds,
            "bytes": measured.sent,
            "losses": measured.losses,
            "gradients": sum(4 * math.prod(v.shape) for v in model.trainable_variables),
            "buckets": buckets[ends[-2] + 1 : ends[-1]] if ends else [],
        }
        Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
