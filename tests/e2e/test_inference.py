"""Calls by the Open Inference Protocol get the numbers of our own protocol, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray

from bertstream.client import Client
from bertstream.server.protocols.inference import inference_pb2 as pb
from tests.support.inference import InferenceCalls, outputs_of, raw_strings, request_of

TEXTS = ["The quick brown fox", "jumps over the lazy dog", "A model server answers questions"]
MINI, BERT = "all-MiniLM-L6-v2", "bert-base-uncased"
QUESTION, CONTEXT = "Who jumps?", "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def client(documented: str) -> Iterator[Client]:
    with Client(documented) as opened:
        yield opened


@pytest.fixture(scope="module")
def calls(documented: str) -> Iterator[InferenceCalls]:
    with grpc.insecure_channel(documented) as channel:
        yield InferenceCalls(channel)


@pytest.fixture(scope="module")
def outputs(calls: InferenceCalls) -> Callable[..., dict[str, Any]]:
    return lambda *arguments, **options: outputs_of(calls.infer(request_of(*arguments, **options)))


def same(given: Any, ours: Any) -> None:
    """Assert that the numbers are the very same ones."""
    np.testing.assert_array_equal(given, np.asarray(ours))


def refused(call: Callable[..., Any], *arguments: Any) -> tuple[str, str, str]:
    """Return the status, the reason and the message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call(*arguments)
    error: Any = raised.value
    trailers: dict[str, Any] = dict(error.trailing_metadata())
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(info)
    return error.code().name, info.reason, error.details()


def padded(rows: list[NDArray[Any]]) -> NDArray[Any]:
    width = max(map(len, rows))
    return np.stack([np.pad(row, [(0, width - len(row)), *[(0, 0)] * (row.ndim - 1)]) for row in rows])


# Vectors, states, weights


def test_vectors_and_their_tokens(calls: InferenceCalls, client: Client) -> None:
    response = calls.infer(request_of(MINI, text=TEXTS, id="seven"))
    assert (response.model_name, response.model_version, response.id) == (MINI, "1", "seven")
    found = outputs_of(response)
    assert list(found) == ["embeddings", "token_count"]
    same(found["embeddings"], client.encode(TEXTS))
    counts = [len(each.token_ids) for each in client.tokenize(TEXTS)]
    assert found["token_count"].tolist() == [[count] for count in counts]


def test_typed_contents_of_one_dimension(calls: InferenceCalls, client: Client) -> None:
    request = pb.ModelInferRequest(model_name=MINI)
    request.inputs.add(name="inputs", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(
        text.encode() for text in TEXTS[:2]
    )
    same(outputs_of(calls.infer(request))["embeddings"], client.encode(TEXTS[:2]))


def test_the_default_model(outputs: Callable[..., Any], client: Client) -> None:
    same(outputs(text=TEXTS)["embeddings"], client.encode(TEXTS))


@pytest.mark.parametrize(
    ("parameters", "ours"),
    [
        ({"normalize": False}, {"normalize": False}),
        ({"dimensions": 8}, {"dimensions": 8}),
        ({"pooling": "cls", "normalize": True}, {"pooling": "cls", "normalize": True}),
        ({"prompt": "query: "}, {"prompt": "query: "}),
        ({"input_type": "query"}, {}),
        ({"truncate": "END", "max_length": 4}, {"max_length": 4}),
        ({"truncate": "START", "max_length": 4}, {"max_length": 4, "truncation_side": "left"}),
        ({"truncate": True, "max_length": 4}, {"max_length": 4}),
        ({"truncation_side": "left", "max_length": 4}, {"max_length": 4, "truncation_side": "left"}),
        ({"priority": 2, "timeout": 60_000_000}, {}),
        ({"priority": "bulk", "embedding_type": "float"}, {}),
    ],
    ids=str,
)
def test_options(outputs: Callable[..., Any], client: Client, parameters: Any, ours: Any) -> None:
    same(outputs(MINI, text=TEXTS, parameters=parameters)["embeddings"], client.encode(TEXTS, **ours))


def test_half_precision(outputs: Callable[..., Any], client: Client) -> None:
    found = outputs(MINI, text=TEXTS, parameters={"data_type": "float16"})["embeddings"]
    assert found.dtype == np.float16
    same(found, client.encode(TEXTS, wire_type="float16"))


def test_all_that_is_inside(outputs: Callable[..., Any], client: Client) -> None:
    names = ["last_hidden_state", "pooler_output", "hidden_states.0", "hidden_states.1", "attentions.1"]
    tokens = ["input_ids", "attention_mask", "token_type_ids", "offsets"]
    found = outputs(BERT, [*names, *tokens], text=TEXTS)
    ours: list[Any] = client.forward(
        TEXTS, ["last_hidden_state", "pooler_output", "hidden_states", "attentions"], model=BERT
    )
    same(found["last_hidden_state"], padded([each.last_hidden_state for each in ours]))
    same(found["pooler_output"], np.stack([each.pooler_output for each in ours]))
    for layer in (0, 1):
        same(found[f"hidden_states.{layer}"], padded([each.hidden_states[layer] for each in ours]))
    for row, each in enumerate(ours):
        length = len(each.last_hidden_state)
        same(found["attentions.1"][row, :, :length, :length], each.attentions[1])
        assert not found["attentions.1"][row, :, length:].any()
    told = client.tokenize(TEXTS, model=BERT)
    same(found["input_ids"], padded([np.asarray(each.token_ids) for each in told]))
    same(found["attention_mask"], padded([np.ones(len(each.token_ids), int) for each in told]))
    assert found["offsets"][0, 1].tolist() == [0, 3]


@pytest.mark.parametrize("dtype", ["<i8", "<i4"])
def test_token_ids(outputs: Callable[..., Any], client: Client, dtype: str) -> None:
    told = client.tokenize(TEXTS, model=BERT)
    ids = np.pad(padded([np.asarray(each.token_ids) for each in told]), [(0, 0), (0, 2)]).astype(dtype)
    mask = (np.arange(ids.shape[1]) < np.array([[len(each.token_ids)] for each in told])).astype(dtype)
    names = ["embeddings", "last_hidden_state", "token_count"]
    found = outputs(BERT, names, input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids))
    same(found["embeddings"], client.encode(TEXTS, model=BERT))
    assert found["last_hidden_state"].shape[:2] == ids.shape  # as a model of padded texts has it
    assert found["token_count"].ravel().tolist() == mask.sum(1).tolist()


