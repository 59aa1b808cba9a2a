"""Both versions of server reflection give all that is needed to call a server without any of its files."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

from bertstream.server.frontend.handling import SERVICES
from bertstream.server.protocols.orca import SERVICE_NAME as ORCA
from tests.support.server import Server

VERSIONS = ("v1", "v1alpha")
Request, Response = reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse


def ask(server: Server, version: str, *requests: Any, **options: Any) -> list[Any]:
    """Return the answers of one version of reflection; the versions' messages differ only in their package."""
    with grpc.insecure_channel(server.address) as channel:
        rpc: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )
        return list(rpc(iter(requests), timeout=60, **options))


def files(answer: Any) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    raw = answer.file_descriptor_response.file_descriptor_proto
    return {file.name: file for file in map(descriptor_pb2.FileDescriptorProto.FromString, raw)}


def pool_of(answer: Any) -> descriptor_pool.DescriptorPool:
    """Return a pool of only the files that the server sent, which fails where one is missing."""
    pool, left = descriptor_pool.DescriptorPool(), files(answer)
    while left:
        ready = [name for name, file in left.items() if not left.keys() & set(file.dependency)]
        for name in ready:
            pool.AddSerializedFile(left.pop(name).SerializeToString())
    return pool


@pytest.mark.parametrize("version", VERSIONS)
def test_every_service_is_listed(server: Server, version: str) -> None:
    (answer,) = ask(server, version, Request(list_services=""))
    listed = [service.name for service in answer.list_services_response.service]
    others = ["grpc.health.v1.Health", ORCA, *(f"grpc.reflection.{each}.ServerReflection" for each in VERSIONS)]
    assert sorted(listed) == sorted([*SERVICES, *others])


@pytest.mark.parametrize("version", VERSIONS)
def test_every_service_that_is_listed_can_be_looked_up(server: Server, version: str) -> None:
    (listed,) = ask(server, version, Request(list_services=""))
    names = [service.name for service in listed.list_services_response.service]
    answers = ask(server, version, *(Request(file_containing_symbol=name) for name in names))
    for name, answer in zip(names, answers, strict=True):
        assert pool_of(answer).FindServiceByName(name).methods


@pytest.mark.parametrize("version", VERSIONS)
def test_details_of_errors_can_be_looked_up(server: Server, version: str) -> None:
    names = [f"google.rpc.{name}" for name in ("Status", "ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo")]
    answers = ask(server, version, *(Request(file_containing_symbol=name) for name in names))
    for name, answer in zip(names, answers, strict=True):
        assert pool_of(answer).FindMessageTypeByName(name).fields


@pytest.mark.parametrize("version", VERSIONS)
def test_a_call_by_what_the_server_says_of_itself_alone(server: Server, version: str) -> None:
    (answer,) = ask(server, version, Request(file_containing_symbol="bertstream.v1.ModelService"))
    method = pool_of(answer).FindServiceByName("bertstream.v1.ModelService").methods_by_name["ListModels"]
    response = GetMessageClass(method.output_type)
    with grpc.insecure_channel(server.address) as channel:
        rpc: Any = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=bytes,
            response_deserializer=response.FromString,
        )
        assert [model.name for model in rpc(b"").models][:2] == ["all-MiniLM-L6-v2", "bert"]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_there_is_an_error_of_its_own(server: Server, version: str) -> None:
    answers = ask(
        server,
        version,
        Request(file_containing_symbol="no.such.Thing"),
        Request(),
        Request(file_by_filename="bertstream/v1/types.proto"),
        compression=grpc.Compression.Gzip,
    )
    codes = [answer.error_response.error_code for answer in answers]
    assert codes == [grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0], 0]
    assert "google/rpc/status.proto" in files(answers[2])


def test_version_1_differs_from_its_forerunner_in_the_name_alone(server: Server) -> None:
    made = {}
    for version in VERSIONS:
        (answer,) = ask(server, "v1", Request(file_containing_symbol=f"grpc.reflection.{version}.ServerReflection"))
        (made[version],) = files(answer).values()
    stable, alpha = made["v1"], made["v1alpha"]
    assert (stable.name, stable.package) == ("grpc/reflection/v1/reflection.proto", "grpc.reflection.v1")
    assert not stable.options.deprecated
    assert "alpha" not in str(stable)
    renamed = descriptor_pb2.FileDescriptorProto.FromString(stable.SerializeToString())
    renamed.ClearField("options")
    alpha.ClearField("options")
    alpha.name = renamed.name
    assert str(renamed) == str(alpha).replace("v1alpha", "v1")
