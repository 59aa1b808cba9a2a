"""Clients that speak no HTTP/2, or too much of it."""

from __future__ import annotations

import asyncio

from tests.chaos.faults.fault import Fault
from tests.chaos.scene import Scene, open_files, promise, resident, wait_for
from tests.support.hostile import ATTACKS, Attack, attacked

SECONDS = 4.0
CONNECTIONS = 8  # of each attack at once
MOST_BYTES = 128 << 20  # that frontends may take for it
MOST_FILES = 30  # that may still be open a while later


def _fault(name: str, attack: Attack) -> Fault:
    def provoke(scene: Scene) -> None:
        frontends = scene.frontends
        files, memory = open_files(frontends), resident(frontends)
        asyncio.run(attacked(scene.server.address, attack, SECONDS, CONNECTIONS))
        grown = resident(frontends) - memory
        promise(all(each.is_running() for each in frontends), "a frontend ended")
        promise(grown < MOST_BYTES, f"frontends grew by {grown >> 20} MiB")
        wait_for(lambda: open_files(frontends) < files + MOST_FILES, "descriptors to be closed")

    provoke.__doc__ = attack.__doc__
    return Fault(f"hostile: {name}", provoke)


FAULTS = tuple(_fault(name, attack) for name, attack in ATTACKS.items())
