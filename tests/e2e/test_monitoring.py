"""What alerts, the dashboard and `bertstream top` ask of a real server under load, its metrics and numbers answer."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bertstream.cli import main
from bertstream.client import Client, InvalidArgument
from tests.support.admin import AdminPort
from tests.support.generation_checkpoints import tiny_causal
from tests.support.monitoring import TARGET, alerts, dashboard_queries, declared, sample_names, scraped
from tests.support.promql import Series, evaluate, labels_of
from tests.support.server import Server, eventually, running

# What there is only where there are keys, GPUs, or faults that are not made here.
RARE = {
    "Tokens by caller",
    "Memory of GPUs",
    "Use of GPUs",
    "Processes that died, in an hour",
    "Work that was not computed",
}
STEP, SCRAPES = 20.0, 4  # seconds between two samples, as far as the queries know: a minute in all
NOW = STEP * (SCRAPES - 1)


@pytest.fixture(scope="module")
def server(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    decoder = tiny_causal(tmp_path_factory.mktemp("monitoring") / "bert", "bert")
    models = [f"tiny={checkpoint('bert')}", f"writer={decoder}"]
    with running(models, "--admin-port", "0", "--workers", "1", "--threads", "1", cache=compile_cache) as started:
        yield started


@pytest.fixture(scope="module")
def admin(server: Server) -> AdminPort:
    return AdminPort.of(server)


def work(client: Client) -> None:
    """Make calls of all kinds, one of which fails."""
    for _ in range(5):
        client.encode(["hello", "good day"], model="tiny")
    with pytest.raises(InvalidArgument):
        client.encode("hello", model="tiny", layers=[99])
    list(client.encode_stream(["hello"] * 50, model="tiny"))
    client.generate("The quick", model="writer", max_new_tokens=10)


@pytest.fixture(scope="module")
def samples(server: Server, admin: AdminPort) -> list[Series]:
    """Return the series of some scrapes, between which there was work."""
    scrapes = []
    with Client(server.address) as client:
        for _ in range(SCRAPES):
            work(client)
            admin.settled()
            status, body = admin.get("/metrics")
            assert status == 200
            scrapes.append({**scraped(body), labels_of("up", TARGET): 1.0})
    times = [place * STEP for place in range(SCRAPES)]
    return [
        Series(labels, tuple((at, each[labels]) for at, each in zip(times, scrapes, strict=True) if labels in each))
        for labels in scrapes[-1]
    ]


def test_the_samples_are_those_that_are_declared(admin: AdminPort) -> None:
    status, body = admin.get("/metrics")
    assert (status, sample_names(text_string_to_metric_families(body))) == (200, set(declared()))


@pytest.mark.parametrize(("title", "query"), list(dashboard_queries()))
def test_a_query_of_the_dashboard_has_an_answer(samples: list[Series], title: str, query: str) -> None:
    found = evaluate(query, samples, NOW)
    assert isinstance(found, dict)
    assert bool(found) != (title in RARE)
    assert all(value >= 0 for value in found.values() if not math.isnan(value))


def test_the_dashboard_counts_what_was_done(samples: list[Series]) -> None:
    """Compare rates with the calls of `work`, which there were once between two scrapes."""
    queries = dict(dashboard_queries())
    by_method = evaluate(queries["Calls by rpc"], samples, NOW)
    assert isinstance(by_method, dict)
    rates = {dict(labels)["grpc_method"]: value * STEP for labels, value in by_method.items()}
    assert rates["bertstream.v1.EncodingService/EncodeTexts"] == pytest.approx(6)
    assert rates["bertstream.v1.EncodingService/StreamEncodings"] == pytest.approx(1)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_no_alert_is_about_to_fire_where_all_is_well(samples: list[Series], rule: dict[str, str]) -> None:
    if rule["alert"] in ("BertstreamCallsFail", "BertstreamSlow"):
        pytest.skip("the machine of the tests may be slow")
    assert evaluate(rule["expr"], samples, NOW) == {}


def test_top_shows_a_real_server(
    server: Server, admin: AdminPort, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    address = admin.url.removeprefix("http://")

    lines: list[str] = []

    def shows_calls() -> bool:
        """Look at it, and return whether it knows of calls in the last second, and so of all that they make known."""
        with Client(server.address) as client:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                work(client)
        assert main(["top", "--once", "--admin-address", address]) == 0
        lines[:] = capsys.readouterr().out.splitlines()
        known = [*lines[1:3], *(line for line in lines if line.startswith("tiny "))]
        return any("EncodingService/EncodeTexts" in line for line in lines) and "–" not in "".join(known)

    eventually(shows_calls, "its calls")
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("bertstream ")
    assert f" · {server.address} · ready · up " in lines[0]
    (tiny,) = [line.split() for line in lines if line.startswith("tiny ")]
    assert tiny[:3] == ["tiny", "serving", "1/1"]
    assert {"supervisor", "frontend-0", "admin"} <= {line.split()[0] for line in lines if " ready " in line}
    assert main(["top", "--once", "--json", "--admin-address", address]) == 0
    assert json.loads(capsys.readouterr().out)["server"]["address"] == server.address
