"""What is taken for growth."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.soak import sampling
from tests.soak.judging import Sample, judge, table

MEBIBYTE = 1 << 20


def samples(
    bytes_a_call: float = 0.0, files: float = 0.0, threads: float = 0.0, noise: int = MEBIBYTE, pids: int = 1
) -> list[Sample]:
    """Return a process of 100 MiB that fills its caches over the first calls, of 40,000; growth is by the call."""
    dice = random.Random(1)
    made = []
    for number in range(101):
        calls = 400 * number
        memory = 100 * MEBIBYTE + min(calls, 12_000) * 4096 + calls * bytes_a_call + dice.randrange(noise)
        pid = 7 + number * pids // 102
        made.append(
            Sample(number, "frontend-0", pid, calls, int(memory), 20 + int(files * calls), 9 + int(threads * calls))
        )
    return made


@pytest.mark.parametrize(
    ("grows", "fault"),
    [
        ({}, ""),
        ({"noise": 10 * MEBIBYTE}, ""),
        ({"bytes_a_call": 100.0}, ""),
        ({"bytes_a_call": 1024.0}, "it grows by 10.. bytes a call, of at most 256"),
        ({"bytes_a_call": 1024.0, "noise": 10 * MEBIBYTE}, "it grows by [0-9]+ bytes a call, of at most 256"),
        ({"files": 0.01}, "it has 240 more descriptors"),
        ({"threads": 0.001}, "it has 24 more threads"),
        ({"pids": 2}, "it was replaced"),
    ],
)
def test_a_leak_is_told_from_warming_up_and_noise(grows: dict[str, float], fault: str) -> None:
    (verdict,) = judge(samples(**grows), most_bytes_a_call=256)  # type: ignore[arg-type]
    assert re.fullmatch(fault, verdict.fault), verdict


def test_a_few_samples_say_nothing() -> None:
    (verdict,) = judge(samples()[:2], 256)
    assert verdict.fault == "only 1 samples after the warm-up"


def test_a_table_and_a_file_have_a_line_each(tmp_path: Path) -> None:
    assert [line.split()[0] for line in table(judge(samples(), 256)).splitlines()] == ["process", "frontend-0"]
    sampling.write(samples(), tmp_path / "samples.csv")
    lines = (tmp_path / "samples.csv").read_text(encoding="utf-8").splitlines()
    assert (len(lines), lines[1].split(",")[1]) == (102, "frontend-0")
