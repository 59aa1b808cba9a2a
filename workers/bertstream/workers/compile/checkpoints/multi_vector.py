"""Read how a checkpoint makes a vector of each token, for late interaction (ColBERT).

Sources: sentence-transformers' MultiVectorEncoder of release 6, PyLate, and Stanford's ColBERT, all of which save other
files for the same.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bertstream.workers.compile.checkpoints.chain import dense_shape
from bertstream.workers.compile.sources.bounds import MOST_WIDTH, check_count, is_count, shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.compile.sources.modules import COLBERT_SETTINGS, ENCODERS, Module
from bertstream.workers.contract import Similarity
from bertstream.workers.models import VectorShape

Kind = Literal["query", "document"]
KINDS: tuple[Kind, ...] = ("query", "document")
STANFORD = "HF_ColBERT"  # the class in config.json
_TOKENS = "token_embeddings"
_OWN_TYPES = {"MultiVectorEncoder": False, "ColBERT": True}  # model_type -> whether PyLate has written it
_PREFIXES = {"query_prefix": "query", "document_prefix": "document"}
_EXPANDED = 32  # tokens of a query, where nothing else is said
_PYLATE_KEYS = ("query_length", "document_length", "do_query_expansion", "attend_to_expansion_tokens", *_PREFIXES)


@dataclass(frozen=True, slots=True)
class Expansion:
    """Hold how short queries are made longer; `token` is None for the mask."""

    length: int
    fixed: bool = True
    attend: bool = False
    token: str | None = None


@dataclass(frozen=True, slots=True)
class MultiVectorSettings:
    """Hold what the checkpoint's authors set for vectors of tokens."""

    steps: tuple[VectorShape, ...] = ()  # what is done to each token's state
    folders: tuple[Path | None, ...] = ()  # with the weights of each; None for the encoder's own files
    similarity: Similarity = "maxsim"
    query_length: int = 0
    document_length: int = 0
    expansion: Expansion | None = None
    skipped_words: tuple[str, ...] = ()
    skips_in: tuple[Kind, ...] = ("document",)
    markers: tuple[str, ...] = ()  # prefixes that are one token each
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    unsupported: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Return the size of a token's vector."""
        return self.steps[-1].outputs

    def refusing(self, what: object) -> MultiVectorSettings:
        """Return the settings with something that cannot be run."""
        return replace(self, unsupported=(*self.unsupported, str(what)))

    def with_step(self, step: VectorShape, folder: Path | None) -> MultiVectorSettings:
        """Return the settings with one more step at their end."""
        return replace(self, steps=(*self.steps, step), folders=(*self.folders, folder))


def read_multi_vector(
    root: Path, modules: Sequence[Module], first: Mapping[str, Any], general: Mapping[str, Any], hidden_size: int
) -> MultiVectorSettings | None:
    """Return the settings, or None for a checkpoint of another kind. Raises CheckpointError.

    first: the settings of the encoder's module; general: those of the whole.
    """
    if not modules:
        architectures = read_object(root / "config.json").get("architectures")
        is_stanfords = isinstance(architectures, list) and STANFORD in architectures
        return _of_stanford(root, hidden_size) if is_stanfords else None
    kind = str(general.get("model_type") or "SentenceTransformer")
    by_prefix = kind == "SentenceTransformer" and any(key in general for key in _PREFIXES)
    if kind not in _OWN_TYPES and not by_prefix:
        return None
    of_pylate = by_prefix or _OWN_TYPES[kind]
    settings = _common(first, general)
    for number, module in enumerate(modules):
        if number or module.kind not in ENCODERS:
            settings = _READERS.get(module.kind, _unknown)(settings, module, hidden_size)
    if of_pylate:  # which masks and normalises without modules for it
        settings = _normalized(_skipping(settings, general), hidden_size)
    return settings if settings.steps else settings.refusing("a MultiVectorEncoder without a projection")


def named_prompts(general: Mapping[str, Any]) -> dict[str, str]:
    """Return the prompts by name, as config_sentence_transformers.json has them."""
    found = general.get("prompts") or {}
    return {str(name): str(prompt or "") for name, prompt in found.items()} if isinstance(found, dict) else {}


def _common(first: Mapping[str, Any], general: Mapping[str, Any]) -> MultiVectorSettings:
    """Return what the settings of the encoder's module and of the whole say, before any other module."""
    prompts, markers = named_prompts(general), list[str]()
    for key, name in _PREFIXES.items():
        if prefix := str(general.get(key) or ""):
            prompts[name] = prefix + prompts.get(name, "").removeprefix(prefix)
            markers.append(prefix)
    similarity = general.get("similarity_fn_name")
    default = str(general.get("default_prompt_name") or "")
    found = MultiVectorSettings(
        similarity="meanmaxsim" if similarity == "meanmaxsim" else "maxsim",
        query_length=_length(first, general, "query_length"),
        document_length=_length(first, general, "document_length"),
        markers=tuple(markers),
        prompts=prompts,
        default_prompt_name=default if default in prompts else "",
    )
    given = first.get("query_expansion", general.get("query_expansion"))
    if given is None and "query_expansion" not in {**first, **general}:
        return replace(found, expansion=_flat_expansion(general), query_length=_unexpanded(found, general))
    return _with_expansion(found, given)


def _unexpanded(settings: MultiVectorSettings, general: Mapping[str, Any]) -> int:
    """Return the length of queries, which in PyLate's files is that of the expansion where there is one."""
    return 0 if _flat_expansion(general) else settings.query_length


def _length(first: Mapping[str, Any], general: Mapping[str, Any], key: str) -> int:
    found = first.get(key) or general.get(key)
    return found if is_count(found) else 0


