"""The scenarios of `test_torch.py`, for each of two processes or for a single one.

Every function returns a dictionary of arrays.
"""

import datetime
import functools
import os
import pickle
import signal
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import torch
from distribution.lost import lose_the_second
from helpers import NARROW_FILTERS, randomize, variables_as_numpy, write_pairs
from PIL import Image

from keras_fcn import FCN8s, FCN32s, losses, metrics
from keras_fcn.backends import backend
from keras_fcn.distribution import data_parallel, processes
from keras_fcn.models.deep_supervision import with_coarser_heads
from keras_fcn.training.optimizer import CoupledSGD

NUM_CLASSES, IGNORED, STEPS = 4, 255, 5

EVENLY = ((0, 2), (2, 4))
UNEVENLY = ((0, 3), (3, 4))
ALL_AND_NONE = ((0, 4), (4, 4))


class Batches(keras.utils.PyDataset):
    """`STEPS` batches of 4 images, or the rows of them in one process's shard."""

    def __init__(self, rows=(0, 4), steps=range(STEPS), heads=1):
        super().__init__()
        self.rows, self.steps, self.heads = slice(*rows), steps, heads

    def __len__(self):
        return len(self.steps)

    def __getitem__(self, index):
        generator = np.random.default_rng(self.steps[index])
        images = generator.integers(0, 256, (4, 32, 32, 3)).astype("uint8")
        label_maps = generator.integers(0, NUM_CLASSES, (4, 32, 32))
        # Makes classes imbalanced and the number of valid pixels differ between images.
        label_maps[label_maps == 3] = 0
        for image, label_map in enumerate(label_maps):
            label_map[: 8 * image] = IGNORED
        label_maps = label_maps[self.rows]
        return images[self.rows], label_maps if self.heads == 1 else [label_maps] * self.heads


def small_model(rank, kind=FCN32s, **options):
    options = {"filters": NARROW_FILTERS, "fc_units": 16, "fc6_kernel_size": 3, **options}
    options |= {"padding": "same"}
    keras.utils.set_random_seed(rank)
    model = kind(NUM_CLASSES, **{"dropout_rate": 0.0, **options})
    # Different weights in each process: those of process 0 must win.
    randomize(model, seed=rank)
    return model


class TwoConvolutions(backend.trainer(), keras.Model):
    """A minimal model, for tests that do not depend on the model."""

    def __init__(self):
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Rescaling(1 / 255)(inputs)
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(x)
        super().__init__(inputs, keras.layers.Conv2D(NUM_CLASSES, 1, name="second")(x))


def tiny_model(rank):
    keras.utils.set_random_seed(rank)
    return TwoConvolutions()


def fitted(model, batches, optimizer, loss, **options):
    model.compile(optimizer, loss, metrics=[metrics.MeanIoU(NUM_CLASSES, IGNORED)])
    # Keras would shuffle the batches of a `PyDataset` differently in each process.
    history = model.fit(batches, shuffle=False, verbose=0, **options).history
    return {**variables_as_numpy(model), **{name: history[name] for name in history}}


def shard(rank, world, rows):
    return (0, 4) if world == 1 else rows[rank]


def summed_loss(rank, world):
    loss = losses.SparseCategoricalCrossentropy(True, IGNORED, reduction="sum")
    batches = Batches(shard(rank, world, EVENLY))
    return fitted(small_model(rank, FCN8s), batches, CoupledSGD(1e-7), loss, epochs=2)


def mean_loss(rank, world, rows=UNEVENLY):
    loss = losses.SparseCategoricalCrossentropy(True, IGNORED)
    optimizer = keras.optimizers.AdamW(1e-2)
    batches = Batches(shard(rank, world, rows))
    validation = Batches(steps=range(STEPS)[rank::world])
    return fitted(tiny_model(rank), batches, optimizer, loss, validation_data=validation)


def gradients_in_bfloat16(rank, world):
    with data_parallel(gradients="bfloat16"):
        return mean_loss(rank, world)


