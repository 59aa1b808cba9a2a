"""Prepares a message's texts for the workers: tokenizes them, resolves spans, and sets aside those that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, Violation, invalid, invalid_fields, not_utf8
from bertstream.server.core.kinds import with_token_vectors
from bertstream.server.core.layout import Layout
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.selection import select_rows
from bertstream.server.core.sent import SentItems, SentTexts
from bertstream.server.core.spans import AskedSpans, token_spans
from bertstream.server.core.tokenization import Inputs, Texts, TokenizationError, Tokenized
from bertstream.workers.contract import Batch, OutputOptions, Spans

NAMES = ("first text", "second text")  # of a pair, in errors


@dataclass(frozen=True, slots=True)
class Prepared:
    """The texts of a message that can be computed, and the errors of those that cannot."""

    tokens: Tokenized  # a row for each text that can be computed; but `truncated` is of all texts of the message
    batch: Batch
    layout: Layout
    failed: dict[int, RequestError]  # by the text's index in the message
    output_options: OutputOptions  # the plan's, with what depends on the prompt
    tokenize_seconds: float

    @property
    def texts(self) -> NDArray[np.int32]:
        """The index of each row's text in the message."""
        return self.tokens.text_indexes

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Whether each row's text was cut."""
        return self.tokens.truncated[self.texts]

    def refuse_failed(self) -> None:
        """Raise INVALID_ARGUMENT, naming each text that failed, where any did; for calls that fail as a whole."""
        refuse_failed(self.failed)


async def prepare(model: ServedModel, plan: EncodingPlan, sent: SentTexts, spans: AskedSpans | None = None) -> Prepared:
    """Tokenize the texts in a thread; raise INVALID_ARGUMENT where the message as a whole makes no sense."""
    inputs = sent.inputs
    timed = await model.tokenize(inputs, plan.options_for(inputs), plan.prompt_for(inputs, sent.option("prompt")))
    tokens = timed.tokens
    failed = failed_texts(tokens, sent)
    output_options = await _output_options(model, plan, inputs)
    failed |= _nothing_left(tokens, output_options, sent)
    token_ranges = None
    if spans is not None:
        texts = inputs.texts if isinstance(inputs, Texts) else ()
        token_ranges, off = token_spans(spans, tokens, texts, plan.tokenize.offset_unit)
        for index, why in off.items():
            failed.setdefault(index, invalid(sent.at(index), why, "INVALID_SPAN"))
    if failed:
        tokens, token_ranges = _without(tokens, token_ranges, failed)
    counts = None if token_ranges is None else token_ranges.counts
    made = Batch(tokens.ids, tokens.lengths, tokens.type_ids, token_ranges)
    if "token_vectors" in output_options.outputs:
        made = with_token_vectors(made, model.description, plan.kind)
        counts = None if made.spans is None else made.spans.counts
    layout = Layout(made.lengths, counts, output_options.attention_heads)
    return Prepared(tokens, made, layout, failed, output_options, timed.seconds)


async def _output_options(model: ServedModel, plan: EncodingPlan, inputs: Inputs) -> OutputOptions:
    """Return the outputs to compute; the prompt's tokens are left out of the pooling where the checkpoint says so.

    Their number is that of the prompt alone, without the special token at its end, as in sentence-transformers.
    """
    pooling, prompt, options = plan.output_options.pooling, plan.prompt_for(inputs), plan.options_for(inputs)
    leaves_out = pooling and pooling.mode == "checkpoint" and not model.description.default_pooling.include_prompt
    if not (leaves_out and prompt):
        return plan.output_options
    assert pooling is not None
    alone = (await model.tokenize(Texts([prompt]), replace(options, columns=frozenset(), allow_empty=True))).tokens
    special = {token_id for _, token_id in model.description.special_tokens.values()}
    skipped = alone.ids.size - int(alone.ids.size > 0 and int(alone.ids[-1]) in special)
    return replace(plan.output_options, pooling=replace(pooling, skipped=skipped))


def _nothing_left(tokens: Tokenized, output_options: OutputOptions, sent: SentTexts) -> dict[int, RequestError]:
    """Return the error of each text of which nothing but its prompt was left by truncation."""
    if not (output_options.pooling and output_options.pooling.skipped and "pooled" in output_options.outputs):
        return {}
    why = "the prompt alone has as many tokens as a text may have, and this checkpoint pools what is behind it"
    none = tokens.text_indexes[tokens.lengths <= output_options.pooling.skipped].tolist()
    return {index: invalid(sent.at(index), why, "INVALID_TEXT_LENGTH") for index in none}


def failed_texts(tokens: Tokenized, sent: SentTexts) -> dict[int, RequestError]:
    """Return, by its index, the error of each text that could not be tokenized or is not UTF-8."""
    failed = {index: text_error(error, sent.at(index, error.sequence), sent) for index, error in tokens.errors.items()}
    return failed | {index: not_utf8(sent.at(index)) for index in sent.bad}


def text_error(error: TokenizationError, path: str, sent: SentItems, names: tuple[str, str] = NAMES) -> RequestError:
    """Return why the text at `path` could not be tokenized, naming the one of the options that is at fault.

    names: what the two texts of a pair are called.
    """
    about = error.message if error.sequence is None else f"the {names[error.sequence]} {error.message}"
    return invalid(path, f"{about} (see {sent.option(error.option)})" if error.option else about, error.reason)


def refuse_failed(failed: Mapping[int, RequestError]) -> None:
    """Raise INVALID_ARGUMENT, naming each text that failed, where any did; what several share is named once."""
    if failed:
        errors = [failed[index] for index in sorted(failed)]
        listed: list[Violation] = [violation for error in errors for violation in error.violations]
        raise invalid_fields(dict.fromkeys(listed), errors[0].reason)


def _without(tokens: Tokenized, spans: Spans | None, failed: dict[int, RequestError]) -> tuple[Tokenized, Spans | None]:
    gone = list(failed)
    tokens = select_rows(tokens, np.flatnonzero(~np.isin(tokens.text_indexes, gone)))
    if spans is None:
        return tokens, None
    kept = np.repeat(~np.isin(np.arange(spans.counts.size), gone), spans.counts)
    return tokens, Spans(spans.counts[tokens.text_indexes], spans.starts[kept], spans.lengths[kept])
