"""Reads and checks the file of keys. It has hashes, never keys."""

from __future__ import annotations

import re
import stat
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bertstream.server.files import read_regular
from bertstream.server.settings import KeyEntry, Role

MOST_KEYS = 4096
HASH_PREFIX = "sha256:"
NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
_MOST = 1e12

Name = Annotated[str, Meta(pattern=f"^{NAME}\\Z")]
Hash = Annotated[str, Meta(pattern=rf"^{HASH_PREFIX}[0-9a-f]{{64}}\Z")]
Subject = Annotated[str, Meta(pattern=r"^(CN|SAN)=[^\x00-\x1f\x7f]{1,1024}\Z")]
Model = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,256}\Z")]
PerSecond = Annotated[float, Meta(ge=0, le=_MOST)]
Calls = Annotated[int, Meta(ge=0, le=1_000_000)]
Weight = Annotated[float, Meta(gt=0, le=1000)]

_MEANT = {
    "name": "1 to 64 letters, digits and . _ @ -",
    "hash": f"{HASH_PREFIX} and 64 hexadecimal digits, as `bertstream keys add` writes it",
    "subject": "CN= or SAN= and a name in a certificate",
    "role": "use or admin",
    "models": "a list of models' names",
    "tokens_per_second": "a number, 0 or more; 0 is no bound",
    "concurrent": "a whole number, 0 or more; 0 is no bound",
    "weight": "a number above 0, and at most 1000",
}


class KeysError(Exception):
    """A file of keys that cannot be used; the message names the file and its fault, and shows no hash."""


class KeyTable(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`[[keys]]` of the file."""

    name: Name
    hash: Hash = ""
    subject: Subject = ""
    role: Role = "use"
    models: tuple[Model, ...] = ()
    tokens_per_second: PerSecond = 0.0
    concurrent: Calls = 0
    weight: Weight = 1.0

    @property
    def entry(self) -> KeyEntry:
        """The key as the server knows it."""
        return KeyEntry(**{**msgspec.structs.asdict(self), "hash": self.hash.removeprefix(HASH_PREFIX)})


class KeysFile(Struct, frozen=True, forbid_unknown_fields=True):
    """All of the file. Without `keys` it has been emptied by mistake, or is still being written."""

    keys: Annotated[tuple[KeyTable, ...], Meta(max_length=MOST_KEYS)] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class ReadKeys:
    """The keys of a file, and the warnings to log about it."""

    keys: tuple[KeyEntry, ...]
    warnings: tuple[str, ...] = ()


def read(path: Path, *, certificates: bool) -> ReadKeys:
    """Read and check the file. Raises KeysError.

    certificates: whether clients show certificates, without which a key for a `subject` can never be used.
    """
    try:
        data, mode = read_regular(path)
    except OSError as error:
        raise KeysError(f"cannot read {path}: {error.strerror}") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KeysError(f"others than its owner may write {path}, and so let anyone in: chmod go-w")
    keys = _parsed(data, str(path)).keys
    if keys is UNSET:
        raise KeysError(f"{path} has no keys: `bertstream keys add` makes one, and keys = [] says that nobody may call")
    lacking = next((key.name for key in keys if key.subject and not certificates), None)
    if lacking is not None:
        raise KeysError(
            f"{path}: the key {lacking!r} is for a certificate, which clients show with tls_client_ca alone"
        )
    warnings = []
    if mode & stat.S_IROTH:
        warnings.append(f"every user of this machine can read {path}: chmod o-r")
    if not keys:
        warnings.append(f"nobody may call, as no key is left in {path}: `bertstream keys add` makes one")
    return ReadKeys(tuple(key.entry for key in keys), tuple(warnings))


def parse(data: bytes, origin: str) -> tuple[KeyTable, ...]:
    """Return the keys that a file holds. Raises KeysError, which names the file by its `origin`."""
    return _parsed(data, origin).keys or ()


def _parsed(data: bytes, origin: str) -> KeysFile:
    try:
        found = msgspec.convert(tomllib.loads(data.decode()), KeysFile)
    except UnicodeDecodeError:
        raise KeysError(f"{origin} is no text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise KeysError(f"{origin}: {error}") from None
    except msgspec.ValidationError as error:
        raise KeysError(f"{origin}: {_in_words(str(error))}") from None
    _check(found.keys or (), origin)
    return found


def checked(values: Mapping[str, Any]) -> KeyTable:
    """Return one key of these values. Raises KeysError."""
    try:
        return msgspec.convert(values, KeyTable)
    except msgspec.ValidationError as error:
        field = re.search(r"`\$\.(\w+)", str(error))
        assert field is not None  # the command line gives all required fields, and no unknown ones
        raise KeysError(f"{field[1]} must be {_MEANT[field[1]]}") from None


def _check(keys: Sequence[KeyTable], origin: str) -> None:
    for key in keys:
        if bool(key.hash) == bool(key.subject):
            raise KeysError(f"{origin}: the key {key.name!r} must have either a hash or a subject")
    for field in ("name", "hash", "subject"):
        counts = Counter(value for key in keys if (value := getattr(key, field)))
        twice = next((value for value, count in counts.items() if count > 1), None)
        if twice is not None:
            names = " and ".join(repr(key.name) for key in keys if getattr(key, field) == twice)
            raise KeysError(f"{origin}: {names} have the same {field}")


def _in_words(message: str) -> str:
    """Return msgspec's message in terms of the file; msgspec never quotes the value of a string."""
    about, _, place = message.partition(" - at `$.")
    found = re.match(r"keys\[(\d+|\.\.\.)\](?:\.(\w+))?", place)
    if found is None:
        return "it must be nothing but [[keys]] tables, and at most " + f"{MOST_KEYS:,} of them"
    key = f"key {int(found[1]) + 1}" if found[1].isdigit() else "a key"
    if found[2] is None:
        unknown = re.search(r"unknown field `(\w+)`", about)
        return f"{key} has no name" if unknown is None else f"{key}: there is no option {unknown[1]!r}"
    return f"{key}: {found[2]} must be {_MEANT[found[2]]}"