# Heads


def test_labels_of_texts_and_pairs(outputs: Callable[..., Any], client: Client) -> None:
    labels = client.model("nli").labels
    for inputs, ours in (
        ({"text": TEXTS}, client.classify(TEXTS, model="nli")),
        ({"text": TEXTS[:1], "text_pair": TEXTS[1:2]}, [client.classify((TEXTS[0], TEXTS[1]), model="nli")]),
    ):
        found = outputs("nli", **inputs)
        assert found["label"] == [[each[0].label] for each in ours]
        by_name = [{label.label: label.score for label in each} for each in ours]
        same(found["scores"], np.array([[each[label] for label in labels] for each in by_name], np.float32))
    logits = outputs("nli", ["logits"], text=TEXTS)["logits"]
    same(outputs("nli", ["scores"], text=TEXTS, parameters={"function": "none"})["scores"], logits)


def test_the_best_labels(calls: InferenceCalls, client: Client) -> None:
    request = request_of("nli", ["scores"], text=TEXTS)
    request.outputs[0].parameters["classification"].int64_param = 2
    found = outputs_of(calls.infer(request))["scores"]
    labels = client.model("nli").labels
    for row, ours in zip(found, client.classify(TEXTS, model="nli"), strict=True):
        assert row == [f"{each.score:f}:{labels.index(each.label)}:{each.label}" for each in ours[:2]]


def test_relevance_of_documents_to_one_query(outputs: Callable[..., Any], client: Client) -> None:
    found = outputs("reranker", text=[QUESTION], text_pair=TEXTS)
    assert list(found) == ["scores"]
    ours = sorted(client.rerank(QUESTION, TEXTS, model="reranker"), key=lambda each: each.index)
    same(found["scores"], np.array([[each.score] for each in ours], np.float32))


def test_labels_of_tokens(outputs: Callable[..., Any], client: Client) -> None:
    found = outputs("ner", ["scores", "token_count", "offsets"], text=TEXTS)
    ours = client.entities(TEXTS, model="ner", aggregation="none", ignored_labels=[])
    labels = client.model("ner").labels
    for row, entities in enumerate(ours):
        for entity in entities:
            scores = found["scores"][row, entity.token_index]
            assert labels[int(scores.argmax())] == entity.label
            assert float(scores.max()) == np.float32(entity.score)
            assert found["offsets"][row, entity.token_index].tolist() == [entity.start, entity.end]