def region_losses(rank, world, rows=UNEVENLY):
    loss = losses.WeightedSum(
        [
            losses.Focal(ignore_class=IGNORED),
            losses.Dice(IGNORED),
            losses.LovaszSoftmax(IGNORED),
            losses.OHEM(0.05, 0.3, ignore_class=IGNORED),
        ],
        [1, 0.5, 0.5, 0.5],
    )
    batches = Batches(shard(rank, world, rows))
    return fitted(tiny_model(rank), batches, CoupledSGD(1e-1), loss)


def coarser_heads(rank, world):
    loss = losses.SparseCategoricalCrossentropy(True, IGNORED)
    model = small_model(rank, FCN8s)
    heads = with_coarser_heads(model)
    heads.compile(CoupledSGD(1e-5), [loss] * 3, loss_weights=[1.0, 0.5, 0.5])
    batches = Batches(shard(rank, world, UNEVENLY), heads=3)
    history = heads.fit(batches, shuffle=False, verbose=0).history
    return {**variables_as_numpy(model), **history}


def frozen_layers(rank, world):
    """Trains all layers, then with a frozen backbone, then all layers again."""
    loss = losses.SparseCategoricalCrossentropy(True, IGNORED)
    batches = Batches(shard(rank, world, UNEVENLY))
    model = small_model(rank)
    found = {}
    for part, trainable in enumerate((True, False, True)):
        for layer in model.layers:
            layer.trainable = trainable or not layer.name.startswith("block")
        values = fitted(model, batches, CoupledSGD(1e-3), loss)
        found |= {f"{part}/{name}": value for name, value in values.items()}
    return found


def dropout(rank, world, rate=0.5):
    loss = losses.SparseCategoricalCrossentropy(True, IGNORED)
    model = small_model(rank, dropout_rate=rate, fc_units=64)
    masks, layer = [], model.get_layer("drop6")
    drop = layer.call

    def recorded(inputs, training=False):
        outputs = drop(torch.ones_like(inputs), training=training)
        if training:
            masks.append(outputs.detach().numpy()[:2] > 0)
        return inputs * outputs

    layer.call = recorded
    batches = Batches(shard(rank, world, EVENLY))
    found = fitted(model, batches, CoupledSGD(1e-3), loss)
    seed = keras.ops.convert_to_numpy(layer.seed_generator.state)
    return {**found, "masks": np.stack(masks), "seed": seed}


def uneven_evaluation(rank, world, empty=False):
    """Evaluates seven batches, sharded into four and three, or into seven and none."""
    steps = range(7)
    if world == 2:
        steps = [steps[:0], steps[:]][rank] if empty else steps[rank::2]
    loss = losses.SparseCategoricalCrossentropy(True, IGNORED)
    metric = metrics.MeanIoU(NUM_CLASSES, IGNORED)
    model = tiny_model(0)
    model.compile(loss=loss, metrics=[metric, "sparse_categorical_accuracy"])
    found = model.evaluate(Batches(steps=steps), verbose=0, return_dict=True)
    again = model.get_metrics_result()
    matrix = metric.confusion_matrix()
    # The sums must be reset by the next evaluation.
    model.evaluate(Batches(steps=steps), verbose=0)
    return {
        **found,
        "confusion_matrix": matrix,
        "mean_iou_again": float(again["mean_iou"]),
        "confusion_matrix_of_the_second": metric.confusion_matrix(),
    }


def no_trace(rank, world):
    loss = losses.SparseCategoricalCrossentropy(True, IGNORED)
    model = small_model(rank)
    names, layers = sorted(model.state_dict()), [layer.name for layer in model.layers]
    fitted(model, Batches(shard(rank, world, EVENLY)), CoupledSGD(1e-3), loss)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.saving.load_model(Path(folder) / "model.keras")
    copies = [variables_as_numpy(copy) for copy in (loaded, pickle.loads(pickle.dumps(model)))]
    values = variables_as_numpy(model)
    return {
        "names_are_kept": sorted(model.state_dict()) == names,
        "layers_are_kept": [layer.name for layer in model.layers] == layers,
        "copies_are_equal": all(
            np.array_equal(value, copy[name]) for copy in copies for name, value in values.items()
        ),
        "parameters": len(list(model.parameters())),
    }


