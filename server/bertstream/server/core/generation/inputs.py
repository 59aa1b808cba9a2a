"""Prepares a message's inputs for the workers: prompts of a decoder, or texts of an encoder."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, Violation, invalid, too_large
from bertstream.server.core.generation.bad_words import Words
from bertstream.server.core.generation.plan import GenerationPlan
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import with_special_tokens
from bertstream.server.core.preparation import failed_texts
from bertstream.server.core.sent import SentTexts
from bertstream.server.core.tokenization import Ids, Inputs, Pairs, Tokenized, TokenizeOptions, Truncation
from bertstream.workers.contract import Generate
from bertstream.workers.ragged import starts_of

_MAX_SEED = (1 << 64) - 1
_TOKEN_BYTES = 8  # typical size of a token in an answer, id and text together
_SCORE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Prompt:
    """One input as a worker gets it."""

    index: int  # in the message
    path: str  # "inputs.texts[3]"
    work: Generate  # without a deadline
    truncated: bool

    @property
    def tokens(self) -> int:
        """The number of tokens of the input."""
        return int(self.work.ids.size)

    @property
    def cost(self) -> int:
        """The most tokens that this input and its answers may take in the worker's cache."""
        options = self.work.options
        return self.tokens + max(options.num_beams, options.num_return_sequences) * options.max_new_tokens

    def error(self, error: RequestError) -> RequestError:
        """Return the error with this input's path, for a call that has other inputs."""
        violations = error.violations or (Violation(self.path, error.message),)
        return replace(error, violations=violations)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The inputs of a message that text can be generated for, and the errors of the others."""

    prompts: Sequence[Prompt]
    failed: dict[int, RequestError]  # by the input's index in the message
    tokenize_seconds: float

    @property
    def seed(self) -> int | None:
        """The seed with which the answers can be had again; None unless tokens of one input alone are drawn."""
        options = self.prompts[0].work.options
        return options.seed if options.do_sample and len(self.prompts) == 1 else None

    def check_answer_size(self, plan: GenerationPlan, limit: int, advice: str) -> None:
        """Raise REQUEST_TOO_LARGE, before any work is done, if one answer for all inputs may become too large.

        limit: bytes. advice: what else to do.
        """
        tokens = plan.options.num_return_sequences * sum(prompt.work.options.max_new_tokens for prompt in self.prompts)
        size = tokens * (_TOKEN_BYTES + _SCORE_BYTES * plan.token_scores)
        if size > limit:
            raise too_large("inputs", f"the answer may have {size} bytes, and the limit is {limit}: {advice}")


async def prepare_prompts(model: ServedModel, plan: GenerationPlan, bad_words: Words, sent: SentTexts) -> Prompts:
    """Tokenize the inputs in a thread; raise INVALID_ARGUMENT where the message as a whole makes no sense."""
    inputs = sent.inputs
    if plan.lengths.causal and isinstance(inputs, Pairs):
        raise invalid(sent.field, "a decoder takes texts, word_lists or token_ids", "INVALID_INPUT_KIND")
    leading = _leading_ids(model, plan, inputs)
    timed = await model.tokenize(inputs, _tokenize_options(plan, inputs, leading))
    tokens, failed = timed.tokens, failed_texts(timed.tokens, sent)
    prompts = []
    for row, (text, work) in enumerate(_works(plan, bad_words, tokens, leading)):
        at = sent.at(text)
        if text in failed:
            continue
        if work.ids.size == 0:
            failed[text] = invalid(at, "has no tokens, and no special tokens are added", "INVALID_EMPTY_TEXT")
            continue
        prompt = Prompt(text, at, work, bool(tokens.truncated[tokens.text_indexes[row]]))
        fitting = _fit(prompt, plan, model.dispatcher.cache_tokens)
        if isinstance(fitting, RequestError):
            failed[text] = fitting
        else:
            prompts.append(fitting)
    return Prompts(prompts, failed, timed.seconds)


def _leading_ids(model: ServedModel, plan: GenerationPlan, inputs: Inputs) -> NDArray[np.int32]:
    """Return the special tokens before a decoder's prompt: those before a text, unless the caller says otherwise."""
    if plan.lengths.causal and plan.add_special_tokens is None and not isinstance(inputs, Ids):
        return np.array(model.tokenizer.leading_ids, np.int32)
    return np.zeros(0, np.int32)


def _tokenize_options(plan: GenerationPlan, inputs: Inputs, leading: NDArray[np.int32]) -> TokenizeOptions:
    truncation = plan.truncation
    if not leading.size:
        options = TokenizeOptions(truncation, allow_empty=True)
        return with_special_tokens(options, plan.add_special_tokens, inputs)
    room = truncation.max_length - leading.size
    if room < 1 and plan.lengths.asked and truncation.max_length == plan.lengths.max_prompt:
        raise invalid("options.max_new_tokens", "it leaves no room for a prompt", "INVALID_RANGE")
    if room < 1:
        about = f"{truncation.max_length} leaves no room behind the special tokens"
        raise invalid("options.truncation.max_length", about, "INVALID_TRUNCATION")
    return TokenizeOptions(
        Truncation(truncation.strategy, room, truncation.side), add_special_tokens=False, allow_empty=True
    )


def _works(
    plan: GenerationPlan, bad_words: Words, tokens: Tokenized, leading: NDArray[np.int32]
) -> list[tuple[int, Generate]]:
    """Return the index of each row's text, and the work for that row."""
    works = []
    starts, texts = starts_of(tokens.lengths).tolist(), tokens.text_indexes.tolist()
    for text, start, length in zip(texts, starts, tokens.lengths.tolist(), strict=True):
        ids, type_ids = tokens.ids[start : start + length], tokens.type_ids
        if type_ids is not None:
            type_ids = type_ids[start : start + length]
        if leading.size:
            ids = np.concatenate([leading, ids])
            type_ids = None if type_ids is None else np.concatenate([np.zeros_like(leading), type_ids])
        before = int(ids.size) if plan.lengths.causal else 1
        options = replace(
            plan.options,
            max_new_tokens=plan.lengths.max_new(before),
            min_new_tokens=plan.lengths.min_new(before),
            bad_words=bad_words,
            seed=_seed(plan),
        )
        works.append((text, Generate(0, ids, options, type_ids, plan.priority)))
    return works


def _seed(plan: GenerationPlan) -> int:
    """Return a seed for one input, with which a worker that takes over draws the same tokens."""
    if plan.seed is not None or not plan.options.do_sample:
        return plan.seed or 0
    return secrets.randbelow(_MAX_SEED + 1)


def _fit(prompt: Prompt, plan: GenerationPlan, cache_tokens: int) -> Prompt | RequestError:
    """Fit the prompt into a worker's cache: cut a default length, and refuse one that the caller asked for."""
    if prompt.cost <= cache_tokens:
        return prompt
    most = (cache_tokens - prompt.tokens) // plan.copies
    if plan.lengths.asked or most < 1:
        about = f"it may grow to {prompt.cost} tokens, with those of the input, and a worker holds {cache_tokens}"
        return too_large(prompt.path, f"{about}: ask for fewer tokens or answers")
    options = prompt.work.options
    fewest = min(options.min_new_tokens, most)
    options = replace(options, max_new_tokens=most, min_new_tokens=fewest)
    return replace(prompt, work=replace(prompt.work, options=options))
