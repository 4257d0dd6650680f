"""Predicted step time of FCN-8s on many GPUs, from published hardware speeds; nothing is measured.

    python -m benchmarks.scaling

A step ends when the all-reduce of the last gradient bucket and the optimizer have finished. The
all-reduce of a bucket starts when the backward pass has computed it and the previous bucket is
done, as in PyTorch's DistributedDataParallel. docs/results/scaling.md describes the model and its
assumptions.
"""

import argparse
import math
from dataclasses import dataclass, replace

import numpy as np

# Published: NVIDIA's H100 SXM, dense, in FLOP/s and byte/s; links in byte/s in one direction.
PEAK = {"float32": 494.7e12, "mixed_bfloat16": 989.4e12}  # float32 matmuls in TF32.
MEMORY = 3.35e12
NVLINK = 900e9 / 2
NETWORKS = {  # For each of a node's 8 GPUs.
    "InfiniBand NDR, 400 Gbit/s per GPU": 400e9 / 8,
    "Ethernet, 100 Gbit/s per node": 100e9 / 8 / 8,
}
GPUS_PER_NODE = 8
# Assumed.
UTILISATION = 0.4  # Fraction of the peak FLOP/s.
LINK_SHARE = 0.8  # Fraction of the links' and the memory's bandwidth.
NVLINK_DELAY, NETWORK_DELAY = 2e-6, 5e-6  # Latency of a message in seconds.
OPTIMIZER_BYTES = 20  # Per weight: momentum reads gradient, weight and velocity and writes two.
# PyTorch's bucket sizes in bytes.
FIRST_BUCKET, BUCKET = 1024**2, 25 * 1024**2


@dataclass(frozen=True)
class Layer:
    """A layer with weights."""

    name: str
    weights: int
    flops: float  # Forward pass of one image.
    learns: bool
    is_first: bool = False

    @property
    def is_classifier(self):
        return self.name in ("fc6", "fc7")


@dataclass(frozen=True)
class Setting:
    """Where and how a step is run."""

    gpus: int
    network: str
    gradients: str = "float32"
    batch_size: int = 1  # Per GPU.
    precision: str = "mixed_bfloat16"
    utilisation: float = UTILISATION
    accumulate: int = 1  # Gradient accumulation: batches per all-reduce.
    tree: bool = True  # Tree all-reduce between nodes; otherwise a ring.
    split: bool = False  # fc6 and fc7 are sharded over the GPUs of a node.


def fcn8s(fc_units=4096, size=500):
    """Returns the layers of FCN-8s with weights, in the order of the forward pass."""
    from keras_fcn import FCN8s

    model = FCN8s(21, fc_units=fc_units, input_shape=(size, size, 3), data_format="channels_last")
    layers = []
    for layer in model.layers:
        if not layer.weights:
            continue
        # A transposed convolution computes once per input pixel.
        pixels = layer.input if "upscore" in layer.name else layer.output
        axes = slice(2, 4) if layer.data_format == "channels_first" else slice(1, 3)
        flops = 2 * math.prod(layer.kernel.shape) * math.prod(pixels.shape[axes])
        weights = sum(math.prod(weight.shape) for weight in layer.weights)
        learns = bool(layer.trainable_weights)
        layers.append(Layer(layer.name, weights, flops, learns, is_first=not layers))
    return layers


def _backward_flops(layer):
    """FLOP of the backward pass: input gradient (except the first layer's) and weight gradient."""
    return layer.flops * ((not layer.is_first) + layer.learns)


def buckets(layers):
    """Returns the buckets, lists of layers, in the order of the backward pass."""
    found, size, limit = [[]], 0, FIRST_BUCKET
    for layer in reversed([layer for layer in layers if layer.learns]):
        found[-1].append(layer)
        size += 4 * layer.weights
        if size >= limit:
            found, size, limit = [*found, []], 0, BUCKET
    return [bucket for bucket in found if bucket]


def all_reduce_seconds(size, setting):
    """Returns the seconds of a hierarchical all-reduce of `size` bytes, within and across nodes."""
    local = min(setting.gpus, GPUS_PER_NODE)
    nodes = setting.gpus // local
    seconds = 2 * (local - 1) * (size / local / (NVLINK * LINK_SHARE) + NVLINK_DELAY)
    if nodes > 1:
        sent = 2 * (nodes - 1) / nodes * size / local
        hops = 2 * math.ceil(math.log2(nodes)) if setting.tree else 2 * (nodes - 1)
        seconds += sent / (NETWORKS[setting.network] * LINK_SHARE) + hops * NETWORK_DELAY
    return seconds


def flat_ring_delay(gpus):
    """Returns the total latency in seconds of the messages of one ring over all GPUs."""
    return 2 * (gpus - 1) * NETWORK_DELAY


