"""A real server gives all layers and attentions of a model, with the numbers of transformers, by every rpc."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np
import pytest

from bertstream.client import Client, FailedPrecondition, InvalidArgument, Layer
from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from bertstream.workers.compile.compiler import compile_model
from tests.support.programs import plant_faults
from tests.support.reference import Reference, close, reference, worst
from tests.support.server import WAITING, Server, eventually, running

Output = Literal["pooled", "pooler_output", "last_hidden_state", "hidden_states", "attentions"]
EXACT = 1e-5
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet")
LAYERS, HEADS = 5, 3
ALL: list[Output] = ["pooled", "last_hidden_state", "hidden_states", "attentions"]
STUCK_LENGTH, STUCK_LAYER = 77, 3

TEXT: Any = "The quick brown fox, über 懒狗 😀!"
PAIR: Any = ("A model server answers", "größere Straßen")
LONG = "word " * 300


def outputs_of(family: str) -> list[Output]:
    return [*ALL, "pooler_output"] if family not in ("distilbert", "electra") else ALL


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["text", "pair", "ids"])
def test_every_layer_head_and_vector_equals_transformers(
    client: Client, checkpoint: Callable[[str], Path], family: str, kind: str
) -> None:
    """Compare texts in one batch with texts of other lengths and other output options."""
    theirs = reference(checkpoint(family))
    text = {"text": TEXT, "pair": PAIR, "ids": theirs.tokens(TEXT)["input_ids"][0]}[kind]
    expected = theirs.encode(TEXT if kind == "ids" else text)
    _, ours, _ = client.forward([LONG, text, "x"], outputs_of(family), model=family, normalize=False)
    assert sorted(ours.hidden_states) == list(range(LAYERS + 1))
    assert sorted(ours.attentions) == list(range(1, LAYERS + 1))
    for layer, states in ours.hidden_states.items():
        assert worst(states, expected.hidden_states[layer][0]) < EXACT
    for layer, weights in ours.attentions.items():
        assert worst(weights, expected.attentions[layer - 1][0]) < EXACT
        np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    assert worst(ours.last_hidden_state, expected.last_hidden_state[0]) < EXACT
    assert worst(ours.pooled, expected.last_hidden_state[0].mean(0)) < EXACT
    if "pooler_output" in outputs_of(family):
        assert worst(ours.pooler_output, expected.pooler_output[0]) < EXACT


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_equal_the_tokenizers(client: Client, checkpoint: Callable[[str], Path], family: str) -> None:
    theirs = reference(checkpoint(family))
    for text in (TEXT, PAIR, LONG, ""):
        expected = theirs.tokens(text)
        (ours,) = client.tokenize([text], model=family, max_length=512)
        assert ours.token_ids.tolist() == expected["input_ids"][0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_is_the_same_over_every_rpc(server: Server, client: Client, family: str) -> None:
    texts = [TEXT, "x", "Die Sonne"]
    bulk = client.forward(texts, ["hidden_states", "attentions"], model=family)
    with grpc.insecure_channel(server.address) as channel:
        unary = _unary(channel, texts, family)
    arrived = []
    for event in client.stream_layers(texts, outputs=["hidden_states", "attentions"], model=family):
        if isinstance(event, Layer):
            arrived.append((event.text_index, event.layer, event.kind))
            row = bulk[event.text_index]
            same = row.hidden_states if event.kind == "hidden_states" else row.attentions
            close(event.array, same[event.layer])
    for text in range(len(texts)):
        order = [(layer, kind) for index, layer, kind in arrived if index == text]
        assert order == sorted(order, key=lambda each: (each[0], each[1] == "attentions"))
        assert len(order) == 2 * LAYERS + 1
    for row, other in zip(bulk, unary, strict=True):
        for layer in range(LAYERS + 1):
            close(row.hidden_states[layer], other[layer])


def _unary(channel: grpc.Channel, texts: list[str], model: str) -> list[dict[int, Any]]:
    """Return the hidden states of each text by EncodeTexts, read without the SDK."""
    options = encoding_pb2.EncodingOptions(model=model, outputs=[encoding_pb2.ENCODING_OUTPUT_HIDDEN_STATES])
    inputs = types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts))
    request = encoding_pb2.EncodeTextsRequest(options=options, inputs=inputs)
    answer = encoding_pb2_grpc.EncodingServiceStub(channel).EncodeTexts(request).encodings
    found: list[dict[int, Any]] = [{} for _ in texts]
    for layer in answer.hidden_states:
        values = np.frombuffer(layer.states.values.data, "<f4").reshape(layer.states.values.shape)
        ends = np.cumsum(layer.states.row_counts)[:-1]
        for rows, text in zip(np.split(values, ends), found, strict=True):
            text[layer.layer] = rows
    return found


def test_only_the_layers_and_heads_asked_for_come(client: Client) -> None:
    (row,) = client.forward([TEXT], ["hidden_states", "attentions"], layers=[0, -1], heads=[2, 0], model="bert")
    everything = client.forward([TEXT], ["hidden_states", "attentions"], model="bert")[0]
    assert sorted(row.hidden_states) == [0, LAYERS]
    assert sorted(row.attentions) == [LAYERS]
    close(row.attentions[LAYERS], everything.attentions[LAYERS][[2, 0]])
    assert row.tokens == client.tokenize([TEXT], model="bert")[0].tokens
    assert len(row.offsets) == row.token_count


def test_pooling_spans_of_characters_words_and_tokens(client: Client, checkpoint: Callable[[str], Path]) -> None:
    text = "The quick brown fox jumps over the lazy dog"
    (states,) = client.forward([text], ["last_hidden_state"], model="bert")
    assert states.last_hidden_state is not None
    offsets = np.asarray(states.offsets)
    spans = [(4, 9), (0, len(text)), (10, 19)]
    (vectors,) = client.encode_spans([text], [spans], model="bert", normalize=False)
    for (start, end), vector in zip(spans, vectors, strict=True):
        touched = (offsets[:, 1] > start) & (offsets[:, 0] < end) & (offsets[:, 1] > 0)
        close(vector, states.last_hidden_state[touched].mean(0), 1e-5)
    by_word = client.encode_spans(
        [text, text], [[(1, 2)], [(0, 9), (2, 4)]], unit="words", model="bert", normalize=False
    )
    close(by_word[0][0], vectors[0])
    close(by_word[1], vectors[1:])
    (by_token,) = client.encode_spans([text], [[(0, 1)]], unit="tokens", model="bert", normalize=False)
    close(by_token[0], states.last_hidden_state[0])


def test_a_span_that_touches_nothing_fails_its_text(client: Client) -> None:
    for spans in ([(100, 110)], [(0, 3), (9, 12)]):
        with pytest.raises(InvalidArgument) as caught:
            client.encode_spans(["fox", "The quick"], [[(0, 3)], spans], model="bert")
        assert caught.value.reason == "INVALID_SPAN"


def test_an_output_that_the_model_lacks(client: Client) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        client.forward(["x"], ["pooler_output"], model="electra")
    assert "pooler_output" in caught.value.message


@pytest.mark.parametrize(
    "options",
    [
        {"outputs": ["hidden_states"], "layers": [6]},
        {"outputs": ["hidden_states"], "layers": [-7]},
        {"outputs": ["attentions"], "layers": [1], "heads": [3]},
        {"outputs": ["attentions"], "layers": [1], "heads": [0, -3]},
    ],
)
def test_layers_and_heads_that_are_not_there(client: Client, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        client.forward(["x"], model="bert", **options)


@pytest.fixture(scope="module")
def stuck(
    checkpoint: Callable[[str], Path], new_cache: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Yield a server with one worker of a program that never ends a certain layer for texts of a certain length."""
    cache = new_cache(tmp_path_factory.mktemp("stuck") / "cache")
    compiled = compile_model(checkpoint("bert"), cache=cache)
    plant_faults(compiled, hangs_on=-1, fails_on=-1, stuck_length=STUCK_LENGTH, stuck_layer=STUCK_LAYER)
    options = ("--workers", "1", "--batch-seconds", "600", "--stream-bytes", str(1 << 20), *WAITING)
    with running([f"tiny={checkpoint('bert')}"], *options, cache=cache) as server:
        yield server