def test_candidates_for_masks(outputs: Callable[..., Any], client: Client) -> None:
    masked = [f"{text} [MASK]" for text in TEXTS]
    found = outputs(BERT, ["mask_tokens", "mask_token_ids", "mask_scores"], text=masked, parameters={"top_k": 3})
    ours = [masks[0] for masks in client.fill_mask(masked, model=BERT, top_k=3)]
    assert found["mask_tokens"] == [[each.token for each in candidates] for candidates in ours]
    assert found["mask_token_ids"].tolist() == [[each.token_id for each in candidates] for candidates in ours]
    same(found["mask_scores"], np.array([[each.score for each in candidates] for candidates in ours], np.float32))


def test_answers(outputs: Callable[..., Any], client: Client) -> None:
    found = outputs("qa", text=[QUESTION], text_pair=[CONTEXT], parameters={"top_k": 2})
    ours = client.answer(QUESTION, CONTEXT, model="qa", top_k=2)
    assert found["answers"] == [[each.text for each in ours]]
    same(found["answer_scores"], np.array([[each.score for each in ours]], np.float32))
    assert found["answer_starts"].tolist() == [[each.start for each in ours]]
    assert found["answer_ends"].tolist() == [[each.end for each in ours]]


# What is wrong


def changed(**changes: Any) -> pb.ModelInferRequest:
    """Return a good request with one thing changed."""
    request = request_of(MINI, text=TEXTS)
    for name, value in changes.items():
        setattr(request.inputs[0], name, value)
    return request


def with_raw(raw: bytes, texts: int) -> pb.ModelInferRequest:
    request = request_of(MINI)
    request.inputs.add(name="text", datatype="BYTES", shape=[texts])
    request.raw_input_contents.append(raw)
    return request


IDS = np.array([[101, 102]])
WRONG: list[tuple[pb.ModelInferRequest, str, str]] = [
    (request_of(MINI), "INVALID_TENSOR", "inputs: neither text nor input_ids is among them"),
    (changed(name="texts"), "INVALID_TENSOR", "texts: there is no such input; there are text, inputs, text_pair"),
    (changed(datatype="FP32"), "INVALID_TENSOR", "text: its type is 'FP32', and must be BYTES"),
    (with_raw(raw_strings(["a"]), 2), "INVALID_TENSOR", "text: it has 1 elements, and its shape [2] asks for 2"),
    (with_raw(raw_strings(["a", "b"]), 1), "INVALID_TENSOR", "text: it has 5 bytes more than the elements"),
    (with_raw(b"\x05\0\0\0abc", 1), "INVALID_TENSOR", "text: its bytes end within an element"),
    (
        with_raw(raw_strings([b"\xff", "a", b"\xfe"]), 3),
        "INVALID_UTF8",
        "text[0]: the bytes are not UTF-8 (and 1 more)",
    ),
    (request_of(MINI, text=[]), "INVALID_EMPTY_LIST", "text: the batch is empty"),
    (request_of(MINI, text=TEXTS, input_ids=IDS), "INVALID_TENSOR", "input_ids: it comes with text"),
    (request_of(MINI, text=TEXTS, text_pair=TEXTS[:2]), "INVALID_LENGTHS", "text_pair: it has 2 texts, and text has 3"),
    (request_of(MINI, input_ids=IDS[0]), "INVALID_TENSOR", "input_ids: its shape must be [n, width]"),
    (request_of(MINI, input_ids=IDS << 40), "INVALID_TOKEN_ID", "input_ids[0]: token id"),
    (request_of(MINI, input_ids=-IDS), "INVALID_TOKEN_ID", "input_ids[0]: token id"),
    (request_of(MINI, input_ids=IDS, attention_mask=IDS[:, :1]), "INVALID_TENSOR", "attention_mask: its shape must be"),
    (request_of(MINI, input_ids=IDS, attention_mask=IDS), "INVALID_TENSOR", "attention_mask: it must be of 0 and 1"),
    (
        request_of(MINI, input_ids=IDS, attention_mask=np.array([[0, 1]])),
        "INVALID_TENSOR",
        "attention_mask: a row has a 0 in front of a 1: padding must be behind the text",
    ),
    (request_of(MINI, ["scores"], text=TEXTS), "INVALID_TENSOR", "scores: this model has no such output; it has emb"),
    (
        request_of("nli", ["scores", "embeddings"], text=TEXTS),
        "INVALID_COMBINATION",
        "outputs: these belong to several",
    ),
    (request_of("nli", ["scores", "logits"], text=TEXTS), "INVALID_COMBINATION", "outputs: logits come alone"),
    (request_of(MINI, text=TEXTS, parameters={"nonsense": 1}), "INVALID_PARAMETER", "parameters[nonsense]: it means"),
    (request_of(MINI, text=TEXTS, parameters={"sequence_id": 1}), "INVALID_PARAMETER", "parameters[sequence_id]: it"),
    (request_of(MINI, text=TEXTS, parameters={"normalize": 1}), "INVALID_PARAMETER", "parameters[normalize]: it must"),
    (request_of(MINI, text=TEXTS, parameters={"dimensions": 0}), "INVALID_RANGE", "parameters[dimensions]: 0 is not"),
    (request_of(MINI, text=TEXTS, parameters={"pooling": "best"}), "INVALID_ENUM", "parameters[pooling]: 'best' is"),
    (request_of(MINI, text=TEXTS, parameters={"truncate": "MIDDLE"}), "INVALID_ENUM", "parameters[truncate]: 'MIDD"),
    (request_of(MINI, text=TEXTS, parameters={"prompt_name": "x"}), "INVALID_PROMPT_NAME", "parameters[prompt_name]"),
    (
        request_of(MINI, text=TEXTS, parameters={"truncate": "NONE", "max_length": 4}),
        "INVALID_TEXT_LENGTH",
        "text[0]: ",
    ),
    (
        request_of(MINI, text=TEXTS, parameters={"max_length": 1}),
        "INVALID_TRUNCATION",
        "text[0]: max_length is 1, but the special tokens alone are 2 (see parameters[max_length])",
    ),
    (request_of(MINI, input_ids=IDS, parameters={"prompt": "a: "}), "INVALID_COMBINATION", "parameters[prompt]: a pr"),
    (
        request_of("nli", text=["word " * 600], text_pair=TEXTS, parameters={"truncate": "NONE"}),
        "INVALID_TEXT_LENGTH",
        "text[0]: the first text has ",
    ),
    (request_of(BERT, ["mask_tokens"], text=TEXTS), "INVALID_MASK", "text[0]: it has no mask"),
    (request_of(BERT, ["mask_tokens"], text=["[MASK] [MASK]"]), "INVALID_MASK", "text[0]: it has 2 masks"),
    (request_of("qa", text=TEXTS), "INVALID_TENSOR", "text_pair: it is missing"),
]


