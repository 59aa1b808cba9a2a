"""Code of the documents for a cluster calls what there is, with arguments that there are."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

import pytest

from tests.support.markdown import DOCUMENTS, ON_RAY, ROOT, Block, blocks

pytest.importorskip("pyarrow", reason="pyarrow is not installed (bertstream[ray])")

BLOCKS = [block for document in DOCUMENTS for block in blocks(document) if block.kind == ON_RAY]
EXAMPLE = ROOT / "examples" / "ray_data.py"


def ours(tree: ast.Module) -> dict[str, Any]:
    """Return what the code imports of bertstream, by its names there."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = [(node.module or "", name.name) for node in imports for name in node.names]
    return {name: getattr(importlib.import_module(module), name) for module, name in found if "bertstream" in module}


def check_calls(tree: ast.Module) -> int:
    """Bind the arguments of each call of what is imported of bertstream; return how many calls there are."""
    known, calls = ours(tree), [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    checked = [
        (known[call.func.id], call) for call in calls if isinstance(call.func, ast.Name) and call.func.id in known
    ]
    for function, call in checked:
        named = [keyword.arg for keyword in call.keywords]
        assert None not in named
        inspect.signature(function).bind(*call.args, **dict.fromkeys(map(str, named)))
    return len(checked)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_documented_jobs_fit_their_signatures(block: Block) -> None:
    assert check_calls(ast.parse(block.text)) >= 1


def test_the_example_fits_too() -> None:
    assert check_calls(ast.parse(EXAMPLE.read_text("utf-8"))) >= 1
    assert len(BLOCKS) >= 3
