from __future__ import annotations

import pytest

from benchmarks import frontend
from bertstream.server.supervisor.launching import FRONTEND_MALLOC


@pytest.mark.slow
def test_a_frontend_faults_less_in_a_stream_and_keeps_less_after_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # what compiling leaves in the heap hides the rest
    without, given = frontend.measure({}, 300), frontend.measure(FRONTEND_MALLOC, 300)
    assert given["faults"] < without["faults"] / 2
    assert given["flood after"] < without["flood after"] * 0.8
    assert given["bulk after"] < without["bulk after"] + 32
