"""Drive a headless Chromium, the one that this machine has, and read the page of the admin port as a person does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WHY_NOT = "there is no Chromium on this machine (Debian: apt install chromium)"
SECONDS = 20.0  # on a machine with much else to do
DESK, PHONE = (1280, 860), (360, 740)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser; yield it."""
    # Chromium's own sandbox cannot be had by root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class View:
    """Hold one tab of the browser with the page in it, and all that went wrong there."""

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def go(self, place: str = "") -> None:
        """Open the page at a place, such as "tokens/bert"."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/#{place}")
        expect(self.page.locator("main > section:visible")).to_have_count(1)
        if place:
            expect(self.tab(place.partition("/")[0])).to_have_attribute("aria-selected", "true")

    def tab(self, name: str) -> Locator:
        return self.page.locator(f"#tab-{name}")

    @property
    def tabs(self) -> list[str]:
        """Return the names of the tabs that show."""
        shown = self.page.locator('[role="tab"]:visible')
        return [str(tab.get_attribute("data-id")) for tab in shown.all()]

    def find(self, selector: str, *, has_text: str | None = None) -> Locator:
        """Return what matches in the view that shows."""
        return self.page.locator("main > section:visible").locator(selector, has_text=has_text)

    def fill(self, **values: str) -> None:
        """Write into fields of the panel that shows."""
        for name, value in values.items():
            self.find(f'[data-field="{name}"]').locator("input, textarea").fill(value)

    def run(self, **values: str) -> Locator:
        """Fill in the form, send it, wait for the end, and return the result."""
        self.fill(**values)
        self.find('button[type="submit"]').click()
        expect(self.page.locator('main > section:visible[aria-busy="false"]')).to_have_count(1)
        expect(self.find(".status")).to_contain_text("in all")
        return self.find(".result")

    @property
    def bars(self) -> list[tuple[str, str]]:
        """Return the name and the number of each bar of the result."""
        rows = self.find(".result .bar-row")
        return [(row.locator(".name").inner_text(), row.locator(".number").inner_text()) for row in rows.all()]

    def evaluate(self, script: str, *arguments: Any) -> Any:
        return self.page.evaluate(script, *arguments)


@contextmanager
def viewing(browser: Browser, url: str, size: tuple[int, int] = DESK, **options: Any) -> Iterator[View]:
    """Open an empty tab for the page at this URL, as a new visitor has it; note what its console complains of."""
    viewport: Any = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, **options)
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    view = View(page, url)
    page.on("pageerror", lambda error: view.troubles.append(str(error)))
    page.on("console", lambda line: view.troubles.append(line.text) if line.type in ("error", "warning") else None)
    page.on("request", lambda request: view.requests.append(request.url))
    try:
        yield view
    finally:
        context.close()
