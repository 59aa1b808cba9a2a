"""A cluster as `ray start` starts it: `bertstream deploy ray --apply`, and replicas that follow the load."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from bertstream.client import Client
from tests.support.checkpoints import CORPUS
from tests.support.hosted import needs_ray
from tests.support.load import Load
from tests.support.ray_serve import free_port
from tests.support.server import eventually

pytestmark = pytest.mark.slow
TEXTS = [f"{text} {number}" for number in range(40) for text in CORPUS]
TOKENS_PER_REPLICA = 50  # of far more that wait under this load


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that wants a token: where its dashboard is, and the variables of those who may deploy."""

    address: str
    variables: Mapping[str, str]

    def run(self, *command: str) -> str:
        """Return what one of our commands or of Ray's prints, which has to succeed."""
        done = subprocess.run(
            [sys.executable, "-m", *command], env={**os.environ, **self.variables}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def application(self, name: str) -> dict[str, Any]:
        """Return what `serve status` goes by: an application's status, and its deployments with their replicas."""
        time.sleep(0.3)  # since each question is some work for Ray
        headers = {"Authorization": f"Bearer {self.variables['RAY_AUTH_TOKEN']}"}
        asked = urllib.request.Request(f"{self.address}/api/serve/applications/", headers=headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)["applications"][name]
        return found

    def running(self, name: str) -> int:
        """Return how many replicas of an application take calls."""
        (deployment,) = self.application(name)["deployments"].values()
        return [replica["state"] for replica in deployment["replicas"]].count("RUNNING")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needs_ray()
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the paths of sockets in it must be short
    dashboard = free_port()
    variables = {
        "RAY_TMPDIR": folder,  # where no other Ray finds it
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(),
        "RAY_worker_niceness": "0",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
        "RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR": "0.03",
    }
    ports = {"dashboard": dashboard, "dashboard-agent-listen": free_port(), "ray-client-server": free_port(), "": 0}
    options = [f"--{name}-port={port}".replace("---", "--") for name, port in ports.items()]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2", *options]
    log = Path(folder) / "start.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [*command, f"--object-store-memory={100 << 20}"],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )
    try:
        eventually(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None, "Ray", 120)
        assert process.poll() is None, log.read_text()
        yield Cluster(f"http://127.0.0.1:{dashboard}", variables)
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """End Ray with all that it has started. Asked to end, it would first try to move its replicas elsewhere."""
    started = psutil.Process(process.pid).children(recursive=True)
    for each in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.kill()
    process.wait()


def deploy(cluster: Cluster, model: Sequence[str], port: int, written: Path) -> None:
    scale = ["--min-replicas=1", "--replicas=2", f"--tokens-per-replica={TOKENS_PER_REPLICA}"]
    where = [f"--grpc-port={port}", f"--http-port={free_port()}", f"--output={written}"]
    apply = ["--apply", f"--address={cluster.address}"]
    cluster.run("bertstream.cli", "deploy", "ray", *model, *scale, *where, "--workers=1", "--threads=1", *apply)


def without_delays(written: Path) -> None:
    """Have Ray follow the load soon; by itself it adds a replica after half a minute, and removes one after ten."""
    config = json.loads(written.read_text())
    (deployment,) = config["applications"][0]["deployments"]
    deployment["autoscaling_config"] |= {"upscale_delay_s": 0, "downscale_delay_s": 1, "look_back_period_s": 11}
    written.write_text(json.dumps(config))


@pytest.mark.timeout(600)  # where it is the first to need the operators, a busy machine builds them for a minute
def test_replicas_follow_the_tokens_that_wait_and_no_call_is_lost(
    cluster: Cluster, checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    port, written = free_port(), tmp_path / "serve.yaml"
    deploy(cluster, [f"bert={checkpoint('bert')}", f"--cache={compile_cache}"], port, written)
    eventually(lambda: cluster.application("bert")["status"] != "DEPLOYING", "the application", 200)
    assert cluster.application("bert")["status"] == "RUNNING", cluster.application("bert")
    without_delays(written)
    cluster.run("ray.serve.scripts", "deploy", "--address", cluster.address, str(written))
    assert "status: RUNNING" in cluster.run("ray.serve.scripts", "status", "--address", cluster.address)
    with Client(f"127.0.0.1:{port}", retries=4, timeout=60) as client:
        expected = client.encode(TEXTS, model="bert")
        assert cluster.running("bert") == 1
        with Load(client, "bert", TEXTS, expected) as load:
            eventually(lambda: cluster.running("bert") == 2, "another replica", 120)
            before = load.answered
            eventually(lambda: load.answered > before + 10, "the load to go on")
        assert load.failures == []
        with Load(client, "bert", TEXTS[:1], expected[:1]) as little:
            eventually(lambda: cluster.running("bert") == 1, "a replica to be removed", 120)
            before = little.answered
            eventually(lambda: little.answered > before + 10, "the calls to go on")
        assert little.failures == []
