"""The folder protos/ is all that a generator needs in any language, and its copies of others' files are true."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

from bertstream.server.protocols import orca
from bertstream.server.protocols.inference import inference_pb2
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2, types_pb2
from tests.support.imports import ROOT

PROTOS = ROOT / "protos"
OURS = [
    module.DESCRIPTOR for module in (encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2, types_pb2)
]
OTHERS: dict[str, Any] = {
    "google/rpc/error_details.proto": error_details_pb2.DESCRIPTOR,
    "google/rpc/status.proto": status_pb2.DESCRIPTOR,
    "grpc/health/v1/health.proto": health_pb2.DESCRIPTOR,
}
# Of these the server has code of its own, in a pool of its own.
SPOKEN_CODE: dict[str, Any] = {"inference/inference.proto": inference_pb2, "tei/v1/tei.proto": tei_pb2}
SPOKEN: dict[str, FileDescriptor] = {name: module.DESCRIPTOR for name, module in SPOKEN_CODE.items()}

# What the server has of these, it makes itself: no package that it needs has them.
ORCA: dict[str, Any] = {orca.REPORT_FILE.name: orca.REPORT_FILE, orca.SERVICE_FILE.name: orca.SERVICE_FILE}


def buf() -> Path:
    (found,) = [path for path in importlib.metadata.files("buf-bin") or [] if path.name == "buf"]
    return Path(str(found.locate())).resolve()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """Return the descriptors of all .proto files, by name, compiled from a copy with no other files beside it."""
    folder = tmp_path_factory.mktemp("protos")
    for path in PROTOS.rglob("*.proto"):
        copy = folder / path.relative_to(PROTOS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    command = [str(buf()), "build", "--exclude-source-info", "--output", "-#format=binpb"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file}


def described(descriptor: FileDescriptor, name: str) -> list[str]:
    """Return a file's descriptor as lines, without the names in JSON, which not every compiler writes."""
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(file)
    file.name = name  # grpcio's code is generated in a folder of another name
    return [line for line in str(file).splitlines() if not line.strip().startswith("json_name:")]


def test_the_folder_has_all_that_it_imports(compiled: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    pool = descriptor_pool.DescriptorPool()
    there = {str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto")}
    assert there == {*OTHERS, *ORCA, *SPOKEN, *(file.name for file in OURS)}
    assert {name for name in compiled if not name.startswith("google/protobuf/")} == there
    for file in compiled.values():  # each file comes after those that it imports
        pool.AddSerializedFile(file.SerializeToString())
    assert pool.FindServiceByName("bertstream.v1.EncodingService").methods


@pytest.mark.parametrize("name", OTHERS)
def test_copies_say_what_the_installed_packages_say(
    compiled: dict[str, descriptor_pb2.FileDescriptorProto], name: str
) -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in compiled.values():
        pool.AddSerializedFile(file.SerializeToString())
    assert described(pool.FindFileByName(name), name) == described(OTHERS[name], name)
    assert "Licensed under the Apache License, Version 2.0" in (PROTOS / name).read_text()


@pytest.mark.parametrize("name", ORCA)
def test_the_server_s_messages_of_orca_are_those_of_the_files(
    compiled: dict[str, descriptor_pb2.FileDescriptorProto], name: str
) -> None:
    pool, made = descriptor_pool.DescriptorPool(), descriptor_pb2.FileDescriptorProto()
    for file in compiled.values():
        pool.AddSerializedFile(file.SerializeToString())
    ORCA[name].CopyToProto(made)
    file = descriptor_pb2.FileDescriptorProto()
    pool.FindFileByName(name).CopyToProto(file)
    for each in (made, file):
        each.ClearField("options")  # where other languages put their code
    assert sorted_fields(made) == sorted_fields(file)
    assert "Licensed under the Apache License, Version 2.0" in (PROTOS / name).read_text()


@pytest.mark.parametrize("name", SPOKEN)
def test_the_interfaces_that_the_server_speaks_are_those_of_the_files(
    compiled: dict[str, descriptor_pb2.FileDescriptorProto], name: str
) -> None:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(compiled[name].SerializeToString())
    assert described(SPOKEN[name], name) == described(pool.FindFileByName(name), name)


@pytest.mark.parametrize("name", SPOKEN)
def test_another_definition_of_the_same_interface_may_be_in_the_process(name: str) -> None:
    file = descriptor_pb2.FileDescriptorProto()
    SPOKEN[name].CopyToProto(file)
    file.name = "of/another/package.proto"
    code = f"""
import sys
from google.protobuf import descriptor_pool
import {SPOKEN_CODE[name].__name__}
descriptor_pool.Default().AddSerializedFile(sys.stdin.buffer.read())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=file.SerializeToString(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def sorted_fields(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Sort a file's fields and nested messages, whose order means nothing, and leave out their names in JSON."""
    for message in file.message_type:
        message.nested_type.sort(key=lambda nested: nested.name)
        message.field.sort(key=lambda field: field.number)
        for field in [*message.field, *(field for nested in message.nested_type for field in nested.field)]:
            field.ClearField("json_name")
    return file


def test_they_hide_no_python_package() -> None:
    """They hide none even from a program that runs in the folder, such as the generator."""
    code = "import google.rpc.status_pb2 as s, grpc; print(s.__file__, grpc.__file__, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROTOS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [Path(path).is_relative_to(PROTOS) for path in done.stdout.split()] == [False, False]
    folders = [PROTOS / name for name in ("google", "grpc", "inference", "tei", "xds")]
    assert [path for folder in folders for path in folder.rglob("*.py*")] == []


def test_no_rpc_is_named_as_another_but_for_a_letter() -> None:
    names = [rpc.name for file in OURS for service in file.services_by_name.values() for rpc in service.methods]
    assert len(names) > 20
    assert [pair for pair in combinations(names, 2) if differ_by_a_letter(*pair)] == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("Stream", "Streams", True), ("Stream", "Steam", True), ("Text", "Test", True), ("Text", "Tests", False)],
)
def test_a_letter_is_all_that_differs(first: str, second: str, expected: bool) -> None:
    assert differ_by_a_letter(first, second) is differ_by_a_letter(second, first) is expected


def differ_by_a_letter(first: str, second: str) -> bool:
    """Tell whether one letter more, less or changed makes one name the other."""
    short, long = sorted((first, second), key=len)
    if len(short) == len(long):
        return sum(a != b for a, b in zip(short, long, strict=True)) == 1
    return any(long[:place] + long[place + 1 :] == short for place in range(len(long)))
