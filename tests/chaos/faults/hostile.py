"""Clients that speak no HTTP/2, or too much of it."""

from __future__ import annotations

import asyncio

from tests.chaos.faults.fault import Fault
from tests.chaos.scene import Scene, open_files, promise, resident, wait_for
from tests.support.hostile import ATTACKS, Attack, attacked

SECONDS = 4.0
CONNECTIONS = 8  # of each attack at once
# That frontends may take for it. Of calls that are begun and cancelled gRPC lets 10,000 wait for each, and more by
# chance (frontend/transport.py), each with some 16 KiB; of all else next to nothing.
MOST_BYTES = 2 * 400 << 20
MOST_FILES = 30  # that may still be open a while later


def _fault(name: str, attacks: dict[str, Attack], connections: int, *, quick: bool = False) -> Fault:
    def provoke(scene: Scene) -> None:
        frontends = scene.frontends
        files, memory = open_files(frontends), resident(frontends)
        asyncio.run(_all(scene.server.address, attacks, connections))
        grown = resident(frontends) - memory
        promise(all(each.is_running() for each in frontends), "a frontend ended")
        promise(grown < MOST_BYTES, f"frontends grew by {grown >> 20} MiB")
        wait_for(lambda: open_files(frontends) < files + MOST_FILES, "descriptors to be closed")

    provoke.__doc__ = next(iter(attacks.values())).__doc__ if len(attacks) == 1 else "Do all of these at once."
    return Fault(f"hostile: {name}", provoke, quick)


async def _all(address: str, attacks: dict[str, Attack], connections: int) -> None:
    async with asyncio.TaskGroup() as group:
        for attack in attacks.values():
            group.create_task(attacked(address, attack, SECONDS, connections))


FAULTS = (
    *(_fault(name, {name: attack}, CONNECTIONS) for name, attack in ATTACKS.items()),
    _fault("all at once", ATTACKS, 2, quick=True),
)
