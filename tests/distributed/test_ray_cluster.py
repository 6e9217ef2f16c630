"""A cluster that runs already, on loopback: only the address differs."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest

from distributed.processes import PROCESSES, find_free_ports, run_to_the_end
from distributed.ray_driver import (
    SEEDS,
    compute_features,
    make_pictures,
    run_on_cluster,
)

SECONDS_TO_START = 120
# As `connect_to_ray` starts it: on 127.0.0.1, for those who know the token. And without
# gRPC's handlers of forks, with which the server for ray:// hung in one start of four.
ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0" * 32,
    "GRPC_ENABLE_FORK_SUPPORT": "0",
}


def wait_for(port, process):
    for _ in range(10 * SECONDS_TO_START):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"the cluster ended with code {process.returncode}")
    raise TimeoutError("the cluster did not start")


@contextlib.contextmanager
def start_cluster(port, client_port, log):
    """Ray as its command line starts it, and at the end no process of it."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    command = [
        Path(sys.executable).with_name("ray"),
        *("start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}"),
        *(f"--ray-client-server-port={client_port}", "--include-dashboard=false"),
    ]
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, env=os.environ | ALONE, stdout=file, stderr=file
        )
    try:
        wait_for(client_port, process)
        yield
    finally:
        family = []
        if process.poll() is None:  # asked to end, it would take half a minute
            family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        shutil.rmtree(folder, ignore_errors=True)
        assert not psutil.wait_procs(family, timeout=30)[1], "processes are left behind"


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What was seen from a machine of the cluster, and from outside."""
    folder = tmp_path_factory.mktemp("cluster")
    port, client_port = find_free_ports(2)
    addresses = f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}"
    with start_cluster(port, client_port, folder / "ray.txt"):
        process = PROCESSES.Process(
            target=run_on_cluster, args=(folder, *addresses, ALONE)
        )
        codes = run_to_the_end([process], awaited=[process])
    assert codes == [0], (folder / "log.txt").read_text()
    return json.loads((folder / "seen.json").read_text())


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_features_are_complete_and_belong_to_their_ids(seen, where):
    found, (ids, _) = seen[where], make_pictures()
    assert found["ids"] == sorted(ids) and len(found["actors"]) == 2
    expected = compute_features()[np.argsort(ids)]
    np.testing.assert_allclose(found["features"], expected, rtol=1e-6)


def test_a_picture_that_cannot_be_read_is_named_from_afar(seen):
    assert "cannot identify image file" in seen["broken"]["error"]
    assert "broken/a.png" in seen["broken"]["error"]


def test_scores_from_afar_are_those_of_their_seeds(seen):
    expected = [np.random.default_rng(seed).random() for seed in SEEDS]
    assert [scores["accuracy"] for scores in seen["seeds"].values()] == 2 * [expected]
