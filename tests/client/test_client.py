"""Both clients against a fake server: unary calls."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

import bertstream.client as sdk
from bertstream.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    EncodeOptions,
    ForwardOptions,
    Health,
    TokenizeOptions,
)
from bertstream.client._encoding.forward_options import forward_options
from bertstream.client._encoding.options import encoding_options, tokenization_options
from bertstream.client._transport.channels import rpc_names
from bertstream.client._transport.sync_transport import CALLS_UNDER_WAY
from bertstream.client._types import Output
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import types_pb2 as types
from tests.client.fake_encodings import HIDDEN, states, vector
from tests.client.fake_server import Code, FakeServer, held, status

pytestmark = pytest.mark.smoke

METHODS = sorted(name for name in dir(Client) if not name.startswith("_") and name != "close")
MIXED: list[Any] = ["a", ("b", "c"), ["d", "e"], [5, 6], "é", np.array([7, 8], np.int64), ("f", ""), []]
MIXED_KEYS = ["text:a", "pair:b|c", "words:d|e", "ids:5,6", "text:é", "ids:7,8", "pair:f|", "words:"]


def test_both_clients_have_the_same_methods() -> None:
    assert sorted(name for name in dir(AsyncClient) if not name.startswith("_") and name != "close") == METHODS
    for name in ["__init__", *METHODS]:
        ours, theirs = inspect.signature(getattr(Client, name)), inspect.signature(getattr(AsyncClient, name))
        assert list(ours.parameters) == list(theirs.parameters), name
        for parameter in ours.parameters.values():
            assert parameter.default == theirs.parameters[parameter.name].default, (name, parameter.name)
        assert name == "__init__" or "timeout" in ours.parameters, name


def test_every_rpc_is_used(server: FakeServer, client: Any, tmp_path: Path) -> None:
    arguments: dict[str, Any] = dict.fromkeys(METHODS, ())
    arguments |= dict.fromkeys((name for name in METHODS if "code" in name or "forward" in name), (["a"],))
    arguments |= {"tokenize": (["a"],), "tokenize_stream": (["a"],), "stream_layers": (["a"],), "detokenize": ([[1]],)}
    arguments |= {"encode_spans": (["a"], [[(0, 1)]]), "load_model": ("tiny", "x"), "unload_model": ("tiny",)}
    arguments |= {"fill_mask": ("[MASK]",), "zero_shot": ("a", ["b"]), "predict_stream": ("classify", ["a"])}
    arguments |= dict.fromkeys(("score_text", "classify", "entities", "encode_sparse"), ("a",))
    arguments |= dict.fromkeys(("next_sentence", "answer"), ("a", "b"))
    arguments |= dict.fromkeys(("rerank", "choose"), ("a", ["b"]))
    arguments |= {"generate": ("a",), "stream_generate": ("a",), "generate_stream": (["a"],), "summarize": ("a",)}
    (tmp_path / "in.txt").write_text("a\n")
    files = [name for name in METHODS if name.endswith("_file")]
    arguments |= {name: (tmp_path / "in.txt", tmp_path / f"{name}.jsonl") for name in files}
    arguments["predict_file"] = ("classify", *arguments["predict_file"])
    server.does.model.heads.append("sequence_to_sequence")
    for name in METHODS:
        result = getattr(client, name)(*arguments[name])
        if "stream" in name:
            assert len(list(result)) == {"stream_layers": 4, "stream_generate": 5}.get(name, 1)
    assert server.seen.rpcs.keys() == {*rpc_names(), "Check"}


TEXT_OPTIONS: dict[str, Any] = {
    "model": "tiny", "max_length": 9, "truncation": False, "truncation_side": "left", "add_special_tokens": False,
}  # fmt: skip
VECTOR_OPTIONS: dict[str, Any] = {
    **TEXT_OPTIONS, "pooling": "max", "normalize": True, "layer_combination": "sum", "dimensions": 3, "prompt": "",
    "prompt_name": "query", "wire_type": "int8", "priority": "bulk", "kind": "query",
}  # fmt: skip
MAKERS: dict[Any, tuple[Any, dict[str, Any]]] = {  # the message of options, and a value other than the default for each
    EncodeOptions: (
        encoding_options,
        {**VECTOR_OPTIONS, "layers": [1, -1], "long_texts": "windows", "stride": 3, "window_pooling": "max"},
    ),
    TokenizeOptions: (
        tokenization_options,
        {**TEXT_OPTIONS, "overflow": True, "stride": 3, "offset_unit": "utf8_bytes", "columns": ["tokens"]},
    ),
    ForwardOptions: (
        partial(forward_options, ["hidden_states", "attentions"]),
        {
            **VECTOR_OPTIONS,
            "layers": 1,
            "attention_layers": 2,
            "heads": [0],
            "pooling_layers": 1,
            "offset_unit": "utf8_bytes",
        },
    ),
}


@pytest.mark.parametrize("documented", MAKERS)
def test_documented_options_are_the_real_ones(documented: Any) -> None:
    make, values = MAKERS[documented]
    assert set(get_type_hints(documented)) - {"span_unit"} == set(values)
    assert [name for name, value in values.items() if make(**{name: value}) == make()] == []
    with pytest.raises(TypeError, match="unexpected keyword argument 'pool'"):
        make(pool="max")


def test_exports_are_sorted_and_there() -> None:
    assert sdk.__all__ == sorted(sdk.__all__, key=lambda name: (not name.isupper(), name))  # in the order of the linter
    assert all(hasattr(sdk, name) for name in sdk.__all__)


PUBLIC_CLASSES = [public for name in sdk.__all__ if isinstance(public := getattr(sdk, name), type)]


@pytest.mark.parametrize("public", PUBLIC_CLASSES, ids=lambda public: public.__name__)
def test_public_classes_are_found_where_they_say(public: type) -> None:
    assert getattr(sys.modules[public.__module__], public.__name__) is public
    if issubclass(public, sdk.BertstreamError | sdk.Client | sdk.AsyncClient):
        assert public.__module__ == "bertstream.client"
    else:
        assert isinstance(get_type_hints(public), dict)


def test_models(client: Any) -> None:
    (model,) = client.models()
    assert model == client.model() == client.model("tiny")
    assert (model.name, model.layers, model.hidden_size, model.compute_type) == ("tiny", 2, HIDDEN, "float32")
    assert model.default_pooling == sdk.Pooling("mean", (-1,), "mean", True, 0)
    assert model.special_tokens == {"cls": sdk.SpecialToken("[CLS]", 1)}
    assert model.outputs == get_args(Output)
    assert model.precision_test == sdk.PrecisionTest(0.25, 0.5)
    assert model.limits == sdk.Limits(128, 1 << 21, 1 << 22, sdk.StreamWindow(256, 0))
    assert (model.prompts, model.heads, model.warnings) == ({"query": "query: "}, ("fill_mask",), ("tiny",))
    assert (model.labels, model.generation) == (("negative", "neutral", "positive"), None)
    assert client.server_version() == "1.2.3"


def test_loading_and_unloading(server: FakeServer, client: Any) -> None:
    assert client.model().name == "tiny"
    model = client.load_model("mine", "my-bert", dtype="bfloat16", workers=3)
    assert (model.name, model.compute_type) == ("mine", "bfloat16")
    request = server.seen.requests[-1]
    assert (request.source, request.compute_type, request.workers) == ("my-bert", types.DATA_TYPE_BFLOAT16, 3)
    assert not request.allow_unsupported_modules
    client.load_model("mine", "my-bert", allow_unsupported_modules=True)
    assert server.seen.requests[-1].allow_unsupported_modules
    for dtype, value in (("int8", types.DATA_TYPE_INT8), ("fp8", types.DATA_TYPE_FP8)):
        assert client.load_model("mine", "my-bert", dtype=dtype).compute_type == dtype
        assert server.seen.requests[-1].compute_type == value
    assert (server.seen.deadlines[-1] or 1e9) > 1e8  # the client's 60 seconds do not apply here
    client.encode([], model="mine")
    with pytest.raises(sdk.NotFound):
        client.encode([], model="tiny")
    client.unload_model("mine", timeout=30)
    assert 10 < (server.seen.deadlines[-1] or 0) < 31
    with pytest.raises(sdk.NotFound):
        client.unload_model("other")
    with pytest.raises(ValueError, match="dtype must be one of"):
        client.load_model("a", "b", dtype="float64")


def test_what_was_known_of_a_model_is_forgotten_when_it_is_replaced(server: FakeServer, client: Any) -> None:
    assert client.encode([]).shape == (0, HIDDEN)
    server.does.model.hidden_size = 5
    client.load_model("tiny", "other")
    assert client.encode([]).shape == (0, 5)


@pytest.mark.parametrize("rpc", ["load_model", "unload_model"])
def test_what_changes_the_server_is_not_tried_again(server: FakeServer, client: Any, rpc: str) -> None:
    server.does.failures.append(status(Code.UNAVAILABLE, "gone"))
    with pytest.raises(sdk.Unavailable):
        getattr(client, rpc)(*("tiny", "x")[: 2 if rpc == "load_model" else 1])
    assert sum(server.seen.rpcs[name] for name in ("LoadModel", "UnloadModel")) == 1


def test_a_server_without_a_precision_test(server: FakeServer, client: Any) -> None:
    server.does.model.ClearField("precision_test")
    assert client.model().precision_test is None


def test_health(server: FakeServer, client: Any) -> None:
    assert client.health() is Health.SERVING
    assert client.health("tiny")
    server.does.health = 2
    assert client.health() is Health.NOT_SERVING
    assert not client.health()
    assert client.health("other") is Health.SERVICE_UNKNOWN


def test_encode_takes_every_kind_and_keeps_the_order(client: Any) -> None:
    vectors = client.encode(MIXED)
    np.testing.assert_array_equal(vectors, [vector(key) for key in MIXED_KEYS])
    assert vectors.dtype == np.float32
    vectors += 1  # the array belongs to the caller


def test_encode_one_text(client: Any) -> None:
    np.testing.assert_array_equal(client.encode("hello"), vector("text:hello"))
    np.testing.assert_array_equal(client.encode(("a", "b") for _ in range(1)), [vector("pair:a|b")])


def test_encode_tokens(client: Any) -> None:
    (tokens,) = client.tokenize("x", max_length=4)
    np.testing.assert_array_equal(client.encode(tokens), vector("ids:1/0,116/0,101/0,2/0"))


@pytest.mark.parametrize(("dtype", "wire"), [(np.float32, None), (np.float16, "float16")])
def test_encode_no_texts(client: Any, dtype: Any, wire: Any) -> None:
    vectors = client.encode([], wire_type=wire, layers=[0, 1], layer_combination="concatenate")
    assert (vectors.shape, vectors.dtype) == ((0, 2 * HIDDEN), dtype)
    assert client.encode([], dimensions=3).shape == (0, 3)


def test_the_width_of_vectors(server: FakeServer, client: Any) -> None:
    assert client.model().vector_size == HIDDEN
    server.does.model.default_pooling.dimensions = 5
    assert client.model().vector_size == 5
    assert client.encode([]).shape == (0, 5)
    assert client.encode([], pooling="cls").shape == (0, HIDDEN)  # 5 dimensions are for the checkpoint's own mode
    assert client.encode([], pooling="checkpoint").shape == (0, 5)


def test_vectors_that_are_wider_than_states(server: FakeServer, client: Any) -> None:
    """Vectors may be wider than states if several poolings are concatenated."""
    pooling = server.does.model.default_pooling
    pooling.mode, pooling.dimensions = encoding.POOLING_MODE_CHECKPOINT, 3 * HIDDEN
    server.does.model.pooling_steps.extend(["cls + mean + max pooling"])
    model = client.model()
    assert (model.default_pooling.mode, model.vector_size) == ("checkpoint", 3 * HIDDEN)
    assert model.pooling_steps == ("cls + mean + max pooling",)
    for asked in ({}, {"pooling": "checkpoint"}, {"normalize": True}):
        assert client.encode([], **asked).shape == (0, 3 * HIDDEN)
    assert client.encode([], dimensions=2 * HIDDEN).shape == (0, 2 * HIDDEN)
    assert client.encode([], pooling="mean").shape == (0, HIDDEN)


def test_encode_many_texts(server: FakeServer, client: Any) -> None:
    texts = [f"t{i}" if i % 3 else ["w", str(i)] for i in range(1000)]
    keys = [f"text:t{i}" if i % 3 else f"words:w|{i}" for i in range(1000)]
    np.testing.assert_array_equal(client.encode(texts), [vector(key) for key in keys])
    assert server.seen.rpcs["GetModel"] == 1
    requests = [request for request in server.seen.requests if isinstance(request, encoding.EncodeTextsRequest)]
    assert len(requests) == 3 + 6  # 334 lists of words and 666 texts, at most 128 a message
    client.encode(texts)
    assert server.seen.rpcs["GetModel"] == 1


def test_messages_are_cut_by_bytes_and_by_what_an_answer_may_have(server: FakeServer, client: Any) -> None:
    client.encode(["x" * 400_000] * 5)
    assert server.seen.rpcs["EncodeTexts"] == 3
    server.does.model.limits.max_response_bytes = 20 * (4 * 3 * HIDDEN + 64)
    client.encode(["a"] * 100, model="tiny", layers=[0, 1, 2], layer_combination="concatenate")
    assert server.seen.rpcs["EncodeTexts"] == 3 + 5


def test_options_arrive(server: FakeServer, client: Any) -> None:
    client.encode(
        ["a"], model="tiny", pooling="mean_sqrt_len", normalize=False, layers=-2, layer_combination="sum", dimensions=4,
        prompt="", wire_type="bfloat16", max_length=9, truncation=False, truncation_side="left",
        add_special_tokens=False, priority="bulk",
    )  # fmt: skip
    expected = encoding.EncodingOptions(
        model="tiny", prompt="", add_special_tokens=False,
        data_type=types.DATA_TYPE_BFLOAT16, priority=types.PRIORITY_BULK,
        pooling=encoding.PoolingOptions(
            mode=encoding.POOLING_MODE_MEAN_SQRT_LEN, normalize=False, layers=[-2], dimensions=4,
            layer_combination=encoding.LAYER_COMBINATION_SUM,
        ),
        truncation=types.TruncationOptions(
            strategy=types.TRUNCATION_STRATEGY_REFUSE, side=types.TRUNCATION_SIDE_LEFT, max_length=9
        ),
    )  # fmt: skip
    assert server.seen.requests[-1].options == expected
    client.encode(["a"])
    assert server.seen.requests[-1].options == encoding.EncodingOptions()


@pytest.mark.parametrize("wire", ["float32", "float16", "bfloat16", "int8"])
def test_wire_types(client: Any, wire: Any) -> None:
    vectors = client.encode(["hello", "you"], wire_type=wire)
    np.testing.assert_allclose(vectors, [vector("text:hello"), vector("text:you")], atol=1.0 if wire == "int8" else 0)
    assert vectors.dtype == (np.float16 if wire == "float16" else np.float32)


@pytest.mark.parametrize("split", [0, 3])
def test_forward(server: FakeServer, client: Any, split: int) -> None:
    server.does.split_rows, server.does.reverse = split, True
    outputs = client.forward(MIXED, ("pooled", "pooler_output", "last_hidden_state"))
    for output, key in zip(outputs, MIXED_KEYS, strict=True):
        assert output.token_count == len(key)
        np.testing.assert_array_equal(output.pooled, vector(key))
        np.testing.assert_array_equal(output.pooler_output, -vector(key))
        np.testing.assert_array_equal(output.last_hidden_state, states(key))


def test_forward_gives_only_what_was_asked_for(client: Any) -> None:
    (output,) = client.forward("a", ["last_hidden_state"])
    assert output.pooled is None
    assert output.last_hidden_state.shape == (6, HIDDEN)
    assert client.forward([]) == []


def test_tokenize(client: Any) -> None:
    tokens = client.tokenize(["ab", ("c", "d")])
    assert [row.text_index for row in tokens] == [0, 1]
    assert tokens[0].token_ids.tolist() == [1, *map(ord, "text:ab"), 2]
    assert tokens[0].tokens == ["[CLS]", *"text:ab", "[SEP]"]
    assert tokens[0].offsets[:3].tolist() == [[0, 0], [0, 1], [1, 2]]
    assert tokens[0].special_tokens_mask.tolist() == [True, *[False] * 7, True]
    assert tokens[0].word_ids.tolist() == [-1, 0, 1, 2, 3, 4, 5, 6, -1]
    assert tokens[0].sequence_ids.tolist() == [-1, *[0] * 7, -1]
    assert len(tokens[1]) == 10
    assert client.tokenize([]) == []


def test_tokenize_windows_of_a_mixed_list_cut_into_messages(client: Any) -> None:
    texts = ["aaaa" if i % 2 else ["bb", "b"] for i in range(300)]
    tokens = client.tokenize(texts, max_length=6, overflow=True)
    assert [row.text_index for row in tokens] == [i for i in range(300) for _ in range(3)]
    assert all(len(row) <= 6 for row in tokens)


def test_detokenize(client: Any) -> None:
    ids: list[Any] = [[1, 5, 2], [], np.array([7]), client.tokenize("x", max_length=3)[0]]
    assert client.detokenize(ids) == ["1 5 2", "", "7", "1 116 2"]
    assert client.detokenize(ids, skip_special_tokens=True) == ["5", "", "7", "116"]
    assert client.detokenize([[i] for i in range(500)]) == [str(i) for i in range(500)]


def test_timeouts(server: FakeServer, client: Any, connect: Any) -> None:
    with pytest.raises(DeadlineExceeded, match="the timeout passed") as caught:
        client.encode(["a"], timeout=1e-6)
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    server.does.stall = threading.Event()
    with pytest.raises(DeadlineExceeded, match="the timeout passed") as caught:
        client.encode(["a"], timeout=0.1)
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    server.does.stall.set()
    client.encode(["a"], timeout=300)
    assert 200 < (server.seen.deadlines[-1] or 0) < 301
    client.encode(["a"])
    assert 10 < (server.seen.deadlines[-1] or 0) < 61
    connect(server.address, timeout=None).encode(["a"])
    assert (server.seen.deadlines[-1] or 1e9) > 1e8


def test_metadata_is_sent(server: FakeServer, connect: Any) -> None:
    connect(server.address, metadata=[("authorization", "Bearer key")]).models()
    assert server.seen.metadata["authorization"] == "Bearer key"
    assert server.seen.metadata["user-agent"].startswith("bertstream-python/")


def test_calls_under_way_spread_over_channels(server: FakeServer, connect: Any) -> None:
    with held(server, until=lambda: len(server.seen.peers) == 3):
        connect(server.address, channels=3).encode([f"t{i}" for i in range(1280)])
    assert len(server.seen.peers) == 3


def test_several_calls_are_under_way_but_not_too_many(server: FakeServer, client: Any) -> None:
    seen: list[int] = []

    def all_are_there() -> bool:
        if server.seen.rpcs["EncodeTexts"] < CALLS_UNDER_WAY:
            return False
        time.sleep(0.1)  # in which another one would come
        seen.append(server.seen.rpcs["EncodeTexts"])
        return True

    with held(server, until=all_are_there):
        client.encode([f"t{i}" for i in range(128 * 6)])
    assert seen == [CALLS_UNDER_WAY]
    assert server.seen.rpcs["EncodeTexts"] == 6


def test_a_closed_client_says_so(server: FakeServer, connect: Any) -> None:
    client = connect(server.address)
    client.models()
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.models()
    with pytest.raises(ValueError, match="closed"):
        list(client.encode_stream(["a"]))


@pytest.mark.parametrize(
    "arguments",
    [{"channels": 0}, {"retries": 5}, {"retries": -1}, {"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}],
    ids=lambda arguments: str(arguments),
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_wrong_settings(kind: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        kind(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"channels": "4"}, {"retries": 1.5}, {"timeout": "60"}, {"timeout": True}, {"reconnect_seconds": "30"}],
    ids=str,
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_settings_of_other_types(kind: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(arguments))):
        kind(**arguments)
