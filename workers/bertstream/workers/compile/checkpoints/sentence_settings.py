"""Read the files that sentence-transformers adds to a checkpoint: its modules, prompts, maximum length.

Source: the files that its releases 2 to 6 write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertstream.workers.compile.checkpoints.chain import Chain, read_chain
from bertstream.workers.compile.checkpoints.multi_vector import (
    MultiVectorSettings,
    named_prompts,
    read_multi_vector,
)
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.compile.sources.modules import read_modules, transformer_folder
from bertstream.workers.compile.sources.weight_files import MULTI_VECTOR_WEIGHTS
from bertstream.workers.models import NO_SENTENCE, SentenceShape
from bertstream.workers.programs.description import DefaultPooling, SparseDefault

GENERAL_FILE = "config_sentence_transformers.json"
# The settings of the first module are named after a model type, which need not be the checkpoint's.
_SETTINGS_FILES = "sentence_*_config.json"
_CROSS_ENCODER = "CrossEncoder"
_SPARSE = (
    "The checkpoint's vectors are sparse (SPLADE); of dense ones it says nothing, and mean pooling is the default."
)
_MULTI_VECTOR = (
    "The checkpoint's vectors are one for each token (ColBERT); of a text's it says nothing, and mean pooling is the "
    "default."
)
_KINDS = {"retrieval.query": ("query",), "retrieval.passage": ("document",)}  # of texts, by tasks that are for one
_NO_POOLING = "The checkpoint names no sentence-transformers pooling; mean pooling is the default."


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """Hold what the checkpoint's authors set for sentence vectors, or for scores of pairs."""

    pooling: DefaultPooling = field(default_factory=DefaultPooling)
    shape: SentenceShape = NO_SENTENCE  # what computes the pooling "checkpoint", or scores
    folders: tuple[Path, ...] = ()  # with the weights of each of the shape's steps
    classifies: bool = False  # a CrossEncoder that gives the scores of the encoder's head
    scores_by_modules: bool = False  # a CrossEncoder that gives the shape's scores, not a head's
    sparse: SparseDefault | None = None  # a SparseEncoder
    multi_vector: MultiVectorSettings | None = None  # a MultiVectorEncoder
    max_seq_length: int = 0  # 0: not set
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    unsupported: tuple[str, ...] = ()  # what would have to be run and cannot be
    warnings: tuple[str, ...] = ()

    def without_tails(self, family: str) -> SentenceSettings:
        """Return the settings for an encoder in which all tokens of a text are attended to."""
        own = self.multi_vector
        if own is None or own.expansion is None or own.expansion.attend:
            return self
        what = f"an expansion of queries that is not attended to by {family}"
        return replace(self, unsupported=(*self.unsupported, what), multi_vector=replace(own, expansion=None))

    def for_task(self, task: str, prompt: str) -> SentenceSettings:
        """Return the settings for one task of several: its prompt is the only one, and the default.

        Where the checkpoint's files have no prompt of the task's name, it is the given one.
        """
        text = self.prompts.get(task, prompt)
        kind = dict.fromkeys(_KINDS.get(task, ()), text)
        return replace(self, prompts={task: text, **kind}, default_prompt_name=task)


def read_sentence_settings(root: Path, hidden_size: int, encoders: Sequence[str] = ()) -> SentenceSettings:
    """Parse the files. Without modules.json, the pooling is the mean, not normalised. Raises CheckpointError.

    encoders: classes of the checkpoint's own code that are the encoder, too.
    """
    modules = read_modules(root)
    general, warnings = read_object(root / GENERAL_FILE), list[str]()
    first = _first_settings(transformer_folder(root))
    if multi_vector := read_multi_vector(root, modules, first, general, hidden_size):
        return _multi_vector(multi_vector, first)
    if not modules:
        # BGE-M3's own code does so, whether or not modules.json is there.
        has_both = (root / MULTI_VECTOR_WEIGHTS).exists()
        return SentenceSettings(DefaultPooling("cls", normalize=True) if has_both else DefaultPooling())
    prompts, default_prompt = _prompts(general, warnings)
    chain = read_chain(modules, first, hidden_size, encoders)
    if general.get("model_type") == _CROSS_ENCODER:
        found = _of_pairs(chain, prompts.get(default_prompt, ""))
    else:
        found = _sparse(chain, general) if chain.gives_logits else _of_texts(chain, _count(general, "truncate_dim"))
        found = replace(found, default_prompt_name=default_prompt)
    return replace(
        found,
        max_seq_length=_count(first, "max_seq_length"),
        lowercase=first.get("do_lower_case") is True,
        prompts=prompts,
        warnings=(*found.warnings, *warnings),
    )


