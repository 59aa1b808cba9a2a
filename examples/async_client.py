"""Many calls at once from one event loop: `python examples/async_client.py [ADDRESS]`."""

from __future__ import annotations

import asyncio
import sys

from bertstream.client import AsyncClient, BertstreamError


async def main(address: str) -> None:
    """Make eight calls at once, then one that fails."""
    async with AsyncClient(address) as client:
        calls = [client.encode(f"Message number {number}") for number in range(8)]
        vectors = await asyncio.gather(*calls)
        print(len(vectors), "vectors of", vectors[0].shape[0], "numbers")
        try:
            await client.encode("Hello", model="no-such-model", timeout=5)
        except BertstreamError as error:
            print(type(error).__name__, error)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
