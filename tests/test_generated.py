"""The generated code runs with the oldest grpcio and protobuf that the distribution admits."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.imports import ROOT

OURS = sorted((ROOT / "protos" / "bertstream" / "v1").glob("*_pb2*.py"))
GENERATED = [*OURS, *sorted((ROOT / "server").rglob("*_pb2*.py"))]
ASKED = {
    "grpcio": re.compile(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", re.MULTILINE),
    "protobuf": re.compile(r"^# Protobuf Python Version: ([\d.]+)$", re.MULTILINE),
}


def _floor(distribution: str) -> tuple[int, ...]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (found,) = [line for line in project["dependencies"] if line.startswith(f"{distribution}>=")]
    return _version(found.removeprefix(f"{distribution}>="))


def _version(text: str) -> tuple[int, ...]:
    return (*map(int, text.split(".")), 0, 0)[:3]


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_code_asks_for_no_more_than_the_declared_floors(path: Path) -> None:
    distribution = "grpcio" if path.stem.endswith("_grpc") else "protobuf"
    (asked,) = ASKED[distribution].findall(path.read_text())
    assert _version(asked) <= _floor(distribution)


def test_every_proto_has_its_generated_code() -> None:
    protos = {path.stem for path in OURS[0].parent.glob("*.proto")}
    assert {path.stem.removesuffix("_grpc").removesuffix("_pb2") for path in OURS} == protos


def test_the_interfaces_of_others_have_theirs_in_the_server() -> None:
    assert [path.name for path in GENERATED[len(OURS) :]] == ["inference_pb2.py", "tei_pb2.py"]
