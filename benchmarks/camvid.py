"""Trains the FCN-8s of `weights="camvid"` on one accelerator, evaluates it and writes its weights.

    python -m benchmarks.camvid --data CAMVID --weights VGG16.weights.h5 --out DIR

The training images fit in the memory of an accelerator, so that they are augmented there, inside
the compiled step. `keras-fcn train camvid_fcn8s` reads the same data set through the pipeline of
this package on any backend, at the speed of the host's processors.

CAMVID holds train/, trainannot/, val/ and valannot/, as SegNet prepared them: images of 480x360
and label maps of the same names, class ids 0 to 10 and 11 for ignored pixels.
"""

import argparse
import dataclasses
import functools
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
from PIL import Image

import keras_fcn
from benchmarks.camvid_augmentation import rare_pixels, recolour, window
from keras_fcn import losses
from keras_fcn.label_spaces import CAMVID
from keras_fcn.models.deep_supervision import with_coarser_heads

NUM_CLASSES, IGNORED = CAMVID.num_classes, CAMVID.ignore_class


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the network is trained. All numbers are arguments of one compiled step."""

    learning_rate: float = 1.5e-4
    new_layers: float = 2.0  # Factor of the learning rate of fc6, fc7, scores and upsampling.
    weight_decay: float = 0.02  # Decoupled, of kernels.
    warmup: int = 300  # Steps.
    moving_average: float = 0.999  # Decay per step of the mean of the weights.
    clip: float = 5.0  # Largest norm of the gradient.
    lovasz: float = 1.0  # Weight of the Lovász-Softmax loss.
    coarser_heads: float = 0.2  # Weight of the loss of FCN-16s and of FCN-32s.
    class_weights_power: float = 0.3  # Of the median frequency weights; 0 for none.
    rare: float = 0.4  # Fraction of the windows placed around a pixel of a rare class.
    smallest: float = 0.6  # Random scales, drawn uniformly in their logarithm.
    largest: float = 2.0
    rotation: float = 6.0  # Degrees.
    colours: float = 1.0  # Strength of the colour jitter.


def read(folder, labels):
    """Returns the images (N, H, W, 3) and label maps (N, H, W) of two folders, uint8."""
    names = sorted(path.stem for path in Path(labels).glob("*.png"))
    files = {path.stem: path for path in Path(folder).iterdir()}
    with ThreadPoolExecutor() as pool:
        images = list(
            pool.map(lambda name: np.asarray(Image.open(files[name]).convert("RGB")), names)
        )
        maps = list(
            pool.map(lambda name: np.asarray(Image.open(Path(labels) / f"{name}.png")), names)
        )
    return np.stack(images), np.stack(maps)


def class_frequencies(label_maps):
    """Returns the frequency of each class in the images in which it occurs."""
    counts = np.stack([np.bincount(m.ravel(), minlength=256)[:NUM_CLASSES] for m in label_maps])
    sizes = counts.sum(axis=1, keepdims=True) * (counts > 0)
    return counts.sum(axis=0) / sizes.sum(axis=0)


class Network:
    """An FCN-8s and its coarser heads, as functions of their variables."""

    def __init__(self, arguments):
        self.fcn = keras_fcn.FCN8s(
            num_classes=NUM_CLASSES,
            padding="same",
            fc_units=arguments.fc_units,
            fc6_kernel_size=arguments.fc6_kernel_size,
            input_upsampling=arguments.input_upsampling,
            label_space=CAMVID,
            trainable_upsampling=True,
            weights=arguments.weights,
            dtype="mixed_bfloat16",
        )
        self.heads = with_coarser_heads(self.fcn)

    def logits(self, trained, state, images, training):
        """Returns the logits of the three heads, finest first, and the new state."""
        return self.heads.stateless_call(trained, state, images, training=training)


def cross_entropy(logits, labels, weights):
    """Returns the mean over the pixels that are not ignored."""
    valid = labels != IGNORED
    truth = jax.nn.one_hot(labels, NUM_CLASSES)  # Zero for ignored pixels.
    loss = -jnp.sum(truth * weights * jax.nn.log_softmax(logits), axis=-1)
    return jnp.sum(loss) / jnp.maximum(jnp.sum(valid), 1)


def make_step(network, data, batch_size, size):
    """Returns the compiled training step."""
    images, label_maps, pixels = map(jnp.asarray, data)
    is_kernel = [variable.ndim > 1 for variable in network.heads.trainable_variables]
    is_new = [
        not variable.path.split("/")[-2].startswith("block")
        for variable in network.heads.trainable_variables
    ]
    lovasz = losses.LovaszSoftmax(ignore_class=IGNORED)

    def loss_of(trained, state, x, labels, s):
        (logits, *coarser), state = network.logits(trained, state, x, True)
        loss = cross_entropy(logits, labels, s["class_weights"])
        # Every second row and column: the sort over all pixels would take longer than the step.
        loss += s["lovasz"] * lovasz(labels[:, ::2, ::2], logits[:, ::2, ::2])
        for head in coarser:
            loss += s["coarser_heads"] * cross_entropy(head, labels, s["class_weights"])
        return loss, state

    @functools.partial(jax.jit, donate_argnums=(0,))
    def step(carry, indices, key, s, images, label_maps, pixels):
        trained, state, mean, first, second, number = carry
        keys = jax.random.split(key, (2, batch_size))
        x, labels = jax.vmap(functools.partial(window, size=size, s=s))(
            keys[0], images[indices], label_maps[indices], pixels[indices]
        )
        x = jax.vmap(recolour, (0, 0, None))(keys[1], x, s["colours"])
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, state), gradients = gradient(trained, state, x, labels, s)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in gradients))
        number += 1
        progress = jnp.clip(number / s["steps"], 0, 1)
        rate = s["learning_rate"] * jnp.minimum(number / s["warmup"], 1)
        rate *= 0.5 * (1 + jnp.cos(jnp.pi * progress))
        decay = jnp.minimum(s["moving_average"], (1 + number) / (10 + number))
        new = [], [], [], []
        for i, g in enumerate(gradients):
            g *= jnp.minimum(1, s["clip"] / (norm + 1e-6))
            m = 0.9 * first[i] + 0.1 * g
            v = 0.999 * second[i] + 0.001 * g**2
            update = m / (1 - 0.9**number) / (jnp.sqrt(v / (1 - 0.999**number)) + 1e-8)
            if is_kernel[i]:
                update += s["weight_decay"] * trained[i]
            value = trained[i] - rate * (s["new_layers"] if is_new[i] else 1) * update
            average = decay * mean[i] + (1 - decay) * value
            for values, item in zip(new, (value, average, m, v), strict=True):
                values.append(item)
        trained, mean, first, second = new
        return (trained, state, mean, first, second, number), loss

    return lambda carry, indices, key, s: step(carry, indices, key, s, images, label_maps, pixels)


def make_evaluate(network, images, label_maps, batch_size):
    """Returns a function of (trained, state): the confusion matrices of the three heads."""

    @jax.jit
    def matrices(trained, state, x, labels):
        heads, _ = network.logits(trained, state, x.astype(jnp.float32), False)
        valid = labels != IGNORED
        return jnp.stack(
            [
                jnp.bincount(
                    jnp.where(valid, labels * NUM_CLASSES + logits.argmax(-1), NUM_CLASSES**2)
                    .astype(int)
                    .ravel(),
                    length=NUM_CLASSES**2 + 1,
                )
                for logits in heads
            ]
        )

    missing = -len(images) % batch_size
    images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
    label_maps = np.concatenate(
        [label_maps, np.full((missing, *label_maps.shape[1:]), IGNORED, np.uint8)]
    ).astype(np.int32)
    batches = [
        (jnp.asarray(images[i : i + batch_size]), jnp.asarray(label_maps[i : i + batch_size]))
        for i in range(0, len(images), batch_size)
    ]

    def evaluate(trained, state):
        total = sum(np.asarray(matrices(trained, state, *batch), np.int64) for batch in batches)
        return total[:, :-1].reshape(-1, NUM_CLASSES, NUM_CLASSES)

    return evaluate


def ious(matrix):
    """Returns the IoU of each class of a confusion matrix."""
    correct = np.diag(matrix)
    return correct / (matrix.sum(0) + matrix.sum(1) - correct)


def write_weights(model, path):
    """Writes the weights of a model in float16, compressed."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "model.weights.h5"
        model.save_weights(whole)
        with h5py.File(whole) as source, h5py.File(path, "w") as target:

            def copy(name, item):
                if not isinstance(item, h5py.Dataset):
                    target.require_group(name).attrs.update(item.attrs)
                    return
                values = item[...]
                if values.dtype.kind == "f":
                    values = values.astype("float16")
                # The first bytes of all values together compress, the last do not.
                options = {"compression": "gzip", "shuffle": True} if values.ndim else {}
                target.create_dataset(name, data=values, **options)

            source.visititems(copy)


