"""One fault under load, from before it until calls of every kind are answered after it."""

from __future__ import annotations

import time

from tests.chaos import calls
from tests.chaos.counting import Row, row, unanswered
from tests.chaos.faults import Fault
from tests.chaos.scene import NotAsPromised, Scene, wait_for

ANSWERED_SECONDS = 120.0  # within which calls of every kind are answered after a fault
_KINDS = [kind.name for kind in calls.KINDS]


def provoked(fault: Fault, scene: Scene, seconds: float) -> Row:
    """Provoke one fault under load, and count until calls of every kind have been answered after it."""
    began, broken = time.monotonic(), ""
    whole = began
    try:
        fault.provoke(scene)
        whole = scene.wait_until_whole()
        wait_for(
            lambda: not unanswered(_KINDS, list(scene.load.records), whole), "every kind of call", ANSWERED_SECONDS
        )
        time.sleep(seconds)
    except NotAsPromised as error:
        broken = str(error)
    counted = row(fault.name, began, whole, time.monotonic(), list(scene.load.records))
    counted.broken = broken
    return counted
