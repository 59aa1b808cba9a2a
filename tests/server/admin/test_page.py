"""The files of the page: all are served, none leads elsewhere, and no text can become HTML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
from starlette.applications import Starlette

from bertstream.server.admin import page
from bertstream.server.admin.page import PageFile
from tests.support.imports import ROOT
from tests.support.web import Answer, ask, serving

FILES = page.page_files()
SCRIPTS = [file for file in FILES if file.path.endswith(".js")]
# Ways from a text to HTML, to code, or to a style that the policy refuses.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\(|\bFunction\(|set(?:Timeout|Interval)\(\s*[\"'`]"
    r"|createContextualFragment|setHTML|cssText|\"style\""
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Starlette(routes=page.page_routes())) as found:
        yield found


def address(file: PageFile) -> str:
    return "/" if file.path == "index.html" else f"/static/{file.path}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_every_file_is_served_under_the_policy(url: str, file: PageFile) -> None:
    answer: Answer = ask(url + address(file))
    assert (answer.status, answer.body) == (200, file.content)
    assert answer.headers["content-type"] == page.TYPES[PurePosixPath(file.path).suffix]
    assert answer.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = ask(url + address(file), headers={"if-none-match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/static/", "/static/js", "/static/../__init__.py", "/static/__init__.py", "/index.html"]
)
def test_nothing_else_is_served(url: str, path: str) -> None:
    assert ask(url + path).status == 404


def test_files_lead_to_each_other_alone() -> None:
    there = {address(file) for file in FILES}
    for file in FILES:
        text, base = file.content.decode(), PurePosixPath(address(file)).parent
        assert set(re.findall(r"https?://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg"}, file.path
        assert "url(" not in text
        for target in re.findall(r"(?:\} from |src=|href=|^import )\"([^\"#\n]+)\"", text, re.MULTILINE):
            assert str(resolved(base, target)) in there, f"{file.path}: {target}"


def resolved(base: PurePosixPath, target: str) -> PurePosixPath:
    parts: list[str] = []
    for part in (base / target).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def test_every_script_is_used() -> None:
    text = "".join(file.content.decode() for file in FILES)
    assert [file.path for file in FILES if text.count(f'{PurePosixPath(file.path).name}"') == 0] == ["index.html"]


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.path)
def test_scripts_make_no_html_of_texts(file: PageFile) -> None:
    assert SINKS.findall(file.content.decode()) == []


@pytest.mark.parametrize("bad", ["a.innerHTML = b", "eval(x)", 'setTimeout("x")', "document.write(x)"])
def test_a_sink_is_found(bad: str) -> None:
    assert SINKS.search(bad)


def test_appearance_is_known_before_anything_is_drawn() -> None:
    head = next(file for file in FILES if file.path == "index.html").content.decode().split("</head>")[0]
    assert '<script src="static/js/appearance.js"></script>' in head
    assert "<style" not in head


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_files_are_small_and_packaged(file: PageFile) -> None:
    assert file.content.count(b"\n") < 400
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    globs = settings["tool"]["setuptools"]["package-data"]["*"]
    assert f"*{PurePosixPath(file.path).suffix}" in globs
