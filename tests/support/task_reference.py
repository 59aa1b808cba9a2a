"""Answer with transformers, for the same checkpoint and input: by its pipelines, or its model classes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoTokenizer

Floats = NDArray[np.float64]


@functools.cache
def pipeline(task: str, directory: Path) -> Any:
    """Return a pipeline in float32 on the CPU."""
    make: Any = transformers.pipeline
    return make(task, model=str(directory), tokenizer=str(directory), dtype=torch.float32, device="cpu")


@functools.cache
def tokenizer(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory)


@functools.cache
def model(kind: str, directory: Path) -> Any:
    """Return a model of one of transformers' Auto classes, such as "AutoModelForMultipleChoice"."""
    return getattr(transformers, kind).from_pretrained(directory, dtype=torch.float32).eval()


@torch.inference_mode()
def next_sentence(directory: Path, first: str, second: str) -> float:
    """Return the probability that the second text follows the first."""
    inputs = tokenizer(directory)([first], [second], return_tensors="pt", truncation=True, max_length=512)
    logits = model("AutoModelForNextSentencePrediction", directory)(**inputs).logits
    return float(logits[0].softmax(-1)[0])


@torch.inference_mode()
def choose(directory: Path, prompt: str, choices: list[str]) -> Floats:
    """Return the probability of each choice."""
    rows = [tokenizer(directory)([prompt], [choice], return_tensors="pt") for choice in choices]
    found = model("AutoModelForMultipleChoice", directory)
    logits = [found(**{name: values.unsqueeze(0) for name, values in row.items()}).logits for row in rows]
    return torch.cat(logits, dim=1)[0].softmax(-1).double().numpy()


@torch.inference_mode()
def token_log_probabilities(directory: Path, text: str) -> Floats:
    """Return the log probability of each token but the special ones, masked alone, in order."""
    spell = tokenizer(directory)
    found = spell(text, truncation=True, max_length=512, return_special_tokens_mask=True)
    ids, scores = found["input_ids"], []
    types = torch.tensor([found["token_type_ids"]]) if "token_type_ids" in found else None
    for place, special in enumerate(found["special_tokens_mask"]):
        if not special:
            masked = torch.tensor([ids])
            masked[0, place] = spell.mask_token_id
            extra = {} if types is None else {"token_type_ids": types}
            logits = model("AutoModelForMaskedLM", directory)(input_ids=masked, **extra).logits
            scores.append(float(logits[0, place].log_softmax(-1)[ids[place]]))
    return np.array(scores)


def answers(
    directory: Path,
    question: str,
    context: str,
    *,
    top_k: int = 1,
    max_length: int = 384,
    stride: int = 128,
    max_answer_tokens: int = 15,
    allow_no_answer: bool = False,
) -> list[dict[str, Any]]:
    """Answer as the question-answering pipeline of transformers 4, which transformers 5 no longer has."""
    windows = tokenizer(directory)(
        question,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
    )
    found: list[dict[str, Any]] = []
    none = float("inf")
    for number in range(len(windows["input_ids"])):
        encoding = windows.encodings[number]
        starts, ends = _logits(directory, encoding)
        in_context = np.array([sequence == 1 for sequence in encoding.sequence_ids])
        allowed = in_context.copy()
        allowed[0] = True
        start, end = _masked_softmax(starts, allowed), _masked_softmax(ends, allowed)
        none = min(none, start[0] * end[0])
        for score, first, last in _best(start * in_context, end * in_context, in_context, max_answer_tokens, top_k):
            begin = encoding.word_to_chars(encoding.token_to_word(first), 1)[0]
            finish = encoding.word_to_chars(encoding.token_to_word(last), 1)[1]
            text = context[begin:finish]
            same = [each for each in found if each["text"].lower() == text.lower()]
            if same:
                same[0]["score"] += score
            else:
                found.append({"text": text, "score": score, "start": begin, "end": finish})
    if allow_no_answer:
        found.append({"text": "", "score": none, "start": 0, "end": 0})
    return sorted(found, key=lambda each: -each["score"])[:top_k]


@torch.inference_mode()
def _logits(directory: Path, encoding: Any) -> tuple[Floats, Floats]:
    found = model("AutoModelForQuestionAnswering", directory)
    inputs = {"input_ids": torch.tensor([encoding.ids])}
    if "token_type_ids" in tokenizer(directory).model_input_names:
        inputs["token_type_ids"] = torch.tensor([encoding.type_ids])
    output = found(**inputs)
    return output.start_logits[0].double().numpy(), output.end_logits[0].double().numpy()


def _masked_softmax(logits: Floats, allowed: NDArray[np.bool_]) -> Floats:
    kept = np.where(allowed, logits, -10000.0)
    powers = np.exp(kept - kept.max())
    shares: Floats = powers / powers.sum()
    return shares


def _best(
    start: Floats, end: Floats, allowed: NDArray[np.bool_], longest: int, top_k: int
) -> list[tuple[float, int, int]]:
    """Return the candidates of one window, best first: more than are wanted, as some will be the same words."""
    products = np.tril(np.triu(np.outer(start, end)), longest - 1)
    places = [(first, last) for first, last in np.argwhere(products > 0) if allowed[first] and allowed[last]]
    places.sort(key=lambda place: -products[place[0], place[1]])
    return [(float(products[first, last]), int(first), int(last)) for first, last in places[: 2 * top_k + 10]]
