"""The callers of a server, independent of the protocol by which they call."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote

from bertstream.server.core.errors import model_not_allowed, role_not_allowed
from bertstream.server.core.quotas import NO_QUOTA, Quota
from bertstream.server.settings import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what the caller may do; where no key is needed, everyone may do everything."""

    name: str  # of the key, or the address where there are no keys: "192.0.2.1", "unix"
    weight: float = 1.0  # its share relative to other callers' weights
    role: Role = "admin"
    models: tuple[str, ...] = ()  # that it may use; empty: all
    quota: Quota = field(default=NO_QUOTA, compare=False, repr=False)

    @property
    def has_key(self) -> bool:
        """Whether the caller is known by a key, or a certificate that stands for one."""
        return self.quota is not NO_QUOTA

    def check_role(self, role: Role) -> None:
        """Raise PERMISSION_DENIED where a call needs a role that this caller does not have; `admin` includes `use`."""
        if role == "admin" != self.role:
            raise role_not_allowed(role)

    def may_use(self, model: str) -> bool:
        """Return whether the caller may use a model of this name."""
        return not self.models or model in self.models

    def check_model(self, model: str) -> None:
        """Raise PERMISSION_DENIED where the caller may not use a model of this name, whether or not it is served."""
        if not self.may_use(model):
            raise model_not_allowed(model, self.models)


NOBODY = Caller("")  # where it does not matter who calls


def caller_at(peer: str) -> Caller:
    """Return the caller without a key at this address, which is as gRPC writes it: "ipv4:192.0.2.1:5000"."""
    kind, _, rest = peer.partition(":")
    if kind in ("unix", "unix-abstract"):
        return Caller("unix")
    host = unquote(rest.rpartition(":")[0]).strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        return Caller(host or peer)
    return Caller(str(getattr(address, "ipv4_mapped", None) or address))