def _multi_vector(settings: MultiVectorSettings, first: Mapping[str, Any]) -> SentenceSettings:
    """Return the settings of a model that gives a vector for each token."""
    return SentenceSettings(
        multi_vector=settings,
        max_seq_length=_count(first, "max_seq_length"),
        lowercase=first.get("do_lower_case") is True,
        prompts=dict(settings.prompts),
        default_prompt_name=settings.default_prompt_name,
        unsupported=settings.unsupported,
        warnings=(_MULTI_VECTOR, *settings.warnings),
    )


def _first_settings(folder: Path) -> dict[str, Any]:
    found = sorted(folder.glob(_SETTINGS_FILES))
    return read_object(found[0]) if found else {}


def _of_pairs(chain: Chain, prompt: str) -> SentenceSettings:
    """Return the settings of a CrossEncoder, whose scores come from the encoder's own head or from modules after it."""
    if prompt:  # no task puts text before a pair
        chain = chain.refusing(f"the prompt {prompt!r} before the first text of each pair")
    if not chain.unsupported and chain.classifies == bool(chain.modes or chain.steps):
        chain = chain.refusing("a CrossEncoder whose modules end in no scores")
    if chain.unsupported or not chain.modes:
        return SentenceSettings(classifies=not chain.unsupported, unsupported=chain.unsupported)
    if not chain.scores:
        return SentenceSettings(unsupported=("a CrossEncoder whose modules end in no scores",))
    return SentenceSettings(shape=chain.shape, folders=chain.folders, scores_by_modules=True)


def _sparse(chain: Chain, general: Mapping[str, Any]) -> SentenceSettings:
    """Return the settings of a SparseEncoder."""
    if chain.sparse is None and not chain.unsupported:
        chain = chain.refusing("a SparseEncoder whose modules end in logits")
    if chain.sparse is None:
        return SentenceSettings(unsupported=chain.unsupported)
    sparse = SparseDefault(chain.sparse.strategy, chain.sparse.activation, _count(general, "max_active_dims"))
    return SentenceSettings(sparse=sparse, unsupported=chain.unsupported, warnings=(_SPARSE,))


def _of_texts(chain: Chain, truncation: int) -> SentenceSettings:
    dimensions = truncation if truncation < chain.width else 0
    if not chain.unsupported and (chain.scores or chain.classifies):
        chain = chain.refusing("a SentenceTransformer whose modules end in scores")
    if dimensions and chain.steps and chain.modes == ("pooler",):
        chain = chain.refusing("pooler vectors that are cut after they are normalised")
    if chain.unsupported:
        chain = chain.without_steps()
    warnings = () if chain.modes or chain.unsupported else (_NO_POOLING,)
    found = _pooling(chain, dimensions)
    return replace(found, unsupported=chain.unsupported, warnings=warnings)


def _pooling(chain: Chain, dimensions: int) -> SentenceSettings:
    """Return plain pooling where that is all, else "checkpoint". Vectors are cut after all modules."""
    normalize = bool(chain.steps) and chain.steps[-1].kind == "normalize" and not dimensions
    if normalize:
        chain = chain.without_last()
    if len(chain.modes) <= 1 and not chain.steps and chain.include_prompt:
        return SentenceSettings(DefaultPooling(chain.modes[0] if chain.modes else "mean", normalize, dimensions))
    steps = (
        chain.descriptions + (("normalize",) if normalize else ()) + ((f"first {dimensions}",) if dimensions else ())
    )
    width = chain.width
    pooling = DefaultPooling("checkpoint", normalize, dimensions or width, width, chain.include_prompt, steps)
    return SentenceSettings(pooling, chain.shape, chain.folders)


def _count(settings: Mapping[str, Any], key: str) -> int:
    """Return a number above 0, or 0 where there is none."""
    found = settings.get(key)
    return found if isinstance(found, int) and found > 0 else 0


def _prompts(config: Mapping[str, Any], warnings: list[str]) -> tuple[dict[str, str], str]:
    prompts = named_prompts(config)
    default = config.get("default_prompt_name") or ""
    if default and str(default) not in prompts:
        warnings.append(f"The checkpoint's default prompt {default!r} is not among its prompts; none is the default.")
        default = ""
    return prompts, str(default)
