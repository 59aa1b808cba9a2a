"""Both clients against a fake server: arguments that are refused by their names, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertstream.client import InvalidArgument
from tests.client.fake_server import FakeServer

pytestmark = pytest.mark.smoke

CALLS: dict[str, Callable[..., Any]] = {
    "encode": lambda client, **given: client.encode("a", **given),
    "encode_windows": lambda client, **given: client.encode_windows("a", **given),
    "encode_spans": lambda client, **given: client.encode_spans("a", [[(0, 1)]], **given),
    "encode_multi": lambda client, **given: client.encode_multi("a", **given),
    "encode_stream": lambda client, **given: list(client.encode_stream(["a"], **given)),
    "forward": lambda client, **given: client.forward("a", **{"outputs": ["pooled"], **given}),
    "forward_stream": lambda client, **given: list(client.forward_stream(["a"], **given)),
    "stream_layers": lambda client, **given: list(client.stream_layers("a", **given)),
    "tokenize": lambda client, **given: client.tokenize("a", **given),
    "tokenize_stream": lambda client, **given: list(client.tokenize_stream(["a"], **given)),
    "detokenize": lambda client, **given: client.detokenize([[1]], **given),
    "classify": lambda client, **given: client.classify("a", **given),
    "predict_stream": lambda client, **given: list(client.predict_stream("classify", ["a"], **given)),
    "rerank": lambda client, **given: client.rerank(**{"query": "a", "documents": ["b"], **given}),
    "entities": lambda client, **given: client.entities("a", **given),
    "answer": lambda client, **given: client.answer("a", "b", **given),
    "fill_mask": lambda client, **given: client.fill_mask("[MASK]", **given),
    "zero_shot": lambda client, **given: client.zero_shot("a", ["b"], **given),
    "encode_sparse": lambda client, **given: client.encode_sparse("a", **given),
    "generate": lambda client, **given: client.generate("a", **given),
    "stream_generate": lambda client, **given: list(client.stream_generate("a", **given)),
    "generate_stream": lambda client, **given: list(client.generate_stream(["a"], **given)),
    "model": lambda client, **given: client.model(**given),
    "load_model": lambda client, **given: client.load_model(**{"name": "a", "source": "b", **given}),
    "unload_model": lambda client, **given: client.unload_model(**{"name": "a", **given}),
    "health": lambda client, **given: client.health(**given),
}
REPORTED = [name for name in CALLS if name not in ("detokenize", "model", "load_model", "unload_model", "health")]
WRONG: list[tuple[str, type[Exception], dict[str, Any]]] = [
    *((name, TypeError, {"report": 5}) for name in REPORTED),
    *((name, TypeError, {"timeout": "5"}) for name in CALLS),
    *((name, ValueError, {"timeout": float("nan")}) for name in CALLS),
    *((name, ValueError, {"timeout": -1}) for name in CALLS),
    *((name, TypeError, {"model": 5}) for name in (*REPORTED, "detokenize")),
    *((name, ValueError, {"priority": np.array(["bulk", "bulk"])}) for name in ("encode", "forward", "generate")),
    *((name, TypeError, {"max_length": "5"}) for name in ("encode", "tokenize", "classify", "answer", "generate")),
    *((name, ValueError, {"max_length": 2**40}) for name in ("encode", "tokenize", "classify", "answer", "generate")),
    *((name, TypeError, {"progress": 5}) for name in ("encode_stream", "predict_stream", "generate_stream")),
    *((name, TypeError, {"batch_size": "5"}) for name in ("encode_stream", "predict_stream", "generate_stream")),
    *((name, TypeError, {"ordered": "no"}) for name in ("encode_stream", "predict_stream", "generate_stream")),
    *(("encode", TypeError, given) for given in ({"dimensions": "2"}, {"prompt": 5}, {"normalize": "yes"})),
    *(("encode", TypeError, given) for given in ({"layers": [True]}, {"layers": 1.0}, {"stride": "1"})),
    ("encode", TypeError, {"add_special_tokens": "yes"}),
    ("forward", TypeError, {"outputs": ["attentions"], "heads": np.array([0.0])}),
    ("forward", TypeError, {"pooling_layers": ["last"]}),
    ("forward", TypeError, {"outputs": 5}),
    ("tokenize", TypeError, {"overflow": "no"}),
    ("tokenize", TypeError, {"columns": 5}),
    ("detokenize", TypeError, {"skip_special_tokens": "no"}),
    ("classify", TypeError, {"top_k": "5"}),
    ("rerank", TypeError, {"label": 5}),
    ("rerank", InvalidArgument, {"query": "\ud800"}),
    ("encode", InvalidArgument, {"prompt": "\ud800"}),
    ("entities", TypeError, {"threshold": "high"}),
    ("entities", TypeError, {"windows": True, "stride": 1.5}),
    ("answer", TypeError, {"allow_no_answer": "yes"}),
    ("fill_mask", TypeError, {"sequences": "no"}),
    ("zero_shot", TypeError, {"template": 5}),
    ("encode_sparse", TypeError, {"tokens": "no"}),
    ("generate", TypeError, {"do_sample": "yes"}),
    ("generate", TypeError, {"eos_token_ids": np.array([1.5])}),
    ("generate", ValueError, {"early_stopping": np.array(["a", "b"])}),
    ("model", TypeError, {"name": 5}),
    *(("load_model", TypeError, given) for given in ({"name": 5}, {"source": 5}, {"workers": "2"})),
    ("unload_model", TypeError, {"name": 5}),
    ("health", TypeError, {"service": 5}),
]


@pytest.mark.parametrize(("name", "error", "given"), WRONG, ids=str)
def test_wrong_arguments_are_named(
    server: FakeServer, client: Any, name: str, error: type[Exception], given: dict[str, Any]
) -> None:
    with pytest.raises(Exception, match=list(given)[-1]) as caught:
        CALLS[name](client, **given)
    assert isinstance(caught.value, error)
    assert not server.seen.requests


@pytest.mark.parametrize("layers", [np.array([0]), np.int64(0), (0,), range(1), {0}, np.array(0)], ids=repr)
def test_lists_of_numbers_of_any_kind(server: FakeServer, client: Any, layers: Any) -> None:
    np.testing.assert_array_equal(client.encode("a", layers=layers), client.encode("a", layers=0))
    assert list(server.seen.requests[0].options.pooling.layers) == [0]
    (outputs,) = client.forward("a", ["hidden_states", "attentions"], layers=np.array([0, 1]), heads=layers)
    assert (list(outputs.hidden_states), list(outputs.attentions), outputs.heads) == ([0, 1], [1], (0,))
    client.generate("a", eos_token_ids=layers)
    assert list(server.seen.requests[-1].options.eos_token_ids) == [0]
    client.fill_mask("[MASK]", targets=np.array([3, 4]))
    assert list(server.seen.requests[-1].options.target_ids) == [3, 4]


def test_names_in_arrays(server: FakeServer, client: Any) -> None:
    (outputs,) = client.forward("a", np.array(["hidden_states", "pooled"]))
    assert outputs.pooled is not None
    client.tokenize("a", columns=np.array(["tokens", "offsets"]))
    assert len(server.seen.requests[-1].options.outputs) == 2


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("timeout", [float("inf"), 10**400], ids=["inf", "10**400"])
def test_endless_timeouts(server: FakeServer, client: Any, name: str, timeout: Any) -> None:
    arguments = {"name": "tiny"} if name == "unload_model" else {}
    CALLS[name](client, timeout=timeout, **arguments)
    assert (server.seen.deadlines[-1] or 1e9) > 9e7  # gRPC sends 27,000 hours at most


def test_an_endless_timeout_of_a_client(server: FakeServer, connect: Any) -> None:
    connect(server.address, timeout=float("inf")).encode("a")
    assert (server.seen.deadlines[-1] or 1e9) > 9e7  # gRPC sends 27,000 hours at most


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("encode", "encode_windows"),
        ("encode_stream", "encode_windows"),
        ("encode_spans", "encode_windows"),
        ("classify", "'mean', 'max', 'weighted'"),
        ("predict_stream", "'mean', 'max', 'weighted'"),
        ("rerank", "'mean', 'max', 'weighted'"),
    ],
)
def test_windows_are_pooled(server: FakeServer, client: Any, name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"window_pooling must .*{hint}"):
        CALLS[name](client, long_texts="windows", window_pooling="none")
    assert not server.seen.requests
    assert len(client.encode_windows("a", window_pooling="none")) == 1


def test_wire_types_are_those_of_tensors(client: Any) -> None:
    with pytest.raises(ValueError, match="one of 'float32', 'float16', 'bfloat16', 'int8', not 'fp8'"):
        client.encode("a", wire_type="fp8")


def test_spans_of_a_single_text_are_a_list_of_their_own(client: Any) -> None:
    with pytest.raises(TypeError, match=r"one list of \(start, end\) a text, such as \[\[\(0, 3\)\]\] for one text"):
        client.encode_spans("abc", [(0, 1)])
    with pytest.raises(TypeError, match=r"spans must be a list of \(start, end\) for each text, not 5"):
        client.encode_spans("abc", 5)
    with pytest.raises(ValueError, match=r"^unit must be one of"):
        client.encode_spans("abc", [[(0, 1)]], unit="lines")


@pytest.mark.parametrize("stride", [0, 1, np.int64(0)], ids=repr)
def test_a_stride_asks_for_windows(server: FakeServer, client: Any, stride: Any) -> None:
    client.tokenize("a", max_length=4, stride=stride)
    options = server.seen.requests[-1].options
    assert (options.overflowing_windows, options.stride) == (True, stride)
    client.tokenize("a", max_length=4, stride=None)
    assert not server.seen.requests[-1].options.overflowing_windows
