"""The faults and what the documents say of them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.chaos.faults import FAULTS

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"


def test_the_table_of_faults_is_that_of_the_code() -> None:
    section = OPERATIONS.read_text("utf-8").partition("### Faults, each provoked")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)[1:]
    names = [name for cell in cells for name in names_of(cell)]
    assert sorted(names) == sorted(fault.name for fault in FAULTS)


def names_of(cell: str) -> list[str]:
    kind, _, listed = cell.rpartition(": ")
    return [f"{kind}: {name}" if kind else name for name in listed.split(", ")]


def test_each_says_what_is_done_in_a_line() -> None:
    assert [fault.name for fault in FAULTS if not fault.meaning.endswith(".")] == []
