"""Test that operators which come with the package are used where they fit, and that the compiler is asked elsewhere."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertstream.workers import native
from bertstream.workers.native import library, prebuilt
from bertstream.workers.native.prebuilt import PrebuiltError

CONTENT = b"a library"
TORCH = "2.13"


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    library.compiler.cache_clear()
    yield
    library.compiler.cache_clear()
    library.failures.clear()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that gives the package a library, with facts that fit unless others are given."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{TORCH}.1+cpu")
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path / "prebuilt")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))  # no compiler
    monkeypatch.delenv("CXX", raising=False)

    def give(**facts: Any) -> Path:
        (tmp_path / "prebuilt").mkdir()
        place = tmp_path / "prebuilt" / native.file_name()
        place.write_bytes(CONTENT)
        files = {native.file_name(): hashlib.sha256(CONTENT).hexdigest()}
        said = {"torch": TORCH, "source": native.source_hash(), "files": files, **facts}
        (tmp_path / "prebuilt" / prebuilt.FACTS).write_text(json.dumps(said))
        return place

    return give


needs_operators = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])


@needs_operators
def test_the_package_s_library_is_copied_to_the_cache(package: Callable[..., Path], tmp_path: Path) -> None:
    assert native.status() == (False, "no C++ compiler found")
    package()
    assert native.status() == (True, "part of the package")
    copied = native.build(tmp_path / "cache")
    assert copied.read_bytes() == CONTENT
    assert copied.is_relative_to(tmp_path / "cache" / "native")
    changed = copied.stat().st_mtime_ns
    assert native.build(tmp_path / "cache") == copied
    assert copied.stat().st_mtime_ns == changed


@needs_operators
@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"torch": "2.12"}, "the package's operators are for torch 2.12, and this is 2.13"),
        ({"source": "other"}, "the package's operators are not those of its source"),
        ({"files": {}}, f"the package has no {native.file_name()}"),
        ({"files": {native.file_name(): "0" * 64}}, "has other content than was built (its SHA-256 differs)"),
        ({"files": 7}, "is damaged"),
    ],
)
def test_what_does_not_fit_is_compiled(
    facts: dict[str, Any],
    why: str,
    package: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    package(**facts)
    with pytest.raises(native.NativeError, match=r"no C\+\+ compiler found"):
        native.build(tmp_path / "cache")
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.endswith(f"{why}; it is compiled here")
    assert native.status() == (False, "no C++ compiler found")
    compiler = tmp_path / "stub"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit\nfor last; do :; done\necho compiled > "$last"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    library.compiler.cache_clear()
    assert native.build(tmp_path / "cache").read_text() == "compiled\n"


@needs_operators
def test_one_that_cannot_be_loaded_is_compiled(
    package: Callable[..., Path], compile_cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling is what the cache of all tests has done already."""
    caplog.set_level(logging.INFO)
    package()
    monkeypatch.undo()
    monkeypatch.setattr(library, "loaded", [])
    monkeypatch.setattr(prebuilt, "FOLDER", compile_cache.parent / "none")
    with monkeypatch.context() as patch:
        patch.setattr(library, "build", lambda cache: cache / "native" / "package.0" / native.file_name())
        loaded = native.provide(compile_cache)
    assert loaded == native.build(compile_cache)
    (line,) = (record.getMessage() for record in caplog.records)
    assert "cannot be loaded" in line
    assert line.endswith("; it is compiled here")
    assert native.status()[0]


@needs_operators
def test_read_only_caches_are_told_of_the_package_s_too(
    package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    package()
    monkeypatch.setattr("tempfile.mkdtemp", refused)
    with pytest.raises(
        native.ReadOnlyError, match=r"are not in .*native, which cannot be written to \(Permission denied"
    ):
        native.build(tmp_path / "cache")


def test_a_package_without_any_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path)
    assert prebuilt.find("operators.so", "source") is None
    (tmp_path / prebuilt.FACTS).write_text("{")
    with pytest.raises(PrebuiltError, match="is damaged"):
        prebuilt.find("operators.so", "source")


@pytest.mark.parametrize(("version", "minor"), [("2.13.0+cpu", "2.13"), ("2.9.1", "2.9"), ("2.14.0a0+git1", "2.14")])
def test_the_minor_version(version: str, minor: str) -> None:
    assert prebuilt.minor_version(version) == minor
