"""One side of a comparison, keras_fcn or the baseline, in a separate process.

For every line on standard input it runs the task once and prints one line of JSON.
`benchmarks.speed` starts it.
"""

import argparse
import json
import os
import sys
import time

import numpy as np

from benchmarks import avx2, devices
from benchmarks.peers import weights

NUM_CLASSES = 21
IGNORE_CLASS = 255
# Keras's, and those of the recipes; the baseline has PyTorch's of the same kind.
OPTIMIZERS = ("sgd", "coupled_sgd", "keras_adamw", "adamw")


def main() -> None:
    """Runs the task once per line of standard input, until it ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["ours", "peer", "compiled peer"])
    parser.add_argument("--task", choices=["forward", "step", "metrics"], required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--padding", required=True)
    parser.add_argument("--precision", choices=devices.PRECISIONS, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default=OPTIMIZERS[0])
    parser.add_argument("--outputs", help="file for the logits, or the confusion matrix")
    options = parser.parse_args()
    answers = redirected()
    random = np.random.default_rng(0)
    shape = (options.batch_size, *options.size)
    image = random.integers(0, 256, (*shape, 3)).astype("float32")
    label_map = random.integers(0, NUM_CLASSES, shape).astype("int32")
    label_map[:, :8] = IGNORE_CLASS
    arguments = {"forward": (image,), "step": (image, label_map)}
    is_ours = options.name == "ours"
    library = os.environ["KERAS_BACKEND"] if is_ours else "torch"
    if library == "jax" and avx2.is_limited():
        avx2.limit_jax()
    devices.set_float32_products(library, options.precision)
    if options.task == "metrics":
        arguments["metrics"] = (random.standard_normal((*shape, NUM_CLASSES), "float32"), label_map)
        contestant = _our_metric() if is_ours else _peer_metric()
    else:
        contestant = _our_network(options) if is_ours else _peer_network(options)
    if options.outputs:
        compared = "forward" if options.task == "step" else options.task
        np.save(options.outputs, contestant[compared](*arguments[compared]))
    product = matrix_product(contestant["product"])
    serve(
        lambda: contestant[options.task](*arguments[options.task]),
        answers,
        library,
        {"product": product},
    )


def redirected():
    """Returns the stream of the answers; all other output goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(task, answers, library, ready):
    """Answers `ready`, then runs the task once per line of standard input and answers seconds and
    peak memory.
    """
    # From here on, peak memory is that of the task.
    devices.reset_peak(library)
    print(json.dumps(ready), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        task()
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "peak": devices.peak(library)}
        print(json.dumps(answer), file=answers, flush=True)


def _our_network(options):
    import keras

    import keras_fcn

    is_half = options.precision in ("bfloat16", "float16")
    policy = f"mixed_{options.precision}" if is_half else "float32"
    model = getattr(keras_fcn, options.model)(
        NUM_CLASSES,
        padding=options.padding,
        dtype=policy,
        data_format="channels_last",
        gradient_checkpointing=options.checkpointing,
    )
    for name, array in weights.arrays(options.model, NUM_CLASSES):
        layer, variable = name.split("/")
        getattr(model.get_layer(layer), variable).assign(array)
    model.compile(
        _our_optimizer(options.optimizer),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE_CLASS),
    )

    return {
        "forward": lambda image: model.predict(image, verbose=0),
        "step": lambda image, label_map: float(model.train_on_batch(image, label_map)),
        "product": our_product(options.precision),
    }


def _our_optimizer(name):
    import keras

    from keras_fcn.training import optimizer

    return {
        "sgd": lambda: keras.optimizers.SGD(1e-6, momentum=0.9),
        "coupled_sgd": lambda: optimizer.CoupledSGD(1e-6, momentum=0.9),
        "keras_adamw": lambda: keras.optimizers.AdamW(1e-6),
        "adamw": lambda: optimizer.AdamW(1e-6),
    }[name]()


def _peer_network(options):
    import torch

    from benchmarks.peers.pytorch import PeerFCN

    device = _peer_device()
    model = PeerFCN(options.model, NUM_CLASSES, options.padding)
    model.take(dict(weights.arrays(options.model, NUM_CLASSES)))
    model.to(device)
    if options.optimizer.endswith("adamw"):
        optimizer = torch.optim.AdamW(model.parameters(), 1e-6)
    else:
        decay = 5e-4 if options.optimizer == "coupled_sgd" else 0
        optimizer = torch.optim.SGD(model.parameters(), 1e-6, momentum=0.9, weight_decay=decay)
    network = torch.compile(model) if options.name == "compiled peer" else model
    dtype = torch.float16 if options.precision == "float16" else torch.bfloat16
    half = torch.autocast(device, dtype, enabled=options.precision in ("bfloat16", "float16"))
    scaler = torch.amp.GradScaler(device, enabled=options.precision == "float16")
    mean = np.array([104.00699, 116.66877, 122.67892], "float32")

    def tensor(image):
        bgr = image[..., ::-1] - mean
        return torch.from_numpy(np.ascontiguousarray(bgr.transpose(0, 3, 1, 2))).to(device)

    def forward(image):
        model.eval()
        with torch.inference_mode(), half:
            return network(tensor(image)).float().cpu().numpy().transpose(0, 2, 3, 1)

    def step(image, label_map):
        model.train()
        with half:
            logits = network(tensor(image))
        loss = torch.nn.functional.cross_entropy(
            logits.float(),
            torch.from_numpy(label_map).to(device).long(),
            ignore_index=IGNORE_CLASS,
        )
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    return {"forward": forward, "step": step, "product": _peer_product(options.precision)}


def _our_metric():
    from keras_fcn.metrics import MeanIoU

    metric = MeanIoU(NUM_CLASSES, ignore_class=IGNORE_CLASS)

    def metrics(logits, label_map):
        metric.reset_state()
        metric.update_state(label_map, logits)
        metric.result()
        return metric.confusion_matrix()

    return {"metrics": metrics, "product": our_product("float32")}


def _peer_metric():
    import torch

    device = _peer_device()

    def metrics(logits, label_map):
        predicted = torch.from_numpy(logits).to(device).argmax(-1)
        label_map = torch.from_numpy(label_map).to(device)
        counted = label_map != IGNORE_CLASS
        bins = NUM_CLASSES * label_map[counted].long() + predicted[counted]
        matrix = torch.bincount(bins, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)
        right, pixels = matrix.diag(), matrix.sum(0) + matrix.sum(1)
        (right / (pixels - right)).mean().item()
        return matrix.cpu().numpy()

    return {"metrics": metrics, "product": _peer_product("float32")}


def our_product(precision):
    """Returns a function from a size to a function that runs one matmul in Keras's backend."""
    import keras

    def product(size):
        matrix = keras.ops.cast(keras.random.normal((size, size)), _dtype(precision))
        return lambda: keras.ops.convert_to_numpy(keras.ops.matmul(matrix, matrix)[:1, :1])

    return product


def _peer_product(precision):
    import torch

    def product(size):
        dtype = getattr(torch, _dtype(precision))
        matrix = torch.randn(size, size, device=_peer_device()).to(dtype)
        return lambda: (matrix @ matrix)[:1, :1].cpu()

    return product


def _peer_device():
    return "cpu" if devices.gpu() is None else "cuda"


def _dtype(precision):
    return "float32" if precision == "tensorfloat32" else precision


def matrix_product(product):
    """Returns the peak throughput of several matrix multiplications in FLOP/s."""
    size = 2048 if devices.gpu() is None else 8192
    run = product(size)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


if __name__ == "__main__":
    main()
