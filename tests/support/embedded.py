"""Encode with an embedded server, as a protocol would, and run one in a process of its own to be killed."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.callers import NOBODY, Caller
from bertstream.server.core.encoding import encode
from bertstream.server.core.preparation import prepare
from bertstream.server.core.sent import Sent
from bertstream.server.core.tokenization import Texts
from bertstream.server.embedded import EmbeddedServer
from bertstream.server.protocols.bertstream_v1.validation.encoding import plan_of
from bertstream.v1 import encoding_pb2


@dataclass(frozen=True)
class Anytime:
    """Terms of work that nobody waits for."""

    caller: Caller = NOBODY
    deadline: float = math.inf

    def check_deadline(self) -> None:
        return


async def vectors(server: EmbeddedServer, texts: Sequence[str], model: str = "") -> NDArray[Any]:
    """Return the vectors of texts, [n, d] float32."""
    with ExitStack() as until:
        served = server.models.get(model, until, NOBODY)
        plan = plan_of(encoding_pb2.EncodingOptions(), served)
        prepared = await prepare(served, plan, Sent(Texts(texts)))
        encoded = await encode(served, plan, prepared, Anytime())
        return np.array(encoded.tensors["pooled"])


async def _serve(models: Sequence[str]) -> None:
    async with EmbeddedServer(models=models, workers=1) as server:
        await vectors(server, ["ready"])
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve the models that the command line names, until killed."""
    asyncio.run(_serve(sys.argv[1:]))


if __name__ == "__main__":
    main()