@pytest.mark.parametrize(("request_", "reason", "message"), WRONG, ids=[f"{i}" for i in range(len(WRONG))])
def test_what_is_wrong_is_told(calls: InferenceCalls, request_: Any, reason: str, message: str) -> None:
    status, told, text = refused(calls.infer, request_)
    assert (status, told) == ("INVALID_ARGUMENT", reason)
    assert text.startswith(message), text


def test_a_model_or_version_that_there_is_not(calls: InferenceCalls) -> None:
    assert refused(calls.infer, request_of("nothing", text=TEXTS))[:2] == ("NOT_FOUND", "MODEL_NOT_FOUND")
    request = request_of(MINI, text=TEXTS)
    request.model_version = "2"
    assert refused(calls.infer, request)[:2] == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_a_timeout(calls: InferenceCalls) -> None:
    request = request_of(MINI, text=TEXTS, parameters={"timeout": 1})
    assert refused(calls.infer, request)[0] == "DEADLINE_EXCEEDED"


# Streams


def test_a_stream_answers_in_order_and_outlives_what_is_wrong(calls: InferenceCalls, client: Client) -> None:
    texts = [[TEXTS[i % 3]] * (1 + i % 4) for i in range(30)]
    requests = [request_of(MINI, text=each, id=str(i)) for i, each in enumerate(texts)]
    requests[3] = request_of("nothing", text=TEXTS, id="3")
    requests[4] = request_of(MINI, text=TEXTS, id="4", parameters={"truncate": "NONE", "max_length": 4})
    requests[5] = request_of(MINI, text=TEXTS, id="5", parameters={"timeout": 1})
    requests[6] = request_of("nli", text=TEXTS, id="6", parameters={"triton_enable_empty_final_response": True})
    requests[7].model_version = "2"
    answers = list(calls.stream(requests))
    assert [each.infer_response.id for each in answers] == [str(i) for i in range(30)]
    failed = {i: each.error_message.split(":")[0] for i, each in enumerate(answers) if each.error_message}
    assert failed == {3: "MODEL_NOT_FOUND", 4: "INVALID_TEXT_LENGTH", 5: "DEADLINE_EXCEEDED", 7: "MODEL_NOT_FOUND"}
    assert "label" in outputs_of(answers[6].infer_response)
    final = {i: each.infer_response.parameters for i, each in enumerate(answers) if each.infer_response.parameters}
    assert {i: each["triton_final_response"].bool_param for i, each in final.items()} == {6: True}
    for i in (*range(3), *range(8, 30)):
        found = outputs_of(answers[i].infer_response)["embeddings"]
        np.testing.assert_allclose(found, client.encode(texts[i]), atol=1e-6)