def test_layers_arrive_before_higher_ones_are_computed(stuck: Server) -> None:
    """Read the layers up to 3 of a worker that never gets beyond it, and end all by closing the stream."""
    seen = []
    with Client(stuck.address) as client:
        stream = client.stream_layers([[60] * STUCK_LENGTH])
        for event in stream:
            assert isinstance(event, Layer)
            seen.append(event.layer)
            if event.layer == STUCK_LAYER:
                break
        stream.close()
    assert seen == list(range(STUCK_LAYER + 1))
    (worker,) = stuck.workers
    worker.kill()  # it would compute for ever
    eventually(lambda: [other.pid for other in stuck.workers] not in ([], [worker.pid]), "a new worker")


def test_a_reader_that_stalls_stops_the_computation_and_nobody_else(stuck: Server) -> None:
    """Read nothing: no further layer is computed, the server holds little, and other callers are served."""
    with Client(stuck.address) as client, grpc.insecure_channel(stuck.address) as channel:
        eventually(lambda: client.model().live_workers == 1, "the worker")
        ids = types_pb2.TokenIdLists(token_ids=[60] * 500 * 64, lengths=[500] * 64)  # 32,000 tokens, 4.6 MB a layer
        request = encoding_pb2.StreamLayersRequest(inputs=types_pb2.TextBatch(token_ids=ids))
        assert client.encode(["x"]).shape == (1, 36)
        before, (worker,) = stuck.memory(), stuck.workers
        began = worker.cpu_times().user
        call = encoding_pb2_grpc.EncodingServiceStub(channel).StreamLayers(request)
        assert next(call).HasField("started")
        for _ in range(4):
            time.sleep(1)
            assert client.encode(["x"]).shape == (1, 36)
        assert stuck.memory() - before < 24 << 20  # 7 MiB of 27, usually
        spent = worker.cpu_times().user - began
        rows = sum(event.rows.rows.shape[0] for event in call if event.HasField("rows"))
        assert rows == 64 * 500 * (LAYERS + 1)  # once it reads on, all layers come
        assert spent < (worker.cpu_times().user - began) / 2  # for a few layers, usually a seventh


