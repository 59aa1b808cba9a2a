"""Read what config.json says of task heads: which there may be, their labels, and how scores are made of logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertstream.workers.compile.checkpoints.families import Head
from bertstream.workers.compile.sources.bounds import MOST_LABELS, check_count, is_count, shortened, shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.contract import TASKS, ScoreFunction
from bertstream.workers.models import SUPPORTED_ACTIVATIONS, EncoderShape, HeadShape, TextPooling

DEFAULT_LABELS = 2
_POOLINGS: dict[str, TextPooling] = {"cls": "cls", "mean": "mean"}
_RERANK_FUNCTIONS: dict[str, ScoreFunction] = {"Identity": "none", "Sigmoid": "sigmoid"}


@dataclass(frozen=True, slots=True)
class PossibleHead:
    """Describe a head that the checkpoint has if its weights are there."""

    head: Head
    shape: HeadShape
    promised: bool  # the checkpoint's class says that it has this head
    optional: frozenset[str] = frozenset()  # our weights that may not be there, since they are zeros


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """Say how a sequence classification's logits become scores."""

    function: ScoreFunction = "softmax"
    rerank_function: str = ""  # of sentence-transformers' CrossEncoder; "" where the checkpoint names none
    unsupported: tuple[str, ...] = ()  # concerns reranking alone
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """Hold all that the configuration says of task heads."""

    possible: tuple[PossibleHead, ...] = ()
    labels: tuple[str, ...] = ()  # empty where no head has any
    scores: ScoreSettings = ScoreSettings()
    tied: bool = True  # a vocabulary matrix that is missing is that of the word embeddings


@dataclass(frozen=True, slots=True)
class Task:
    """Say which task head without a vocabulary the checkpoint has, where the user or the weights tell."""

    name: str = ""  # one of TASKS; "" follows the checkpoint's class
    labels: int = 0  # their number where config.json gives none; 0: transformers' default


NO_TASK = Task()


@dataclass(frozen=True, slots=True)
class Hints:
    """Hold what config.json says of the task besides the checkpoint's class."""

    labels: tuple[str, ...] = ()  # their names, in no order
    count: int = 0  # of labels; 0 where config.json gives none
    scores: bool = False  # whether config.json says how scores of whole texts are made


def read_hints(root: Path, values: Mapping[str, Any]) -> Hints:
    """Return the hints that are valid. read_labels refuses the rest where labels are needed."""
    named, count = values.get("id2label"), values.get("num_labels")
    labels = tuple(map(str, named.values())) if isinstance(named, dict) else ()
    scores = bool(values.get("problem_type") or _rerank_name(root, values))
    return Hints(labels, count if is_count(count) and count <= MOST_LABELS else len(labels), scores)


def read_head_settings(
    directory: Path,
    values: Mapping[str, Any],
    heads: tuple[Head, ...],
    architecture: str,
    shape: EncoderShape,
    task: Task = NO_TASK,
    root: Path | None = None,
) -> HeadSettings:
    """Read config.json's `values`, with the family's defaults filled in. Raises CheckpointError.

    heads: the family's. root: the checkpoint's own folder, where sentence-transformers has put the encoder into a
    folder below it.
    """
    path = directory / "config.json"
    heads = tuple(head for head in heads if _is_possible(head, values, architecture, task))
    labels = read_labels(values, path, task.labels or DEFAULT_LABELS) if any(head.has_labels for head in heads) else ()
    possible = []
    for head in heads:
        outputs = shape.vocabulary_size if head.vocabulary_matrix else head.outputs or len(labels)
        head_shape = HeadShape(
            name=head.name,
            outputs=outputs,
            kind=head.kind,
            reads_pooler=head.reads_pooler,
            has_dense="dense" in head.modules,
            has_norm="norm" in head.modules,
            pooling=read_pooling(head, values, path),
            activation=read_activation(head, values, path),
        )
        optional = frozenset(ours for ours, key in head.optional.items() if values.get(key) is False)
        possible.append(PossibleHead(head, head_shape, _is_promised(head, architecture, task), optional))
    scored = any(head.name == "sequence_classification" for head in heads)
    scores = read_scores(root or directory, values, len(labels)) if scored else ScoreSettings()
    return HeadSettings(tuple(possible), labels, scores, values.get("tie_word_embeddings") is not False)


