"""The Helm chart: by its own values it is `deploy/kubernetes/base`, and what it cannot serve it refuses."""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from bertstream.server.config import ServeConfig, load, of_table
from deploy import chart_schema
from tests.support import helm
from tests.support.helm import CHART, Release
from tests.support.imports import ROOT
from tests.support.markdown import CHART_VALUES, DOCUMENTS, blocks

KUSTOMIZE = ROOT / "deploy/kubernetes"
KUBERNETES = "1.34"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
MESH = {"tls": {"secret": ""}, "keys": {"secret": ""}, "insecure": True}
EVERYTHING: dict[str, Any] = {
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "models": ["one", "/models/two"],
    "config": {
        "max_message_bytes": 268_435_456,
        "drain_seconds": 90.5,
        "pin": True,
        "model_roots": ["/models"],
        "model": {"two<words>": {"source": '/models/"two"', "workers": 2}},
    },
    "http": {"enabled": True},
    "autoscaling": {"enabled": False},
    "replicas": 3,
    "gpu": {"count": 2},
    "cache": {"volume": {"persistentVolumeClaim": {"claimName": "models"}}},
    "args": ["--log-level", "debug"],
    "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
    "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "checkpoints"}}],
    "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    "serviceMonitor": {"enabled": True, "key": {"name": "monitoring", "key": "api-key"}, "labels": {"team": "search"}},
    "service": {"annotations": {"a": "b"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "search"},
    "serviceAccountName": "models",
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
}
(DOCUMENTED,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/kubernetes.md").read_text("utf-8"), re.DOTALL)
SERVING: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": EVERYTHING,
    "mesh": MESH,
    "documented": yaml.safe_load(DOCUMENTED),
}
OTHERS: dict[str, dict[str, Any]] = {
    "open": MESH | {"insecure": False},
    "more": {"autoscaling": {"enabled": False}, "replicas": 5},
    "longer": {"config": {"drain_seconds": 61}},
}
Releases = Mapping[str, Release]


@pytest.fixture(name="releases", scope="module")
def _releases() -> Releases:
    if not helm.is_installed():
        pytest.skip("helm-python-sdk is not installed")
    return helm.releases(SERVING | OTHERS)


def configuration(release: Release) -> ServeConfig:
    """Return what the server makes of the file that it is started with."""
    return of_table(tomllib.loads(release.objects["ConfigMap"]["data"]["bertstream.toml"]))


def configured(variant: str) -> ServeConfig:
    """Return what the server makes of the file of a variant for kustomize."""
    return load(argparse.Namespace(config=str(KUSTOMIZE / variant / "bertstream.toml")), {})


def pod(release: Release) -> Any:
    """Return the template of the deployment's pods."""
    return release.objects["Deployment"]["spec"]["template"]


def server(release: Release) -> Any:
    """Return the container of the server."""
    (container,) = pod(release)["spec"]["containers"]
    return container


def base() -> dict[str, Any]:
    """Return the objects of `deploy/kubernetes/base`, but for the namespace, which Helm is told."""
    files = yaml.safe_load((KUSTOMIZE / "base/kustomization.yaml").read_text())["resources"]
    objects = [yaml.safe_load((KUSTOMIZE / "base" / file).read_text()) for file in files]
    return {each["kind"]: each for each in objects if each["kind"] != "Namespace"}


def alike(value: Any) -> Any:
    """Return an object of Kubernetes without what Helm adds to all: labels, and the image as kustomize names it."""
    added = {"annotations", "imagePullPolicy"}
    if isinstance(value, dict):
        kept = {name: alike(each) for name, each in value.items() if name not in added}
        if "app.kubernetes.io/name" in kept:
            return {"app.kubernetes.io/name": kept["app.kubernetes.io/name"]}
        return kept
    if isinstance(value, list):
        return [alike(each) for each in value]
    return "bertstream" if value == "registry.example.com/bertstream:0.1.0" else value


def paths(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the paths of all values, those of the objects that hold others before theirs."""
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{name}.")


def test_its_version_is_that_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])


def test_its_schema_has_the_options_of_the_server() -> None:
    made, written = chart_schema.schema(), chart_schema.SCHEMA.read_text("utf-8")
    assert written == made, "make it again: python -m deploy.chart_schema"


@pytest.mark.parametrize("name", SERVING)
def test_its_schema_takes_what_there_is(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(VALUES | SERVING[name])


def test_its_schema_takes_what_the_documents_show() -> None:
    shown = [block for document in DOCUMENTS for block in blocks(document) if block.kind == CHART_VALUES]
    assert [block.place.partition(":")[0] for block in shown] == ["docs/kubernetes.md"]
    for block in shown:
        jsonschema.Draft7Validator(SCHEMA).validate(VALUES | yaml.safe_load(block.text))


@pytest.mark.parametrize(
    ("values", "about"),
    [
        ({"model": ["bert-base-uncased"]}, "'model' was unexpected"),
        ({"models": "bert-base-uncased"}, "is not of type 'array'"),
        ({"models": []}, "should be non-empty"),
        ({"config": {"drain_second": 60}}, "'drain_second' was unexpected"),
        ({"config": {"dtype": "fp16"}}, "'fp16' is not one of"),
        ({"config": {"port": 443}}, "'port' was unexpected"),
        ({"config": {"trace_ratio": 2}}, "greater than the maximum of 1"),
        ({"config": {"model": {"small": {"worker": 1}}}}, "'worker' was unexpected"),
        ({"config": {"model": {"small": {"device": "gpu"}}}}, "does not match"),
        ({"fullnameOverride": "bert.stream"}, "does not match"),
        ({"image": {"digest": "0.1.0"}}, "does not match"),
        ({"tls": {"secretName": "tls"}}, "'secretName' was unexpected"),
        ({"http": {"port": 50051}}, "should not be valid under"),
        ({"hub": {"volume": {}}}, "should be non-empty"),
        ({"cache": {"volume": {"name": "cache", "emptyDir": {}}}}, "has too many properties"),
        ({"autoscaling": {"queueWait": "soon"}}, "does not match"),
    ],
)
def test_its_schema_refuses_what_would_not_serve(values: dict[str, Any], about: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=re.escape(about)):
        jsonschema.Draft7Validator(SCHEMA).validate(VALUES | values)


def test_its_templates_use_all_values_and_no_others() -> None:
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    used = set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    there = set(paths(VALUES))
    assert used - there == {"config.model"}  # of which the chart has none by itself
    holds = {path.rpartition(".")[0] for path in there}
    assert [path for path in there - holds if not any(f"{path}.".startswith(f"{each}.") for each in used)] == []
    assert set(SCHEMA["properties"]) == {*VALUES, "global"}


@pytest.mark.parametrize("name", SERVING)
def test_helm_finds_nothing_amiss(releases: Releases, name: str) -> None:
    assert (releases[name].error, releases[name].findings) == ("", ())


def test_by_its_own_values_it_is_the_base(releases: Releases) -> None:
    release = releases["default"]
    assert configuration(release) == configured("base")
    objects = {kind: each for kind, each in release.objects.items() if kind != "ConfigMap"}
    named = {kind: each | {"metadata": {"name": each["metadata"]["name"]}} for kind, each in objects.items()}
    assert alike(named) == alike(base())


def test_in_plain_text_it_is_the_one_for_a_mesh(releases: Releases) -> None:
    release = releases["mesh"]
    assert configuration(release) == configured("mesh")
    patch = yaml.safe_load((KUSTOMIZE / "mesh/deployment.yaml").read_text())
    (patched,) = patch["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe"):
        assert "httpGet" not in server(release)[probe]
        assert server(release)[probe]["grpc"] == patched[probe]["grpc"]
    assert server(release)["livenessProbe"]["httpGet"] == patched["livenessProbe"]["httpGet"]
    assert {each["name"] for each in server(release)["volumeMounts"]} == {"configuration", "hub"}
    assert {each["appProtocol"] for each in release.objects["Service"]["spec"]["ports"]} == {"grpc", "http"}


@pytest.mark.parametrize("name", SERVING)
def test_each_object_is_of_its_schema(releases: Releases, name: str) -> None:
    objects = releases[name].objects
    for kind in objects.keys() - {"ServiceMonitor"}:  # whose schema its operator brings
        kubernetes_validate.validate(objects[kind], KUBERNETES, strict=True)


@pytest.mark.parametrize("name", SERVING)
def test_ports_and_time_to_drain_are_those_of_the_server(releases: Releases, name: str) -> None:
    release = releases[name]
    found = configuration(release)
    to_drain = found.drain_notice_seconds + found.drain_seconds
    assert pod(release)["spec"]["terminationGracePeriodSeconds"] >= to_drain + 20
    ports = {each["name"]: each["containerPort"] for each in server(release)["ports"]}
    http = {"http": found.http_port} if found.http_port >= 0 else {}
    assert ports == {"grpc": found.port, "admin": found.admin_port} | http
    assert {each["name"]: each["port"] for each in release.objects["Service"]["spec"]["ports"]} == ports


def test_all_options_arrive(releases: Releases) -> None:
    found = configuration(releases["everything"])
    assert found.models == ("one", "/models/two")
    assert (found.max_message_bytes, found.drain_seconds, found.pin) == (268_435_456, 90.5, True)
    assert found.tables["two<words>"].source == '/models/"two"'
    assert found.model_roots == ("/models",)


def test_all_that_is_said_of_pods_arrives(releases: Releases) -> None:
    release, said = releases["everything"], EVERYTHING
    spec, container = pod(release)["spec"], server(release)
    assert container["image"] == f"registry.example.com/bertstream@{said['image']['digest']}"
    assert container["args"] == ["serve", "--config", "/etc/bertstream/bertstream.toml", *said["args"]]
    limits = VALUES["resources"]["limits"] | {"nvidia.com/gpu": 2}
    assert container["resources"] == VALUES["resources"] | {"limits": limits}
    assert container["env"][1:] == said["env"]
    assert said["volumes"][0] in spec["volumes"]
    assert said["volumeMounts"][0] in container["volumeMounts"]
    names = ("serviceAccountName", "priorityClassName", "runtimeClassName", "nodeSelector", "tolerations", "affinity")
    assert {name: spec[name] for name in names} == {name: said[name] for name in names}
    assert pod(release)["metadata"]["labels"]["team"] == "search"
    assert release.objects["Deployment"]["spec"]["replicas"] == 3
    assert "HorizontalPodAutoscaler" not in release.objects
    (endpoint,) = release.objects["ServiceMonitor"]["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["authorization"]["credentials"]["name"]) == ("https", "monitoring")


def test_a_volume_of_the_cache_is_given_to_the_user_of_the_server(releases: Releases) -> None:
    spec = pod(releases["everything"])["spec"]
    (prepare,) = spec["initContainers"]
    user, group = spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]
    assert f"chown -R {user}:{group} /var/cache/bertstream" in prepare["command"][-1]
    assert prepare["volumeMounts"] == [{"name": "cache", "mountPath": "/var/cache/bertstream"}]
    assert {"name": "cache", **EVERYTHING["cache"]["volume"]} in spec["volumes"]


def test_a_change_of_the_configuration_rolls_the_pods(releases: Releases) -> None:
    default, more, longer = (pod(releases[name])["metadata"]["annotations"] for name in ("default", "more", "longer"))
    assert default == more != longer


def test_it_serves_everybody_only_where_it_is_told_to(releases: Releases) -> None:
    assert "nothing protects the port: name tls.secret or keys.secret, or set insecure=true" in releases["open"].error


def test_its_notes_name_the_secrets_that_it_waits_for(releases: Releases) -> None:
    for secret in ("bertstream-tls", "bertstream-keys"):
        assert secret in releases["default"].notes
        assert secret not in releases["mesh"].notes
    assert "dns:///bertstream.bertstream:50051" in releases["mesh"].notes
