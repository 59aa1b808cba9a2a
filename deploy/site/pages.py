"""The documents of the repository as pages of the site.

They stay readable where they are, so their links lead through the repository. On the site a link to a document leads to
its page, one to a picture to a copy, and one to any other file or folder to a page that shows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
AT_THE_TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
PICTURES = (".png", ".svg")
LANGUAGES = {".py": "python", ".js": "js", ".json": "json", ".yaml": "yaml", ".toml": "toml", ".proto": "proto"}
_FENCE = re.compile(r"^(\s*(?:`{3,}|~{3,}).*?^\s*(?:`{3,}|~{3,})\s*?$)", re.MULTILINE | re.DOTALL)
_KIND = re.compile(r"^(\s*(?:```|~~~)\w+) [^\n]*", re.MULTILINE)  # `python apart`: how tests run it
_LINK = re.compile(r"(\]\()([^)\s]+)(\))|((?:src|href)=\")([^\"]+)(\")")


class BrokenLink(Exception):
    """A link of a document leads to what is not there."""


def documents() -> dict[Path, str]:
    """Return the page of each document, by its path in the repository."""
    own = {Path("docs") / each.relative_to(ROOT / "docs") for each in (ROOT / "docs").rglob("*.md")}
    return {
        **{Path(source): page for source, page in AT_THE_TOP.items()},
        **{path: path.relative_to("docs").as_posix() for path in sorted(own)},
    }


def pages() -> dict[str, str | bytes]:
    """Return the contents of all pages and pictures, by their path on the site. Raises BrokenLink."""
    site = _Site(documents())
    for source, page in documents().items():
        site.made[page] = site.linked(source, page, (ROOT / source).read_text(encoding="utf-8"))
    while site.wanted:
        source, page = site.wanted.popitem()
        site.made[page] = site.shown(source, page)
    return site.made


def targets(text: str) -> Iterator[str]:
    """Return where the links of a document lead, but for those within code."""
    for part in _FENCE.split(text)[::2]:
        for found in _LINK.finditer(part):
            yield found[2] or found[5]


class _Site:
    def __init__(self, of_documents: dict[Path, str]) -> None:
        self._pages = dict(of_documents)
        self.made: dict[str, str | bytes] = {}
        self.wanted: dict[Path, str] = {}  # files and folders that pages link to, and their pages

    def linked(self, source: Path, page: str, text: str) -> str:
        """Return a document's text with links for its page."""
        return _relinked(text, lambda target: self._link(source, page, target))

    def shown(self, source: Path, page: str) -> str | bytes:
        """Return the page of a file or a folder that is no document of ours, or a picture's bytes."""
        path = ROOT / source
        if path.is_dir():
            return "\n".join(self._listing(source, page))
        if path.suffix in PICTURES:
            return path.read_bytes()
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            return self.linked(source, page, text)
        return f"# {source.as_posix()}\n\n~~~~{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n~~~~\n"

    def _listing(self, folder: Path, page: str) -> Iterator[str]:
        yield f"# {folder.as_posix()}\n"
        for each in _shown_files(ROOT / folder):
            path = each.relative_to(ROOT)
            yield f"- [{each.relative_to(ROOT / folder).as_posix()}]({_relative(page, self._page_of(path))})"
        yield ""

    def _link(self, source: Path, page: str, target: str) -> str:
        name, mark, fragment = target.partition("#")
        if not name or "://" in name or name.startswith("mailto:"):
            return target
        path = Path(os.path.normpath(source.parent / name))
        if not (ROOT / path).exists():
            raise BrokenLink(f"{source}: {target}")
        return _relative(page, self._page_of(path)) + mark + fragment

    def _page_of(self, path: Path) -> str:
        if path not in self._pages:
            if path.suffix in PICTURES:
                place = f"files/{path.as_posix()}"
            elif (ROOT / path).is_dir():
                place = f"files/{path.as_posix()}/index.md"
            else:
                place = f"files/{path.as_posix()}" + ("" if path.suffix == ".md" else ".md")
            self._pages[path] = self.wanted[path] = place
        return self._pages[path]


def _relinked(text: str, link: Callable[[str], str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        before, target, after = (found[1], found[2], found[3]) if found[1] else (found[4], found[5], found[6])
        return f"{before}{link(target)}{after}"

    parts = _FENCE.split(text)
    parts[::2] = [_LINK.sub(replaced, part) for part in parts[::2]]
    parts[1::2] = [_KIND.sub(r"\1", part, count=1) for part in parts[1::2]]
    return "".join(parts)


def _relative(page: str, other: str) -> str:
    return PurePosixPath(os.path.relpath(other, PurePosixPath(page).parent)).as_posix()


def _shown_files(folder: Path) -> Iterable[Path]:
    hidden = ("__pycache__", "node_modules", "package-lock.json")
    names = (path for path in sorted(folder.rglob("*")) if path.is_file() and not set(path.parts) & set(hidden))
    return (path for path in names if path.suffix in {*LANGUAGES, *PICTURES, ".md", ".txt"} and "_pb2" not in path.name)
