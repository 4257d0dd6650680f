"""Compares a training on two hosts (simulated as network namespaces) with one of a single process.

By hand, as root:

    python tests/distribution/two_hosts.py --bytes
    python tests/distribution/two_hosts.py --start docs/guides/cluster/train.slurm

Each namespace has its own host name and one end of a virtual cable, and no other network: the
rendezvous and the gradients go through it. A Slurm file finds stand-ins for `scontrol` and `srun`,
a Kubernetes Job the names of its pods. Where this is not permitted, the script says why and ends
with 77.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
ADDRESSES = ("10.66.0.1", "10.66.0.2")
SKIPPED = 77
SETTINGS = {
    **{"num_classes": 3, "ignore_class": 255, "batch_size": 2, "learning_rate": 0.01},
    **{"model": "fcn32s", "padding": "same", "fc_units": 4, "freeze": "block4"},
    # Adam divides by the gradient's magnitude, which would amplify rounding errors.
    **{"dropout_rate": 0.0, "optimizer": "coupled_sgd"},
}


def main():
    """Prints the difference and the bytes sent over the link; exits with 1 if the runs differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument(
        "--bytes", action="store_true", help="train once more, to tell a step from the rest"
    )
    parser.add_argument("--start", type=Path, help="a .slurm or .yaml file instead of torchrun")
    options = parser.parse_args()
    if reason := why_not():
        print(f"skipped: {reason}")
        raise SystemExit(SKIPPED)
    # SIGTERM must remove the namespaces, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory() as folder, two_hosts(names(options.start)) as hosts:
        difference = compare(Path(folder), hosts, options)
        if difference > 1e-5:
            raise SystemExit(f"The weights differ by {difference:.2g}, which is more than 1e-5.")


def why_not():
    """The reason why this machine cannot simulate two hosts, or an empty string."""
    if os.geteuid():
        return "only root may make network namespaces"
    name = f"probe-{os.getpid()}"
    try:
        for words in (f"netns add {name}", f"-n {name} link add eth0 type veth peer name eth1"):
            done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
            if done.returncode:
                return f"`ip {words}` is refused: {done.stderr.strip()}"
    except FileNotFoundError:
        return "there is no `ip`, which Debian has in iproute2"
    finally:
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
    return ""


def names(file):
    """The names of the two hosts, each followed by its aliases."""
    if file is None or file.suffix == ".slurm":
        return ["first", "second"]
    job = job_of(file)
    name, service = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
    return [f"{name}-{index} {name}-{index}.{service}" for index in range(2)]


def job_of(file):
    import yaml

    (job,) = (part for part in yaml.safe_load_all(file.read_text()) if part["kind"] == "Job")
    return job


