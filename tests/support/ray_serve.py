"""Run Ray Serve with our applications, in a process of its own: `python -m tests.support.ray_serve '{"models": …}'`.

It prints a line when the applications are there, and does what it is told line by line: "deploy" deploys them anew.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.server import Server

REPLICA = "ray::ServeReplica"
_OBJECT_STORE_BYTES = 100 << 20
_CPUS = 8  # as Ray counts them; each replica takes one


@dataclass(frozen=True)
class Application:
    """What is to be served by one application, which is called like its first model."""

    models: Sequence[str]  # NAME=DIRECTORY
    replicas: int = 1
    most_replicas: int = 0  # to which the load may add them; 0: always as many
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class RayServer(Server):
    """Hold the process that runs Ray, below which all others are."""

    folder: Path = field(default_factory=Path)

    @property
    def _driver_log(self) -> Path:
        return self.folder / "driver.log"

    def replicas(self) -> list[psutil.Process]:
        """Return the processes of replicas."""
        return self.children(REPLICA)

    def deploy(self) -> None:
        """Deploy the applications anew, and return once the new replicas serve."""
        assert self.process.stdin is not None
        self.process.stdin.write("deploy\n")
        self.process.stdin.flush()
        self.read_ready()

    def read_ready(self) -> None:
        """Wait for the line that says that all is deployed."""
        assert self.process.stdout is not None
        for line in self.process.stdout:  # where Ray says this and that, too
            if "ready on" in line:
                self.ready_line = line
                return
        said = f"{self._driver_log.read_text()[-3000:]}\n{self.logs()[-6000:]}"
        raise AssertionError(f"Ray Serve is not ready:\n{said}")

    def logs(self) -> str:
        """Return all that Ray Serve's proxies, replicas and controller have logged, and what workers wrote besides."""
        files = (path for kind in ("logs/worker-*.err", "serve/*.log") for path in sorted(self.folder.rglob(kind)))
        return "\n".join(path.read_text(errors="replace") for path in files if path.is_file())


# What the shared server's tests want that Ray does not have, by a part of the test's id: docs/ray.md lists it.
_ITS_OWN = "replicas start other processes than `bertstream serve`, and Ray says when they are ready"
_REPORTS = "Ray's proxy has reports of load in trailers alone"
_HEALTH = "Ray's proxy has no grpc.health.v1.Health"
_REFLECTION = "Ray's proxy has v1alpha of reflection alone, without the files of other servers' interfaces"
LACKS = {
    "e2e/test_lifecycle.py::test_settings_are_no_arguments_of_processes": _ITS_OWN,
    "e2e/test_lifecycle.py::test_the_ready_line_says_what_is_served": _ITS_OWN,
    "e2e/test_lifecycle.py::test_workers_let_frontends_go_first": _ITS_OWN,
    "e2e/test_lifecycle.py::test_health": _HEALTH,
    "e2e/test_lifecycle.py::TestCommandLine::test_health": _HEALTH,
    "e2e/test_load_reports.py::test_reports_come_apart_from_calls_too": _REPORTS,
    "e2e/test_reflection.py::test_every_service": _REFLECTION,
    "e2e/test_reflection.py::test_details_of_errors_can_be_looked_up[v1]": _REFLECTION,
    "e2e/test_reflection.py::test_a_call_by_what_the_server_says_of_itself_alone[v1]": _REFLECTION,
    "e2e/test_reflection.py::test_what_is_not_there_is_an_error_of_its_own[v1]": _REFLECTION,
    "e2e/test_reflection.py::test_version_1": _REFLECTION,
}


def mark_what_ray_lacks(items: Sequence[pytest.Item]) -> None:
    """Expect the tests to fail that ask for what Ray does not have."""
    for item in items:
        for part, reason in LACKS.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@contextmanager
def ray_server(applications: Sequence[Application], cache: Path) -> Iterator[RayServer]:
    """Serve models behind Ray's proxy, and end Ray."""
    asked: dict[str, Any] = {"applications": [asdict(each) for each in applications]}
    environment = {
        **os.environ,
        "BERTSTREAM_CACHE": str(cache),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_TOKEN": secrets.token_hex(),  # else Ray leaves one in the user's home, which his clusters then want
        "RAY_worker_niceness": "0",  # of replicas and their workers, by default 15
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, [Path.cwd(), os.environ.get("PYTHONPATH", "")]))),
    }
    # Not pytest's folder, as paths of sockets may have some hundred characters only.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        asked["folder"] = folder
        command = [sys.executable, "-m", "tests.support.ray_serve", json.dumps(asked)]
        with (Path(folder) / "driver.log").open("w") as errors, _started(command, errors, environment) as process:
            server = RayServer(process, folder=Path(folder))
            server.read_ready()
            yield server


@contextmanager
def _started(command: Sequence[str], errors: Any, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=environment)
    children: list[psutil.Process] = []
    try:
        yield process
        children = psutil.Process(process.pid).children(recursive=True)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
    finally:
        if process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
        _, alive = psutil.wait_procs(children, timeout=20)
        for child in alive:
            child.kill()
    assert alive == [], f"outlived Ray: {alive}"


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def main(asked: dict[str, Any]) -> None:
    """Start Ray and the applications, and deploy them again for each line; end with standard input."""
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, gRPCOptions

    from bertstream.ray.serve.deploying import SERVICER_FUNCTION

    ray.init(
        num_cpus=_CPUS,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=asked["folder"] + "/ray",
        log_to_driver=False,
    )
    port = free_port()
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=free_port()),
        grpc_options=gRPCOptions(port=port, grpc_servicer_functions=[SERVICER_FUNCTION]),
    )
    while True:
        _deploy(asked)
        sys.stdout.write(f"ready on 127.0.0.1:{port}\n")
        sys.stdout.flush()
        if not sys.stdin.readline():
            break
    serve.shutdown()
    ray.shutdown()


def _deploy(asked: dict[str, Any]) -> None:
    from ray import serve
    from ray.serve import RunTarget

    from bertstream.ray.serve.application import deployment
    from bertstream.ray.serve.contract import application_of

    targets = []
    for each in (Application(**given) for given in asked["applications"]):
        name = application_of(each.models[0].partition("=")[0])
        bound = deployment().options(**_scale(each)).bind({"models": each.models, **each.args})
        targets.append(RunTarget(target=bound, name=name, route_prefix=f"/{name}"))
    serve.run_many(targets)


def _scale(application: Application) -> dict[str, Any]:
    from bertstream.ray.serve.deploying import POLICY

    if not application.most_replicas:
        return {"num_replicas": application.replicas}
    bounds = {"min_replicas": application.replicas, "max_replicas": application.most_replicas}
    return {"autoscaling_config": {**bounds, "policy": {"policy_function": POLICY}}}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
