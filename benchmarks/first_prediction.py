"""Seconds of `keras-fcn predict camvid PHOTO` in a fresh process, by cause.

    python -m benchmarks.first_prediction

A process of its own does what the command does, one step after the other, and notes the time that
each takes; *compilation* is the first prediction less the second one. The command itself runs
beside it, and so does a process that only imports Keras. All run in turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")
PHOTO = Path(__file__).parents[1] / "keras_fcn" / "data" / "street_scenes" / "0016E5_07959.png"
STEPS = """
import json
import sys
import time

seconds = {"interpreter": time.time() - float(sys.argv[1])}
started = time.perf_counter()


def note(cause):
    global started
    now = time.perf_counter()
    seconds[cause] = seconds.get(cause, 0) + now - started
    started = now


from keras_fcn.cli.parser import build_parser
build_parser()
note("command line")
from keras_fcn.cli.quiet_imports import import_keras
import_keras()
note("import keras")
from keras_fcn.data.image_files import read_image
from keras_fcn.export import open_model
from keras_fcn.inference import predict
from keras_fcn.label_spaces import CAMVID
from keras_fcn.visualization import overlay, save_label_map
note("import keras_fcn")
model = open_model("camvid").model
note("model, weights")
image = read_image(sys.argv[2])
note("read, write")
predict(model, image).label_map
note("compilation")
label_map = predict(model, image).label_map
second = time.perf_counter() - started
note("run")
seconds["compilation"] -= second
save_label_map(sys.argv[3], label_map, CAMVID)
overlay(image, label_map, CAMVID)
note("read, write")
print(json.dumps(seconds))
"""


def measure(backend: str, runs: int) -> dict[str, list[float]]:
    """Returns the seconds of every run, by cause, of the whole command and of `import keras`."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "keras_fcn", "predict", "camvid", str(PHOTO)]
        command += ["--out", folder]
        for turn in range(runs + 1):
            steps = [sys.executable, "-c", STEPS, str(time.time()), str(PHOTO), f"{folder}/a.png"]
            measured = json.loads(_output(steps, environment))
            for name, process in {
                "keras-fcn predict": command,
                "only `import keras`": [sys.executable, "-c", "import keras"],
            }.items():
                start = time.perf_counter()
                _output(process, environment)
                measured[name] = time.perf_counter() - start
            if turn:  # The first turn reads the files from disk.
                for name, value in measured.items():
                    seconds.setdefault(name, []).append(value)
    return seconds


def _output(process, environment):
    done = subprocess.run(process, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{process} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def main() -> None:
    """Prints the medians as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    columns = {backend: measure(backend, options.runs) for backend in BACKENDS}
    print("| seconds | TensorFlow | JAX | PyTorch |\n|---|---|---|---|")
    for name in columns[BACKENDS[0]]:
        medians = (statistics.median(column[name]) for column in columns.values())
        print(f"| {name} | " + " | ".join(f"{median:.2f}" for median in medians) + " |")


if __name__ == "__main__":
    main()
