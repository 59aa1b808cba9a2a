"""Arrays, tensors and columns as texts, ids, documents and choices; and wrong types, which errors name.

Classes with the same methods take the place of those of pandas, Polars and Arrow.
"""

from __future__ import annotations

import array
from collections import UserDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bertstream.client import InvalidArgument, SpannedText
from tests.client.fake_server import FakeServer


class Series:
    """A column of pandas, or of Polars."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)
        self.shape = (len(values),)
        self.dtype = "object"

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def to_list(self) -> list[Any]:
        return list(self.values)

    tolist = to_list

    def __array__(self) -> Any:
        return np.array(self.values, object)


class Scalar:
    """A scalar of Arrow."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def as_py(self) -> Any:
        return self.value


class ChunkedArray:
    """A column of Arrow, whose items are scalars of its own."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Scalar]:
        return map(Scalar, self.values)

    def to_pylist(self) -> list[Any]:
        return list(self.values)


class DataFrame:
    """A table of pandas, which is iterated by the names of its columns."""

    columns = ("text",)
    shape = (3, 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class Table(ChunkedArray):
    """A table of Arrow."""

    column_names = ("text",)


class NAType:
    """pandas' missing value."""


class Tensor:
    """A tensor of torch or JAX, on a device whose memory NumPy cannot read."""

    def __init__(self, values: Any, kind: type = np.int64) -> None:
        self.values: Any = np.array(values, kind)
        self.shape = self.values.shape
        self.dtype = f"torch.{self.values.dtype}"

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Tensor]:
        return (Tensor(row, self.values.dtype.type) for row in self.values)

    def __index__(self) -> int:
        if self.shape != ():
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.values)

    def tolist(self) -> Any:
        return self.values.tolist()

    def __array__(self, *args: Any) -> Any:
        raise TypeError("can't convert a cuda tensor to numpy")


TEXTS = ["a", "b", "c"]
TEXT_LISTS: list[Any] = [
    np.array(TEXTS),
    np.array(TEXTS, object),
    [np.str_(text) for text in TEXTS],
    Series(*TEXTS),
    ChunkedArray(*TEXTS),
    [Scalar(text) for text in TEXTS],
    tuple(TEXTS),
    deque(TEXTS),
    dict.fromkeys(TEXTS).keys(),
    dict(enumerate(TEXTS)).values(),
]
IDS = [[5, 6], [7, 8]]
ID_LISTS: list[Any] = [
    np.array(IDS),
    np.array(IDS, np.uint8),
    [np.array(ids) for ids in IDS],
    [np.array(ids, object) for ids in IDS],
    [[np.int32(token) for token in ids] for ids in IDS],
    Tensor(IDS),
    [Tensor(ids) for ids in IDS],
    [[Tensor(token) for token in ids] for ids in IDS],
    Series(*IDS),
    Series(*map(np.array, IDS)),
    ChunkedArray(*IDS),
    [array.array("i", ids) for ids in IDS],
]


