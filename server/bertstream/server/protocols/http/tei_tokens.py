"""Turn texts into tokens and back, in the frontend alone, as text-embeddings-inference does over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct

from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.errors import invalid
from bertstream.server.core.models import Models
from bertstream.server.core.preparation import failed_texts, refuse_failed
from bertstream.server.core.sent import Sent
from bertstream.server.core.tokenization import Ids, Texts, Tokenized
from bertstream.server.protocols.http.answers import HttpAnswer, dumped
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.texts import check_count, sent_of
from bertstream.server.protocols.http.vectors import limits_of
from bertstream.server.protocols.tei_v1 import defaults
from bertstream.server.protocols.tei_v1.choosing import ANY
from bertstream.server.protocols.tei_v1.services.tokenize import plain_tokens, token_options

_TOKEN_BYTES = 64  # about what a token has in an answer


class TokenizeRequest(Struct):
    """The body of `/tokenize`."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None


class DecodeRequest(Struct):
    """The body of `/decode`."""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True


async def tokenize(models: Models, request: TokenizeRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the tokens of whole texts, each with its prompt as a part of it."""
    model = ANY.choose(models, call)
    given = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    check_count(len(given), "inputs", model.limits.max_texts)
    prompt = defaults.prompt(request.prompt_name, model.description)
    texts = [prompt + text for text in given]
    sent = Sent(Texts(texts), "inputs", "inputs", single=isinstance(request.inputs, str))
    tokens = (await model.tokenize(sent.inputs, token_options(special=request.add_special_tokens))).tokens
    refuse_failed(failed_texts(tokens, sent))
    size = int(tokens.ids.size) * _TOKEN_BYTES
    check_answer_size(size, limits_of(model), "inputs", "send fewer or shorter texts")
    return HttpAnswer((await model.in_thread(lambda: dumped(_lists(tokens, texts))),))


async def decode(models: Models, request: DecodeRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the text of each list of token ids, or of the one list, in a list."""
    model = ANY.choose(models, call)
    sent = sent_of(request.ids or [[]], "ids", model.limits.max_texts)  # type: ignore[arg-type]
    assert isinstance(sent.inputs, Ids)
    beyond = sent.inputs.ids[sent.inputs.ids >= (size := model.description.vocabulary_size)]
    if beyond.size:
        raise invalid("ids", f"token id {beyond[0]} is not in [0, {size})", "INVALID_TOKEN_ID")
    done = await model.detokenize(sent.inputs, request.skip_special_tokens)
    return HttpAnswer((dumped(done.texts),))


def _lists(tokens: Tokenized, texts: Sequence[str]) -> list[list[Mapping[str, Any]]]:
    every = (
        {"id": id, "text": text, "special": special}
        | ({"start": None, "stop": None} if special else {"start": start, "stop": stop})
        for id, text, start, stop, special in plain_tokens(tokens, texts)
    )
    return [list(islice(every, length)) for length in tokens.lengths.tolist()]
