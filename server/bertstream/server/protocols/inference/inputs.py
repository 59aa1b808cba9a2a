"""Make the tokenizer's inputs of tensors: texts, pairs of texts, or a padded matrix of token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.sent import Sent, SentTexts
from bertstream.server.core.tokenization import Ids, Pairs, Texts
from bertstream.server.protocols.inference import inference_pb2
from bertstream.server.protocols.inference.options import at
from bertstream.server.protocols.inference.tensors import InputTensor, Spec, bad_tensor, read_inputs

TEXT, SECOND = "text", "text_pair"
_ALIAS = "inputs"  # of "text"
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
_BYTES, _INTEGERS = ("BYTES",), ("INT64", "INT32")
_TAKEN: Mapping[str, Sequence[str]] = {
    TEXT: _BYTES,
    _ALIAS: _BYTES,
    SECOND: _BYTES,
    IDS: _INTEGERS,
    MASK: _INTEGERS,
    TYPES: _INTEGERS,
}
# Where requests have the options that errors of the core name.
OPTIONS: Mapping[str, str] = {
    "max_length": at("max_length"),
    "prompt": at("prompt"),
    "stride": at("stride"),
    "truncation.max_length": at("max_length"),
    "truncation.strategy": at("truncation"),
}
_MOST = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Given:
    """Hold the inputs of a request, and the width of its matrix of token ids; 0 for texts, whose width is not known."""

    sent: SentTexts
    width: int = 0


_TEXTS = (Spec(TEXT, "BYTES", (-1, 1)), Spec(SECOND, "BYTES", (-1, 1)))
_MATRICES = tuple(Spec(name, "INT64", (-1, -1)) for name in (IDS, MASK, TYPES))


def usual_inputs(*, pairs: bool) -> Sequence[Spec]:
    """Return the inputs of a usual request: texts, or pairs of texts."""
    return _TEXTS if pairs else _TEXTS[:1]


def further_inputs(*, pairs: bool) -> Sequence[Spec]:
    """Return the inputs that a request may have besides or instead."""
    return _MATRICES if pairs else (*_TEXTS[1:], *_MATRICES)


def parse_inputs(message: inference_pb2.ModelInferRequest, max_texts: int) -> Given:
    """Return the inputs of a request. Raises INVALID_ARGUMENT, naming the tensor."""
    tensors = read_inputs(message, _TAKEN)
    text = tensors.get(TEXT, tensors.get(_ALIAS))
    if TEXT in tensors and _ALIAS in tensors:
        raise bad_tensor(_ALIAS, f"it is another name of {TEXT}, which is there too")
    if text is not None and IDS in tensors:
        raise bad_tensor(IDS, f"it comes with {text.name}: send texts or token ids")
    if text is None and IDS not in tensors:
        raise bad_tensor("inputs", f"neither {TEXT} nor {IDS} is among them")
    alone = {TEXT, _ALIAS, SECOND} if text is not None else {IDS, MASK, TYPES}
    if others := tensors.keys() - alone:
        raise bad_tensor(min(others), f"it means nothing with {TEXT if text is not None else IDS}")
    if text is None:
        return _ids(tensors, max_texts)
    return Given(_texts(text, tensors.get(SECOND), max_texts))


def _texts(text: InputTensor, second: InputTensor | None, max_texts: int) -> SentTexts:
    firsts, bad = _decoded(text, max_texts)
    if second is None:
        return Sent(Texts(firsts), text.name, text.name, bad, option_paths=OPTIONS)
    seconds, bad_seconds = _decoded(second, max_texts)
    of_all = len(firsts) == 1 < len(seconds)  # a query and its documents
    if of_all:
        firsts, bad = firsts * len(seconds), bad and list(range(len(seconds)))
    if len(firsts) != len(seconds):
        about = f"it has {len(seconds)} texts, and {text.name} has {len(firsts)}: as many, or one for all of them"
        raise invalid(second.name, about, "INVALID_LENGTHS")
    both = sorted({*bad, *bad_seconds})
    paths = (f"{text.name}[0]" if of_all else f"{text.name}[]", f"{second.name}[]")
    return Sent(Pairs(firsts, seconds), second.name, second.name, both, option_paths=OPTIONS, of_pairs=paths)


def _decoded(tensor: InputTensor, max_texts: int) -> tuple[list[str], list[int]]:
    """Return the texts of a tensor [n] or [n, 1], and the indexes of those that are not UTF-8, which are left empty."""
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
        raise bad_tensor(tensor.name, "its shape must be [n] or [n, 1], a text each")
    _check_texts(tensor, max_texts)
    try:
        return [element.decode() for element in tensor.elements], []
    except UnicodeDecodeError:
        texts = [element.decode(errors="replace") for element in tensor.elements]
        bad = [i for i, element in enumerate(tensor.elements) if not _is_utf8(element)]
        for i in bad:
            texts[i] = ""
        return texts, bad


def _is_utf8(element: bytes) -> bool:
    try:
        element.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_texts(tensor: InputTensor, max_texts: int) -> None:
    texts = tensor.shape[0]
    if not texts:
        raise invalid(tensor.name, "the batch is empty", "INVALID_EMPTY_LIST")
    if texts > max_texts:
        raise too_large(tensor.name, f"{texts} texts; the limit of one request is {max_texts}")


def _ids(tensors: Mapping[str, InputTensor], max_texts: int) -> Given:
    ids = tensors[IDS]
    if len(ids.shape) != 2:
        raise bad_tensor(IDS, "its shape must be [n, width], a text a row")
    _check_texts(ids, max_texts)
    for name in (MASK, TYPES):
        if name in tensors and tensors[name].shape != ids.shape:
            raise bad_tensor(name, f"its shape must be that of {IDS}")
    kept = _mask(tensors[MASK].integers) if MASK in tensors else np.ones(ids.shape, np.bool_)
    lengths = kept.sum(axis=1, dtype=np.int32)
    types = _int32(tensors[TYPES].integers[kept]) if TYPES in tensors else None
    inputs = Ids(_int32(ids.integers[kept]), lengths, types)
    return Given(Sent(inputs, IDS, IDS, option_paths=OPTIONS), ids.shape[1])


def _mask(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which tokens a mask keeps: [n, width].

    Positions count from a row's first column, so that padding in front of a text, or a gap, would change its numbers.
    """
    kept: NDArray[np.bool_] = values == 1
    if not (kept | (values == 0)).all():
        raise bad_tensor(MASK, "it must be of 0 and 1")
    if (~kept[:, :-1] & kept[:, 1:]).any():
        raise bad_tensor(MASK, "a row has a 0 in front of a 1: padding must be behind the text")
    return kept


def _int32(values: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return ids as the tokenizer takes them; those beyond any vocabulary stay beyond it."""
    return np.clip(values, -1, _MOST).astype(np.int32)