def step_seconds(layers, setting):
    """Returns seconds: (of a step, of a step on a single GPU, of communication)."""
    speed = PEAK[setting.precision] * setting.utilisation
    forward = [layer.flops * setting.batch_size / speed for layer in layers]
    backward = [_backward_flops(layer) * setting.batch_size / speed for layer in layers]
    compute = sum(forward) + sum(backward)
    weights = sum(layer.weights for layer in layers if layer.learns)
    update = weights * OPTIMIZER_BYTES / (MEMORY * LINK_SHARE)
    ready, now = {}, sum(forward)
    for layer, seconds in reversed(list(zip(layers, backward, strict=True))):
        now += seconds
        ready[layer.name] = now
    free, sending = 0.0, 0.0
    bytes_of_one = 2 if setting.gradients == "bfloat16" else 4
    for bucket in buckets(layers):
        seconds = _bucket_seconds(bucket, bytes_of_one, setting)
        free = max(free, ready[bucket[-1].name]) + seconds
        sending += seconds
    alone = setting.accumulate * compute + update
    exchange = 0.0
    if setting.split:
        exchange = _split_seconds(layers, setting)
        classifier = sum(layer.weights for layer in layers if layer.is_classifier)
        update *= 1 - classifier / weights * (1 - 1 / GPUS_PER_NODE)
    together = (setting.accumulate - 1) * compute + max(free, compute) + update
    return together + setting.accumulate * exchange, alone, sending


def _bucket_seconds(bucket, bytes_of_one, setting):
    whole = sum(layer.weights for layer in bucket) * bytes_of_one
    if not setting.split:
        return all_reduce_seconds(whole, setting)
    parts = sum(layer.weights for layer in bucket if layer.is_classifier) * bytes_of_one
    seconds = all_reduce_seconds(whole - parts, setting) if whole > parts else 0.0
    if parts and setting.gpus > GPUS_PER_NODE:
        # Each GPU of a node all-reduces its shard with its counterparts, over its own link.
        within = all_reduce_seconds(parts, replace(setting, gpus=GPUS_PER_NODE))
        seconds += all_reduce_seconds(parts, setting) - within
    return seconds


def _split_seconds(layers, setting):
    """All-gather of fc6's inputs, all-reduce of fc7's outputs within a node, and the backward's."""
    fc7 = next(layer for layer in layers if layer.name == "fc7")
    units = math.isqrt(fc7.weights)  # fc7 has (n + 1) n weights.
    pixels = fc7.flops / 2 / units**2
    inputs = (math.sqrt(pixels) + 6) ** 2 * 512  # pool5.
    size = (inputs + pixels * units) * setting.batch_size * 2  # In bfloat16.
    sent = (GPUS_PER_NODE - 1) * size / (NVLINK * LINK_SHARE)
    return 2 * (sent + 2 * (GPUS_PER_NODE - 1) * NVLINK_DELAY)


def rounding_error(count, *, agreement, groups):
    """Returns the relative rounding error of a bfloat16 sum of gradients.

    Args:
        count: Number of GPUs, each with one gradient.
        agreement: Mean of the gradients' entries in units of their standard deviation.
        groups: Group sizes of the hierarchical sum: GPUs per ring, then rings per next level, etc.
    """
    from ml_dtypes import bfloat16

    generator = np.random.default_rng(0)
    exact = generator.normal(agreement, 1, (count, 20_000)).astype("float32")
    sent = exact.astype(bfloat16)
    for group in (*groups, *[groups[-1]] * count):
        if len(sent) == 1:
            break
        parts = sent.reshape(-1, min(group, len(sent)), sent.shape[1])
        sent = parts[:, 0]
        for number in range(1, parts.shape[1]):
            sent = sent + parts[:, number]
    wanted = exact.sum(0, dtype="float64")
    error = sent[0].astype("float64") - wanted
    return math.sqrt((error**2).mean() / (wanted**2).mean())


def print_model(layers):
    """Prints the model's gradient size, FLOP and buckets."""
    gradients = sum(4 * layer.weights for layer in layers if layer.learns)
    forward = sum(layer.flops for layer in layers)
    backward = sum(_backward_flops(layer) for layer in layers)
    print(f"FCN-8s, padding='paper', 500x500: {gradients / 1e6:.1f} MB of gradients in float32")
    print(f"forward {forward / 1e9:.0f} GFLOP per image, forward and backward "
          f"{(forward + backward) / 1e9:.0f} GFLOP")  # fmt: skip
    print("buckets in the order of the backward pass, with the backward FLOP done when ready:")
    order = list(reversed(layers))
    for bucket in buckets(layers):
        until = order.index(bucket[-1]) + 1
        done = sum(_backward_flops(layer) for layer in order[:until]) / backward
        size = sum(4 * layer.weights for layer in bucket) / 1e6
        print(f"  {size:6.1f} MB  {done:4.0%}  {bucket[0].name} to {bucket[-1].name}")


