"""Communication volume and cost of data-parallel training of FCN-8s with several processes.

    python -m benchmarks.communication bytes       # bytes sent, compared with a ring's minimum
    python -m benchmarks.communication overlap     # profile: overlap with the backward pass
    python -m benchmarks.communication efficiency  # two processes, one core each, against one
    python -m benchmarks.communication curve       # the loss curve with bfloat16 gradients

The processes run in a separate network namespace (`unshare` and `ip` of Linux), so that its
loopback counters count only their traffic and `tc` can limit the loopback to a given bandwidth.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

INSIDE = "KERAS_FCN_OWN_NETWORK"
TIMEOUT = 900


def start(options, *, world_size=2, backend="torch", cores=None, apart=False):
    """Runs the processes of one training; returns the measurements of process 0.

    Args:
        options: See `communication_worker.OPTIONS`.
        world_size: Number of processes.
        backend: Keras's backend.
        cores: The core that each process is pinned to; not pinned if `None`.
        apart: Whether the processes train independently, without communication.
    """
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for rank in range(world_size):
            out = Path(folder) / f"{rank}.json"
            command = [sys.executable, "-m", "benchmarks.communication_worker"]
            command += [json.dumps(options), str(out)]
            if cores is not None:
                command = ["taskset", "-c", str(cores[rank]), *command]
            environment = _environment(backend, rank, 1 if apart else world_size)
            errors = (Path(folder) / f"{rank}.txt").open("w")
            running.append(
                subprocess.Popen(
                    command, env={**os.environ, **environment}, stdout=errors, stderr=errors
                )
            )
        try:
            failed = [process.wait(TIMEOUT) for process in running]
        finally:
            for process in running:
                process.kill()
        if any(failed):
            raise RuntimeError((Path(folder) / f"{failed.index(max(failed))}.txt").read_text())
        return json.loads((Path(folder) / "0.json").read_text())


def _environment(backend, rank, world_size):
    """Environment variables as set by torchrun, or as TensorFlow and JAX read them."""
    environment = {
        "KERAS_BACKEND": backend,
        "PROCESSES": str(world_size),
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if world_size == 1:
        return environment
    if backend == "torch":
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        environment |= {"WORLD_SIZE": str(world_size), "GLOO_SOCKET_IFNAME": "lo"}
    elif backend == "tensorflow":
        workers = [f"127.0.0.1:{29500 + port}" for port in range(world_size)]
        place = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
        environment["TF_CONFIG"] = json.dumps(place)
    else:
        environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = "127.0.0.1:29500"
        environment["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(world_size)
        environment["KERAS_DISTRIBUTION_PROCESS_ID"] = str(rank)
    return environment


@contextlib.contextmanager
def link(gigabits, world_size):
    """Limits the loopback to this bandwidth per process; `None` leaves it unlimited."""
    if gigabits is None:
        yield
        return
    # All processes share the loopback.
    rate = f"{gigabits * world_size}gbit"
    limit = ["rate", rate, "burst", "4mb", "latency", "100ms"]
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "tbf", *limit], check=True)
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)


def count_bytes(options):
    """Prints bytes sent per process and step, and the minimum, 2 (N - 1) / N gradients."""
    kinds = [("torch", n, g) for n in options.processes for g in (None, "bfloat16")]
    for backend in options.other_backends:
        kinds += [(backend, 2, None)] + ([(backend, 2, "bfloat16")] if backend != "jax" else [])
    print(f"{'backend':<11}processes  gradients  MB of them  minimum MB  sent MB  sent / minimum")
    for backend, world_size, gradients in kinds:
        steps = {"gradients": gradients, "steps": options.steps, "fc_units": options.fc_units}
        found = start(steps, world_size=world_size, backend=backend)
        size = found["gradients"] / (1 if gradients is None else 2)
        minimum = 2 * (world_size - 1) / world_size * size
        print(
            f"{backend:<11}{world_size:>9}  {gradients or 'float32':<9}  {size / 1e6:>10.1f}  "
            f"{minimum / 1e6:>10.1f}  {found['bytes'] / 1e6:>7.1f}  "
            f"{found['bytes'] / minimum:>14.4f}",
            flush=True,
        )


def show_overlap(options):
    """Prints how much communication overlaps with the backward pass, and plots one step."""
    variants = {
        "default": {},
        "one bucket": {"ddp": {"bucket_cap_mb": 10_000}},
        "bfloat16": {"gradients": "bfloat16"},
    }
    if options.variants:
        variants |= {
            "bucket_cap_mb=5": {"ddp": {"bucket_cap_mb": 5}},
            "bucket_cap_mb=100": {"ddp": {"bucket_cap_mb": 100}},
            "gradient_as_bucket_view=False": {"ddp": {"gradient_as_bucket_view": False}},
            "static_graph=True": {"ddp": {"static_graph": True}},
        }
    print(f"two processes with one core and a link of {options.gigabits} Gbit/s each")
    print(f"{'':<30}seconds per step     backward  all-reduce, overlapped  buckets (MB)")
    seconds, lines = {name: [] for name in variants}, {}
    with tempfile.TemporaryDirectory() as folder, link(options.gigabits, 2):
        for _ in range(options.rounds):
            for name, changes in variants.items():
                trace = str(Path(folder) / f"{name}.json")
                common = {"fc_units": options.fc_units, "size": options.size, "trace": trace}
                found = start({**common, "steps": options.steps + 1, **changes}, cores=(0, 1))
                seconds[name] += found["seconds"][:-1]  # The last one is profiled.
                lines[name] = step_of(Path(trace)), found["buckets"]
    for name, (step, buckets) in lines.items():
        sizes = " ".join(f"{bucket / 1e6:.0f}" for bucket in buckets)
        print(
            f"{name:<30}{spread(seconds[name])}  {length(step['backward']):>7.2f}s  "
            f"{length(*step['sent']):>9.2f}s  {overlap_fraction(step):>10.0%}  {sizes}"
        )
    if options.picture:
        draw({name: lines[name] for name in ("default", "one bucket")}, options.picture)


def step_of(trace):
    """Returns (start, end) in seconds of the parts of a profiled step, from a Chrome trace.

    The backward pass spans autograd's nodes. Communication spans the all-reduces in gloo's threads.
    """
    events = json.loads(trace.read_text())["traceEvents"]
    events = [event for event in events if event.get("ph") == "X"]
    first = min(event["ts"] for event in events)
    spans = [
        (event["name"], (event["ts"] - first) / 1e6, (event["ts"] + event["dur"] - first) / 1e6)
        for event in events
    ]
    nodes = [span for span in spans if span[0].startswith("autograd::engine")]
    backward = min(start for _, start, _ in nodes), max(end for _, _, end in nodes)
    sent = [(s, e) for name, s, e in spans if name == "gloo:all_reduce" and e > backward[0]]
    return {
        "forward": (0.0, backward[0]),
        "backward": backward,
        "sent": sorted(sent),
        "end": max(end for _, _, end in spans),
    }


def length(*spans):
    """Returns the length of the union of (start, end)."""
    total, until = 0.0, float("-inf")
    for start_, end in sorted(spans):
        total += max(0.0, end - max(start_, until))
        until = max(until, end)
    return total


def overlap_fraction(step):
    """Returns the fraction of the communication time that overlaps with the backward pass."""
    first, last = step["backward"]
    within = [(max(s, first), min(e, last)) for s, e in step["sent"] if s < last]
    return length(*within) / length(*step["sent"])


def measure_efficiency(options):
    """Prints step times of two processes with one core each and of one process, for comparison."""
    titles = ("one process", "one, two images", "two independent", "two data-parallel")
    print(
        "seconds per step: median (smallest to largest), one image per process\nfc_units ", end=""
    )
    print("".join(f"{title:<24}" for title in titles))
    for fc_units in options.fc_units:
        common = {"fc_units": fc_units, "size": options.size, "steps": options.steps}
        kinds = {
            "one": ({"batch_size": 1}, {"world_size": 1, "cores": (0,)}),
            "of two": ({"batch_size": 2}, {"world_size": 1, "cores": (0,)}),
            "apart": ({"batch_size": 1}, {"world_size": 2, "cores": (0, 1), "apart": True}),
            "together": ({"batch_size": 1}, {"world_size": 2, "cores": (0, 1)}),
        }
        seconds = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            for kind, (changes, place) in kinds.items():
                seconds[kind] += start({**common, **changes}, **place)["seconds"]
        one, of_two, apart, together = (statistics.median(seconds[kind]) for kind in kinds)
        print(f"{fc_units:<9}" + "".join(f"{spread(values):<24}" for values in seconds.values()))
        print(
            f"{'':<9}efficiency: one image per process (weak) {one / together:.2f}, two images in "
            f"all (strong) {of_two / 2 / together:.2f}, without communication {one / apart:.2f}",
            flush=True,
        )


def compare_curves(options):
    """Prints the loss curves of a short training with float32 and with bfloat16 gradients."""
    common = {"fc_units": 64, "batch_size": 2, "weights": str(options.weights.absolute())}
    common |= {"warmup": 0, "steps": options.steps}
    kinds = {
        "float32": {},
        "bfloat16": {"gradients": "bfloat16"},
        "float32, another seed": {"seed": 1},
    }
    losses = {kind: start({**common, **changes})["losses"] for kind, changes in kinds.items()}
    means = {kind: _means_of_ten(values) for kind, values in losses.items()}
    print("mean loss of ten steps, by last step\n" + " " * 6 + "  ".join(means))
    for number, row in enumerate(zip(*means.values(), strict=True)):
        values = zip(means, row, strict=True)
        print(f"{10 * number + 10:<6}" + "  ".join(f"{x:>{len(kind)}.4f}" for kind, x in values))
    exact, *others = means.values()
    for kind, other in zip(list(means)[1:], others, strict=True):
        apart = [abs(b - a) / a for a, b in zip(exact, other, strict=True)]
        print(f"{kind}: within {max(apart):.2%} of float32's loss, {apart[-1]:.2%} at the end")
    if options.picture:
        _draw_curves(losses, options.picture)


def _means_of_ten(values):
    return [statistics.fmean(values[start_ : start_ + 10]) for start_ in range(0, len(values), 10)]


def spread(values):
    """Returns the median with the smallest and largest value, as text."""
    return f"{statistics.median(values):5.2f} ({min(values):.2f} to {max(values):.2f})"


def draw(lines, path):
    """Plots profiled steps, one below the other."""
    from matplotlib import pyplot

    figure, plots = pyplot.subplots(len(lines), sharex=True, figsize=(9, 1.2 + 1.5 * len(lines)))
    for plot, (name, (step, buckets)) in zip(plots, lines.items(), strict=True):
        after = max(step["backward"][1], *(end for _, end in step["sent"]))
        parts = {"forward": step["forward"], "backward": step["backward"]}
        parts["optimizer"] = (after, step["end"])
        for (part, (first, last)), colour in zip(parts.items(), _COLOURS, strict=False):
            plot.barh(1, last - first, left=first, color=colour, edgecolor="white")
            plot.text((first + last) / 2, 1, part, ha="center", va="center", fontsize=8)
        # The all-reduces start in the order of the buckets; gloo runs them in two threads.
        until = [0.0, 0.0]
        for (first, last), size in zip(step["sent"][-len(buckets) :], buckets, strict=True):
            lane = int(until[0] > first)
            until[lane] = last
            row = -0.22 + 0.44 * lane
            plot.barh(row, last - first, 0.42, left=first, color=_COLOURS[3], edgecolor="white")
            if last - first > 0.02 * step["end"]:
                text = f"{size / 1e6:.0f} MB"
                plot.text((first + last) / 2, row, text, ha="center", va="center", fontsize=8)
        plot.axvline(step["backward"][1], color="grey", linestyle=":")
        plot.set_yticks([0, 1], ["all-reduce", "compute"])
        plot.set_title({"default": "DDP's buckets", "one bucket": "one bucket"}[name], fontsize=9)
    plots[-1].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


_COLOURS = ("#9ecae1", "#4a90c2", "#c7e9c0", "#fdae6b")


def _draw_curves(losses, path):
    from matplotlib import pyplot

    figure, plot = pyplot.subplots(figsize=(7, 3.2))
    for (kind, values), style in zip(losses.items(), ("-", "--", ":"), strict=True):
        plot.plot(range(1, len(values) + 1), values, style, label=kind)
    plot.set(xlabel="step", ylabel="loss", yscale="log")
    plot.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _enter_own_network():
    """Restarts this program in a network namespace that has only a loopback device."""
    missing = [name for name in ("unshare", "ip", "tc", "taskset") if shutil.which(name) is None]
    if missing:
        raise SystemExit(
            f"unshare, ip, tc and taskset must be installed (Linux only). Missing: {missing}."
        )
    script = 'ip link set lo up && exec "$@"'
    command = [sys.executable, "-m", "benchmarks.communication", *sys.argv[1:]]
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "-rn", "sh", "-c", script, "sh", *command])


def _print_machine():
    loads = " ".join(f"{load:.2f}" for load in os.getloadavg())
    names = ("keras", "torch", "tensorflow", "jax")
    print(", ".join(f"{name} {metadata.version(name)}" for name in names))
    print(f"{os.cpu_count()} cores of {platform.machine()}, load average {loads}", flush=True)


def main():
    """Parses the arguments, enters a separate network namespace, and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    sent = commands.add_parser("bytes")
    sent.set_defaults(run=count_bytes)
    sent.add_argument("--processes", type=int, nargs="+", default=[2, 3, 4])
    sent.add_argument("--other-backends", nargs="*", default=["tensorflow", "jax"])
    sent.add_argument("--fc-units", type=int, default=4096)
    sent.add_argument("--steps", type=int, default=2)
    overlap = commands.add_parser("overlap")
    overlap.set_defaults(run=show_overlap)
    overlap.add_argument("--gigabits", type=float, default=4, help="Gbit/s of each process's link")
    overlap.add_argument("--variants", action="store_true", help="also try other options of DDP")
    overlap.add_argument("--fc-units", type=int, default=4096)
    efficiency = commands.add_parser("efficiency")
    efficiency.set_defaults(run=measure_efficiency)
    efficiency.add_argument("--fc-units", type=int, nargs="+", default=[64, 4096])
    for command in (overlap, efficiency):
        command.add_argument("--size", type=int, default=224)
        command.add_argument("--steps", type=int, default=3)
        command.add_argument("--rounds", type=int, default=2)
    curve = commands.add_parser("curve")
    curve.set_defaults(run=compare_curves)
    curve.add_argument("--weights", type=Path, required=True, help="weight file of VGG-16")
    curve.add_argument("--steps", type=int, default=120)
    for command in (overlap, curve):
        command.add_argument("--picture", metavar="FILE", help="write a plot to this PNG file")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        _enter_own_network()
    _print_machine()
    options.run(options)


if __name__ == "__main__":
    main()
