"""The code blocks of our documents, and how each kind of them is run. There is no kind that is not checked.

```python        run in order, all of a document in one namespace
```python apart  run in a process of its own, since it uses what leaves things behind
```python on ray checked against the signatures of what it calls: a cluster for each would take minutes
```python in X   run by the Python of others' client X, where `make test-clients` has installed it
```console       lines with `$ ` are run by bash, with stand-ins for a few commands (see shell.py)
```toml          read as a configuration file of the server
```js            run by Node, where it and gRPC's packages for it are there
```text          what the block before it prints; `…` stands for anything within a line, or for any lines
```text picture  a drawing, which prints nothing
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "127.0.0.1:50051"  # where the documents' server is
HTTP_ADDRESS = "127.0.0.1:8080"  # and where its JSON over HTTP
IN = "python in "
CLIENTS = sorted(path.stem for path in (ROOT / "tests" / "clients" / "requirements").glob("*.txt"))
PYTHON_KINDS = ("python", "python apart", *(IN + name for name in CLIENTS))
RUN_KINDS = (*PYTHON_KINDS, "console", "toml", "js")
ON_RAY = "python on ray"
CHART_VALUES = "yaml"  # of the Helm chart, by whose schema tests/deploy checks them
KINDS = (*RUN_KINDS, ON_RAY, CHART_VALUES, "text", "text picture")

_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*(.*)")


@dataclass(frozen=True, slots=True)
class Documented:
    """Where the documents' server is: HOST:PORT of gRPC, and of JSON over HTTP."""

    address: str
    http: str

    def told(self, text: str) -> str:
        """Return a document's text with the addresses of this server in place of those that documents name."""
        return text.replace(ADDRESS, self.address).replace(HTTP_ADDRESS, self.http)

    def untold(self, text: str) -> str:
        """Return what a program printed with the addresses that documents name."""
        return text.replace(self.address, ADDRESS).replace(self.http, HTTP_ADDRESS)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `line` is that of its first line, counted from 1."""

    document: Path
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Return all blocks of a document."""
    return list(_blocks(document))


def _blocks(document: Path) -> Iterator[Block]:
    fence, kind, start, lines = "", "", 0, list[str]()
    for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
        found = _FENCE.fullmatch(line)
        if not fence and found:
            fence, kind, start, lines = found[1], found[2].strip(), number + 1, []
        elif fence and line.strip() == fence:
            yield Block(document, start, kind, "\n".join(lines))
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"{document}:{start}: a block that is never closed"


def indented_blocks(document: Path) -> list[int]:
    """Return the lines that Markdown may show as code without a fence, which nothing would run."""
    inside = {n for block in blocks(document) for n in range(block.line, block.line + block.text.count("\n") + 1)}
    lines = document.read_text("utf-8").splitlines()
    return [n for n, line in enumerate(lines, 1) if n not in inside and re.match(r"( {4}|\t)", line)]


def expected_output(of: Block, following: Block | None) -> str | None:
    """Return what the document says that a block prints, or None where it does not say."""
    return following.text if following is not None and following.kind == "text" and of.kind in PYTHON_KINDS else None


def run_python(block: Block, source: str, namespace: dict[str, Any]) -> str:
    """Run the source of a block, and return what it prints. A traceback names the document and its line."""
    source = "\n" * (block.line - 1) + source
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, str(block.document), "exec"), namespace)
    return printed.getvalue()


def commands(block: Block) -> list[tuple[str, str | None]]:
    """Return the commands of a console block, each with the output that is shown, or None where none is."""
    found: list[tuple[str, str | None]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], None))
        elif not found:
            raise AssertionError(f"{block.place}: a console block starts with a command: `$ …`")
        elif found[-1][0].endswith("\\") and found[-1][1] is None:
            found[-1] = (f"{found[-1][0]}\n{line}", None)
        else:
            command, output = found[-1]
            found[-1] = (command, line if output is None else f"{output}\n{line}")
    return found


def assert_output(shown: str, printed: str, place: str) -> None:
    """Assert that the two are the same but for `…`, trailing blanks, and blank lines at the end."""
    lines = [line.rstrip() for line in shown.rstrip().splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "…" else _pattern(line) + r"\n" for line in lines)
    actual = "".join(line.rstrip() + "\n" for line in printed.rstrip().splitlines())
    assert re.fullmatch(pattern, actual), f"{place} shows\n{shown}\nbut this is printed:\n{actual}"


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("…"))
