"""Tables and links of the documents are true to the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bertstream.server.config import FIELDS
from bertstream.server.frontend.handling import ENCODING, GENERATION, MODELS, TASKS, TOKENIZATION
from bertstream.server.protocols.http.common_options import CutRequest
from bertstream.server.protocols.http.generation_options import GenerateRequest
from bertstream.server.protocols.http.layers import LayersRequest
from bertstream.server.protocols.http.multi_vector import MultiVectorRequest
from bertstream.server.protocols.http.openai import EmbeddingsRequest
from bertstream.server.protocols.http.rerank import RankDocumentsRequest
from bertstream.server.protocols.http.tasks.routes import ROUTES
from bertstream.v1 import encoding_pb2, generation_pb2, tasks_pb2
from bertstream.workers.compile.checkpoints.families import FAMILIES
from deploy import metrics_page
from tests.support.markdown import DOCUMENTS, ROOT

SERVER = ROOT / "server" / "bertstream" / "server"
# Heads that a checkpoint's modules, or its own files, make, whatever its family.
OF_MODULES = {"multi_vector", "lexical_weights", "zero_shot_entities"}
REASON = re.compile(r"[A-Z]+(_[A-Z0-9]+)*")
# Functions that make errors, and their status where the call itself does not name one.
RAISERS = {
    "invalid": "INVALID_ARGUMENT",
    "invalid_fields": "INVALID_ARGUMENT",
    "TokenizationError": "INVALID_ARGUMENT",
    "not_available": "FAILED_PRECONDITION",
    "RequestError": "",
}
ARGUMENTS = {"invalid": 3, "invalid_fields": 2}  # their number of arguments; the last is the reason


def table(document: str, title: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its header."""
    below = (ROOT / document).read_text("utf-8").split(f"\n## {title}\n", 1)[1]
    found = re.search(r"^\|[-|]+\|\n((?:\|.*\n)+)", below, re.MULTILINE)
    assert found is not None, f"{document} has no table below {title}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def reasons_in(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (reason, status) of each error that this code makes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in RAISERS:
            status = RAISERS[called(node)]
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if isinstance(argument, ast.Attribute) and ast.unparse(argument.value).endswith("Code"):
                    status = argument.attr
                if isinstance(argument, ast.Constant) and REASON.fullmatch(str(argument.value)):
                    yield str(argument.value), status
            if len(node.args) + len(node.keywords) < ARGUMENTS.get(called(node), 0):
                yield "INVALID_ARGUMENT", status  # the default reason


