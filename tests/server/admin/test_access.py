from __future__ import annotations

from pathlib import Path

import pytest

from bertstream.server.keys.editing import add
from bertstream.server.keys.file import HASH_PREFIX, KeyTable
from bertstream.server.settings import FollowedKeysSettings, KeyEntry
from tests.server.admin.support import app
from tests.support.asgi import request


def table(name: str, key: str, role: str) -> KeyTable:
    return KeyTable(name, HASH_PREFIX + KeyEntry.hash_of(key), role=role)  # type: ignore[arg-type]


@pytest.fixture
def keys(tmp_path: Path) -> FollowedKeysSettings:
    path = tmp_path / "keys.toml"
    add(path, table("ops", "s3cret", "admin"))
    add(path, table("user", "plain", "use"))
    return FollowedKeysSettings(str(path), False, ())


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_with_keys_the_role_admin_is_needed(keys: FollowedKeysSettings) -> None:
    made = app(keys=keys)
    assert (await request(made, "/metrics", bearer("s3cret"))).status == 200
    refused = await request(made, "/metrics", bearer("plain"))
    assert (refused.status, refused.json["code"]) == (403, 7)
    assert refused.json["details"][0]["reason"] == "ROLE_NOT_ALLOWED"
    for headers in ({}, bearer("wrong"), {"authorization": "Basic czNjcmV0"}):
        refused = await request(made, "/metrics", headers)
        assert (refused.status, refused.json["code"], refused.headers["www-authenticate"]) == (401, 16, "Bearer")
        assert b"s3cret" not in refused.body


@pytest.mark.parametrize("path", ["/api/live?once", "/api/nothing", "/metrics/", "/healthz/x", "//healthz"])
async def test_whatever_is_not_open_is_closed(keys: FollowedKeysSettings, path: str) -> None:
    assert (await request(app(keys=keys), path)).status == 401


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/static/none", 404)])
async def test_health_and_files_need_no_key(keys: FollowedKeysSettings, path: str, status: int) -> None:
    assert (await request(app(keys=keys), path)).status == status


async def test_the_file_of_keys_is_followed(keys: FollowedKeysSettings) -> None:
    made = app(keys=keys)
    assert (await request(made, "/metrics", bearer("new"))).status == 401
    add(Path(keys.path), table("new", "new", "admin"))
    assert (await request(made, "/metrics", bearer("new"))).status == 200


async def test_while_the_file_is_broken_the_last_good_keys_are_in_use(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("broken")
    made = app(keys=FollowedKeysSettings(str(path), False, (table("ops", "s3cret", "admin").entry,)))
    assert (await request(made, "/metrics", bearer("s3cret"))).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9000", 200),
        ("[::1]:9000", 200),
        ("192.0.2.7", 200),
        ("localhost:9000", 200),
        ("LOCALHOST", 200),
        ("evil.example", 403),
        ("evil.example:9000", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("[x", 403),
    ],
)
async def test_without_keys_only_names_of_the_server_are_answered(host: str, status: int) -> None:
    """A page of somebody else reaches this port by a name of its own that leads here, but not by an address."""
    assert (await request(app(), "/metrics", {"host": host})).status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:9000", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:9001", 403),
        ("http://[x", 403),
    ],
)
async def test_without_keys_no_page_of_another_server_is_answered(origin: str, status: int) -> None:
    assert (await request(app(), "/metrics", {"origin": origin})).status == status


async def test_headers_have_a_bound_before_any_key_is_looked_at(keys: FollowedKeysSettings) -> None:
    many = {f"x-{number}": "a" * 1000 for number in range(17)}
    for path in ("/healthz", "/metrics"):
        refused = await request(app(keys=keys), path, many)
        assert (refused.status, refused.json["details"][0]["reason"]) == (413, "REQUEST_TOO_LARGE")
    del many["x-0"], many["x-1"]
    assert (await request(app(keys=keys), "/healthz", many)).status == 200
