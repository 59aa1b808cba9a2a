"""Both clients against a fake server: what the server reports besides its answers."""

from __future__ import annotations

from typing import Any

import pytest

import bertstream.client as sdk
from bertstream.client import EffectiveOptions, Pooling, Report, Timings, Usage
from tests.client.fake_server import FakeServer

TIMINGS = Timings(None, None, 0.5, 2.0)
CALLS: dict[str, Any] = {
    "encode": lambda client, texts, report: client.encode(texts, report=report),
    "tokenize": lambda client, texts, report: client.tokenize(texts, report=report),
    "forward": lambda client, texts, report: client.forward(texts, ["hidden_states"], report=report),
    "encode_spans": lambda client, texts, report: client.encode_spans(texts, [[(0, 1)]] * len(texts), report=report),
    "encode_stream": lambda client, texts, report: list(client.encode_stream(texts, report=report)),
    "tokenize_stream": lambda client, texts, report: list(client.tokenize_stream(texts, report=report)),
    "forward_stream": lambda client, texts, report: list(client.forward_stream(texts, ["pooled"], report=report)),
    "stream_layers": lambda client, texts, report: list(client.stream_layers(texts, report=report)),
}


@pytest.mark.parametrize("split", [0, 3])
@pytest.mark.parametrize("name", CALLS)
def test_every_method_reports(server: FakeServer, client: Any, name: str, split: int) -> None:
    server.does.split_rows = split
    reports: list[Report] = []
    texts = ["ab"] * 300
    CALLS[name](client, texts, reports.append)
    each = 9 if name.startswith("tokenize") else 7
    assert len(reports) == 1 if name == "stream_layers" else len(reports) > 1
    assert sum(report.usage.texts for report in reports) == 300
    assert sum(report.usage.tokens for report in reports) == 300 * each
    assert {report.timings for report in reports} == {TIMINGS}
    assert len({report.options for report in reports}) == 1


def test_options_in_effect(client: Any) -> None:
    reports: list[Report] = []
    truncation = {"max_length": 9, "truncation": "only_first", "truncation_side": "left", "model": "tiny"}
    pooling = {"pooling": "max", "normalize": True, "dimensions": 4, "pooling_layers": [1]}
    outputs = ["pooled", "hidden_states", "attentions"]
    more = {"wire_type": "float16", "prompt": "p: ", "layers": [0, 2], "heads": 1, "offset_unit": "utf8_bytes"}
    client.forward("a", outputs, report=reports.append, **truncation, **pooling, **more)
    assert reports[0].options == EffectiveOptions(
        "tiny", None, "only_first", "left", 9, "utf8_bytes", ("pooled", "hidden_states", "attentions"),
        Pooling("max", (1,), "unspecified", True, 4), "float16", "p: ", "interactive", (0, 2), (2,), (1,),
        columns=("tokens", "offsets"),
    )  # fmt: skip
    client.tokenize("a", report=reports.append, add_special_tokens=False, stride=2, columns=["word_ids"], **truncation)
    assert reports[1].options == EffectiveOptions(
        "tiny", False, "only_first", "left", 9, "unspecified", overflow=True, stride=2, columns=("word_ids",)
    )


def test_what_a_report_raises_comes_through(server: FakeServer, client: Any) -> None:
    def report(_: Report) -> None:
        raise ZeroDivisionError("mine")

    for call in CALLS.values():
        with pytest.raises(ZeroDivisionError, match="mine"):
            call(client, ["a"] * 300, report)


@pytest.mark.parametrize("split", [0, 3])
def test_batches_add_up(server: FakeServer, client: Any, split: int) -> None:
    server.does.split_rows, server.does.reverse, server.does.hold_first = split, True, 70
    texts = ["bad" if index == 5 else "a" for index in range(200)]
    for stream, each in (
        (client.encode_stream(texts, batch_size=30, on_error="collect"), 6),
        (client.forward_stream(texts, ["last_hidden_state"], batch_size=30, on_error="collect"), 6),
        (client.tokenize_stream(texts, batch_size=30, on_error="collect"), 8),
    ):
        batches = list(stream)
        assert sum(batch.usage.texts for batch in batches) == 199
        assert sum(batch.usage.tokens for batch in batches) == 199 * each
        assert {batch.timings for batch in batches} == {TIMINGS}


def test_a_batch_of_failed_items_cost_nothing(client: Any) -> None:
    (batch,) = client.encode_stream(["bad"], on_error="collect")
    assert (batch.usage, batch.timings) == (Usage(0, 0, 0), Timings(None, None, None, None))


def test_reports_can_be_kept_apart_from_the_values(client: Any) -> None:
    reports: list[sdk.Report] = []
    assert client.encode([], report=reports.append).shape[0] == 0
    assert reports == []
