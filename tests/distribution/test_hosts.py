"""Two hosts, with the cluster files that start a training on them, give one process's weights."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from distribution import two_hosts

CLUSTER = two_hosts.TESTS.parent / "docs" / "guides" / "cluster"
STARTS = {
    "torch": [None, "train.slurm", "job.yaml"],
    "tensorflow": ["train-tensorflow.slurm"],
    "jax": [],
}[keras.backend.backend()]


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
def test_two_hosts_leave_the_weights_of_one_process(start):
    options = []
    if start is not None:
        if start.endswith(".yaml"):
            pytest.importorskip("yaml")
        options = ["--start", str(CLUSTER / start)]
    done = subprocess.run(
        [sys.executable, two_hosts.__file__, *options],
        env={**os.environ, "PYTHONPATH": str(two_hosts.TESTS.parent)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode == two_hosts.SKIPPED:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "largest difference of" in done.stdout


@pytest.mark.parametrize("file", sorted(CLUSTER.glob("*.slurm")), ids=lambda file: file.name)
def test_slurm_files_are_bash(file):
    subprocess.run(["bash", "-n", str(file)], check=True)


def test_all_pods_of_the_job_connect_to_the_first_one():
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all(Path(CLUSTER, "job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    first = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert f"--rdzv-endpoint={first}:29500" in pod["containers"][0]["command"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