def compare(folder, hosts, options):
    """Trains in one process and on two hosts; prints results, returns the largest difference."""
    sys.path.insert(0, str(TESTS))
    from helpers import write_pairs

    images, labels = write_pairs(folder, "abcd")
    train = ["--images", str(images), "--labels", str(labels), "--keep-state"]
    train += [f"--set={name}={value}" for name, value in SETTINGS.items()]
    backend = "tensorflow" if "tensorflow" in str(options.start) else "torch"
    environment = environment_of(folder, hosts, backend)

    def bytes_of(steps, out):
        before = counted(hosts[0])
        arguments = [*train, f"--set=steps={steps}", "--out", str(folder / out)]
        commands = commands_for(options.start, hosts, arguments)
        finish([start(command, environment) for command in commands])
        return counted(hosts[0]) - before

    steps = options.steps
    alone = [sys.executable, "-m", "keras_fcn", "train", *train, f"--set=steps={steps}"]
    finish([start([*alone, "--out", str(folder / "one")], environment)])
    whole = bytes_of(steps, "two")
    one, two = (np.load(folder / name / "last.npz") for name in ("one", "two"))
    arrays = sorted(set(one.files) - {"facts.json"})
    momenta = [n for n in arrays if n.startswith("optimizer") and one[n].dtype == "float32"]
    assert max(np.abs(one[name]).max() for name in momenta) > 1e-3
    difference = max(float(np.abs(two[name] - one[name]).max()) for name in arrays)
    print(f"largest difference of {len(arrays)} variables after {steps} steps: {difference:.3g}")
    print(f"bytes through the cable, both ways: {whole:,}")
    if options.bytes:
        # The start-up traffic is in both runs and cancels.
        of_a_step = (whole - bytes_of(steps // 2, "short")) / (steps - steps // 2)
        print(f"bytes of a step: {of_a_step:,.0f}")
        print(f"numbers in a gradient: {sum(one[name].size for name in momenta):,}")
    return difference


def commands_for(file, hosts, train):
    """The start commands: one for each host, or one that starts both."""
    if file is None:
        torchrun = "torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d"
        torchrun = [*torchrun.split(), "--rdzv-endpoint", "first:29500", "-m", "keras_fcn", "train"]
        return [[*on(host), *torchrun, *train, "--devices", "all"] for host in hosts]
    if file.suffix == ".slurm":
        return [["bash", str(file), *train]]
    (container,) = job_of(file)["spec"]["template"]["spec"]["containers"]
    command = [word.replace("$(GPUS)", "1") for word in container["command"]]
    return [[*on(host), *command, *train] for host in hosts]


def environment_of(folder, hosts, backend):
    """The environment of the processes, with Slurm's variables and substitutes for its commands."""
    tools = folder / "bin"
    tools.mkdir()
    node = 'SLURM_NODEID={} {} "$@" &'
    nodes = [node.format(rank, shlex.join(on(host))) for rank, host in enumerate(hosts)]
    scripts = {
        "scontrol": ["echo first", "echo second"],
        # This substitute skips srun's only option and fails as soon as one node does.
        "srun": ["shift", *nodes, "wait -n && wait -n"],
    }
    for name, lines in scripts.items():
        (tools / name).write_text("\n".join(["#!/bin/bash", *lines, ""]))
        (tools / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        **{"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"},
        **{"SLURM_JOB_NODELIST": "first,second", "SLURM_NNODES": "2", "SLURM_JOB_ID": "1"},
        "SLURM_GPUS_ON_NODE": "1",
    }


def counted(host):
    """The number of bytes that a host has sent and received."""
    files = [f"/sys/class/net/eth0/statistics/{way}_bytes" for way in ("tx", "rx")]
    found = subprocess.run([*on(host), "cat", *files], capture_output=True, check=True, text=True)
    return sum(map(int, found.stdout.split()))


def start(command, environment):
    """Starts a training; output goes to a file, so that no process blocks on a full pipe."""
    printed = tempfile.TemporaryFile("w+")  # noqa: SIM115
    process = subprocess.Popen(
        command, env=environment, stdout=printed, stderr=printed, start_new_session=True
    )
    return process, printed


def finish(started, seconds=300):
    """Waits for the processes; as soon as one fails, ends all and prints its output."""
    end = time.monotonic() + seconds
    try:
        while any(process.poll() is None for process, _ in started) and time.monotonic() < end:
            if any(process.poll() for process, _ in started):
                break
            time.sleep(0.1)
        for process, printed in started:
            if process.poll() != 0:
                printed.seek(0)
                raise SystemExit(f"{process.args} failed:\n{printed.read()[-5000:]}")
    finally:
        for process, printed in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            printed.close()


def on(host):
    """The command prefix that runs a command on a host, with its host name."""
    name = host.rpartition("-")[0]
    within = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
    return ["ip", "netns", "exec", host, *within]


@contextlib.contextmanager
def two_hosts(names):
    """Context manager for two namespaces with these names, connected by a virtual link."""
    hosts = [f"{name.split()[0]}-{os.getpid()}" for name in names]
    known = [f"{address} {name}" for address, name in zip(ADDRESSES, names, strict=True)]
    # `ip netns exec` mounts these files over those in /etc.
    folders = [Path("/etc/netns", host) for host in hosts]
    try:
        for host, folder in zip(hosts, folders, strict=True):
            folder.mkdir(parents=True)
            (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *known, ""]))
            ip(f"netns add {host}")
        first, second = hosts
        ip(f"-n {first} link add eth0 type veth peer name eth0 netns {second}")
        for host, address in zip(hosts, ADDRESSES, strict=True):
            ip(f"-n {host} address add {address}/24 dev eth0")
            for device in ("lo", "eth0"):
                ip(f"-n {host} link set {device} up")
        yield hosts
    finally:
        for host, folder in zip(hosts, folders, strict=True):
            subprocess.run(["ip", "netns", "delete", host], stderr=subprocess.DEVNULL)
            (folder / "hosts").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
                folder.parent.rmdir()


def ip(words):
    subprocess.run(["ip", *words.split()], check=True)


if __name__ == "__main__":
    main()
