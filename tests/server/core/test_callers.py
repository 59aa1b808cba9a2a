from __future__ import annotations

import pytest

from bertstream.server.core.callers import Caller, caller_at
from bertstream.server.core.errors import Code, RequestError


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:5000", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::1%eth0"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", "192.0.2.1"),
        ("unix:/run/bertstream.sock", "unix"),
        ("unix:", "unix"),
        ("unix-abstract:name", "unix"),
        ("odd", "odd"),
        ("ipv4:odd:1", "odd"),
        ("", ""),
    ],
)
def test_without_a_key_the_address_says_who_calls(peer: str, name: str) -> None:
    assert caller_at(peer) == Caller(name)


def test_where_nobody_needs_a_key_everyone_may_do_all() -> None:
    caller = Caller("192.0.2.1")
    caller.check_role("admin")
    caller.check_model("any")
    assert caller.weight == 1.0
    caller.quota.charge(1 << 40)


def test_roles() -> None:
    user, admin = Caller("a", role="use"), Caller("b", role="admin")
    user.check_role("use")
    admin.check_role("use")
    admin.check_role("admin")
    with pytest.raises(RequestError) as raised:
        user.check_role("admin")
    assert (raised.value.code, raised.value.reason) == (Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")
    assert raised.value.message == "this call needs a key with the role 'admin'"
    assert raised.value.metadata == {"role": "admin"}


def test_models() -> None:
    caller = Caller("a", models=("one", "two"))
    caller.check_model("two")
    assert [caller.may_use(name) for name in ("one", "three")] == [True, False]
    with pytest.raises(RequestError) as raised:
        caller.check_model("three")
    assert (raised.value.code, raised.value.reason) == (Code.PERMISSION_DENIED, "MODEL_NOT_ALLOWED")
    assert raised.value.message == "this key is not for the model 'three'; name one that it is for: one, two"
    assert raised.value.metadata == {"models": "one, two"}
