from __future__ import annotations

import pytest

from bertstream.server.core.load import Load
from bertstream.server.protocols.orca import OrcaLoadReport, report_of

LOAD = Load(0.5, 0.25, 0.75, 100.0, 2.0, {"tiny": 0.125})


def test_a_report_has_all_of_the_load() -> None:
    report = OrcaLoadReport.FromString(report_of(LOAD).SerializeToString())
    assert (report.cpu_utilization, report.mem_utilization, report.application_utilization) == (0.5, 0.25, 0.75)
    assert (report.rps_fractional, report.eps) == (100.0, 2.0)
    assert dict(report.named_metrics) == {"bertstream.queue_seconds.tiny": 0.125}


@pytest.mark.parametrize(
    ("raw", "field", "value"),
    [
        (b"\x09" + b"\0" * 6 + b"\xe0\x3f", "cpu_utilization", 0.5),
        (b"\x31" + b"\0" * 6 + b"\xe0\x3f", "rps_fractional", 0.5),
        (b"\x49" + b"\0" * 6 + b"\xe0\x3f", "application_utilization", 0.5),
    ],
)
def test_its_bytes_are_what_balancers_read(raw: bytes, field: str, value: float) -> None:
    assert OrcaLoadReport(**{field: value}).SerializeToString() == raw
