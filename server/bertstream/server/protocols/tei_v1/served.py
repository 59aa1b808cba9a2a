"""List the services of `tei.v1`, with the handlers of their rpcs."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import ServiceDescriptor

from bertstream.server.core.models import Models
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.services import embed, info, predict, rerank, tokenize

INFO, EMBED, PREDICT, RERANK, TOKENIZE = SERVICES = tuple(
    tei_pb2.DESCRIPTOR.services_by_name[name] for name in ("Info", "Embed", "Predict", "Rerank", "Tokenize")
)
FILES = (tei_pb2.DESCRIPTOR,)  # for reflection, as they are in a descriptor pool of their own
NEED_WORKERS = (EMBED, PREDICT, RERANK)  # the others are served by a frontend alone


def handlers(models: Models, version: str, tokenizer_threads: int) -> Mapping[ServiceDescriptor, Mapping[str, Handler]]:
    """Return the handlers of all rpcs; `version` is the server's."""
    return {
        INFO: info.handlers(models, version, tokenizer_threads),
        EMBED: embed.handlers(models),
        PREDICT: predict.handlers(models),
        RERANK: rerank.handlers(models),
        TOKENIZE: tokenize.handlers(models),
    }