def predicted(rank, world):
    images = Batches()[0][0][slice(*shard(rank, world, UNEVENLY))]
    return {"logits": tiny_model(0).predict(images, verbose=0)}


def loss_of_the_local_shard(rank, world):
    model = tiny_model(rank)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True, IGNORED))
    try:
        model.fit(Batches(), shuffle=False, verbose=0)
    except ValueError as error:
        return {"error": str(error)}
    return {"error": ""}


def slow_first(rank, world):
    """Process 0 takes three times the timeout of collective operations."""
    set_timeout = torch.distributed.distributed_c10d._set_pg_timeout
    timeout = torch.distributed.constants.default_pg_timeout

    def build():
        time.sleep(3 if rank == 0 else 0)
        return rank

    set_timeout(datetime.timedelta(seconds=1))
    try:
        with processes.watched("Another process has ended."):
            return {"found": processes.first_before_others(build)}
    finally:
        set_timeout(timeout)


def uneven_fit(folder, rank):
    """The second process has one batch less, detects that, writes the error to a file and ends."""
    loss = losses.SparseCategoricalCrossentropy(True, IGNORED)
    batches = Batches(steps=range(5 - rank))
    try:
        fitted(tiny_model(rank), batches, CoupledSGD(1e-3), loss)
    except ValueError as error:
        (folder / f"uneven_fit-{rank}").write_text(str(error))
        os.kill(os.getpid(), signal.SIGKILL)


def shards_of_files(rank, world):
    """Returns which of five examples this process reads, and the error if one process fails."""
    from keras_fcn import data

    with tempfile.TemporaryDirectory() as folder:
        folders = write_pairs(Path(folder), "abcde")
        for number, file in enumerate(sorted(folders[1].iterdir())):
            Image.fromarray(np.full((36, 40), number, "uint8")).save(file)
        batches = data.training_batches(
            data.load(folder), num_classes=5, ignore_class=None, batch_size=1, seed=0, shard="auto"
        )
        loaded = data.load(folder, shard="auto")
        found = {"loaded": [int(example["label_map"][0, 0]) for example in loaded]}
        for epoch in range(3):
            found[f"epoch {epoch}"] = [int(label_map[0, 0, 0]) for _, label_map in batches]
    return {**found, "error": error_of_one(rank)}


def error_of_one(rank):
    def fails_in_the_last():
        if rank == 1:
            raise ValueError("b.png is empty.")

    try:
        processes.all_or_none(fails_in_the_last)
    except ValueError as error:
        return str(error)
    return ""


SCENARIOS = {
    "summed_loss": summed_loss,
    "mean_loss": mean_loss,
    "mean_loss_empty": functools.partial(mean_loss, rows=ALL_AND_NONE),
    "gradients_in_bfloat16": gradients_in_bfloat16,
    "region_losses": region_losses,
    "region_losses_empty": functools.partial(region_losses, rows=ALL_AND_NONE),
    "coarser_heads": coarser_heads,
    "frozen_layers": frozen_layers,
    "dropout": dropout,
    "dropout_again": dropout,
    "uneven_evaluation": uneven_evaluation,
    "empty_evaluation": functools.partial(uneven_evaluation, empty=True),
    "no_trace": no_trace,
    "predicted": predicted,
    "loss_of_the_local_shard": loss_of_the_local_shard,
    "shards_of_files": shards_of_files,
    "slow_first": slow_first,
}

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    backend.data_parallel("all")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    for name in names:
        np.savez(Path(folder) / f"{name}-{rank}.npz", **SCENARIOS[name](rank, world))
    lose_the_second(functools.partial(uneven_fit, Path(folder), rank))
