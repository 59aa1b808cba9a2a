"""Who calls, whatever protocol the call came by."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote

from bertstream.server.core.errors import model_not_allowed, role_not_allowed
from bertstream.server.core.quotas import NO_QUOTA, Quota
from bertstream.server.settings import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what it may do. Where nobody needs a key, everyone may do all."""

    name: str  # a key's, or without keys the address: "192.0.2.1", "unix"
    weight: float = 1.0  # its share beside other callers'
    role: Role = "admin"
    models: tuple[str, ...] = ()  # that it may use; none: all
    quota: Quota = field(default=NO_QUOTA, compare=False, repr=False)

    def check_role(self, role: Role) -> None:
        """Raise PERMISSION_DENIED where a call needs a role that this caller has not. Who has `admin` has `use`."""
        if role == "admin" != self.role:
            raise role_not_allowed(role)

    def may_use(self, model: str) -> bool:
        """Return whether a model of this name is among those that it may use."""
        return not self.models or model in self.models

    def check_model(self, model: str) -> None:
        """Raise PERMISSION_DENIED where it may not use a model of this name, whether that is there or not."""
        if not self.may_use(model):
            raise model_not_allowed(model, self.models)


NOBODY = Caller("")  # where it does not matter whose something is


def caller_at(peer: str) -> Caller:
    """Return who calls without a key, by its address as gRPC writes it: "ipv4:192.0.2.1:5000"."""
    kind, _, rest = peer.partition(":")
    if kind in ("unix", "unix-abstract"):
        return Caller("unix")
    host = unquote(rest.rpartition(":")[0]).strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        return Caller(host or peer)
    return Caller(str(getattr(address, "ipv4_mapped", None) or address))