# What is told of the server and its models


def test_health_and_metadata(calls: InferenceCalls, client: Client) -> None:
    assert calls.call("ServerLive", pb.ServerLiveRequest()).live
    assert calls.call("ServerReady", pb.ServerReadyRequest()).ready
    ready = [calls.call("ModelReady", pb.ModelReadyRequest(name=name)).ready for name in (MINI, "", "nothing")]
    assert ready == [True, True, False]
    server = calls.call("ServerMetadata", pb.ServerMetadataRequest())
    assert server.name == "bertstream"
    assert "statistics" in server.extensions
    told = calls.call("ModelMetadata", pb.ModelMetadataRequest(name=MINI))
    assert [(each.name, each.datatype, list(each.shape)) for each in told.inputs] == [("text", "BYTES", [-1, 1])]
    width = client.encode(TEXTS).shape[1]
    assert [(each.name, each.datatype, list(each.shape)) for each in told.outputs] == [
        ("embeddings", "FP32", [-1, width]),
        ("token_count", "INT32", [-1, 1]),
    ]


@pytest.mark.parametrize("name", [MINI, BERT, "nli", "reranker", "ner", "qa", "choice", "sentiment", "writer"])
def test_a_request_without_outputs_gets_those_of_the_metadata(
    calls: InferenceCalls, outputs: Callable[..., Any], name: str
) -> None:
    told = calls.call("ModelMetadata", pb.ModelMetadataRequest(name=name))
    config = calls.call("ModelConfig", pb.ModelConfigRequest(name=name)).config
    needed = [each.name for each in config.input]
    assert needed == (["text", "text_pair"] if name in ("reranker", "qa") else ["text"])
    inputs: dict[str, Any] = dict.fromkeys(needed, TEXTS[:2])
    response = calls.infer(request_of(name, **inputs))
    assert [each.name for each in response.outputs] == [each.name for each in told.outputs]
    for output, described, configured in zip(response.outputs, told.outputs, config.output, strict=True):
        assert output.datatype == described.datatype
        assert list(described.shape[1:]) == list(configured.dims)
        sizes = zip(output.shape, described.shape, strict=True)
        assert all(expected in (-1, size) for size, expected in sizes)


def test_every_further_output_can_be_named(calls: InferenceCalls, outputs: Callable[..., Any]) -> None:
    config = calls.call("ModelConfig", pb.ModelConfigRequest(name=BERT)).config
    further = [name.removeprefix("output.") for name in config.parameters if name.startswith("output.")]
    assert "attentions.1" in further
    inputs = {name.removeprefix("input.") for name in config.parameters if name.startswith("input.")}
    assert inputs == {"text_pair", "input_ids", "attention_mask", "token_type_ids"}
    for name in further:
        text = ["The [MASK] fox"]
        found = outputs(BERT, [name], text=text)
        shape = config.parameters[f"output.{name}"].string_value
        assert len(np.shape(found[name])) == shape.count(",") + 1


def test_statistics(calls: InferenceCalls) -> None:
    def of_reranker() -> Any:
        (found,) = calls.call("ModelStatistics", pb.ModelStatisticsRequest(name="reranker")).model_stats
        return found

    before = of_reranker()
    calls.infer(request_of("reranker", text=[QUESTION], text_pair=TEXTS))
    refused(calls.infer, request_of("reranker", text=[]))
    after = of_reranker()
    assert after.inference_count - before.inference_count == 3
    assert after.execution_count > before.execution_count
    stats, old = after.inference_stats, before.inference_stats
    assert (stats.success.count - old.success.count, stats.fail.count - old.fail.count) == (1, 1)
    parts = [stats.queue.ns, stats.compute_input.ns, stats.compute_infer.ns, stats.compute_output.ns]
    assert min(parts) > 0
    assert sum(parts) <= stats.success.ns
    assert after.last_inference > 1_600_000_000_000


def test_the_index_of_models(calls: InferenceCalls, client: Client) -> None:
    index = calls.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True)).models
    assert [each.name for each in index] == [model.name for model in client.models()]
    assert {each.state for each in index} == {"READY"}


def test_loading_needs_leave(calls: InferenceCalls) -> None:
    status = refused(calls.call, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="x"))
    assert status[:2] == ("FAILED_PRECONDITION", "LOADING_NOT_ALLOWED")
    assert refused(calls.call, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="x"))[:2] == (
        "FAILED_PRECONDITION",
        "LOADING_NOT_ALLOWED",
    )
