"""The faults, in the order in which they are provoked."""

from __future__ import annotations

from tests.chaos.faults import clients, hostile, limits, processes, servers
from tests.chaos.faults.fault import Fault

UNDER_LOAD: tuple[Fault, ...] = (*processes.FAULTS, *limits.FAULTS, *clients.FAULTS, *hostile.FAULTS)
"""Those of the server that has callers."""
OWN_SERVER: tuple[Fault, ...] = servers.FAULTS
"""Those of servers that are started for them, since these do not start as usual, or do not go on."""
FAULTS = (*UNDER_LOAD, *OWN_SERVER)

__all__ = ["FAULTS", "OWN_SERVER", "UNDER_LOAD", "Fault"]