def train(arguments, settings):
    """Trains, evaluates, and writes `camvid.weights.h5` and `log.json`."""
    began = time.time()
    say = lambda *words: print(f"{time.time() - began:6.1f} s", *words, flush=True)  # noqa: E731
    folder = Path(arguments.data)
    images, label_maps = read(folder / "train", folder / "trainannot")
    validation = read(folder / "val", folder / "valannot")
    rng = np.random.default_rng(arguments.seed)
    keras.utils.set_random_seed(arguments.seed)
    frequencies = class_frequencies(label_maps)
    s = {**dataclasses.asdict(settings), "steps": 10.0**9}
    s["class_weights"] = (np.median(frequencies) / frequencies) ** s.pop("class_weights_power")
    s = {name: jnp.asarray(value, jnp.float32) for name, value in s.items()}
    say(f"{len(images)} training images, {len(validation[0])} validation images, {jax.devices()}")

    network = Network(arguments)
    trained = [variable.value for variable in network.heads.trainable_variables]
    state = [variable.value for variable in network.heads.non_trainable_variables]
    data = images, label_maps, rare_pixels(label_maps, rng)
    step = make_step(network, data, arguments.batch_size, tuple(arguments.crop))
    evaluate = make_evaluate(network, *validation, arguments.batch_size)
    zeros = [jnp.zeros_like(value) for value in trained]
    copies = [jnp.array(value) for value in trained]
    carry = (trained, state, copies, zeros, [jnp.array(z) for z in zeros], jnp.zeros(()))
    key = jax.random.key(arguments.seed)
    log, history, order = [], [], []
    steps = arguments.steps if arguments.seconds is None else None
    number, measured = 0, None
    while steps is None or number < steps:
        if len(order) < arguments.batch_size:
            order.extend(rng.permutation(len(images)))
        indices = np.asarray([order.pop() for _ in range(arguments.batch_size)])
        key, key_of_step = jax.random.split(key)
        carry, loss = step(carry, indices, key_of_step, s)
        number += 1
        if number == 1:
            loss.block_until_ready()
            say("first step compiled")
            evaluate(carry[2], carry[1])
            say("evaluation compiled")
        if number == 30:
            loss.block_until_ready()
            measured = time.time()
        if number == 60 and steps is None:
            loss.block_until_ready()
            seconds = (time.time() - measured) / 30
            left = arguments.seconds - (time.time() - began)
            steps = number + max(int(left / seconds * 0.97), 1)
            say(f"{1000 * seconds:.1f} ms per step, {steps} steps")
        if steps is not None:
            s["steps"] = jnp.asarray(steps, jnp.float32)
        history.append(loss)
        if number % arguments.validate_every == 0 or number == steps:
            scores = ious(evaluate(carry[2], carry[1])[0])
            recent = float(np.mean([float(value) for value in history[-50:]]))
            log.append({"step": number, "loss": recent, "mean_iou": float(scores.mean())})
            say(f"step {number}: loss {recent:.3f}, validation mean IoU {scores.mean():.4f}")

    mean, state = carry[2], carry[1]
    rounded = [value.astype(jnp.float16).astype(jnp.float32) for value in mean]
    matrices, matrices16 = evaluate(mean, state), evaluate(rounded, state)
    for variable, value in zip(network.heads.trainable_variables, mean, strict=True):
        variable.assign(value)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    write_weights(network.fcn, out / "camvid.weights.h5")
    result = {
        "mean_iou": {
            name: float(ious(matrix).mean())
            for name, matrix in zip(("fcn8s", "fcn16s", "fcn32s"), matrices, strict=True)
        },
        "mean_iou_float16": float(ious(matrices16[0]).mean()),
        "iou": ious(matrices[0]).round(4).tolist(),
        "last_weights": float(ious(evaluate(carry[0], state)[0]).mean()),
        "confusion": matrices[0].tolist(),
        "seconds": time.time() - began,
        "steps": steps,
        "settings": dataclasses.asdict(settings),
        "arguments": vars(arguments),
        "device": str(jax.devices()[0].device_kind),
        "log": log,
    }
    (out / "log.json").write_text(json.dumps(result, indent=1))
    say(json.dumps({k: result[k] for k in ("mean_iou", "mean_iou_float16", "last_weights", "iou")}))


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, help="VGG-16 without its top")
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=9749)
    parser.add_argument("--seconds", type=float, help="of the whole run, instead of --steps")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop", type=int, nargs=2, default=(288, 384))
    parser.add_argument("--input-upsampling", type=int, default=2)
    parser.add_argument("--fc-units", type=int, default=384)
    parser.add_argument("--fc6-kernel-size", type=int, default=5)
    parser.add_argument("--validate-every", type=int, default=500, help="steps")
    parser.add_argument("--seed", type=int, default=0)
    for field in dataclasses.fields(Settings):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=type(field.default), default=field.default)
    arguments = parser.parse_args()
    names = [field.name for field in dataclasses.fields(Settings)]
    train(arguments, Settings(**{name: vars(arguments).pop(name) for name in names}))


if __name__ == "__main__":
    main()
