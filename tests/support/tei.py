"""Call a server by `tei.v1` as any client does that was made from its .proto file."""

from __future__ import annotations

import grpc

from bertstream.server.protocols.tei_v1 import tei_pb2
from tests.support.spoken import SpokenCalls


class TeiCalls(SpokenCalls):
    """Call any rpc of `tei.v1`, of one model where it is named."""

    def __init__(self, channel: grpc.Channel, model: str = "") -> None:
        super().__init__(channel, tei_pb2.DESCRIPTOR, (("x-model", model),) if model else ())
