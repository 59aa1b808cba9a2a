"""Find who imports whom in the source tree, from the syntax and without importing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORTIONS = ("protos", "client", "server", "workers")


@dataclass(frozen=True, slots=True)
class Import:
    """Describe one imported name.

    `target` is dotted as far as it may be a module, so `from a.b import c` has "a.b.c".
    """

    module: str
    target: str
    deferred: bool  # inside a function, or only for type checkers
    place: str

    def within(self, *packages: str) -> bool:
        """Tell whether the target is one of these packages or lies in one."""
        return any(f"{self.target}.".startswith(f"{package}.") for package in packages)

    @property
    def third_party(self) -> bool:
        """Tell whether the target comes from another distribution."""
        top = self.target.partition(".")[0]
        return top not in sys.stdlib_module_names and top not in ("bertstream", "__future__")

    def __str__(self) -> str:
        return f"{self.place}: {self.module} imports {self.target}"


def source_files() -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the path of every module that we wrote."""
    for portion in PORTIONS:
        for path in sorted((ROOT / portion / "bertstream").rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                parts = path.relative_to(ROOT / portion).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def all_imports() -> list[Import]:
    """Return every import of every module that we wrote."""
    return [found for module, path in source_files() for found in imports_of(module, path)]


def import_graph(imports: Iterable[Import], modules: Collection[str]) -> dict[str, set[str]]:
    """Return which of these modules each one imports, at whatever time and for whatever purpose."""
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for found in imports:
        target = found.target
        while target and target not in graph:
            target = target.rpartition(".")[0]
        if target and target != found.module:
            graph[found.module].add(target)
    return graph


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the groups of modules that all reach each other.

    This is Kosaraju's algorithm: go through the modules in the reverse of the order in which a walk leaves them; each
    takes the modules that reach it.
    """
    left: list[str] = []
    seen: set[str] = set()
    for each in sorted(graph):
        _walk_graph(each, graph, seen, left)
    reverse: dict[str, set[str]] = {each: set() for each in graph}
    for each, targets in graph.items():
        for target in targets:
            reverse[target].add(each)
    found: list[list[str]] = []
    seen = set()
    for each in reversed(left):
        group: list[str] = []
        _walk_graph(each, reverse, seen, group)
        found.append(sorted(group))
    return sorted(group for group in found if len(group) > 1)


def _walk_graph(start: str, graph: Mapping[str, Collection[str]], seen: set[str], left: list[str]) -> None:
    """Walk to all modules that can be reached and were not seen; append each to `left` after all that it leads to."""
    if start in seen:
        return
    seen.add(start)
    for target in sorted(graph[start]):
        _walk_graph(target, graph, seen, left)
    left.append(start)


def imports_of(module: str, path: Path) -> list[Import]:
    """Return the imports of one file."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return [
        Import(module, target, deferred, f"{shown}:{line}")
        for node, deferred in _walk(tree, deferred=False)
        for target, line in _targets(node, package)
    ]


def _walk(node: ast.AST, *, deferred: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        later = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _for_types(child)
        yield child, later
        yield from _walk(child, deferred=later)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _targets(node: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    match node:
        case ast.Import(names=names):
            yield from ((name.name, node.lineno) for name in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = _absolute(module or "", level, package)
            yield from ((f"{base}.{name.name}", node.lineno) for name in names)
        case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
            if ast.unparse(func) in ("import_module", "importlib.import_module", "__import__"):
                yield name, node.lineno


def _absolute(module: str, level: int, package: str) -> str:
    if not level:
        return module
    parts = package.split(".")[: -(level - 1) or None]
    return ".".join([*parts, module] if module else parts)
