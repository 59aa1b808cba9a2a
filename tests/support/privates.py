"""Find where a file reaches into private names of other modules and objects, from the syntax and without importing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.imports import ROOT

_OWN = ("self", "cls")
_BY_NAME = ("setattr", "getattr", "delattr")  # functions, also those of monkeypatch, that take an attribute's name


@dataclass(frozen=True, slots=True)
class Reach:
    """Describe one use of a private name; `file` is its path in the repository."""

    file: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.name}"


def private_names(path: Path) -> Iterator[Reach]:
    """Yield each private name that a file uses of something else than `self` and `cls`."""
    shown = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), shown)):
        for name in _names(node):
            if _is_private(name):
                yield Reach(shown, getattr(node, "lineno", 0), name)


def _names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node uses of other objects and of our modules, private or not."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner not in _OWN:
            yield name
        case ast.Attribute(value=value, attr=name) if not isinstance(value, ast.Name):
            yield name
        case ast.ImportFrom(module=str(module), names=imported) if module.startswith(("bertstream", "benchmarks")):
            yield from (each.name for each in imported)
        case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function), args=arguments):
            if function in _BY_NAME:
                texts = (each.value for each in arguments if isinstance(each, ast.Constant))
                yield from (text.rpartition(".")[2] for text in texts if isinstance(text, str))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
