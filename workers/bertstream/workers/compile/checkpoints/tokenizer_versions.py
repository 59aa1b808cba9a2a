"""Read a tokenizer.json as versions 4 and 5 of transformers do, and find what both agree on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertstream.workers.compile.checkpoints.tokenizer_classes import Definition, TokenizerClass
from bertstream.workers.compile.checkpoints.tokenizer_tokens import ROLES, NamedTokens

if TYPE_CHECKING:
    from tokenizers import AddedToken

# The parts with fields that version 4 sets.
_PARTS = ("normalizer", "pre_tokenizer", "post_processor")


@dataclass(frozen=True, slots=True)
class Versions:
    """Hold one tokenizer as the file, version 4 and version 5 define it."""

    file: Definition
    four: Definition
    five: Definition

    def agreed(self) -> Definition:
        """Return what both versions make of the file where they agree, and else what the file says."""
        parts = {name: _agreed(self.file[name], self.four[name], self.five[name]) for name in _PARTS}
        return self.file | parts | {"added_tokens": self._agreed_tokens()}

    def _agreed_tokens(self) -> list[Any]:
        file, four, five = (
            {token["content"]: token for token in each["added_tokens"]} for each in (self.file, self.four, self.five)
        )
        names = [name for name in four if name in file or name in five]
        # Tokens that are not in the file, and whose flags differ, are version 4's, which reads all of its files.
        found = [_agreed(file.get(name, four[name]), four[name], five.get(name)) for name in names]
        return [token | {"id": four[token["content"]]["id"]} for token in found]


def read_as_versions(
    file: Definition, kind: TokenizerClass, settings: Mapping[str, Any], named: NamedTokens
) -> Versions:
    """Return the tokenizer as each version reads it.

    file: as the tokenizers library writes it. settings: those of tokenizer_config.json.
    """
    four = _as_4(file, kind, settings, named)
    try:
        return Versions(file, four, _as_5(file, kind, settings, named))
    except Exception:  # the Rust side raises plain Exception
        return Versions(file, four, four)  # version 5 cannot read it, so version 4 is all that there is


def with_tokens(definition: Definition, tokens: Iterable[AddedToken] = ()) -> Definition:
    """Return the definition as the tokenizers library writes it: in its newest form, with the ids of added tokens.

    Raises Exception where it is not a tokenizer.
    """
    from tokenizers import Tokenizer  # not needed by workers

    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.add_tokens(list(tokens))
    written: Definition = json.loads(tokenizer.to_str())
    return written


def _as_4(file: Definition, kind: TokenizerClass, settings: Mapping[str, Any], named: NamedTokens) -> Definition:
    parts: dict[str, Any] = {}
    for (part, name), value in kind.set_by_4(settings).items():
        found = parts.get(part, file[part])
        if found is not None and name in found:
            parts[part] = {**found, name: value}
    known = [{**token, "id": None} for token in file["added_tokens"]]
    return with_tokens(file | parts, [token for token in named.in_4(kind) if _written(token) not in known])


def _as_5(file: Definition, kind: TokenizerClass, settings: Mapping[str, Any], named: NamedTokens) -> Definition:
    contents = {role: content for role in ROLES if (content := named.of_role(role, kind)) is not None}
    parts = kind.made_by_5(file, settings, contents)
    if parts is None:
        return with_tokens(file, named.in_5(kind))
    made = with_tokens(file | parts | {"added_tokens": [], "post_processor": None}, named.in_5(kind))
    ids = token_ids(made)
    if kind.keeps_post_processor and file["post_processor"]:
        return made | {"post_processor": file["post_processor"]}
    tokens = {role: (content, ids[content]) for role, content in contents.items() if content in ids}
    return made | {"post_processor": kind.post_processor_of_5(settings, tokens)}


def _written(token: AddedToken) -> dict[str, Any]:
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": None, **{name: getattr(token, name) for name in flags}}


def token_ids(definition: Mapping[str, Any]) -> dict[str, int]:
    """Return the id of every token. Raises KeyError, TypeError, ValueError."""
    vocabulary = definition["model"]["vocab"]
    if not isinstance(vocabulary, dict):  # Unigram: pairs of token and score, in the order of ids
        vocabulary = {token: id for id, (token, _) in enumerate(vocabulary)}
    return vocabulary | {token["content"]: token["id"] for token in definition.get("added_tokens") or ()}


def _agreed(file: Any, four: Any, five: Any) -> Any:
    if four == five:
        return four
    values = (file, four, five)
    if not all(isinstance(value, dict) for value in values) or len({value.get("type") for value in values}) > 1:
        return file
    return {name: _agreed(value, four.get(name, value), five.get(name, value)) for name, value in file.items()}
