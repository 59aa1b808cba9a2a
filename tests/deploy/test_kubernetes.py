"""The manifests for Kubernetes: they are of its schemas, and agree with the server and with each other."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bertstream.server.admin.gathering import ASK_SECONDS
from bertstream.server.config import ServeConfig, load
from tests.support.monitoring import declared

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
VARIANTS = ("base", "mesh")
KUBERNETES = "1.34"


def manifests() -> dict[str, dict[str, Any]]:
    """Return the objects of the base, by kind."""
    files = yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text())["resources"]
    return {each["kind"]: each for file in files for each in yaml.safe_load_all((FOLDER / "base" / file).read_text())}


def config(variant: str) -> ServeConfig:
    """Return what the server makes of the variant's configuration."""
    return load(argparse.Namespace(config=str(FOLDER / variant / "bertstream.toml")), {})


OBJECTS = manifests()
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PATCHES = yaml.safe_load((FOLDER / "mesh/kustomization.yaml").read_text())["patches"]
MESH = [yaml.safe_load((FOLDER / "mesh" / patch["path"]).read_text()) for patch in PATCHES]


def test_every_file_belongs_to_the_whole() -> None:
    files = {path.name for path in (FOLDER / "base").glob("*.yaml")}
    assert files == {
        "kustomization.yaml",
        *yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text())["resources"],
    }


@pytest.mark.parametrize("kind", OBJECTS)
def test_each_object_is_of_its_schema(kind: str) -> None:
    kubernetes_validate.validate(OBJECTS[kind], KUBERNETES, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kustomize_builds_objects_of_their_schemas(variant: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "kustomize", str(FOLDER / variant)]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    objects = list(yaml.safe_load_all(built))
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    assert sorted(each["kind"] for each in objects) == sorted([*OBJECTS, "ConfigMap"])


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_what_the_mesh_changes_is_there(kind: str) -> None:
    """A patch that names what is not there would add it, or fail only where kustomize runs."""
    patch = next(each for each in MESH if each["kind"] == kind)
    assert patch["metadata"]["name"] == OBJECTS[kind]["metadata"]["name"]
    if kind == "Service":
        ports = {each["port"] for each in OBJECTS[kind]["spec"]["ports"]}
        assert {each["port"] for each in patch["spec"]["ports"]} < ports
        return
    pod = patch["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == CONTAINER["name"]
    assert {each["name"] for each in pod["volumes"]} < {each["name"] for each in POD["volumes"]}
    assert {each["mountPath"] for each in container["volumeMounts"]} < {
        each["mountPath"] for each in CONTAINER["volumeMounts"]
    }


def test_probes_wait_as_long_as_the_server_for_a_process_that_hangs() -> None:
    for name in ("startupProbe", "readinessProbe"):
        assert CONTAINER[name]["timeoutSeconds"] > ASK_SECONDS
    assert CONTAINER["readinessProbe"]["failureThreshold"] > 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_ports_are_those_of_the_server(variant: str) -> None:
    found = config(variant)
    ports = {each["name"]: each["containerPort"] for each in CONTAINER["ports"]}
    assert ports == {"grpc": found.port, "admin": found.admin_port}
    service = {each["name"]: (each["port"], each["targetPort"]) for each in OBJECTS["Service"]["spec"]["ports"]}
    assert service == {name: (port, name) for name, port in ports.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pod_has_the_time_to_drain(variant: str) -> None:
    found = config(variant)
    assert found.drain_notice_seconds > 0
    assert POD["terminationGracePeriodSeconds"] > found.drain_notice_seconds + found.drain_seconds


def test_files_of_the_configuration_are_mounted() -> None:
    mounts = [each["mountPath"] for each in CONTAINER["volumeMounts"]]
    values = tomllib.loads((FOLDER / "base/bertstream.toml").read_text())
    for name in ("tls_certificate", "tls_key", "keys_file"):
        folder = Path(values[name]).parent
        assert str(folder) in mounts, name  # the folder, as a single file that is mounted is never renewed
    assert CONTAINER["args"] == ["serve", "--config", "/etc/bertstream/bertstream.toml"]
    assert CONTAINER["args"][-1] in mounts


def test_it_scales_by_a_metric_that_there_is() -> None:
    metrics = OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    names = [each["pods"]["metric"]["name"] for each in metrics if each["type"] == "Pods"]
    assert names == ["bertstream_queue_wait_seconds"]
    assert names[0] in declared()


def test_all_select_the_pods_by_their_label() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [OBJECTS[kind]["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    selectors += [
        OBJECTS["Service"]["spec"]["selector"],
        OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert selectors == [labels] * 4
