"""A client calls through the gRPC proxy of Ray Serve, and gets what it gets from a server without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.client import (
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    GenerationDone,
    InvalidArgument,
    Layer,
    NotFound,
)
from tests.support import task_reference as reference
from tests.support.checkpoints import CORPUS
from tests.support.generation_checkpoints import tiny_causal
from tests.support.hosted import hosted, needs_ray
from tests.support.load import Load
from tests.support.ray_serve import Application, RayServer, ray_server
from tests.support.server import busy, eventually

MANY = [f"{text} {number}" for number in range(60) for text in CORPUS]


@pytest.fixture(scope="module")
def rays(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RayServer]:
    """Yield an application of two replicas, and two of one replica each."""
    needs_ray()
    causal = tiny_causal(tmp_path_factory.mktemp("causal") / "causal", family="bert")
    applications = [
        Application([f"bert={checkpoint('bert')}"], replicas=2),
        Application([f"bert-mlm={checkpoint('bert-mlm')}"]),
        Application([f"causal={causal}"], most_replicas=2),
    ]
    with ray_server(applications, compile_cache) as started:
        yield started


@pytest.fixture(scope="module")
def plain(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Yield a client of a server without Ray."""
    folder = tmp_path_factory.mktemp("plain")
    with hosted({"bert": checkpoint("bert")}, compile_cache, folder) as address, Client(address) as connected:
        yield connected


@pytest.fixture(scope="module")
def through(rays: RayServer) -> Iterator[Client]:
    """Yield a client that calls through the proxy."""
    with Client(rays.address) as connected:
        yield connected


def bulk(client: Client) -> np.ndarray:
    """Return the vectors of many texts, by a stream."""
    return np.concatenate([batch.vectors for batch in client.encode_stream(MANY, model="bert")])


def test_vectors_are_those_of_a_server_without_ray(through: Client, plain: Client) -> None:
    np.testing.assert_array_equal(through.encode(CORPUS, model="bert"), plain.encode(CORPUS, model="bert"))
    np.testing.assert_array_equal(bulk(through), bulk(plain))


def test_layers_come_as_they_are_computed(through: Client, plain: Client) -> None:
    text = CORPUS[0]
    theirs = plain.forward(text, ["hidden_states"], model="bert")[0].hidden_states
    layers = [each for each in through.stream_layers(text, model="bert") if isinstance(each, Layer)]
    assert [each.layer for each in layers] == sorted(theirs)
    for each in layers:
        np.testing.assert_array_equal(each.array[0] if each.array.ndim == 3 else each.array, theirs[each.layer])


def test_heads_answer_calls_and_streams(through: Client, checkpoint: Callable[[str], Path]) -> None:
    text = "The quick [MASK] fox"
    (ours,) = through.fill_mask(text, top_k=5, model="bert-mlm")
    theirs = reference.pipeline("fill-mask", checkpoint("bert-mlm"))(text, top_k=5)
    assert [each.token_id for each in ours] == [each["token"] for each in theirs]
    np.testing.assert_allclose([each.score for each in ours], [each["score"] for each in theirs], atol=1e-5)
    (batch,) = through.predict_stream("fill_mask", [text] * 3, model="bert-mlm", top_k=5)
    assert batch.results == [[ours]] * 3


def test_text_is_generated_at_once_and_piece_by_piece(through: Client) -> None:
    whole = through.generate("The quick brown", model="causal", max_new_tokens=12)
    *pieces, done = through.stream_generate("The quick brown", model="causal", max_new_tokens=12)
    assert isinstance(done, GenerationDone)
    assert "".join(piece.text for piece in pieces if not isinstance(piece, GenerationDone)) == whole.text


@pytest.mark.parametrize("streams", [False, True])
def test_errors_have_all_their_details(through: Client, streams: bool) -> None:
    def call(**options: Any) -> object:
        return list(through.encode_stream(["a"], **options)) if streams else through.encode(["a"], **options)

    with pytest.raises(InvalidArgument) as invalid:
        call(model="bert", dimensions=10_000)
    assert invalid.value.reason == "INVALID_RANGE"
    assert [field.path for field in invalid.value.fields] == ["options.pooling.dimensions"]
    assert invalid.value.request_id
    with pytest.raises(NotFound, match="no application of Ray Serve serves the model 'nobody'") as missing:
        call(model="nobody")
    assert missing.value.reason == "MODEL_NOT_FOUND"
    assert missing.value.request_id
    with pytest.raises(NotFound, match="name a model"):
        call()
    np.testing.assert_equal(len(through.encode(["a"], model="bert")), 1)


def test_an_item_that_fails_fails_alone(through: Client) -> None:
    batches = list(through.encode_stream(["a", "word " * 700, "b"], model="bert", truncation=False, on_error="collect"))
    assert [error.id for batch in batches for error in batch.errors] == [1]


def test_what_ray_does_not_carry_is_refused(through: Client) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        through.load_model("other", "other", timeout=20)
    assert refused.value.reason == "LOADING_NOT_ALLOWED"


def test_an_application_can_be_named_in_the_metadata(rays: RayServer) -> None:
    with Client(rays.address, metadata=[("application", "bert-mlm")]) as named:
        assert [model.name for model in named.models()] == ["bert-mlm"]


def test_the_deadline_reaches_the_replica(rays: RayServer, through: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        through.generate("The quick brown", model="causal", max_new_tokens=400, min_new_tokens=400, timeout=0.15)
    eventually_idle(rays)
    np.testing.assert_equal(len(through.encode(["a"], model="bert", timeout=20)), 1)


def test_a_call_that_is_cancelled_is_computed_no_further(rays: RayServer, through: Client) -> None:
    pieces = through.stream_generate("The quick brown", model="causal", max_new_tokens=400, min_new_tokens=400)
    next(pieces)
    pieces.close()
    eventually_idle(rays)


def eventually_idle(rays: RayServer) -> None:
    """Wait until the workers have computed nothing for a while."""

    def idle() -> bool:
        working = busy(*rays.workers)
        time.sleep(0.5)
        return not working()

    eventually(idle, "the workers to end what nobody waits for", 20)


def test_no_traceback_was_logged_for_what_callers_did(rays: RayServer) -> None:
    _, traceback, after = rays.logs().partition("Traceback")
    assert traceback == "", after[:4000]


def test_a_replica_that_is_killed_loses_nothing(rays: RayServer, plain: Client) -> None:
    expected = plain.encode(CORPUS, model="bert")
    with Client(rays.address, retries=4, timeout=60) as through, Load(through, "bert", CORPUS, expected) as load:
        eventually(lambda: load.answered > 5, "the load")
        victim = next(each for each in rays.replicas() if "bert:" in " ".join(each.cmdline()))
        victim.kill()
        before = load.answered
        eventually(lambda: load.answered > before + 20, "the load to go on")
        eventually(lambda: len(rays.replicas()) == 4, "another replica")
    assert load.failures == []


def test_a_redeployment_loses_nothing(rays: RayServer, plain: Client) -> None:
    expected, old = plain.encode(CORPUS, model="bert"), {each.pid for each in rays.replicas()}
    with Client(rays.address, retries=4, timeout=60) as through, Load(through, "bert", CORPUS, expected) as load:
        eventually(lambda: load.answered > 5, "the load")
        rays.deploy()
        before = load.answered
        eventually(lambda: load.answered > before + 10, "the load to go on")
    assert load.failures == []
    eventually(lambda: not old & {each.pid for each in rays.replicas()}, "the old replicas to end", 30)