def raised() -> set[tuple[str, str]]:
    """Return (reason, status) of all errors that the server can answer with.

    The functions of errors.py count only if they are used.
    """
    trees = {path: ast.parse(path.read_text("utf-8")) for path in SERVER.rglob("*.py")}
    makers = {each.name: each for each in functions(trees.pop(SERVER / "core" / "errors.py"))}
    used = {called(node) for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = {pair for tree in trees.values() for pair in reasons_in(tree)}
    for name in used & set(makers):
        found |= set(reasons_in(makers[name]))
        defaults = [each.value for each in makers[name].args.defaults if isinstance(each, ast.Constant)]
        if name == "not_available":
            found |= {(str(default), RAISERS[name]) for default in defaults}
    return found


def test_the_table_of_reasons_is_that_of_the_code() -> None:
    documented = {(reason.strip("`"), status) for reason, status, _ in table("docs/protocol.md", "Errors")}
    assert documented == raised()


def test_the_reasons_that_tokenization_declares_are_raised() -> None:
    values = (SERVER / "core" / "tokenization" / "values.py").read_text("utf-8")
    assert set(re.findall(r'"(INVALID_\w+)"', values)) <= {reason for reason, _ in raised()}


def option_row(name: str) -> list[str]:
    default = FIELDS[name].default
    flag = "`MODEL …`" if name == "models" else f"`--{name.replace('_', '-')}`"
    told = str(default).lower() if isinstance(default, bool) else default  # as it is spelt in TOML
    shown = f"`{told}`" if default not in ("", ()) else ""
    return [flag, f"`BERTSTREAM_{name.upper()}`", shown, FIELDS[name].metadata["help"]]


def test_the_table_of_options_is_that_of_the_code() -> None:
    rows = [option_row(name) for name in FIELDS]
    assert table("docs/operations.md", "Options") == rows, "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_table_of_limits_is_that_of_the_code() -> None:
    numbers = [int(re.sub(r"\D", "", row[1].split(";")[0])) for row in table("docs/protocol.md", "Limits")]
    names = ("max_texts", "max_request_bytes", "max_response_bytes", "stream_items", "stream_tokens")
    defaults = [FIELDS[name].default for name in names]
    assert numbers == [default >> 20 if default == 8 << 20 else default for default in defaults]


def test_the_defaults_that_tuning_tells_are_those_of_the_code() -> None:
    for options, told, _ in table("docs/tuning.md", "Queues and windows"):
        unit = 1 << 20 if "MiB" in told else 1
        numbers = [int(number.replace(",", "")) * unit for number in re.findall(r"\d[\d,]*", told)]
        assert numbers == [FIELDS[name].default for name in re.findall(r"`(\w+)`", options)], options


def fields_of(request: type[Any]) -> set[str]:
    return {str(field.encode_name) for field in msgspec.structs.fields(request)}


def test_the_table_of_tasks_over_http_is_that_of_the_code() -> None:
    common = fields_of(CutRequest)
    bodies = {route.path: fields_of(route.request) - common for route in ROUTES}
    rows = table("docs/protocols/http.md", "Tasks")
    named = {
        path.strip("`"): set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", items + options)))
        for path, items, options, _ in rows
    }
    assert named == bodies


@pytest.mark.parametrize(
    ("title", "request_"),
    [
        ("OpenAI", EmbeddingsRequest),
        ("Reranking", RankDocumentsRequest),
        ("Vectors of tokens", MultiVectorRequest),
        ("Generated text", GenerateRequest),
        ("Layers", LayersRequest),
    ],
)
def test_the_fields_of_bodies_are_told(title: str, request_: type[Any]) -> None:
    below = (ROOT / "docs" / "protocols" / "http.md").read_text("utf-8").split(f"\n## {title}\n", 1)[1]
    told = below.split("\n## ")[0]
    if title == "Generated text":  # which says that it has those of the layers' texts, too
        told += below.split("\n## ")[1]
    assert {name for name in fields_of(request_) if not re.search(rf'[`"]{name}[`"]', told)} == set()


def test_the_table_of_services_is_that_of_the_protos() -> None:
    first = (ROOT / "docs" / "protocol.md").read_text("utf-8").split("\n## ", 1)[0]
    rows = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| \[.*", first, re.MULTILINE)]
    all_of_them = (TOKENIZATION, ENCODING, TASKS, GENERATION, MODELS)
    services = [[service.name, *(rpc.name for rpc in service.methods)] for service in all_of_them]
    assert [row for row in rows if row] == services


def test_the_table_of_outputs_is_that_of_the_protos() -> None:
    names = [name.removeprefix("ENCODING_OUTPUT_") for name in encoding_pb2.EncodingOutput.keys()[1:]]
    rows = {row[0].strip("`"): row[1].split("`")[1] for row in table("docs/protocol.md", "Outputs")}
    assert sorted(rows) == sorted(names)
    assert set(rows.values()) <= set(encoding_pb2.Encodings.DESCRIPTOR.fields_by_name)


def test_the_table_of_tasks_is_that_of_the_protos() -> None:
    rows = table("docs/protocol.md", "Task heads")
    names = {column: [row[column].strip("`") for row in rows] for column in (0, 1, 2, 4)}
    assert [*names[0], "StreamPredictions"] == [rpc.name for rpc in TASKS.methods]
    assert names[1] == list(tasks_pb2.PredictionOptions.DESCRIPTOR.fields_by_name)
    heads = {name for row in rows for name in re.findall(r"`(\w+)`", row[2])}
    assert heads - OF_MODULES == {head.name for family in FAMILIES.values() for head in family.heads} - {"causal_lm"}
    answers = tasks_pb2.PredictedItems.DESCRIPTOR.oneofs_by_name["predictions"].fields
    assert names[4] == [field.name for field in answers]


def test_the_table_of_generation_options_names_all_that_have_a_default() -> None:
    below = (ROOT / "docs" / "protocol.md").read_text("utf-8").split("| option | else | range |", 1)[1].split("\n\n")[0]
    named = {name for row in below.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    others = {"model", "truncation", "priority", "add_special_tokens", "keep_special_tokens", "token_scores"}
    assert named | others == set(generation_pb2.GenerationOptions.DESCRIPTOR.fields_by_name)
    assert not named & others


def test_the_readme_names_all_families() -> None:
    sentence = re.search(r"families ([^.]*),\s+with the numbers", (ROOT / "README.md").read_text("utf-8"))
    assert sentence is not None
    assert re.findall(r"`([\w-]+)`", sentence[1]) == list(FAMILIES)


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", document.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in anchors(there), f"{target}: there is no such heading"


def test_every_concept_leads_on() -> None:
    _, *sections = (ROOT / "docs" / "concepts.md").read_text("utf-8").split("\n## ")
    assert len(sections) > 10
    assert [each.splitlines()[0] for each in sections if not re.search(r"\]\([^)]+\.md", each)] == []


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_decision_is_numbered_in_order_and_linked() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [name[:5] for name in names] == [f"{number:04}-" for number in range(1, len(names) + 1)]
    architecture = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert [name for name in names if f"](decisions/{name})" not in architecture] == []


FILE = re.compile(r"`([a-z_/…]+/?[a-z_]*\.(?:py|proto)|[a-z_/]+/)`")


@pytest.mark.parametrize("document", ["docs/extending.md", "docs/architecture.md"])
def test_files_that_are_named_are_there(document: str) -> None:
    named = FILE.findall((ROOT / document).read_text("utf-8"))
    assert len(named) > 20
    assert [name for name in named if not is_there(name)] == []


def is_there(name: str) -> bool:
    """Tell whether a file or a folder has this path, or one that ends with it; … stands for any folders."""
    pattern = name.replace("/…/", "/**/")
    return any(any(ROOT.glob(f"{package}{pattern}")) for package in ("", "protos/", "*/bertstream/**/"))


def test_the_walk_of_a_text_is_short() -> None:
    walk = [row for row in table("docs/architecture.md", "A text's walk through the files") if row[0]]
    files = [name for row in walk for name in re.findall(r"`([^`]+\.py)`", row[1])]
    assert 20 <= len(files) <= 25


def test_the_page_of_metrics_is_made_from_their_declarations() -> None:
    made, written = metrics_page.page(), metrics_page.PAGE.read_text("utf-8")
    assert written == made, "make it again: python -m deploy.metrics_page"


def test_the_page_of_models_has_all_families() -> None:
    rows = table("docs/models.md", "Families")
    assert {name for row in rows for name in re.findall(r"`([a-z][a-z0-9_-]*)`", row[0]) if name in FAMILIES} == set(
        FAMILIES
    )
