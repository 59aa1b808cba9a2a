"""Read the added tokens that files beside tokenizer.json name, as versions 4 and 5 of transformers do.

The files are tokenizer_config.json, special_tokens_map.json and added_tokens.json. The last two count only where
tokenizer_config.json has no added_tokens_decoder, which is newer, and complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertstream.workers.compile.checkpoints.tokenizer_classes import TokenizerClass
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object

if TYPE_CHECKING:
    from tokenizers import AddedToken

# In the order in which transformers adds them.
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_DECODER, _MORE = "added_tokens_decoder", ("additional_special_tokens", "extra_special_tokens")

Named = str | Mapping[str, Any]  # a token as the files write it: its content, or its content and flags


@dataclass(frozen=True, slots=True)
class NamedTokens:
    """Hold what the files say of tokens."""

    settings: Mapping[str, Any]  # tokenizer_config.json, over special_tokens_map.json where that counts
    added: Mapping[int, Mapping[str, Any]]  # id -> token, of added_tokens_decoder
    old_added: Mapping[str, int]  # of added_tokens.json, where it counts
    of_file: tuple[Mapping[str, Any], ...]  # of tokenizer.json
    has_decoder: bool

    @classmethod
    def read(cls, directory: Path, settings: Mapping[str, Any], of_file: Iterable[Mapping[str, Any]]) -> NamedTokens:
        """Read the files. Raises CheckpointError.

        settings: those of tokenizer_config.json. of_file: the added tokens of tokenizer.json.
        """
        has_decoder = _DECODER in settings
        old_map = {} if has_decoder else read_object(directory / "special_tokens_map.json")
        old_added = {} if has_decoder else read_object(directory / "added_tokens.json")
        more = {name: [*_listed(settings.get(name)), *_listed(old_map.get(name))] for name in _MORE}
        joined = {**settings, **{name: _special(token) for name, token in old_map.items()}, **more}
        try:
            added = {int(id): _checked(token) for id, token in (settings.get(_DECODER) or {}).items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            path = directory / "tokenizer_config.json"
            raise CheckpointError(f"{path}: {_DECODER} must be tokens by their ids") from error
        if not all(isinstance(id, int) for id in old_added.values()):
            raise CheckpointError(f"{directory / 'added_tokens.json'} must hold ids by their tokens")
        return cls(joined, added, old_added, tuple(of_file), has_decoder)

    def of_role(self, role: str, kind: TokenizerClass) -> str | None:
        """Return the content of the special token with that role."""
        found = self.settings.get(f"{role}_token", kind.tokens.get(role))
        return _content(found)

    def more(self, kind: TokenizerClass) -> list[Named]:
        """Return the special tokens without a role."""
        return [token for name in _MORE for token in self.settings[name]] or list(kind.more_tokens)

    def in_4(self, kind: TokenizerClass) -> list[AddedToken]:
        """Return the tokens that version 4 adds to those of tokenizer.json, or sets anew."""
        special = {self.of_role(role, kind) for role in ROLES} | {_content(token) for token in self.more(kind)}
        return self._in_order(kind, special, {_content(token) for token in self.more(kind)}, version=4)

    def in_5(self, kind: TokenizerClass) -> list[AddedToken]:
        """Return the tokens that version 5 adds, or all of them where it makes the tokenizer anew."""
        own = [value for name, value in self.settings.items() if _is_own_token(name, value)]
        special = {self.of_role(role, kind) for role in ROLES} | set(own)
        old = {_content(token) for token in self.settings["extra_special_tokens"]}
        found = self._in_order(kind, special, old, version=5)
        return [*found, *(_token(name, special=True) for name in own if name not in _contents(found))]

    def _in_order(
        self, kind: TokenizerClass, special: set[str | None], more_special: set[str | None], *, version: int
    ) -> list[AddedToken]:
        by_id = dict(self.added)
        if not self.has_decoder:
            of_roles = {_content(self.settings.get(f"{role}_token")) for role in ROLES}
            for name, id in self.old_added.items():
                by_id[id] = {"content": name, "special": name in of_roles | more_special}
            by_id |= {int(token["id"]): token for token in self.of_file}
        found = [_token(by_id[id], special=by_id[id].get("content") in special) for id in sorted(by_id)]
        known = _contents(found)
        for token in self._with_roles(kind, known, version):
            known.add(token.content)
            found.append(token)
        return [*found, *(_token(token, special=True) for token in self.more(kind) if _content(token) not in known)]

    def _with_roles(self, kind: TokenizerClass, known: set[str], version: int) -> Iterator[AddedToken]:
        for role in ROLES:
            name = f"{role}_token"
            token = self.settings.get(name, kind.tokens.get(role))
            takes_space = role == "mask" and version in kind.mask_takes_space and isinstance(token, str)
            # In version 4, the flags of the class's mask token go before any others.
            is_set_anew = takes_space and version == 4 and name not in self.settings
            if (content := _content(token)) is not None and (content not in known or is_set_anew):
                yield _token({"content": content, "lstrip": True} if takes_space else token, special=True)


def _checked(token: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the token if it is valid. Raises KeyError, TypeError, ValueError."""
    if not isinstance(token["content"], str):
        raise ValueError("no content")
    return token


def _listed(tokens: Any) -> list[Named]:
    """Return the tokens as a list; extra_special_tokens may also map names to tokens."""
    found = list(tokens.values()) if isinstance(tokens, dict) else tokens if isinstance(tokens, list) else []
    return [_special(token) for token in found if _content(token) is not None]


def _special(token: Any) -> Any:
    return {**token, "special": True} if isinstance(token, dict) else token


def _content(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) and content else None


def _contents(tokens: Iterable[AddedToken]) -> set[str]:
    return {token.content for token in tokens}


def _is_own_token(name: str, value: Any) -> bool:
    """Return whether this setting is a special token with a role of the checkpoint's own, as only version 5 has."""
    return name.endswith("_token") and isinstance(value, str) and name.removesuffix("_token") not in ROLES


def _token(token: Any, *, special: bool) -> AddedToken:
    from tokenizers import AddedToken  # not needed by workers

    if isinstance(token, str):
        return AddedToken(token, special=special)
    flags = {name: bool(token[name]) for name in _FLAGS if token.get(name) is not None}
    added = AddedToken(token["content"], **flags)
    added.special = added.special or special
    return added
