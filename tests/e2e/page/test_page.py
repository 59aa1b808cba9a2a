"""The frame of the page: live numbers, keys, keyboard, appearance, narrow screens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.page.conftest import Open, Site
from tests.support.browser import PHONE, View
from tests.support.live_numbers import numbers

PANELS = ("live", "tokens", "similarity", "attention", "hidden-states")


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    yield
    site.live.key, site.live.up, site.live.changes = "", True, {}


def places(view: View) -> Any:
    """Return where everything of the view of live numbers is."""
    script = "all => all.map((each) => Object.values(each.getBoundingClientRect().toJSON()))"
    return view.find(".card, .plot, .value, .note, .legend li, .axis, dt, dd, .bar, .name, .number").evaluate_all(
        script
    )


def tile(view: View, name: str) -> Locator:
    return view.find(f'.tile[aria-label="{name}"] .value')


def test_numbers_come_and_nothing_jumps(look: Open, site: Site) -> None:
    view = look()
    expect(view.page.locator("#state")).to_have_text("Connected")
    expect(tile(view, "Calls a second")).to_have_text(f"{numbers(site.live.second)['calls']['per_second']:.0f}")
    expect(view.find(".model")).to_have_count(3)
    expect(view.find(".processes tbody tr")).to_have_count(10)
    expect(view.page.locator("#address")).to_contain_text("127.0.0.1:50051")
    before, first = places(view), tile(view, "Tokens a second").inner_text()
    site.live.second += 150
    expect(tile(view, "Tokens a second")).not_to_have_text(first)
    assert places(view) == before


def test_all_charts_have_the_numbers_that_came(look: Open) -> None:
    view = look()
    expect(tile(view, "Calls a second")).not_to_have_text("–")
    expect(view.find(".tile .curve").first).to_have_attribute("d", re.compile("L.*L"))
    curves = view.find("path.curve").evaluate_all("all => all.map((each) => each.getAttribute('d'))")
    assert len(curves) == 6 + 3 + 2 + 1 + 1
    assert all(each.startswith("M") and "NaN" not in each for each in curves)
    chart = view.find('.chart[aria-label="Latency of calls"]')
    box = chart.locator(".plot").bounding_box()
    assert box is not None
    chart.locator(".plot").hover(position={"x": box["width"] - 1, "y": 50})
    expect(chart.locator(".axis span").last).to_contain_text("s ago")
    assert "–" not in chart.locator(".legend").inner_text()


def test_what_is_missing_is_a_dash(look: Open, site: Site) -> None:
    nothing = {"p50": None, "p90": None, "p99": None}
    site.live.changes = {
        "calls": {
            **numbers(1)["calls"],
            "latency_seconds": nothing,
            "by_method": {},
            "by_status": {},
            "per_second": 0.0,
        },
        "models": [],
    }
    view = look()
    expect(tile(view, "Median latency")).to_have_text("–")
    expect(view.find('.chart[aria-label="Batch fill"] .legend')).to_contain_text("–")
    expect(view.page.get_by_text("No calls in the last second.")).to_be_visible()


def test_a_lost_connection_is_said_and_made_again(look: Open, site: Site) -> None:
    view = look()
    state = view.page.locator("#state")
    expect(state).to_have_attribute("data-state", "live")
    site.live.up = False
    expect(state).to_have_text("Connection lost, trying again")
    expect(view.find(".fades")).to_have_class("stack fades is-stale")
    assert state.get_attribute("role") == "status"
    asked = site.live.asked
    view.page.wait_for_timeout(2500)
    assert 0 < site.live.asked - asked <= 4
    site.live.second += 20
    site.live.up = True
    expect(state).to_have_text("Connected")
    expect(view.find(".fades")).to_have_class("stack fades")
    gaps = view.find(".tile .curve").first.get_attribute("d")
    assert gaps is not None
    assert gaps.count("M") == 2  # the time without numbers is no line
    view.troubles.clear()  # the browser notes the answers that failed


def test_models_that_come_are_offered(look: Open, site: Site) -> None:
    view = look("tokens")
    expect(view.page.locator("#state")).to_have_attribute("data-state", "live")
    with view.page.expect_request("**/*ModelService/ListModels"):
        site.live.changes = {"models": numbers(1)["models"][:1]}


def test_a_key_is_asked_for_once(look: Open, site: Site) -> None:
    site.live.key = "bs_right"
    view = look()
    dialog = view.page.locator("#key-dialog")
    expect(dialog).to_be_visible()
    view.page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    view.page.locator("#key").fill("bs_wrong")
    view.page.keyboard.press("Enter")
    expect(view.page.locator("#key-reason")).to_have_text("This server does not know that key.")
    view.page.locator("#key").fill(" bs_right ")
    view.page.get_by_role("button", name="Use this key").click()
    expect(dialog).to_be_hidden()
    expect(view.page.locator("#state")).to_have_text("Connected")
    assert view.evaluate("Object.values(sessionStorage)") == ["bs_right"]
    assert view.evaluate("Object.values(localStorage)") == []
    assert view.page.locator("#key").input_value() == ""
    with view.page.expect_request("**/*ModelService/ListModels") as sent:
        view.page.reload()
    expect(view.page.locator("#state")).to_have_text("Connected")
    assert not dialog.is_visible()
    assert sent.value.all_headers()["authorization"] == "Bearer bs_right"
    view.tab("tokens").click()
    view.find("summary").click()
    expect(view.find(".calls")).to_contain_text("BERTSTREAM_API_KEY=…")
    assert "bs_right" not in view.find(".calls").inner_text()
    view.troubles.clear()  # the browser notes the answers 401


def test_everything_can_be_done_by_keys(look: Open) -> None:
    view = look()
    expect(view.tab("tokens")).to_be_visible()
    keyboard = view.page.keyboard
    keyboard.press("Tab")
    expect(view.page.locator(".skip")).to_be_focused()
    keyboard.press("3")
    expect(view.tab("similarity")).to_be_focused()
    outline = view.tab("similarity").evaluate("(tab) => getComputedStyle(tab).outlineStyle")
    assert outline == "solid"
    keyboard.press("ArrowUp")
    expect(view.tab("tokens")).to_have_attribute("aria-selected", "true")
    keyboard.press("End")
    expect(view.tab("hidden-states")).to_have_attribute("aria-selected", "true")
    keyboard.press("2")
    view.find("textarea").focus()
    keyboard.press("Control+A")
    keyboard.type("3 foxes")  # a digit in a field is text
    expect(view.find("textarea")).to_have_value("3 foxes")
    expect(view.tab("tokens")).to_have_attribute("aria-selected", "true")
    keyboard.press("Control+Enter")
    expect(view.find(".status")).to_contain_text("in all")
    expect(view.page.locator('[role="tab"][tabindex="0"]')).to_have_count(1)


def test_everything_has_a_name_and_a_role(look: Open) -> None:
    view = look()
    expect(view.tab("tokens")).to_be_visible()
    unnamed = """all => all.filter((each) => !(each.labels?.length || each.textContent.trim() || each.ariaLabel))
        .map((each) => each.outerHTML)"""
    controls = view.page.locator("main :is(input, select, textarea, button), header button, dialog :is(input, button)")
    assert controls.evaluate_all(unnamed) == []
    for tab in view.page.locator('[role="tab"]').all():
        panel = view.page.locator(f"#{tab.get_attribute('aria-controls')}")
        assert panel.get_attribute("role") == "tabpanel"
        assert panel.get_attribute("aria-labelledby") == tab.get_attribute("id")
    repeated = "all => all.map((each) => each.id).filter((id, place, ids) => ids.indexOf(id) !== place)"
    assert view.page.locator("[id]").evaluate_all(repeated) == []


def background(view: View) -> str:
    found: str = view.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return found


def test_light_and_dark(look: Open) -> None:
    view = look(color_scheme="dark")
    dark, toggle = background(view), view.page.locator("#appearance")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    light = background(view)
    assert light != dark
    view.page.reload()
    assert background(view) == light
    toggle.click()
    assert background(view) == dark
    assert view.evaluate("Object.keys(localStorage)") == []  # as the system has it again
    view.page.emulate_media(color_scheme="light")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    assert background(view) == light


def test_pictures_change_their_colours_with_the_page(look: Open) -> None:
    view = look("attention/ner")
    view.run(text="The quick fox")
    pixel = "(canvas) => canvas.toDataURL()"
    canvas = view.find(".thumb canvas").first
    before = canvas.evaluate(pixel)
    view.page.locator("#appearance").click()
    assert canvas.evaluate(pixel) != before


def test_nothing_moves_for_whoever_asks_for_that(look: Open) -> None:
    view = look("generate/writer", reduced_motion="reduce")
    moving = """all => all.filter((each) => { const style = getComputedStyle(each);
        return style.transitionDuration !== '0s' || style.animationName !== 'none'; }).length"""
    view.run(tokens="3")
    assert view.page.locator("*").evaluate_all(moving) == 0


@pytest.mark.parametrize("place", [*PANELS, "fill-mask/bert-base-uncased", "answers/qa", "generate/writer"])
def test_a_phone_is_wide_enough(look: Open, place: str) -> None:
    view = look(place, size=PHONE, has_touch=True)
    if place == "live":
        expect(tile(view, "Calls a second")).not_to_have_text("–")
    else:
        view.run()
        view.find("summary").click()
    assert view.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    buttons = view.find("button:visible").evaluate_all("all => all.map((each) => each.getBoundingClientRect().right)")
    assert all(right <= PHONE[0] or "attention" in place for right in buttons)


def test_a_place_can_be_kept(look: Open) -> None:
    view = look("entities/ner")
    expect(view.page.locator("#model")).to_have_value("ner")
    view.page.reload()
    expect(view.tab("entities")).to_have_attribute("aria-selected", "true")
    expect(view.page.locator("#model")).to_have_value("ner")
    view.evaluate("location.hash = '#answers/qa'")
    expect(view.tab("answers")).to_have_attribute("aria-selected", "true")
    view.evaluate("location.hash = '#no/such'")
    expect(view.tab("answers")).to_have_attribute("aria-selected", "true")
