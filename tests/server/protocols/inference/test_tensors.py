from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.inference import inference_pb2 as pb
from bertstream.server.protocols.inference.tensors import (
    Spec,
    Strings,
    classified,
    join_elements,
    least_bytes,
    pad,
    pad_squares,
    read_inputs,
    split_elements,
    write_output,
)
from tests.support.inference import outputs_of, raw_strings

TAKEN = {"text": ("BYTES",), "ids": ("INT64", "INT32")}


def message_of(
    name: str, datatype: str, shape: list[int], raw: bytes | None = None, **contents: Any
) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest()
    given = message.inputs.add(name=name, datatype=datatype, shape=shape)
    if contents:
        given.contents.CopyFrom(pb.InferTensorContents(**contents))
    if raw is not None:
        message.raw_input_contents.append(raw)
    return message


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "naïve 🚀"], ["x" * 300]])
def test_elements_of_bytes_come_back(texts: list[str]) -> None:
    raw = join_elements(texts)
    assert raw == raw_strings(texts)
    assert [each.decode() for each in split_elements(raw, "text", len(texts))] == texts


@pytest.mark.parametrize(
    "message",
    [
        message_of("ids", "INT64", [2, 2], np.array([1, 2, 3, -4], "<i8").tobytes()),
        message_of("ids", "INT32", [2, 2], np.array([1, 2, 3, -4], "<i4").tobytes()),
        message_of("ids", "INT64", [2, 2], int64_contents=[1, 2, 3, -4]),
        message_of("ids", "INT32", [2, 2], int_contents=[1, 2, 3, -4]),
    ],
)
def test_integers_raw_and_typed(message: pb.ModelInferRequest) -> None:
    read = read_inputs(message, TAKEN)["ids"]
    assert read.integers.tolist() == [[1, 2], [3, -4]]
    assert read.integers.dtype == np.int64


def test_parameters_of_http_mean_nothing() -> None:
    message = message_of("text", "BYTES", [1], raw_strings(["a"]))
    message.inputs[0].parameters["binary_data_size"].int64_param = 5
    assert read_inputs(message, TAKEN)["text"].elements == [b"a"]
    message.inputs[0].parameters["shared_memory_region"].string_param = "x"
    with pytest.raises(RequestError, match="text: there is no parameter 'shared_memory_region' of an input here"):
        read_inputs(message, TAKEN)


@pytest.mark.parametrize(
    ("message", "about"),
    [
        (message_of("ids", "INT64", [1], b"1234567"), "no whole number of elements"),
        (message_of("ids", "INT64", [-1], b""), r"a dimension of \[-1\] is below 0"),
        (message_of("ids", "INT64", [0, 1 << 62], b""), r"a dimension of \[0, \d+\] is below 0 or above 2147483647"),
        (message_of("ids", "INT64", [1 << 30, 1 << 30], b""), "it has 0 elements, and its shape"),
        (message_of("ids", "INT64", [1] * 65, int64_contents=[1]), "it has 65 dimensions, and may have at most 2"),
        (message_of("text", "BYTES", [127] * 1_000_000, b""), "it has 1000000 dimensions"),
        (message_of("text", "BYTES", [1 << 30], b""), "it has 0 elements"),
        (message_of("text", "BYTES", [1], b"\xff\xff\xff\xffabc"), "end within an element"),
        (message_of("text", "BYTES", [1], b"\x01\x00"), "end within an element"),
        (message_of("text", "BYTES", [1], raw_strings(["a"]), bytes_contents=[b"a"]), "both contents and raw"),
        (message_of("ids", "INT64", [2], int_contents=[1, 2]), "it has 0 elements"),
        (message_of("", "INT64", [2], int_contents=[1, 2]), "there is no such input"),
    ],
)
def test_tensors_that_make_no_sense(message: pb.ModelInferRequest, about: str) -> None:
    with pytest.raises(RequestError, match=about):
        read_inputs(message, TAKEN)


def test_raw_contents_for_all_or_none_and_names_once() -> None:
    message = message_of("text", "BYTES", [1], raw_strings(["a"]))
    message.inputs.add(name="ids", datatype="INT64", shape=[0])
    with pytest.raises(RequestError, match="raw_input_contents: there are 1 for 2 inputs"):
        read_inputs(message, TAKEN)
    message.inputs[1].name, message.inputs[1].datatype = "text", "BYTES"
    message.raw_input_contents.append(b"")
    with pytest.raises(RequestError, match="text: it is given twice"):
        read_inputs(message, TAKEN)


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<i2", "<i4", "<i8"])
def test_outputs_come_back(dtype: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)
    response = pb.ModelInferResponse()
    write_output(response, "some", values.T)  # which is not contiguous
    write_output(response, "texts", Strings((2, 1), ["ä", ""]))
    found = outputs_of(response)
    np.testing.assert_array_equal(found["some"], values.T)
    assert found["texts"] == [["ä"], [""]]


def test_padding() -> None:
    lengths = np.array([2, 1, 3])
    values = np.arange(1, 13).reshape(6, 2)
    padded = pad(values, lengths, 4)
    assert padded.shape == (3, 4, 2)
    assert padded[1].tolist() == [[5, 6], [0, 0], [0, 0], [0, 0]]
    np.testing.assert_array_equal(np.concatenate([padded[i, :n] for i, n in enumerate(lengths)]), values)


def test_padding_of_weights() -> None:
    heads, lengths = 2, np.array([1, 3])
    texts = [np.arange(1, 1 + heads * n * n).reshape(heads, n, n) for n in lengths.tolist()]
    padded = pad_squares(np.concatenate([text.ravel() for text in texts]), lengths, heads, 4)
    assert padded.shape == (2, heads, 4, 4)
    for row, text, length in zip(padded, texts, lengths.tolist(), strict=True):
        np.testing.assert_array_equal(row[:, :length, :length], text)
        assert row.sum() == text.sum()


def test_the_best_labels_of_equal_ones_are_the_first() -> None:
    found = classified(np.array([[0.25, 0.5, 0.5], [1, 0, 2]], np.float32), 2, ["a", "b", "c:d"])
    assert found.shape == (2, 2)
    assert found.values == ["0.500000:1:b", "0.500000:2:c:d", "2.000000:2:c:d", "1.000000:0:a"]


def test_sizes() -> None:
    specs = [Spec("v", "FP32", (-1, 8)), Spec("s", "FP16", (-1, -1, 8)), Spec("t", "BYTES", (-1, 1))]
    assert least_bytes(specs, 3, 5) == 3 * (8 * 4 + 5 * 8 * 2 + 4)
