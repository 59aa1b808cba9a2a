"""The page as a real server serves it, at its admin port."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from bertstream.cli import main
from tests.support.admin import AdminPort
from tests.support.browser import viewing
from tests.support.live_numbers import numbers
from tests.support.server import Server, eventually, running

ADMIN = "bertstream.server.admin"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a file of keys, and the key in it."""
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["keys", "add", "ops", "--role", "admin", "--file", str(path)]) == 0
    return path, printed.getvalue().strip()


@pytest.fixture(scope="module")
def server(checkpoint: Callable[[str], Path], compile_cache: Path, key: tuple[Path, str]) -> Iterator[Server]:
    options = ("--admin-port", "0", "--workers", "1", "--threads", "1", "--frontends", "2", "--keys-file", str(key[0]))
    with running([f"tiny={checkpoint('bert-pretraining')}"], *options, cache=compile_cache) as started:
        yield started


def test_a_server_shows_itself(browser: Browser, server: Server, key: tuple[Path, str]) -> None:
    admin = AdminPort.of(server)
    with viewing(browser, admin.url) as view:
        view.go()
        view.page.locator("#key").fill(key[1])
        view.page.keyboard.press("Enter")
        state = view.page.locator("#state")
        expect(state).to_have_text("Connected")
        expect(view.page.locator("#address")).to_contain_text(server.address)
        expect(view.find(".model h4")).to_have_text("tiny")
        expect(view.find(".processes tbody tr")).to_have_count(5)
        view.tab("fill-mask").click()
        view.run(text="The [MASK] fox.")
        assert len(view.bars) == 6
        view.tab("live").click()
        (process,) = server.children(ADMIN)
        os.kill(process.pid, signal.SIGKILL)
        expect(state).to_have_attribute("data-state", "lost")
        expect(state).to_have_text("Connected")
        eventually(lambda: len(server.children(ADMIN)) == 1, "another admin process")
        view.tab("fill-mask").click()
        view.run(text="A [MASK].")


def shape(value: Any) -> Any:
    """Return the names in nested objects; of a list, those of its first item."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(each) for each in value[:1]] if isinstance(value, list) else None


OPEN = ("by_status", "by_method", "refused_per_second")  # have names that come and go


def test_the_numbers_that_tests_make_up_are_those_that_a_server_gives(server: Server, key: tuple[Path, str]) -> None:
    given, made_up = shape(AdminPort.of(server, key=key[1]).json("/api/live?once")), shape(numbers(1))
    for found in (given, given["calls"], made_up, made_up["calls"]):
        for name in OPEN:
            found.pop(name, None)
    assert only_in(given, made_up) == []
    assert only_in(made_up, given) == []


def only_in(some: Any, others: Any, path: str = "") -> list[str]:
    """Return the paths of names that the others lack."""
    if isinstance(some, list):
        return only_in(some[0], others[0], f"{path}[]") if some and others else []
    if not isinstance(some, dict) or not isinstance(others, dict):
        return []
    below = [only_in(some[name], others[name], f"{path}.{name}") for name in some if name in others]
    return [f"{path}.{name}" for name in some if name not in others] + [each for found in below for each in found]
