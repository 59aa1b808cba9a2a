"""Choose the transformers tokenizer class that a checkpoint is read by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.compile.checkpoints.families import FAMILIES, Family
from bertstream.workers.compile.checkpoints.tokenizer_classes import ANY, Definition, TokenizerClass
from bertstream.workers.compile.sources.files import read_object

_UNKNOWN = (
    "The checkpoint's tokenizer class is {}, whose own settings are not known here; tokenizer.json is taken as it is."
)
_UNFIT = (
    "tokenizer.json is a {}, and the checkpoint's tokenizer class {} is for a {}; tokenizer.json is taken as it "
    "is, and transformers may not find the same tokens."
)


@dataclass(frozen=True, slots=True)
class ReadAs:
    """Say how transformers reads a tokenizer."""

    kind: TokenizerClass
    defaults: TokenizerClass  # its special tokens are used where no file names any and the vocabulary has them
    warnings: tuple[str, ...] = ()


def choose_class(directory: Path, family: Family, settings: Mapping[str, Any], definition: Definition) -> ReadAs:
    """Return the tokenizer class that tokenizer_config.json or config.json names, or else the family's.

    Raises CheckpointError.
    """
    named = settings.get("tokenizer_class") or read_object(directory / "config.json").get("tokenizer_class")
    name = str(named or family.tokenizer_class).removesuffix("Fast")
    found, model = _by_name().get(name), definition["model"]["type"]
    if found is None:
        return ReadAs(ANY, family.tokenizer, (_UNKNOWN.format(name),))
    if found.model not in ("", model):
        return ReadAs(ANY, family.tokenizer, (_UNFIT.format(model, name, found.model),))
    return ReadAs(found, family.tokenizer if found is ANY else found)


def _by_name() -> dict[str, TokenizerClass]:
    """Map the names without version 4's ending "Fast" to the classes."""
    own = {family.tokenizer_class: family.tokenizer for family in FAMILIES.values()}
    return own | {"PreTrainedTokenizer": ANY, "TokenizersBackend": ANY}