def test_a_worker_killed_between_layers_is_taken_over(stuck: Server, checkpoint: Callable[[str], Path]) -> None:
    ids = [[60 + i % 20 for i in range(300)] for _ in range(20)]
    with Client(stuck.address) as client:
        eventually(lambda: client.model().live_workers == 1, "the worker")
        (expected,) = client.forward([ids[3]], ["hidden_states"])
        seen = 0
        for event in client.stream_layers(ids):
            if isinstance(event, Layer):
                if seen == 5:
                    stuck.workers[0].kill()
                seen += 1
                if event.text_index == 3:
                    close(event.array, expected.hidden_states[event.layer])
    assert seen == 20 * (LAYERS + 1)


def test_texts_that_several_workers_share_have_the_numbers_of_one_pass(
    checkpoint: Callable[[str], Path], compile_cache: Path
) -> None:
    """Send 3,200 tokens to two workers, which take about half of the texts each."""
    texts = [[60 + (index + place) % 20 for place in range(100 + 13 * index)] for index in range(16)]
    with (
        running([f"tiny={checkpoint('bert')}"], "--workers", "2", "--device", "cpu", cache=compile_cache) as server,
        Client(server.address) as client,
    ):
        eventually(lambda: client.model().live_workers == 2, "both workers")
        expected = client.forward(texts, ["hidden_states", "attentions", "pooled"])
        arrived, done = dict[int, list[tuple[int, str]]](), None
        for event in client.stream_layers(texts, ["hidden_states", "attentions", "pooled"]):
            if isinstance(event, Layer):
                arrived.setdefault(event.text_index, []).append((event.layer, event.kind))
                row = expected[event.text_index]
                close(
                    event.array, (row.hidden_states if event.kind == "hidden_states" else row.attentions)[event.layer]
                )
            else:
                done = event
    assert sorted(arrived) == list(range(len(texts)))
    for layers in arrived.values():
        assert layers == sorted(layers, key=lambda each: (each[0], each[1] == "attentions"))
        assert len(layers) == 2 * LAYERS + 1
    assert done is not None
    for ours, theirs in zip(done.outputs, expected, strict=True):
        close(ours.pooled, theirs.pooled)
    spent = done.timings
    assert spent.queue is not None
    assert spent.compute is not None
    assert spent.total is not None
    assert spent.queue + spent.compute < spent.total  # two workers' seconds are not added up


@pytest.fixture(scope="module")
def less_precise(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Yield a server of one checkpoint in two precisions."""
    file = tmp_path_factory.mktemp("less") / "bertstream.toml"
    dtypes = ("bfloat16", "int8")
    file.write_text("\n".join(f'[model.{d}]\nsource = "{checkpoint("bert")}"\ndtype = "{d}"' for d in dtypes))
    options = ("--config", str(file), "--workers", "1", "--device", "cpu")
    with running((), *options, cache=compile_cache) as server:
        yield server


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_less_precision_is_close_and_says_how_close(
    less_precise: Server, checkpoint: Callable[[str], Path], dtype: str
) -> None:
    with Client(less_precise.address) as client:
        model = client.model(dtype)
        assert model.compute_type == dtype
        assert model.precision_test is not None
        assert 0 < model.precision_test.max_abs_difference < 0.2
        assert 0.99 < model.precision_test.min_cosine < 1
        told = f"least cosine of a token's state to float32 {model.precision_test.min_cosine:.5f} on made-up texts"
        assert f"{dtype} (bert, 5 layers, 36 wide, cpu {dtype}, 1 worker of" in less_precise.ready_line
        assert told in less_precise.ready_line
        theirs: Reference = reference(checkpoint("bert"))
        for text in (TEXT, PAIR):
            expected = theirs.encode(text)
            (row,) = client.forward([text], ["hidden_states", "attentions", "pooler_output"])
            for layer, states in row.hidden_states.items():
                exact = expected.hidden_states[layer][0].numpy()
                cosine = (states * exact).sum(-1) / np.linalg.norm(states, axis=-1) / np.linalg.norm(exact, axis=-1)
                assert cosine.min() > 0.995
            for weights in row.attentions.values():
                np.testing.assert_allclose(weights.sum(-1), 1.0, atol=0.02)
