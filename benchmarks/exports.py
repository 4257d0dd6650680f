"""Seconds of one prediction of FCN-8s in each runtime, compared with Keras's backends.

    python -m benchmarks.exports --out exports.json

The model is exported to every format, and the plain PyTorch baseline to ONNX. All sides have the
same weights; their logits are compared first. Each side has a process of its own, and the runs of
all sides alternate: 13 GB of memory with full-width fc6 and fc7, less with fewer `--sides`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import avx2, speed
from benchmarks.contestant import NUM_CLASSES, redirected, serve
from benchmarks.peers import weights

BACKENDS = ("tensorflow", "jax", "torch")
FILES = {
    "saved_model": "saved_model",
    "onnx": "fcn8s.onnx",
    "openvino": "openvino",
    "litert": "fcn8s.tflite",
}
BASELINE = "baseline"
PEER = "baseline in onnx"
SIDES = (*BACKENDS, *FILES, BASELINE, PEER)
LIMITED = ("tensorflow", "torch", "openvino", BASELINE)  # By the variables of benchmarks.avx2.
_MEAN = np.array([104.00699, 116.66877, 122.67892], "float32")


def measure(sides, size, padding, runs, fixed):
    """Returns seconds of every run and peak memory of each side.

    Raises:
        RuntimeError: If a process fails, or the logits differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--size", *map(str, size), "--padding", padding, "--folder", folder]
        options += ["--fixed"] if fixed else []
        if files := [side for side in sides if side in FILES]:
            _finish(["--write", *files, *options], "tensorflow")
        if PEER in sides:
            _finish(["--write", PEER, *options], "torch")
        processes = {}
        try:
            for side in sides:
                backend = side if side in BACKENDS else "tensorflow"
                processes[side] = speed.start_process(
                    ["benchmarks.exports", "--side", side, *options], backend
                )
                speed.answer(processes[side])
            logits = {side: np.load(_logits_file(folder, side)) for side in sides}
            first = logits[sides[0]]
            for side in sides:
                difference = np.abs(logits[side] - first).max() / np.abs(first).max()
                if not difference <= speed.TOLERANCE["float32"]:
                    raise RuntimeError(f"The logits of {side} differ by {difference:.1e}.")
            seconds, peak = speed.alternate(processes, runs)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    return {"seconds": seconds, "peak": peak}


def table(result):
    """Returns the results as a Markdown table, fastest first."""
    lines = ["| side | s | smallest to largest | peak GB |", "|---|---|---|---|"]
    medians = {side: statistics.median(runs) for side, runs in result["seconds"].items()}
    for side in sorted(medians, key=medians.get):
        runs = result["seconds"][side]
        peak = result["peak"][side] / 1e9
        lines.append(
            f"| {side} | {medians[side]:.2f} | {min(runs):.2f} to {max(runs):.2f} | {peak:.2f} |"
        )
    return "\n".join(lines)


def _finish(arguments, backend):
    process = speed.start_process(["benchmarks.exports", *arguments], backend)
    if process.wait():
        raise RuntimeError(f"{' '.join(arguments)} ended with status {process.returncode}.")


def _logits_file(folder, side):
    return Path(folder, f"{side.replace(' ', '_')}.npy")


def _write(options):
    """Writes the files of `options.write`; that of the baseline by PyTorch."""
    folder = Path(options.folder)
    size = options.size if options.fixed else None
    if options.write == [PEER]:
        _write_peer(folder / "peer.onnx", options, size)
        return
    from keras_fcn.export import export

    model = _model(options.padding)
    for side in options.write:
        export(model, folder / FILES[side], format=side, size=size)


def _write_peer(path, options, size):
    import torch

    axes = None if size else {"image": {2: "height", 3: "width"}}
    torch.onnx.export(
        _peer(options.padding),
        torch.zeros(1, 3, *options.size),
        path,
        input_names=["image"],
        dynamic_axes=axes,
        dynamo=False,
    )


def _peer(padding):
    from benchmarks.peers.pytorch import PeerFCN

    peer = PeerFCN("FCN8s", NUM_CLASSES, padding)
    peer.take(dict(weights.arrays("FCN8s", NUM_CLASSES)))
    return peer.eval()


def _model(padding):
    import keras_fcn

    model = keras_fcn.FCN8s(NUM_CLASSES, padding=padding, data_format="channels_last")
    for name, array in weights.arrays("FCN8s", NUM_CLASSES):
        layer, variable = name.split("/")
        getattr(model.get_layer(layer), variable).assign(array)
    return model


def _prediction(options):
    """Returns the prediction of one side, from an image in NumPy to logits in NumPy."""
    if options.side in (BASELINE, PEER):
        logits = _peer_logits(options)

        def predict(image):
            bgr = np.ascontiguousarray((image[..., ::-1] - _MEAN).transpose(0, 3, 1, 2))
            return logits(bgr).transpose(0, 2, 3, 1)

        return predict
    if options.side in FILES:
        from keras_fcn.export import ExportedModel

        return ExportedModel(Path(options.folder, FILES[options.side])).predict_on_batch
    model = _model(options.padding)
    return lambda image: model.predict(image, verbose=0)


def _peer_logits(options):
    """Returns the logits of the baseline as a function of an image, channels first, in NumPy."""
    if options.side == PEER:
        import onnxruntime

        session = onnxruntime.InferenceSession(Path(options.folder, "peer.onnx"))
        return lambda bgr: session.run(None, {"image": bgr})[0]
    import torch

    peer = _peer(options.padding)

    @torch.inference_mode()
    def logits(bgr):
        return peer(torch.from_numpy(bgr)).numpy()

    return logits


def _serve_side(options):
    answers = redirected()
    predict = _prediction(options)
    image = np.random.default_rng(0).integers(0, 256, (1, *options.size, 3)).astype("float32")
    np.save(_logits_file(options.folder, options.side), predict(image))
    library = options.side if options.side in BACKENDS else "tensorflow"
    serve(lambda: predict(image), answers, library, {})


def main() -> None:
    """Measures all sides and prints their table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--size", type=int, nargs=2, default=(500, 500), metavar=("H", "W"))
    parser.add_argument("--padding", choices=["paper", "same"], default="paper")
    parser.add_argument("--fixed", action="store_true", help="export for this size alone")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--avx2",
        action="store_true",
        help=f"use no instructions beyond AVX2, with --sides of {', '.join(LIMITED)}",
    )
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    # What this program starts of itself.
    for name in ("--side", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.avx2:
        if not set(options.sides) <= set(LIMITED):
            parser.error(f"--avx2 must come with --sides of {', '.join(LIMITED)}.")
        avx2.set_variables()
    if options.side:
        _serve_side(options)
    elif options.write:
        _write(options)
    else:
        print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        result = measure(options.sides, options.size, options.padding, options.runs, options.fixed)
        if options.out:
            options.out.write_text(json.dumps(result, indent=1))
        print(table(result))


if __name__ == "__main__":
    main()
