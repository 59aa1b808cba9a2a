"""Text written by a model, at once or as server-sent events while it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import numpy as np

from bertstream.server.core.errors import invalid
from bertstream.server.core.generation.answers import GeneratedPiece, GeneratedText
from bertstream.server.core.generation.bad_words import bad_word_ids
from bertstream.server.core.generation.generator import Answered, Generation, generate_all
from bertstream.server.core.generation.inputs import Prompts, prepare_prompts
from bertstream.server.core.generation.plan import GenerationPlan
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.preparation import refuse_failed
from bertstream.server.core.sent import SentTexts
from bertstream.server.protocols.http.answers import HttpAnswer, answer_of
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.choosing import chosen
from bertstream.server.protocols.http.common_options import named_as_in_body
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.events import EventStream
from bertstream.server.protocols.http.forms import own_form
from bertstream.server.protocols.http.generation_options import GenerateRequest, plan_of
from bertstream.server.protocols.http.texts import sent_of
from bertstream.server.protocols.http.vectors import limits_of
from bertstream.server.protocols.tei_v1.choosing import Wanted

GENERATING = Wanted("one that generates text", (lambda description: description.generation is not None,))
_ANSWER = {
    "model": "writer",
    "generations": [{"generated_text": "sleeps.", "finish_reason": "length", "token_ids": [7], "score": -0.5}],
    "usage": {"inputs": 1, "input_tokens": 4, "generated_tokens": 1, "truncated_inputs": 0},
}
_EVENTS = (
    ("started", {"model": "writer", "input_tokens": 4}),
    ("piece", {"sequence_index": 0, "text": "sleeps.", "token_ids": [7]}),
    ("completed", _ANSWER),
)


def endpoints(models: Models) -> Sequence[Endpoint]:
    """Return the endpoint."""
    return (
        Endpoint(
            "POST",
            "/v1/generate",
            partial(generate, models),
            own_form,
            "Write text: continue a prompt, or rewrite an input; with `stream`, events tell each piece as it comes.",
            GenerateRequest,
            example={"inputs": "The cat", "max_new_tokens": 8},
            answer=_ANSWER,
            events=_EVENTS,
        ),
    )


async def generate(models: Models, request: GenerateRequest, call: HttpCall) -> HttpAnswer | None:
    """Answer with the texts for all inputs at once, as `GenerateTexts`, or with events, as `StreamGeneration`."""
    model = chosen(models, call, request.model, GENERATING)
    with named_as_in_body():
        plan = plan_of(request, model)
        sent = sent_of(request.inputs, "inputs", model.limits.max_texts)
        if request.stream:
            await _stream(model, plan, sent, call)
            return None
        model.check_generation_room(call.caller, call.deadline)
        prepared = await _prepared(model, plan, sent)
        advice = "send fewer texts, or ask for fewer tokens"
        prepared.check_answer_size(plan, limits_of(model).max_response_bytes, advice)
        answered = await generate_all(model, plan, prepared, call)
    return answer_of(_answer(model, prepared, answered, single=sent.single))


async def _stream(model: ServedModel, plan: GenerationPlan, sent: SentTexts, call: HttpCall) -> None:
    if len(sent.inputs) > 1:
        raise invalid("stream", "it goes with one text: send the others apart", "INVALID_COMBINATION")
    model.dispatcher.check_generation_time(call.caller, call.deadline)
    prepared = await _prepared(model, plan, sent)
    (prompt,) = prepared.prompts
    call.check_deadline()
    events = EventStream(call)
    await events.begin()
    await events.send("started", {"model": model.name, "input_tokens": prompt.tokens, **_seed(prepared)})
    # Without closing, the work for a caller who has gone would go on until the garbage collector finds it.
    async with aclosing(Generation(model, plan, call.deadline, call.caller, waits=True).stream(prompt)) as came:
        async for each in came:
            if isinstance(each, GeneratedPiece):
                await events.send("piece", _piece(each))
            else:
                await events.send("completed", _answer(model, prepared, [each], single=True), more=False)


async def _prepared(model: ServedModel, plan: GenerationPlan, sent: SentTexts) -> Prompts:
    prepared = await prepare_prompts(model, plan, await bad_word_ids(model, plan), sent)
    refuse_failed(prepared.failed)
    return prepared


def _answer(model: ServedModel, prepared: Prompts, answered: Sequence[Answered], *, single: bool) -> Mapping[str, Any]:
    """Return the answers as pipelines of transformers have them: a list of them, or of such lists for a list."""
    lists = [[_text(text) for text in each.texts] for each in answered]
    return {
        "model": model.name,
        "generations": lists[0] if single else lists,
        "usage": {
            "inputs": len(answered),
            "input_tokens": sum(each.prompt.tokens for each in answered),
            "generated_tokens": sum(len(text.token_ids) for each in answered for text in each.texts),
            "truncated_inputs": sum(each.prompt.truncated for each in answered),
        },
        **_seed(prepared),
    }


def _seed(prepared: Prompts) -> Mapping[str, int]:
    return {} if prepared.seed is None else {"seed": prepared.seed}


def _text(text: GeneratedText) -> Mapping[str, Any]:
    return {
        "generated_text": text.text,
        "finish_reason": text.finish_reason,
        "token_ids": text.token_ids,
        "score": np.float32(text.score),
        **_scores(text.token_scores),
    }


def _piece(piece: GeneratedPiece) -> Mapping[str, Any]:
    return {
        "sequence_index": piece.sequence_index,
        "text": piece.text,
        "token_ids": piece.token_ids,
        **_scores(piece.token_scores),
    }


def _scores(scores: Sequence[float]) -> Mapping[str, Any]:
    """Return the scores of tokens where there are some, with a float32's own digits."""
    return {"token_scores": np.array(scores, np.float32)} if scores else {}
