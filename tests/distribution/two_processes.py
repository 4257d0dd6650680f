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
        folder: Folder for their standard output and error.
        arguments: Of the command line, of both.
        second: What the second one has instead: `arguments`, and `package`, the folder of the code.
    """

    def __init__(self, folder, arguments, second=None):
        folder.mkdir(exist_ok=True)
        second = {"arguments": arguments, "package": PACKAGE, **(second or {})}
        self._folder, self.processes = folder, []
        addresses = [free_address(), free_address()]
        for rank, (own, package) in enumerate(
            [(arguments, PACKAGE), (second["arguments"], second["package"])]
        ):
            with (folder / f"out{rank}").open("w") as out, self._errors(rank).open("w") as err:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, *TRAIN, *own],
                        env=environment(package) | place(rank, addresses),
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
        """Waits until a file exists; fails if a process ends before."""
        until = time.monotonic() + 300
        while not path.exists():
            assert time.monotonic() < until, self.told()
            assert all(process.poll() is None for process in self.processes), self.told()
            time.sleep(0.002)

    def end(self, timeout=300):
        """Returns the exit codes."""
        return [process.wait(timeout) for process in self.processes]

    def errors(self, rank):
        """The standard error of a process."""
        return self._errors(rank).read_text()

    def told(self):
        return "\n".join(self.errors(rank)[-3000:] for rank in range(2))

    def _errors(self, rank):
        return self._folder / f"err{rank}"


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


def place(rank, addresses):
    """The environment variables of one of two processes, for each backend."""
    if BACKEND == "tensorflow":
        task = {"type": "worker", "index": rank}
        return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}
    if BACKEND == "jax":
        return {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
        }
    host, port = addresses[0].split(":")
    first = {"MASTER_ADDR": host, "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return first | {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def free_address():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"
