"""Changes the file of keys: whole or not at all, by one writer at a time, and keeping all that people wrote into it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from bertstream.server.files import read_regular
from bertstream.server.keys.file import HASH_PREFIX, KeysError, KeyTable, parse
from bertstream.server.settings import KeyEntry

KEY_PREFIX = "bs_"  # lets scanners of source code find a key that was published
_KEY_BYTES = 32
_HEADER = """\
# Keys of bertstream: their hashes, never the keys. `bertstream keys` changes this file, and the server follows it.
"""
_NOBODY = "keys = []  # no key is left: nobody may call\n"  # else a server would take the file for emptied by mistake
_EMPTY_LIST = re.compile(r"^[ \t]*keys[ \t]*=[ \t]*\[\s*\][^\n]*\n?", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*\[\[[ \t]*keys[ \t]*\]\]", re.MULTILINE)


def new_key() -> str:
    """Return a key of 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_of(key: str) -> str:
    """Return the hash of a key, as the file has it."""
    return HASH_PREFIX + KeyEntry.hash_of(key)


def listed(path: Path) -> tuple[KeyTable, ...]:
    """Return the keys of a file; none if it does not exist. Raises KeysError."""
    return parse(_text(path).encode(), str(path))


def add(path: Path, key: KeyTable) -> None:
    """Add a key to the file, which is made if it does not exist. Raises KeysError."""
    if any(each.name == key.name for each in listed(path)):
        raise KeysError(f"{path} has a key {key.name!r} already: remove it, or take another name")

    def added(text: str) -> str:
        return f"{(_EMPTY_LIST.sub('', text) or _HEADER).rstrip()}\n\n{_table_of(key)}"

    _edit(path, added, lambda keys: (*keys, key))


def remove(path: Path, name: str) -> None:
    """Remove a key from the file, which then says so where none is left. Raises KeysError."""

    def removed(text: str) -> str:
        starts = [found.start() for found in _TABLE.finditer(text)]
        place = next((i for i, key in enumerate(parse(text.encode(), str(path))) if key.name == name), None)
        if place is None:
            raise KeysError(f"{path} has no key {name!r}")
        if place >= len(starts):
            raise KeysError(f"{path} is written in a way that this cannot change: remove {name!r} by hand")
        rest = text[: starts[place]] + text[(*starts, len(text))[place + 1] :]
        return rest if len(starts) > 1 else rest + _NOBODY

    _edit(path, removed, lambda keys: tuple(key for key in keys if key.name != name))


Keys = Sequence[KeyTable]


def _edit(path: Path, edit: Callable[[str], str], wanted: Callable[[Keys], Keys]) -> None:
    """Change the text, and check that its keys are then the wanted ones, whatever else the file holds."""
    target = path.resolve()  # a link stays one
    with _locked(target.parent):
        before = _text(target)
        after = edit(before)
        if tuple(parse(after.encode(), str(path))) != tuple(wanted(parse(before.encode(), str(path)))):
            raise KeysError(f"{path} is written in a way that this cannot change: edit it by hand")
        _write(target, after)


def _text(path: Path) -> str:
    try:
        return read_regular(path)[0].decode()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise KeysError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeysError(f"{path} is no text in UTF-8") from None


def _write(path: Path, text: str) -> None:
    """Put the file in place whole, for its owner alone."""
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                if path.exists():
                    _keep_owner(fd, path)
                file.write(text)
                file.flush()
                os.fsync(fd)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise KeysError(f"cannot write {path}: {error.strerror}") from None


def _keep_owner(fd: int, path: Path) -> None:
    """Keep the file's owner, so that the server's user can still read a file that root has changed."""
    owner = path.stat()
    if owner.st_uid != os.geteuid():
        os.fchown(fd, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder while the body runs.

    The file itself is replaced by each change, and a file for the lock would be left behind.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KeysError(f"cannot open the folder {folder}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _table_of(key: KeyTable) -> str:
    """Return a key as TOML. A string in JSON is one in TOML if it has no control characters, and none here has."""
    values = msgspec.to_builtins(key)
    return (
        "\n".join(
            ["[[keys]]", *(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())]
        )
        + "\n"
    )
