"""Parses GenerationOptions into the workers' options; a request's options win over the checkpoint's own defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.generation.answers import AnswerEnd
from bertstream.server.core.generation.lengths import Lengths
from bertstream.server.core.generation.plan import GenerationPlan, generation_of
from bertstream.server.core.tokenization import Side, Truncation
from bertstream.server.protocols.bertstream_v1.validation.names import PRIORITIES, SIDES
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation, parse_truncation
from bertstream.server.protocols.enums import name_of, names_in, value_of
from bertstream.v1 import generation_pb2, types_pb2
from bertstream.workers.contract import EarlyStopping, GenerationOptions
from bertstream.workers.programs.description import GenerationDescription, ModelDescription

MAX_BEAMS = 16
MAX_SEQUENCES = 64  # that are sampled for one input
MAX_STRINGS = 1024  # bad words
MAX_STOP_STRINGS = 16
MAX_CHARACTERS = 256  # of one bad word or stop string
MAX_EOS_TOKENS = 64
_DEFAULT_NEW_TOKENS = 20  # as in transformers
_DEFAULT_TOP_K = 50

EARLY_STOPPINGS: Mapping[int, EarlyStopping] = names_in(generation_pb2.EarlyStopping, EarlyStopping)
FINISH_REASONS: Mapping[int, AnswerEnd] = names_in(generation_pb2.FinishReason, AnswerEnd)
_OWN_EARLY_STOPPINGS: Mapping[object, EarlyStopping] = {False: "heuristic", True: "first", "never": "never"}


@dataclass(frozen=True, slots=True)
class AskedGeneration(GenerationPlan):
    """A plan, and the options in effect, which the response repeats."""

    effective: generation_pb2.GenerationOptions


def parse_generation(
    options: generation_pb2.GenerationOptions,
    name: str,
    description: ModelDescription,
    default_priority: int,
    *,
    pieces: bool = False,
    path: str = "options",
) -> AskedGeneration:
    """Parse the options. With `pieces` tokens are sent as they come, which rules out beam search.

    Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE.
    """
    own = generation_of(description)
    asked = _Asked(options, own.defaults, path)
    causal = "causal_lm" in description.heads
    lengths = _lengths(asked, own, causal)
    strategy = _strategy(asked, own, pieces)
    truncation = _truncation(options.truncation, description, lengths, f"{path}.truncation")
    unset = options.priority == types_pb2.PRIORITY_UNSPECIFIED
    priority = default_priority if unset else name_of(PRIORITIES, options.priority, f"{path}.priority")
    plan = AskedGeneration(
        options=strategy,
        lengths=lengths,
        truncation=truncation,
        add_special_tokens=options.add_special_tokens if options.HasField("add_special_tokens") else None,
        seed=options.seed if options.HasField("seed") else None,
        bad_words=asked.strings("bad_words", MAX_STRINGS),
        stop_strings=asked.strings("stop_strings", MAX_STOP_STRINGS),
        keep_special_tokens=options.keep_special_tokens,
        token_scores=options.token_scores,
        priority=priority,
        effective=generation_pb2.GenerationOptions(),
    )
    _fill(plan, options, name)
    return plan


class _Asked:
    """Reads options: a request's own must be in range; where it has none, the checkpoint's own default is used."""

    def __init__(self, options: generation_pb2.GenerationOptions, own: Mapping[str, Any], path: str) -> None:
        self.options = options
        self.own = own
        self.path = path

    def has(self, name: str) -> bool:
        return bool(self.options.HasField(name))  # type: ignore[arg-type]

    def refuse(self, name: str, description: str, reason: str) -> None:
        raise invalid(f"{self.path}.{name}", description, reason)

    def whole(self, name: str, fallback: int, least: int, most: int) -> int:
        """Return a whole number in a range."""
        if not self.has(name):
            return min(max(int(self.own.get(name, fallback)), least), most)
        value = int(getattr(self.options, name))
        if not least <= value <= most:
            self.refuse(name, f"{value} is not between {least} and {most}", "INVALID_RANGE")
        return value

    def real(self, name: str, fallback: float, least: float, most: float = math.inf, *, above: bool = False) -> float:
        """Return a finite number in a range; with `above` it must be greater than the least."""
        if not self.has(name):
            return float(self.own.get(name, fallback))
        # The field has 32 bits, and 0.7 must stay the 0.7 that the caller wrote.
        value = float(str(np.float32(getattr(self.options, name))))
        if not (math.isfinite(value) and least <= value <= most) or (above and value == least):
            bound = "above" if above else "at least"
            up_to = "" if most == math.inf else f" and at most {most:g}"
            self.refuse(name, f"{value:g} is not a number {bound} {least:g}{up_to}", "INVALID_RANGE")
        return value

    def flag(self, name: str, fallback: bool) -> bool:
        return bool(getattr(self.options, name)) if self.has(name) else bool(self.own.get(name, fallback))

    def only_with(self, names: Sequence[str], true: bool, what: str) -> None:
        """Raise INVALID_COMBINATION for options that are set but not used, as they need `what`."""
        for name in names:
            given = self.has(name) if name != "early_stopping" else bool(self.options.early_stopping)
            if given and not true:
                self.refuse(name, f"it means something only with {what}", "INVALID_COMBINATION")

    def strings(self, name: str, most: int) -> tuple[str, ...]:
        """Return a list of texts, each once. Raises for too many, for an empty one and for one that is too long."""
        given: Sequence[str] = getattr(self.options, name)
        if len(given) > most:
            raise too_large(f"{self.path}.{name}", f"there are {len(given)}; the limit is {most}")
        for i, text in enumerate(given):
            if not text:
                self.refuse(f"{name}[{i}]", "it is empty", "INVALID_EMPTY_TEXT")
            if len(text) > MAX_CHARACTERS:
                about = f"it has {len(text)} characters; the limit is {MAX_CHARACTERS}"
                raise too_large(f"{self.path}.{name}[{i}]", about)
        return tuple(dict.fromkeys(given))


def _lengths(asked: _Asked, own: GenerationDescription, causal: bool) -> Lengths:
    longest = own.max_tokens - 1  # at least one token comes before the new ones
    given = asked.has("max_new_tokens")
    default = own.defaults.get("max_new_tokens")
    if default is None and "max_length" not in own.defaults:
        default = _DEFAULT_NEW_TOKENS
    lengths = Lengths(
        causal=causal,
        max_tokens=own.max_tokens,
        max_new_tokens=asked.whole("max_new_tokens", 1, 1, longest) if given else default,
        asked=given,
        max_length=int(own.defaults.get("max_length", 0)),
        min_new_tokens=own.defaults.get("min_new_tokens"),
        min_length=int(own.defaults.get("min_length", 0)),
    )
    if not asked.has("min_new_tokens"):
        return lengths
    return lengths.at_least(asked.whole("min_new_tokens", 0, 0, lengths.max_new(1)))


def _strategy(asked: _Asked, own: GenerationDescription, pieces: bool) -> GenerationOptions:
    beams, samples = _beams_and_sampling(asked, pieces)
    asked.only_with(("temperature", "top_k", "top_p"), samples, "do_sample")
    asked.only_with(("length_penalty", "early_stopping"), beams > 1, "num_beams above 1")
    most = MAX_SEQUENCES if samples else beams
    if asked.has("num_return_sequences") and asked.options.num_return_sequences > 1 and most == 1:
        asked.refuse("num_return_sequences", "several need do_sample, or as many num_beams", "INVALID_COMBINATION")
    values: dict[str, Any] = {}
    if samples:
        values |= {
            "temperature": asked.real("temperature", 1.0, 0.0, above=True),
            "top_k": asked.whole("top_k", _DEFAULT_TOP_K, 0, (1 << 31) - 1),
            "top_p": asked.real("top_p", 1.0, 0.0, 1.0),
        }
    if beams > 1:
        values |= {
            "length_penalty": asked.real("length_penalty", 1.0, -math.inf),
            "early_stopping": _early_stopping(asked),
        }
    return GenerationOptions(
        max_new_tokens=1,
        num_beams=beams,
        do_sample=samples,
        num_return_sequences=asked.whole("num_return_sequences", 1, 1, most),
        repetition_penalty=asked.real("repetition_penalty", 1.0, 0.0, above=True),
        no_repeat_ngram_size=asked.whole("no_repeat_ngram_size", 0, 0, (1 << 31) - 1),
        eos_token_ids=_eos(asked, own),
        stream=pieces or bool(asked.options.stop_strings),
        **values,
    )


def _beams_and_sampling(asked: _Asked, pieces: bool) -> tuple[int, bool]:
    """Return the number of beams, and whether to sample.

    An option of the request wins over one of the checkpoint that does not go with it.
    """
    wants_sampling = asked.has("do_sample") and asked.options.do_sample
    if asked.has("num_beams"):
        beams = asked.whole("num_beams", 1, 1, MAX_BEAMS)
        for excluded, name, about in (
            (pieces, "num_beams", "it must be 1: a beam search has no text before its end"),
            (wants_sampling, "do_sample", "it does not go with num_beams above 1"),
            (bool(asked.options.stop_strings), "stop_strings", "they do not go with num_beams above 1"),
        ):
            if beams > 1 and excluded:
                asked.refuse(name, about, "INVALID_COMBINATION")
    elif pieces or wants_sampling or asked.options.stop_strings:
        beams = 1
    else:
        beams = asked.whole("num_beams", 1, 1, MAX_BEAMS)
    return beams, beams == 1 and asked.flag("do_sample", False)


def _early_stopping(asked: _Asked) -> EarlyStopping:
    given = asked.options.early_stopping
    if given == generation_pb2.EARLY_STOPPING_UNSPECIFIED:
        return _OWN_EARLY_STOPPINGS.get(asked.own.get("early_stopping", False), "heuristic")
    return name_of(EARLY_STOPPINGS, given, f"{asked.path}.early_stopping")


def _eos(asked: _Asked, own: GenerationDescription) -> tuple[int, ...]:
    given = asked.options.eos_token_ids
    if len(given) > MAX_EOS_TOKENS:
        raise too_large(f"{asked.path}.eos_token_ids", f"there are {len(given)}; the limit is {MAX_EOS_TOKENS}")
    for i, id in enumerate(given):
        if not 0 <= id < own.vocabulary_size:
            asked.refuse(f"eos_token_ids[{i}]", f"{id} is not in [0, {own.vocabulary_size})", "INVALID_TOKEN_ID")
    return tuple(dict.fromkeys(given)) or own.eos_token_ids


def _truncation(
    options: types_pb2.TruncationOptions, description: ModelDescription, lengths: Lengths, path: str
) -> Truncation:
    """Return how to truncate inputs; of a prompt the end is kept, and the new tokens must have room after it."""
    parsed = parse_truncation(options, description, path)
    if not lengths.causal:
        return parsed
    unset = options.side == types_pb2.TRUNCATION_SIDE_UNSPECIFIED
    side: Side = "left" if unset else name_of(SIDES, options.side, f"{path}.side")
    return Truncation(parsed.strategy, min(parsed.max_length, lengths.max_prompt), side)


def _fill(plan: AskedGeneration, options: generation_pb2.GenerationOptions, name: str) -> None:
    """Fill in the options in effect. Those that the others make unused stay unset."""
    effective, chosen = plan.effective, plan.options
    effective.CopyFrom(options)
    effective.model = name
    effective.truncation.CopyFrom(effective_truncation(plan.truncation))
    effective.priority = value_of(PRIORITIES, plan.priority)
    effective.max_new_tokens = plan.lengths.max_new(1)
    effective.min_new_tokens = plan.lengths.min_new(1)
    for field in ("num_beams", "num_return_sequences", "do_sample", "repetition_penalty", "no_repeat_ngram_size"):
        setattr(effective, field, getattr(chosen, field))
    if chosen.do_sample:
        effective.temperature, effective.top_k, effective.top_p = chosen.temperature, chosen.top_k, chosen.top_p
    if chosen.num_beams > 1:
        effective.length_penalty = chosen.length_penalty
        effective.early_stopping = value_of(EARLY_STOPPINGS, chosen.early_stopping)
    effective.eos_token_ids[:] = chosen.eos_token_ids