def _flat_expansion(general: Mapping[str, Any]) -> Expansion | None:
    """Return the expansion by PyLate's settings; none where nothing is PyLate's."""
    if not any(key in general for key in _PYLATE_KEYS) or general.get("do_query_expansion") is False:
        return None
    attend = general.get("attend_to_expansion_tokens", general.get("attend_to_mask_tokens"))
    return Expansion(_length({}, general, "query_length") or _EXPANDED, attend=bool(attend))


def _with_expansion(settings: MultiVectorSettings, given: Any) -> MultiVectorSettings:
    """Return the settings with the expansion that sentence-transformers has written; null is none."""
    if given is None:
        return settings
    known = isinstance(given, dict) and given.get("strategy") in ("fixed", "min") and is_count(given.get("length"))
    if not known or not given["length"]:
        return settings.refusing(f"the query expansion {shown(given)}")
    token = given.get("token")
    expansion = Expansion(
        given["length"],
        given["strategy"] == "fixed",
        given.get("attend") is True,
        None if token is None else str(token),
    )
    return replace(settings, expansion=expansion)


def _dense(settings: MultiVectorSettings, module: Module, hidden_size: int) -> MultiVectorSettings:
    config = module.config
    read = config.get("module_input_name", _TOKENS)
    if (read, config.get("module_output_name") or read) != (_TOKENS, _TOKENS):
        return settings.refusing(f"{module} from {read} to {config.get('module_output_name') or read}")
    shape = dense_shape(module, config, settings.steps[-1].outputs if settings.steps else hidden_size)
    return settings.refusing(shape) if isinstance(shape, str) else settings.with_step(shape, module.folder)


def _normalize(settings: MultiVectorSettings, module: Module, hidden_size: int) -> MultiVectorSettings:
    read = module.config.get("module_input_name", "sentence_embedding")
    if read != _TOKENS:
        return settings  # there is no vector of the text, so there is nothing to normalise
    if (module.config.get("module_output_name") or read) != _TOKENS:
        return settings.refusing(f"{module} to {module.config.get('module_output_name')}")
    return _normalized(settings, hidden_size)


def _normalized(settings: MultiVectorSettings, hidden_size: int) -> MultiVectorSettings:
    width = settings.steps[-1].outputs if settings.steps else hidden_size
    return settings.with_step(VectorShape("normalize", width, width), None)


def _mask(settings: MultiVectorSettings, module: Module, hidden_size: int) -> MultiVectorSettings:
    config = module.config
    if config.get("keep_only_token_ids"):
        return settings.refusing(f"{module} that keeps only some ids")
    tasks = config.get("skiplist_tasks", ["document"])
    tasks = [tasks] if isinstance(tasks, str) else tasks or ()
    words = config.get("skiplist_words") or ()
    if not isinstance(tasks, list | tuple) or not isinstance(words, list | str | tuple):
        return settings.refusing(f"{module} whose words or tasks are no lists")
    if unknown := [task for task in tasks if task not in KINDS]:
        return settings.refusing(f"{module} for {shown(unknown[0])}")
    return replace(
        settings, skipped_words=tuple(map(str, words)), skips_in=tuple(kind for kind in KINDS if kind in tasks)
    )


def _skipping(settings: MultiVectorSettings, general: Mapping[str, Any]) -> MultiVectorSettings:
    """Return the settings with the words that PyLate skips in documents, by default punctuation."""
    words = general.get("skiplist_words", string.punctuation)
    if not isinstance(words, list | str | None):
        return settings.refusing(f"skiplist_words that are no list of words, but {words!r:.40}")
    return replace(settings, skipped_words=tuple(map(str, string.punctuation if words is None else words)))


def _dropout(settings: MultiVectorSettings, module: Module, hidden_size: int) -> MultiVectorSettings:
    return settings


def _unknown(settings: MultiVectorSettings, module: Module, hidden_size: int) -> MultiVectorSettings:
    return settings.refusing(module)


_READERS: Mapping[str, Callable[[MultiVectorSettings, Module, int], MultiVectorSettings]] = {
    "Dense": _dense,
    "Normalize": _normalize,
    "MultiVectorMask": _mask,
    "Dropout": _dropout,
}


def _of_stanford(root: Path, hidden_size: int) -> MultiVectorSettings:
    """Return the settings of a checkpoint of Stanford's ColBERT, whose weights hold the projection."""
    saved = _metadata(root / COLBERT_SETTINGS)
    width = check_count(saved.get("dim", 128), MOST_WIDTH, root / COLBERT_SETTINGS, "dim")
    markers = {
        "query": f"{saved.get('query_token_id') or '[unused0]'} ",
        "document": f"{saved.get('doc_token_id') or '[unused1]'} ",
    }
    projection = VectorShape("dense", hidden_size, width, bias=False)
    length = _length({}, saved, "query_maxlen") or _EXPANDED
    settings = MultiVectorSettings(
        steps=(projection, VectorShape("normalize", width, width)),
        folders=(None, None),
        document_length=_length({}, saved, "doc_maxlen"),
        expansion=Expansion(length, attend=bool(saved.get("attend_to_mask_tokens"))),
        skipped_words=tuple(string.punctuation) if saved.get("mask_punctuation", True) else (),
        markers=tuple(markers.values()),
        prompts=markers,
    )
    if saved.get("similarity", "cosine") != "cosine":
        return settings.refusing(f"the similarity {shown(saved['similarity'])}")
    return settings


def _metadata(path: Path) -> dict[str, Any]:
    """Return the JSON object in Stanford's settings, {} where there are none. Raises CheckpointError."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return found
