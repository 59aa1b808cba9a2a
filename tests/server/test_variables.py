"""Variables of the environment that nothing reads are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bertstream.server
from bertstream.server.variables import KNOWN, warnings_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("BERTSTREAM_PROT", "nothing reads the variable BERTSTREAM_PROT: did you mean BERTSTREAM_PORT?"),
        ("BERTSTREAM_KEY_FILE", "nothing reads the variable BERTSTREAM_KEY_FILE: did you mean BERTSTREAM_KEYS_FILE?"),
        ("BERTSTREAM_SOMETHING_ELSE", "nothing reads the variable BERTSTREAM_SOMETHING_ELSE"),
    ],
)
def test_one_that_nothing_reads(name: str, warning: str) -> None:
    assert warnings_of({name: "1", "BERTSTREAM_PORT": "1", "PATH": "/bin"}) == [warning]


def test_links_of_kubernetes_to_a_service_of_this_name_are_no_mistakes() -> None:
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT_50051_TCP", "PORT_50051_TCP_ADDR")
    assert warnings_of({f"BERTSTREAM_{name}": "1" for name in names}) == []


def test_all_that_the_code_reads_are_known() -> None:
    assert Path(bertstream.server.__file__).is_relative_to(ROOT / "server")
    files = (path for part in ("client", "server", "workers") for path in (ROOT / part / "bertstream").rglob("*.py"))
    read = {name for path in files for name in re.findall(r'"(BERTSTREAM_[A-Z_]+)"', path.read_text())}
    assert len(read) > 15
    assert read - KNOWN == set()
