"""Start-up time of an import and of the command line in a fresh process.

    python -m benchmarks.startup

Targets: `import keras_fcn` adds at most 0.15 s to `import keras`; `--help` and the error for an
unknown option take at most 0.5 s.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")
COMMAND = str(Path(sys.executable).with_name("keras-fcn"))
# The process prints the seconds itself: the time of a whole process varies by more than the
# import of this package takes.
AFTER_KERAS = """
import time
import keras
start = time.perf_counter()
import keras_fcn
print(time.perf_counter() - start)
"""
STATEMENTS = {
    "import keras": "import keras",
    "import keras_fcn": "import keras_fcn",
    "import keras_fcn, after keras": AFTER_KERAS,
}
COMMANDS = {
    "keras-fcn --help": [COMMAND, "--help"],
    "keras-fcn train --no-such-option": [COMMAND, "train", "--no-such-option"],
}


def measure(runs: int, backends=BACKENDS) -> dict[str, list[float]]:
    """Returns the seconds of every run of each process; the processes run in alternation."""
    processes = {
        f"{name} ({backend})": ([sys.executable, "-c", statement], backend)
        for backend in backends
        for name, statement in STATEMENTS.items()
    }
    processes |= {name: (command, backends[0]) for name, command in COMMANDS.items()}
    seconds = {name: [] for name in processes}
    for turn in range(runs + 1):
        for name, (command, backend) in processes.items():
            environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            taken = time.perf_counter() - start
            wanted = 2 if "--no-such-option" in command else 0
            if done.returncode != wanted:
                raise RuntimeError(
                    f"{' '.join(command)} ended with {done.returncode}: {done.stderr}"
                )
            if turn:  # The first run is not counted: it reads the files from disk.
                seconds[name].append(float(done.stdout) if AFTER_KERAS in command else taken)
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    """Returns medians as a Markdown table."""
    lines = ["| process | seconds | smallest to largest |", "|---|---|---|"]
    for name, values in seconds.items():
        median = statistics.median(values)
        lines.append(f"| `{name}` | {median:.3f} | {min(values):.3f} to {max(values):.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    print(table(measure(parser.parse_args().runs)))


if __name__ == "__main__":
    main()