def print_predictions(layers):
    """Prints step times on 8, 64 and 1024 GPUs."""
    print("\nmilliseconds per step, efficiency relative to one GPU with the same batch")
    kinds = [(batch, gradients) for batch in (1, 4) for gradients in ("float32", "bfloat16")]
    for precision in PEAK:
        alone = [
            1e3 * step_seconds(layers, Setting(1, "", batch_size=b, precision=precision))[1]
            for b in (1, 4)
        ]
        print(f"\ncomputed in {precision}; single GPU: {alone[0]:.1f} for a batch of 1, "
              f"{alone[1]:.1f} for a batch of 4")  # fmt: skip
        title = "  ".join(f"{f'{batch} image(s), {kind}':>20}" for batch, kind in kinds)
        print(f"{'GPUs':>4}  {'between nodes':<36}{title}")
        for gpus, network in [(8, "")] + [(n, net) for net in NETWORKS for n in (64, 1024)]:
            cells = []
            for batch, gradients in kinds:
                setting = Setting(gpus, network, gradients, batch, precision)
                cells.append(_cell(layers, setting))
            print(f"{gpus:>4}  {network:<36}" + "  ".join(f"{cell:>20}" for cell in cells))


def print_changes(layers):
    """Prints the effect of one change at a time on the step time."""
    print("\nsensitivity: 1 image per GPU, mixed_bfloat16, gradients in float32")
    networks = list(NETWORKS)
    small = fcn8s(fc_units=1024)
    changes = {
        "nothing": (layers, {}),
        "gradients in bfloat16": (layers, {"gradients": "bfloat16"}),
        "4 images per GPU": (layers, {"batch_size": 4}),
        "8 batches accumulated": (layers, {"accumulate": 8}),
        "fc6 and fc7 sharded within a node": (layers, {"split": True}),
        "fc_units=1024": (small, {}),
        "ring of nodes instead of a tree": (layers, {"tree": False}),
        "utilisation 20 %": (layers, {"utilisation": 0.2}),
        "utilisation 60 %": (layers, {"utilisation": 0.6}),
    }
    places = [(8, ""), (64, networks[0]), (1024, networks[0]), (1024, networks[1])]
    titles = [f"{gpus} {network.split(',')[0]}".strip() for gpus, network in places]
    print(f"{'':<34}" + "".join(f"{title:>22}" for title in titles))
    for name, (of, change) in changes.items():
        cells = [_cell(of, Setting(gpus, network, **change)) for gpus, network in places]
        print(f"{name:<34}" + "".join(f"{cell:>22}" for cell in cells))
    delay, number = 1e3 * flat_ring_delay(1024), len(buckets(layers))
    print(f"one ring over 1024 GPUs: {delay:.1f} ms of latency for each of the {number} buckets")


def _cell(layers, setting):
    together, alone, _ = step_seconds(layers, setting)
    return f"{1e3 * together:.1f} ({alone / together:.0%})"


def print_rounding():
    """Prints the rounding error of partial sums, for independent and for correlated gradients."""
    print("\nrelative rounding error of the sum of bfloat16 gradients")
    columns = {
        "one ring, independent": {"agreement": 0, "groups": (1024,)},
        "one ring, agreeing": {"agreement": 1, "groups": (1024,)},
        "rings of 8, ring of nodes": {"agreement": 1, "groups": (8, 128)},
        "rings of 8, tree of nodes": {"agreement": 1, "groups": (8, 2)},
    }
    print(f"{'GPUs':>4}  " + "  ".join(columns))
    for count in (2, 8, 64, 1024):
        errors = [(name, rounding_error(count, **kind)) for name, kind in columns.items()]
        print(f"{count:>4}  " + "  ".join(f"{error:>{len(name)}.2%}" for name, error in errors))


def print_rates():
    """Prints the paper's optimizer settings, tuned for one image, converted to larger batches."""
    momentum, images = 0.99, 100_000
    print("\nmomentum 0.99 and the summed loss: settings that preserve the effect of one image")
    print(" batch  horizon of 0.99 in images  momentum   lr factor  steps of 100000 images")
    for batch in (1, 8, 64, 1024):
        kept = momentum**batch
        print(
            f"{batch:>6}  {batch / (1 - momentum):>25.0f}  {kept:>8.4f}  "
            f"{(1 - kept) / (1 - momentum):>10.2f}  {images / batch:>22.0f}"
        )


def main():
    """Prints model, predictions, sensitivities, rounding errors and learning rates."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    layers = fcn8s()
    print_model(layers)
    print_predictions(layers)
    print_changes(layers)
    print_rounding()
    print_rates()


if __name__ == "__main__":
    main()
