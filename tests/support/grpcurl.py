"""Stand in for grpcurl where it is not installed: the part of it that the documents use, by what reflection tells.

`tests/clients/test_grpcurl.py` runs the same commands with grpcurl itself, where that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.support.imports import ROOT


def grpcurl(arguments: list[str]) -> int:
    """Run `grpcurl OPTIONS ADDRESS list|describe NAME|SERVICE/METHOD`; of a server with TLS, only check the command."""
    parser = argparse.ArgumentParser("grpcurl")
    encryption = parser.add_mutually_exclusive_group(required=True)
    encryption.add_argument("-plaintext", action="store_true")
    encryption.add_argument("-cacert")
    parser.add_argument("-d", default="{}")
    parser.add_argument("-expand-headers", action="store_true")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-import-path", default=str(ROOT / "protos"))
    parser.add_argument("-proto", action="append", default=[])
    parser.add_argument("address")
    parser.add_argument("what", nargs="+")
    given = parser.parse_args(arguments)
    for name in given.proto:
        (ROOT / given.import_path / name).resolve(strict=True)
    address = given.address if given.plaintext else os.environ["BERTSTREAM_ADDRESS"]
    headers = (header.partition(":") for header in given.H)
    metadata = tuple((key.strip().lower(), value.strip()) for key, _, value in headers)
    with grpc.insecure_channel(address) as channel:
        if "/" in given.what[0] and given.plaintext:
            call(channel, given.what[0], sys.stdin.read() if given.d == "@" else given.d, metadata)
        else:
            show(channel, *given.what)
    return 0


def call(channel: grpc.Channel, name: str, text: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    """Call an rpc of any kind with the messages in a text, one JSON object after the other, and print the answers."""
    method = described(channel, name)
    requests = [json_format.ParseDict(each, GetMessageClass(method.input_type)()) for each in objects(text)]
    answer = GetMessageClass(method.output_type)
    rpc: Any = channel.stream_stream(f"/{name}", response_deserializer=answer.FromString)
    sent = iter([request.SerializeToString() for request in requests])
    for response in rpc(sent, timeout=120, metadata=metadata):
        sys.stdout.write(json_format.MessageToJson(response) + "\n")


def show(channel: grpc.Channel, verb: str, name: str = "") -> None:
    """Print the services, or the rpcs of one of them."""
    database = ProtoReflectionDescriptorDatabase(channel)
    if verb not in ("list", "describe"):
        described(channel, verb)  # a call that is not made
    elif name:
        methods = descriptor_pool.DescriptorPool(database).FindServiceByName(name).methods
        sys.stdout.write("\n".join(method.full_name for method in methods) + "\n")
    else:
        sys.stdout.write("\n".join(sorted(database.get_services())) + "\n")


def described(channel: grpc.Channel, name: str) -> MethodDescriptor:
    """Return what reflection tells of SERVICE/METHOD. Raises KeyError where there is none."""
    service, _, method = name.partition("/")
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    return pool.FindServiceByName(service).methods_by_name[method]


def objects(text: str) -> Iterator[Any]:
    """Yield the JSON values of a text, which stand one behind the other."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].strip()