def of_modules(settings: HeadSettings, root: Path, outputs: int) -> HeadSettings:
    """Return the settings where sentence-transformers' modules make the scores. Raises CheckpointError."""
    labels = settings.labels if len(settings.labels) == outputs else numbered_labels(outputs)
    return replace(settings, labels=labels, scores=read_scores(root, {}, outputs))


def _is_promised(head: Head, architecture: str, task: Task) -> bool:
    """Return whether the checkpoint's class, or the task that overrides it, requires this head."""
    return head.name == task.name if task.name and head.name in TASKS else architecture.endswith(head.classes)


def _is_possible(head: Head, values: Mapping[str, Any], architecture: str, task: Task) -> bool:
    # The same weights predict either a masked token or the next one.
    if head.name == ("fill_mask" if values.get("is_decoder") is True else "causal_lm"):
        return False
    by_weights = head.by_weights or (head.name == "causal_lm" and not values.get("architectures"))
    return by_weights or _is_promised(head, architecture, task)


def read_labels(values: Mapping[str, Any], path: Path, default: int = DEFAULT_LABELS) -> tuple[str, ...]:
    """Return the labels by number, named as transformers names them where the config does not.

    Raises CheckpointError.
    """
    named = values.get("id2label")
    if named is not None and not isinstance(named, dict):
        raise CheckpointError(f"{path}: id2label must be a table of labels by number, not {shown(named)}")
    said = values.get("num_labels")
    count = said if said is not None else default if named is None else len(named)
    check_count(count, MOST_LABELS, path, "num_labels" if named is None or said is not None else "labels in id2label")
    if named is None or len(named) != count:
        return numbered_labels(count)
    try:
        labels = {int(number): str(label) for number, label in named.items()}
        return tuple(labels[i] for i in range(count))
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: id2label must number its labels from 0, not {shortened(', '.join(named))}"
        ) from error


def numbered_labels(count: int) -> tuple[str, ...]:
    """Return the names that transformers gives to labels without names."""
    return tuple(f"LABEL_{i}" for i in range(count))


def read_scores(root: Path, values: Mapping[str, Any], labels: int) -> ScoreSettings:
    """Apply the rules of transformers' text-classification pipeline and sentence-transformers' CrossEncoder."""
    name = _rerank_name(root, values)
    rerank = _RERANK_FUNCTIONS.get(name.rsplit(".", 1)[-1], "")
    function = _function(values.get("problem_type"), labels)
    if not name or rerank:
        return ScoreSettings(function, rerank)
    if name.startswith("torch."):
        return ScoreSettings(function, unsupported=(f"the function {name} of reranking scores",))
    # sentence-transformers too uses its default in place of code that is not torch's.
    return ScoreSettings(function, warnings=(f"The checkpoint's function of reranking scores, {name}, is not known.",))


def _function(problem: Any, labels: int) -> ScoreFunction:
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label_classification" or labels == 1 else "softmax"


def _rerank_name(root: Path, values: Mapping[str, Any]) -> str:
    """Return the function's name, looked for where release 5, then 4, then earlier ones write it."""
    own = values.get("sentence_transformers")
    found = (
        read_object(root / "config_sentence_transformers.json").get("activation_fn"),
        own.get("activation_fn") if isinstance(own, dict) else None,
        values.get("sbert_ce_default_activation_function"),
    )
    return next((str(name) for name in found if name), "")


def read_pooling(head: Head, values: Mapping[str, Any], path: Path) -> TextPooling:
    """Return what the head reads of a text. Raises CheckpointError for what is neither "cls" nor "mean"."""
    name = values.get(head.pooling_setting, "cls")
    found: TextPooling | None = _POOLINGS.get(name) if isinstance(name, str) else None
    if found is None:
        raise CheckpointError(f"{path}: {head.pooling_setting} must be cls or mean, not {shown(name)}")
    return found


def read_activation(head: Head, values: Mapping[str, Any], path: Path) -> str:
    """Return the activation after the head's dense layer; "" for none.

    Raises CheckpointError for one that we do not support.
    """
    for key, harmless in head.harmless.items():
        if key in values and values[key] not in harmless:
            raise CheckpointError(f"{path}: {key} = {shown(values[key])} is not supported")
    name = values.get(head.activation_setting, head.activation) or ""
    if name and name not in SUPPORTED_ACTIVATIONS:
        supported = ", ".join(SUPPORTED_ACTIVATIONS)
        raise CheckpointError(
            f"{path}: {head.activation_setting} {shown(name)} is not supported; these are: {supported}"
        )
    return str(name)
