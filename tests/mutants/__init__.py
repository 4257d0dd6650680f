"""Small faults in the package, one at a time, and which tests find them.

    python -m tests.mutants                      # every fault, against the default tests
    python -m tests.mutants --gate               # what these miss against all tests of the gate
    python -m tests.mutants --only crop border   # those with one of these words in their name

Each fault is a line of the package that reads otherwise, in a copy of the checkout. First come the
tests of its own module, then all others of the default run (`pytest`), with `--gate` then those
that the gate adds, on the fault's own backend. Exits with 1 if a fault is found by none of them.
A new feature brings its own faults: a test checks that each still is in the code.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import (
    alignment,
    backends,
    data,
    data_check,
    data_formats,
    data_transforms,
    inference,
    losses_and_metrics,
    models,
    serve_and_export,
    training,
    weights,
)

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    *("keras_fcn", "tests", "docs", ".mkdocs", "benchmarks"),
    *("pyproject.toml", "README.md", "README.ko.md", "mkdocs.yml"),
)
# This file's own test would find them all.
LEFT_OUT = ("__pycache__", "test_mutants.py")
GATE = "not slow and not browser"

MUTANTS = (
    *alignment.MUTANTS,
    *models.MUTANTS,
    *weights.MUTANTS,
    *data.MUTANTS,
    *data_check.MUTANTS,
    *data_formats.MUTANTS,
    *data_transforms.MUTANTS,
    *losses_and_metrics.MUTANTS,
    *training.MUTANTS,
    *backends.MUTANTS,
    *inference.MUTANTS,
    *serve_and_export.MUTANTS,
)


def apply(mutant, package):
    """Changes the one place; raises a ValueError if the code does not have it once."""
    path = package / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1 or mutant.old == mutant.new:
        raise ValueError(f"{mutant.file} must hold once: {mutant.old!r} ({mutant.name}).")
    path.write_text(text.replace(mutant.old, mutant.new))


def first_failure(copy, backend, selection, *arguments):
    """The first test of a run that fails, `None` if all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    if selection:
        command += ["-m", selection]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(copy)}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    environment |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments], cwd=copy, env=environment, capture_output=True, text=True
    )
    if done.returncode in (0, 5):  # All passed, or none were chosen.
        return None
    found = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return found[1].removeprefix("tests/")


def hunt(mutant, tree, with_gate, only_own):
    """Returns (which run finds a mutant, the test that does, seconds)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for part in PARTS:
            source = tree / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns(*LEFT_OUT))
            elif source.exists():
                shutil.copy(source, copy / part)
        try:
            apply(mutant, copy / "keras_fcn")
        except ValueError:  # Of another checkout, `--tree`.
            return "absent", "", 0.0
        own = [f"tests/{name}" for name in mutant.tests.split() if (copy / "tests" / name).exists()]
        run, found = "default", None
        if own:
            found = first_failure(copy, mutant.backend, None, "-n", "0", *own)
        if found is None and not only_own:
            found = first_failure(copy, mutant.backend, None, "-n", "0", "tests")
        if found is None and with_gate:
            files = own if only_own and own else ["tests"]
            run, found = "gate", first_failure(copy, mutant.backend, GATE, "-n", "0", *files)
    return (run if found else "nothing"), found or "", time.monotonic() - started


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="mutants of these names alone")
    parser.add_argument("--gate", action="store_true", help="what is left against all of the gate")
    parser.add_argument("--own", action="store_true", help="the tests of the own module alone")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--tree", type=Path, default=ROOT, help="another checkout to look at")
    options = parser.parse_args(arguments)
    chosen = [
        mutant
        for mutant in MUTANTS
        if options.only is None or any(word in mutant.name for word in options.only)
    ]
    results = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as threads:
        jobs = [
            threads.submit(hunt, mutant, options.tree, options.gate, options.own)
            for mutant in chosen
        ]
        for mutant, job in zip(chosen, jobs, strict=True):
            run, found, seconds = job.result()
            results.append(run)
            print(
                f"{run:<8} {mutant.backend:<10} {seconds:4.0f} s  {mutant.name:<58} {found}",
                flush=True,
            )
    for run in ("default", "gate", "nothing", "absent"):
        print(f"{run:<8} {results.count(run)} of {len(results)}")
    return 1 if "nothing" in results else 0
