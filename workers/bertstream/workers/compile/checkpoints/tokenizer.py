"""Read tokenizer.json and the files beside it: special tokens, truncation side, maximum length."""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.compile.checkpoints.families import Family
from bertstream.workers.compile.checkpoints.tokenizer_choice import ReadAs, choose_class
from bertstream.workers.compile.checkpoints.tokenizer_classes import Definition
from bertstream.workers.compile.checkpoints.tokenizer_probes import find_difference
from bertstream.workers.compile.checkpoints.tokenizer_tokens import ROLES, NamedTokens
from bertstream.workers.compile.checkpoints.tokenizer_versions import Versions, read_as_versions, token_ids, with_tokens
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.compile.sources.stand_ins import refuse_stand_in

FILE_NAME = "tokenizer.json"
_VOCABULARY_FILES = ("vocab.txt", "vocab.json", "merges.txt")
# transformers makes a tokenizer of special tokens alone where the file that it looks for is missing.
_FEWEST_TOKENS = 16
# transformers writes 1e30 for "no limit".
_SANE_LENGTH = 1 << 20


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """Hold the tokenizer, ready to be saved, and what callers need to know of it."""

    definition: dict[str, Any]  # tokenizer.json without truncation and padding, which callers choose
    special_tokens: dict[str, tuple[str, int]]
    truncation_side: str
    model_max_length: int  # 0: not set
    highest_id: int
    clean_up_spaces: bool = False  # of decoded texts
    warnings: tuple[str, ...] = ()  # about tokens that transformers 5 would split otherwise

    def save(self, directory: Path) -> None:
        """Write tokenizer.json into `directory`."""
        text = json.dumps(self.definition, ensure_ascii=False)
        (directory / FILE_NAME).write_text(text, encoding="utf-8")


def read_tokenizer(directory: Path, family: Family) -> TokenizerSettings:
    """Return the tokenizer of tokenizer.json, or the one that transformers builds from vocabulary files.

    Raises CheckpointError.
    """
    settings = read_object(directory / "tokenizer_config.json")
    file = read_object(directory / FILE_NAME) or _built_by_transformers(directory, family)
    cut = file.get("truncation")
    definition = _normal_form(file, directory)
    read = choose_class(directory, family, settings, definition)
    named = NamedTokens.read(directory, settings, definition["added_tokens"])
    versions = read_as_versions(definition, read.kind, settings, named)
    definition = with_tokens(versions.agreed())
    length = settings.get("model_max_length", settings.get("max_len"))
    return TokenizerSettings(
        definition=definition,
        special_tokens=_special_tokens(named, read, token_ids(definition)),
        truncation_side=_truncation_side(settings, cut),
        model_max_length=int(length) if isinstance(length, int | float) and 0 < length < _SANE_LENGTH else 0,
        highest_id=max(token_ids(definition).values(), default=0),
        clean_up_spaces=_cleans_up(definition["model"], settings),
        warnings=(*read.warnings, *_warnings(definition, versions, settings)),
    )


def _normal_form(file: Mapping[str, Any], directory: Path) -> Definition:
    """Return the definition as the tokenizers library would write it, without truncation and padding."""
    try:
        return with_tokens({**file, "truncation": None, "padding": None})
    except Exception as error:  # the Rust side raises plain Exception
        message = f"{directory / FILE_NAME} is not a tokenizer of the tokenizers library: {error}"
        raise CheckpointError(message) from error


def _truncation_side(settings: Mapping[str, Any], cut: Any) -> str:
    """Return the side set in tokenizer_config.json, or else that of the truncation saved in tokenizer.json."""
    direction = str(cut.get("direction", "")).lower() if isinstance(cut, dict) else ""
    return "left" if settings.get("truncation_side", direction) == "left" else "right"


def _cleans_up(model: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Return whether decoding cleans up spaces: only if it is set, and for BPE only with a second setting.

    The spaces of BPE are the text's own.
    """
    is_bpe = model.get("type") == "BPE" or "merges" in model  # old files do not name their type
    forced = settings.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output")
    return bool(settings.get("clean_up_tokenization_spaces") and (forced or not is_bpe))


def _special_tokens(named: NamedTokens, read: ReadAs, ids: Mapping[str, int]) -> dict[str, tuple[str, int]]:
    """Return the token and id of each role that the vocabulary has a token for."""
    found = ((role, named.of_role(role, read.defaults)) for role in ROLES)
    return {role: (content, ids[content]) for role, content in found if content is not None and content in ids}


def _warnings(ours: Definition, versions: Versions, settings: Mapping[str, Any]) -> Iterator[str]:
    if settings.get("split_special_tokens"):
        yield "The checkpoint sets split_special_tokens, and here special tokens in texts are not split."
    if (difference := find_difference(ours, versions.five)) is not None:
        parts = " and ".join(difference.parts)
        as_in = "transformers 4" if find_difference(ours, versions.four) is None else "tokenizer.json"
        yield (
            f"transformers 5 replaces tokenizer.json's {parts} by its own, and {difference.what}; "
            f"here they are as in {as_in}."
        )


def _built_by_transformers(directory: Path, family: Family) -> dict[str, Any]:
    options = _vocabulary(directory, family)
    try:
        from transformers import AutoTokenizer  # slow to import, and few checkpoints need it
    except ImportError as error:
        raise CheckpointError(
            f"{directory} has no {FILE_NAME}, and transformers, which would build it, is not installed"
        ) from error
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers warns about itself
            built = AutoTokenizer.from_pretrained(directory, use_fast=True, trust_remote_code=False, **options)
            built.save_pretrained(folder)
            definition = read_object(Path(folder) / FILE_NAME)
    except Exception as error:  # the tokenizer classes of transformers raise any exception
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{directory} has no {FILE_NAME}, and none could be built: {reason}") from error
    if not definition or len(token_ids(definition)) < _FEWEST_TOKENS:
        raise CheckpointError(
            f"{directory} has no {FILE_NAME}, and none of the vocabulary files that {family.name} tokenizers are made "
            "from"
        )
    return definition


def _vocabulary(directory: Path, family: Family) -> dict[str, str]:
    """Return the names of the vocabulary files, as arguments for transformers.

    Raises CheckpointError where transformers would build a wrong tokenizer.
    """
    models = sorted(directory.glob("*.model"))
    has_text, has_json = ((directory / name).exists() for name in ("vocab.txt", "vocab.json"))
    if not (has_text or has_json or models):
        raise CheckpointError(
            f"{directory} has no tokenizer: neither {FILE_NAME}, nor vocab.txt, nor vocab.json, nor a *.model"
        )
    for path in [*(directory / name for name in _VOCABULARY_FILES), *models]:
        refuse_stand_in(path)
    if has_json and not has_text and not models and not (directory / "merges.txt").exists():
        raise CheckpointError(f"{directory} has vocab.json, but not the merges.txt that belongs to it")
    if not models or not family.sentencepiece:
        return {}
    if importlib.util.find_spec("sentencepiece") is None:
        raise CheckpointError(
            f"{directory} has no {FILE_NAME}, and sentencepiece, with which {models[0].name} is read, is not installed"
        )
    named = any(model.name == family.sentencepiece for model in models)
    return {} if named else {"vocab_file": str(models[0])}
