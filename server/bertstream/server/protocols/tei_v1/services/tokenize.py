"""Turn texts into tokens and back, in the frontend alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.errors import invalid
from bertstream.server.core.models import Models
from bertstream.server.core.preparation import failed_texts, refuse_failed
from bertstream.server.core.tokenization import Column, Ids, Texts, Tokenized, TokenizeOptions, Truncation
from bertstream.server.protocols.ordered import Group, alone
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import ANY
from bertstream.server.protocols.tei_v1.serving import Operation, Turn
from bertstream.server.protocols.tei_v1.validation import prompt_of, sent

_NO_LIMIT = (1 << 31) - 1  # tokens
_TOKEN_BYTES = 6  # the fewest of a token in an answer: an id, and a special token's name
_COLUMNS: frozenset[Column] = frozenset({"tokens", "offsets", "special_tokens_mask"})


def handlers(models: Models) -> dict[str, Handler]:
    """Return the handler of each rpc."""
    tokens, text = Operation(models, ANY, tokenize, together=False), Operation(models, ANY, decode, together=False)
    return {
        "Tokenize": tokens.one,
        "TokenizeStream": tokens.many,
        "Decode": text.one,
        "DecodeStream": text.many,
    }


async def tokenize(messages: Sequence[tei_pb2.EncodeRequest], turn: Turn) -> Group[tei_pb2.EncodeResponse]:
    """Tokenize a whole text, with its prompt as a part of it."""
    (message,) = messages
    model = turn.model
    text = prompt_of(message, model.description) + message.inputs
    inputs = sent(Texts([text]))
    tokens = (await model.tokenize(inputs.inputs, token_options(special=message.add_special_tokens))).tokens
    refuse_failed(failed_texts(tokens, inputs))
    count = int(tokens.ids.size)
    check_answer_size(count * _TOKEN_BYTES, model.limits, "inputs", "send a shorter text")

    async def answer() -> tei_pb2.EncodeResponse:
        response = await model.in_thread(lambda: tei_pb2.EncodeResponse(tokens=_tokens(tokens, text)))
        check_answer_size(response.ByteSize(), model.limits, "inputs", "send a shorter text")
        return response

    return alone(count, answer)


async def decode(messages: Sequence[tei_pb2.DecodeRequest], turn: Turn) -> Group[tei_pb2.DecodeResponse]:
    """Turn token ids into their text."""
    (message,) = messages
    ids, size = np.array(message.ids, np.int64), turn.model.description.vocabulary_size
    beyond = ids[ids >= size]
    if beyond.size:
        raise invalid("ids", f"token id {beyond[0]} is not in [0, {size})", "INVALID_TOKEN_ID")
    lists = Ids(ids.astype(np.int32), np.array([ids.size], np.int32))
    done = await turn.model.detokenize(lists, message.skip_special_tokens)

    async def answer() -> tei_pb2.DecodeResponse:
        return tei_pb2.DecodeResponse(text=done.texts[0])

    return alone(int(ids.size), answer)


def token_options(*, special: bool) -> TokenizeOptions:
    """Return how whole texts are tokenized, with special tokens or without."""
    return TokenizeOptions(
        Truncation("longest_first", _NO_LIMIT), add_special_tokens=special, columns=_COLUMNS, allow_empty=True
    )


def plain_tokens(tokens: Tokenized, texts: Sequence[str]) -> Iterator[tuple[int, str, int, int, bool]]:
    """Yield (id, text, start, stop, special) of each token of all texts, end to end; none of them has failed.

    The text of a special token is its name, and it has no place.
    """
    names, starts, ends, special = tokens.tokens, tokens.starts, tokens.ends, tokens.special_tokens_mask
    assert names is not None
    assert starts is not None
    assert ends is not None
    assert special is not None
    owners = np.repeat(tokens.text_indexes, tokens.lengths)
    columns = (tokens.ids.tolist(), names, starts.tolist(), ends.tolist(), special.tolist(), owners.tolist())
    for id, name, start, end, is_special, owner in zip(*columns, strict=True):
        yield id, name if is_special else texts[owner][start:end], start, end, is_special


def _tokens(tokens: Tokenized, text: str) -> list[tei_pb2.SimpleToken]:
    return [
        tei_pb2.SimpleToken(id=id, text=name, special=True)
        if special
        else tei_pb2.SimpleToken(id=id, text=name, start=start, stop=stop)
        for id, name, start, stop, special in plain_tokens(tokens, [text])
    ]
