"""The configuration for `serve deploy`: what it says, and that Ray's own schema takes it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from bertstream.cli import main
from bertstream.ray.serve.command import what_failed
from bertstream.ray.serve.deploying import IMPORT_PATH, POLICY, SERVICER_FUNCTION, Scale, document
from bertstream.server.config import ConfigError, ModelTable, ServeConfig
from bertstream.server.embedded import embedded_config
from tests.support.imports import ROOT
from tests.support.ports import held_port

EXAMPLE = ROOT / "deploy/ray/serve.yaml"
CONFIG = ServeConfig(
    models=("org/bert", "b=roberta-base"),
    dtype="int8",
    task=("org/bert=token_classification",),
    tables={"b": ModelTable(queue_tokens=5)},
)


def traceback_of(end: str) -> str:
    """Return what Python writes of an exception, which ends so."""
    return f'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    b()\n    ^^^\n{end}'


def test_each_model_is_an_application_with_its_own_options() -> None:
    first, second = document(CONFIG, Scale(cpus=2))["applications"]
    assert (first["name"], second["name"]) == ("org--bert", "b")
    assert first["args"] == {"models": ["org/bert"], "dtype": "int8", "task": ["token_classification"]}
    assert second["args"] == {"models": ["b=roberta-base"], "dtype": "int8", "model": {"b": {"queue_tokens": 5}}}
    assert embedded_config(second["args"], {}).tables["b"].queue_tokens == 5
    assert [each["route_prefix"] for each in (first, second)] == ["/org--bert", "/b"]


def test_a_directory_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    (application,) = document(ServeConfig(models=("mine",)), Scale())["applications"]
    assert (application["name"], application["args"]["models"]) == ("mine", [f"mine={tmp_path}/mine"])


def test_replicas_are_fixed_or_follow_the_load() -> None:
    def deployment(scale: Scale) -> dict[str, Any]:
        (found,) = document(ServeConfig(), scale)["applications"][0]["deployments"]
        return dict(found)

    fixed = deployment(Scale(replicas=3, cpus=2, gpus=1))
    assert fixed["num_replicas"] == 3
    assert fixed["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 1}
    following = deployment(Scale(replicas=3, least=1, tokens_per_replica=99))["autoscaling_config"]
    assert (following["min_replicas"], following["max_replicas"]) == (1, 3)
    assert following["policy"]["policy_kwargs"] == {"tokens_per_replica": 99}


@pytest.mark.parametrize(
    ("config", "scale", "message"),
    [
        (ServeConfig(), Scale(replicas=0), "--replicas must be at least 1"),
        (ServeConfig(), Scale(replicas=2, least=3), "--min-replicas must be at most"),
        (ServeConfig(), Scale(cpus=0), "--cpus must be above 0"),
        (ServeConfig(models=("a/b", "a--b")), Scale(), "two applications would have one name"),
    ],
)
def test_what_makes_no_sense_is_refused(config: ServeConfig, scale: Scale, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        document(config, scale)


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["deploy", "ray", "a=bert-base-uncased", "--dtype", "int8", "--cpus", "4", "--replicas", "2"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    config = ServeConfig(models=("a=bert-base-uncased",), dtype="int8")
    assert printed == document(config, Scale(replicas=2, cpus=4))
    assert main([*arguments, "-o", str(tmp_path / "serve.yaml")]) == 0
    assert json.loads((tmp_path / "serve.yaml").read_text()) == printed
    assert capsys.readouterr().out == ""
    assert main([*arguments, "--grpc-port", "9001", "--http-port", "8001"]) == 0
    others = json.loads(capsys.readouterr().out)
    assert (others["grpc_options"]["port"], others["http_options"]) == (9001, {"port": 8001})
    assert "http_options" not in printed


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "ray", "a", "--replicas", "0"]) == 2
    assert capsys.readouterr().err == "bertstream: error: --replicas must be at least 1, not 0\n"
    assert main(["deploy", "ray", "a", "-o", "/nowhere/serve.yaml"]) == 1
    with pytest.raises(SystemExit):
        main(["deploy", "ray", "--nothing"])
    assert "--nothing" in capsys.readouterr().err.splitlines()[-1]


def test_the_command_says_why_the_cluster_did_not_take_it(capfd: pytest.CaptureFixture[str]) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with held_port() as port:
        nobody = f"http://127.0.0.1:{port}"
        assert main(["deploy", "ray", "a", "--apply", "--address", nobody]) == 1
    line = f"Ray did not take the configuration: Failed to connect to Ray at address: {nobody}."
    assert capfd.readouterr().err == f"bertstream: error: {line}\n"


@pytest.mark.parametrize(
    ("said", "failed"),
    [
        ("Usage: deploy\nError: no such option\n", "Usage: deploy\nError: no such option"),
        ("a warning\n" + traceback_of("ray.exceptions.Lost: no token\n\n  Set: one\n"), "no token\n\n  Set: one"),
        (traceback_of("KeyError: 'a'\n") + "\nDuring this:\n\n" + traceback_of("RuntimeError: b: c\n"), "b: c"),
        (traceback_of("KeyboardInterrupt\n"), "KeyboardInterrupt"),
    ],
)
def test_of_a_traceback_the_message_is_told(said: str, failed: str) -> None:
    assert what_failed(said) == failed


CHECK = """
import json, sys
from ray.serve.schema import ServeDeploySchema

for given in json.load(sys.stdin):
    found = ServeDeploySchema.model_validate(given)
    assert {each.import_path for each in found.applications} == {"bertstream.ray.serve:application"}
    for application in found.applications:
        (deployment,) = application.deployments
        assert "max_ongoing_requests" not in deployment.model_fields_set  # so it stays as the application has it
"""


def test_rays_own_schema_takes_the_example_and_what_is_written() -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    example = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    own = [document(CONFIG, Scale(replicas=2)), document(CONFIG, Scale(replicas=4, least=1), http_port=8001)]
    given = [example, *own]
    # In a process of its own, as pydantic warns of what Ray does.
    checked = subprocess.run(
        [sys.executable, "-c", CHECK], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_example_is_of_what_there_is() -> None:
    example = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    written = document(ServeConfig(), Scale(replicas=4, least=1))
    assert example["grpc_options"] == written["grpc_options"]
    (deployment,) = written["applications"][0]["deployments"]
    for application in example["applications"]:
        (model,) = embedded_config(application["args"], {}).models
        assert model.partition("=")[0] == application["name"]
        (own,) = application["deployments"]
        assert own["name"] == deployment["name"]
        assert own["autoscaling_config"]["policy"] == deployment["autoscaling_config"]["policy"]
    for path in (SERVICER_FUNCTION, POLICY, IMPORT_PATH):
        module, name = path.replace(":", ".").rsplit(".", 1)
        assert callable(getattr(import_module(module), name))
