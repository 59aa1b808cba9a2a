"""`make pictures`: takes the pictures of docs/page.md anew, from the embedded model and a made-up load.

It needs Chromium. Letters look as the fonts of the machine do.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, expect
from starlette.applications import Starlette

from bertstream.server.admin import page, rpc
from bertstream.server.admin.channels import FrontendChannels
from bertstream.workers.compile.checkpoints import embedded
from bertstream.workers.compile.compiling import EMBEDDED_NAME
from tests.support.browser import CHROMIUM, WHY_NOT, View, chromium, viewing
from tests.support.hosted import hosted
from tests.support.live_numbers import MadeUpLive
from tests.support.web import serving

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
MOST_BYTES = 150_000
SECONDS = 600  # of the made-up load


def _live(view: View) -> None:
    view.page.wait_for_timeout(2000)  # for all ten minutes to come
    expect(view.find(".model")).to_have_count(3)


def _tokens(view: View) -> None:
    view.run()
    view.find(".token").nth(8).hover()


def _similarity(view: View) -> None:
    view.run()


def _attention(view: View) -> None:
    view.run(text="The cat slept because it was tired.")
    view.find('.thumb[data-layer="3"][data-head="0"]').click()
    view.find(".line-names.from li").nth(6).hover()


def _hidden_states(view: View) -> None:
    view.run()
    view.find("#strip-layer").press("ArrowLeft")


@dataclass(frozen=True, slots=True)
class Picture:
    """A view, what is done there, and how large the window is."""

    name: str
    place: str
    act: Callable[[View], None]
    size: tuple[int, int]
    dark: bool = False


PICTURES = (
    Picture("live", "live", _live, (1240, 990)),
    Picture("live-phone", "live", _live, (390, 844), dark=True),
    Picture("tokens", "tokens", _tokens, (1120, 620)),
    Picture("similarity", "similarity", _similarity, (1120, 660)),
    Picture("attention", "attention", _attention, (1100, 1130), dark=True),
    Picture("hidden-states", "hidden-states", _hidden_states, (1240, 1030)),
)


def main() -> int:
    """Take all pictures. Returns the exit code: 1 where one is too large for a repository."""
    if CHROMIUM is None:
        print(WHY_NOT, file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        cache, sockets = Path(folder) / "cache", Path(folder) / "sockets"
        sockets.mkdir()
        with hosted({EMBEDDED_NAME: embedded()}, cache, sockets) as address, chromium() as browser:
            sizes = [_taken(browser, address, each) for each in PICTURES]
    return 0 if max(sizes) <= MOST_BYTES else 1


def _taken(browser: Browser, address: str, picture: Picture) -> int:
    routes = [
        *page.page_routes(),
        *rpc.rpc_routes(FrontendChannels([address])),
        MadeUpLive(history=SECONDS).route(),
    ]
    scheme = "dark" if picture.dark else "light"
    with (
        serving(Starlette(routes=routes)) as url,
        viewing(browser, url, picture.size, color_scheme=scheme) as view,
    ):
        view.go(picture.place)
        picture.act(view)
        path = FOLDER / f"{picture.name}.png"
        view.page.screenshot(path=path, animations="disabled")
    print(f"{path.relative_to(FOLDER.parents[1])}: {path.stat().st_size} bytes")
    return path.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
