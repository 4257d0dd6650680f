"""`keras-fcn train` in two processes on the loopback, as a user of each backend starts them."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras

import keras_fcn

BACKEND = keras.backend.backend()
PACKAGE = str(Path(keras_fcn.__file__).parents[1])
TRAIN = ("-m", "keras_fcn", "train")


class TwoProcesses:
    """Two processes that have been started.

    Args:
        folder: Where what they write to standard output and error is kept.
        arguments: Of the command line, of both.
        second: What the second one has instead: `arguments`, and `package`, the folder of the code.
    """

    def __init__(self, folder, arguments, second=None):
        folder.mkdir(exist_ok=True)
        second = {"arguments": arguments, "package": PACKAGE, **(second or {})}
        self._folder, self.processes = folder, []
        addresses = [free_address(), free_address()]
        for number, (own, package) in enumerate(
            [(arguments, PACKAGE), (second["arguments"], second["package"])]
        ):
            with (folder / f"out{number}").open("w") as out, self._errors(number).open("w") as err:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, *TRAIN, *own],
                        env=environment(package) | place(number, addresses),
                        cwd=folder,
                        stdout=out,
                        stderr=err,
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def wait_for(self, path):
        """Returns when there is a file; a process must not end before."""
        until = time.monotonic() + 300
        while not path.exists():
            assert time.monotonic() < until, self.told()
            assert all(process.poll() is None for process in self.processes), self.told()
            time.sleep(0.002)

    def end(self, timeout=300):
        """Returns the exit codes."""
        return [process.wait(timeout) for process in self.processes]

    def errors(self, number):
        """What a process wrote to standard error."""
        return self._errors(number).read_text()

    def told(self):
        return "\n".join(self.errors(number)[-3000:] for number in range(2))

    def _errors(self, number):
        return self._folder / f"err{number}"


def torchrun(*arguments, restarts=0):
    """The started `torchrun` of two processes."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--max-restarts={restarts}", "--nproc-per-node=2", *TRAIN, *arguments),
        ],
        # See "When a process is lost" in docs/guides/devices.md.
        env=environment(PACKAGE) | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(package):
    return {**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"}


def place(number, addresses):
    """The variables that tell a process on each backend that it is one of two."""
    if BACKEND == "tensorflow":
        task = {"type": "worker", "index": number}
        return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}
    if BACKEND == "jax":
        return {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
        }
    host, port = addresses[0].split(":")
    first = {"MASTER_ADDR": host, "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return first | {"RANK": str(number), "LOCAL_RANK": str(number)}


def free_address():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"