def _name(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("texts", TEXT_LISTS, ids=_name)
def test_texts(client: Any, server: FakeServer, texts: Any) -> None:
    np.testing.assert_array_equal(client.encode(texts), client.encode(TEXTS))
    assert [tokens.tokens for tokens in client.tokenize(texts)] == [tokens.tokens for tokens in client.tokenize(TEXTS)]
    assert len(client.forward(texts)) == 3
    assert len(client.encode_spans(texts, [[(0, 1)]] * 3)) == 3
    assert len(client.fill_mask([f"[MASK] {text}" for text in TEXTS])) == 3
    assert client.classify(texts) == client.classify(TEXTS)
    assert client.entities(texts) == client.entities(TEXTS)
    assert [each.score for each in client.score_text(texts)] == [each.score for each in client.score_text(TEXTS)]
    assert client.zero_shot(texts, ["x"]) == client.zero_shot(TEXTS, ["x"])
    assert client.rerank("a", texts) == client.rerank("a", TEXTS)
    assert client.choose("a", texts) == client.choose("a", TEXTS)
    assert [each.text for each in client.generate(texts)] == [each.text for each in client.generate(TEXTS)]
    for stream in (client.encode_stream, client.tokenize_stream, client.forward_stream, client.generate_stream):
        assert [id for batch in stream(texts) for id in batch.ids.tolist()] == [0, 1, 2]
    assert sum(len(batch.ids) for batch in client.predict_stream("classify", texts)) == 3
    assert list(client.stream_layers(texts))


@pytest.mark.parametrize("ids", ID_LISTS, ids=_name)
def test_ids(client: Any, ids: Any) -> None:
    np.testing.assert_array_equal(client.encode(ids), client.encode(IDS))
    assert client.detokenize(ids) == client.detokenize(IDS)
    assert client.entities(ids) == client.entities(IDS)
    assert len(client.forward(ids)) == 2
    assert [each.text for each in client.generate(ids)] == [each.text for each in client.generate(IDS)]
    (batch,) = client.encode_stream(ids)
    np.testing.assert_array_equal(batch.vectors, client.encode(IDS))


@pytest.mark.parametrize("ids", [np.array([5, 6]), Tensor([5, 6]), array.array("i", [5, 6])], ids=_name)
def test_ids_of_one_text(client: Any, ids: Any) -> None:
    np.testing.assert_array_equal(client.encode(ids), client.encode([[5, 6]])[0])
    assert client.detokenize(ids) == client.detokenize([[5, 6]])
    assert client.entities(ids) == client.entities([[5, 6]])[0]
    with pytest.raises(TypeError, match=rf"not one {_name(ids)}: put it in a list"):
        list(client.encode_stream(ids))


def test_real_tensors(client: Any) -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(client.encode(torch.tensor(IDS)), client.encode(IDS))
    np.testing.assert_array_equal(client.encode([torch.tensor(ids) for ids in IDS]), client.encode(IDS))
    np.testing.assert_array_equal(client.encode(torch.tensor(IDS[0])), client.encode(IDS)[0])
    assert client.encode(torch.zeros(0, 5, dtype=torch.long)).shape[0] == 0
    with pytest.raises(TypeError, match=r"inputs.token_ids\[0\]: token ids must be integers"):
        client.encode(torch.tensor([[0.5]]))
    with pytest.raises(TypeError, match="not Tensor without a dimension"):
        client.encode(torch.tensor(5))


def test_words(client: Any) -> None:
    lists = [["a", "b"], ["c"]]
    expected = client.encode(lists)
    for words in (
        Series(*map(np.array, lists)),
        Series(*lists),
        ChunkedArray(*lists),
        [Series(*each) for each in lists],
    ):
        np.testing.assert_array_equal(client.encode(words), expected)


def test_no_texts(client: Any) -> None:
    for nothing in (np.array([]), np.array([], np.int64), Series(), ChunkedArray(), Tensor(np.zeros((0, 5)))):
        assert client.encode(nothing).shape[0] == 0


def test_texts_of_no_tokens(client: Any) -> None:
    assert client.encode(Tensor(np.zeros((3, 0)))).shape[0] == 3


def test_numbers_of_numpy_as_ids_of_items(client: Any) -> None:
    items = list(zip(np.array([7, 9]), ["a", "b"], strict=True))
    assert [id for batch in client.encode_stream(items) for id in batch.ids.tolist()] == [7, 9]


def test_spans(client: Any) -> None:
    expected = client.encode_spans(["abc"], [[(0, 1), (1, 3)]])
    spans: Any
    for spans in (Tensor([[0, 1], [1, 3]]), Series((0, 1), (1, 3)), ChunkedArray([0, 1], [1, 3])):
        np.testing.assert_array_equal(client.encode_spans(["abc"], [spans])[0], expected[0])
    spans = Tensor([[0, 1]])
    (batch,) = client.forward_stream([SpannedText("abc", spans)], ["pooled_spans"])
    assert len(batch.outputs) == 1


NO_LISTS: list[tuple[Any, str]] = [
    (b"abc", "not bytes: decode it first"),
    (bytearray(b"abc"), "not bytearray: decode it first"),
    (memoryview(b"abc"), "not memoryview: decode it first"),
    ({"a", "b"}, "not set, which has no order"),
    (frozenset("ab"), "not frozenset, which has no order"),
    ({"text": ["a"]}, "not dict: give a value of it, such as that of 'text'"),
    (UserDict(attention_mask=[[1]], input_ids=[[5]]), "not UserDict: give a value of it, such as that of 'input_ids'"),
    (DataFrame(), "not DataFrame: give one of its columns"),
    (Table({"text": "a"}), "not Table: give one of its columns"),
    (np.array([["a", "b"]]), r"not ndarray \[1, 2\]: pairs are a list of tuples"),
    (np.array("a"), "not ndarray without a dimension"),
    (Tensor(5), "not Tensor without a dimension"),
    (None, "not NoneType"),
    (5, "not int"),
    (object(), "not object"),
]
CALLS: list[Callable[[Any, Any], Any]] = [
    lambda client, texts: client.encode(texts),
    lambda client, texts: client.tokenize(texts),
    lambda client, texts: client.forward(texts),
    lambda client, texts: client.encode_spans(texts, []),
    lambda client, texts: list(client.stream_layers(texts)),
    lambda client, texts: client.fill_mask(texts),
    lambda client, texts: client.entities(texts),
    lambda client, texts: client.generate(texts),
    lambda client, texts: client.summarize(texts),
    lambda client, texts: list(client.stream_generate(texts)),
    lambda client, texts: client.rerank("a", texts),
    lambda client, texts: client.detokenize(texts),
    lambda client, texts: list(client.encode_stream(texts)),
    lambda client, texts: list(client.tokenize_stream(texts)),
    lambda client, texts: list(client.forward_stream(texts)),
    lambda client, texts: list(client.generate_stream(texts)),
    lambda client, texts: list(client.predict_stream("entities", texts)),
]


@pytest.mark.parametrize(("texts", "why"), NO_LISTS, ids=[_name(given) for given, _ in NO_LISTS])
def test_what_is_no_list(client: Any, texts: Any, why: str) -> None:
    for call in CALLS:
        with pytest.raises(TypeError, match=why) as raised:
            call(client, texts)
        assert "\n" not in str(raised.value)
    for call in (client.next_sentence, client.answer, client.choose):
        with pytest.raises(TypeError, match=rf"list of such tuples, not {_name(texts)}"):
            call(texts)
    if texts is not None:
        with pytest.raises(TypeError, match=why):
            client.choose("a", texts)


def test_a_stream_of_a_str(client: Any) -> None:
    for stream in (client.encode_stream, client.generate_stream):
        with pytest.raises(TypeError, match="must be a list, not a str"):
            list(stream("abc"))


NO_TEXTS: list[tuple[Any, str]] = [
    (None, "NoneType, a missing value"),
    (float("nan"), "float, a missing value"),
    (np.float64("nan"), "float64, a missing value"),
    (NAType(), "NAType, a missing value"),
    (b"a", "bytes: decode it first"),
    (np.bytes_(b"a"), "bytes_: decode it first"),
    (5, r"int: the token ids of a text are a list of their own, \[\[101, 102\]\]"),
    (np.int64(5), "int64: the token ids"),
    (1.5, "not float"),
    ({"a"}, "not set"),
    ({"a": "b"}, "not dict"),
]


@pytest.mark.parametrize(("item", "why"), NO_TEXTS, ids=[_name(given) for given, _ in NO_TEXTS])
def test_what_is_no_text(client: Any, item: Any, why: str) -> None:
    for texts in (["a", item], Series("a", item), ChunkedArray("a", item)):
        with pytest.raises(TypeError, match=r"^inputs\.texts\[1\]: a text is .*" + why):
            client.encode(texts)
        with pytest.raises(TypeError, match=r"^items\.inputs\.texts\[1\]: a text is .*" + why):
            list(client.encode_stream(texts))
        with pytest.raises(TypeError, match=r"^documents\[1\]: a document is a str, not .*" + why.removeprefix("not ")):
            client.rerank("a", texts)


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (("a", None), r"pairs\[0\]: .* not tuple of str and NoneType"),
        (["a", None], r"word_lists\[0\]: .* not list of str and NoneType"),
        ([True, False], r"token_ids\[0\]: .* not list of bool"),
        ((5, 6, 7), r"pairs\[0\]: .* not tuple of int"),
        (np.array([0.5]), r"token_ids\[0\]: token ids must be integers in one dimension, not float64 \[1\]"),
        (np.array([True]), r"token_ids\[0\]: token ids must be integers in one dimension, not bool \[1\]"),
        (Tensor([[5]]), r"token_ids\[0\]: token ids must be integers in one dimension, not int64 \[1, 1\]"),
        ([Tensor([5, 6])], r"token_ids\[0\]: only integer tensors of a single element"),
    ],
)
def test_parts_of_texts(client: Any, item: Any, why: str) -> None:
    with pytest.raises(TypeError, match=rf"^inputs\.{why}"):
        client.encode([item])


def test_two_columns_for_pairs(client: Any) -> None:
    with pytest.raises(TypeError, match=r"for several give one list of tuples \(zip\)"):
        client.answer(Series("a"), Series("b"))
    questions, contexts = Series("a", "b"), Series("c", "d")
    assert len(client.answer(list(zip(questions, contexts, strict=True)))) == 2


def test_lone_surrogates_in_a_column(client: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"inputs\.texts\[1\] is not valid Unicode"):
        client.encode(Series("a", "\ud800"))
