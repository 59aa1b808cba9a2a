"""Test that a compiled model that has changed is named, put aside and compiled anew, and nothing planted is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.compile.compiling import explain
from bertstream.workers.native.library import compiler
from bertstream.workers.programs.program import ScriptedProgram
from bertstream.workers.trust.ownership import TrustError
from bertstream.workers.trust.seal import Sealed, seal
from tests.support.strangers import STRANGER, as_root

Checkpoint = Callable[[str], Path]
needs_compiler = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
FILES = ("program.pt", "weights.bin", "description.json", "tokenizer.json", "manifest")


@pytest.fixture(scope="module")
def cache(new_cache: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_cache(tmp_path_factory.mktemp("tampering") / "cache")


@pytest.fixture
def compiled(checkpoint: Checkpoint, cache: Path) -> Path:
    return compile_model(checkpoint("bert"), cache=cache)


def states(compiled: Path) -> torch.Tensor:
    program = ScriptedProgram.load(compiled, "cpu")
    (found,) = program.hidden_states(torch.arange(5, 15), None, [4, 6], [program.description.layers])
    return found


def flipped(path: Path) -> None:
    """Flip one bit in the middle and keep the time of change, as a failing disk does."""
    content, status = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("damage", [flipped, cut, Path.unlink], ids=["flipped", "cut", "missing"])
@pytest.mark.parametrize("name", FILES)
def test_each_file_that_is_damaged(
    compiled: Path,
    checkpoint: Checkpoint,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    expected = states(compiled)
    file = compiled / name
    damage(file)
    assert compile_model(checkpoint("bert"), cache=cache) == compiled
    (line,) = lines(caplog)
    assert line.startswith(f"{file} ")
    assert line.endswith(f"; it is not used but put aside as .aside.{compiled.name}, and made anew")
    with Sealed.open(compiled) as sealed:
        sealed.check()
    assert torch.equal(states(compiled), expected)


def test_a_link_in_place_of_the_folder(
    compiled: Path, checkpoint: Checkpoint, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiled.rename(tmp_path / "elsewhere")
    compiled.symlink_to(tmp_path / "elsewhere")
    compile_model(checkpoint("bert"), cache=cache)
    assert not compiled.is_symlink()
    assert lines(caplog) == [
        f"{compiled} is not a folder that can be read (Not a directory); it is not used but put aside as "
        f".aside.{compiled.name}, and made anew"
    ]


def test_a_cache_where_others_may_write_is_not_used(compiled: Path, checkpoint: Checkpoint, cache: Path) -> None:
    """It is not written to either: whoever could plant something once can do so again."""
    cache.chmod(0o777)
    try:
        with pytest.raises(TrustError) as raised:
            compile_model(checkpoint("bert"), cache=cache)
    finally:
        cache.chmod(0o755)
    assert explain(raised.value, "check", str(cache)) == (
        f"the cache (--cache): {cache} may be written to by others (mode 0777), so nothing in it can be trusted: "
        f'run "chmod go-w {cache}", or choose another folder'
    )
    assert compiled.exists()


MARKING = """
#include <cstdio>
#include <cstdlib>
__attribute__((constructor)) static void mark() { if (FILE* file = std::fopen(MARKER, "w")) std::fclose(file); }
"""
LOAD = """
import sys
from pathlib import Path
from bertstream.workers.programs.program import ProgramError, ScriptedProgram
from bertstream.workers.programs.description import DescriptionError
for folder, operators in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        ScriptedProgram.load(Path(folder), "cpu", Path(operators))
    except (ProgramError, DescriptionError) as error:
        print(error)
    else:
        print("loaded")
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Return the file that appears once anybody loads the planted library."""
    return tmp_path / "marker"


@pytest.fixture
def planted(marker: Path, tmp_path: Path) -> Path:
    source, library = tmp_path / "planted.cpp", tmp_path / "planted.so"
    source.write_text(MARKING)
    subprocess.run(
        [compiler(), "-shared", "-fPIC", f'-DMARKER="{marker}"', str(source), "-o", str(library)], check=True
    )
    return library


def victim(folder: Path) -> Path:
    """Return the file of a folder that is run: the operators, or a model's program."""
    return next(iter(folder.glob("operators.*")), folder / "program.pt")


def swapped(folder: Path, planted: Path) -> None:
    shutil.copy(planted, victim(folder))


def additional(folder: Path, planted: Path) -> None:
    shutil.copy(planted, folder / "more.so")


def linked(folder: Path, planted: Path) -> None:
    taken = victim(folder)
    taken.unlink()
    taken.symlink_to(planted)


def open_to_all(folder: Path, planted: Path) -> None:
    """Let everybody write to a folder whose hashes are right."""
    swapped(folder, planted)
    seal(folder)
    folder.chmod(0o777)


def strangers(folder: Path, planted: Path) -> None:
    swapped(folder, planted)
    seal(folder)
    for path in (folder, *folder.iterdir()):
        os.chown(path, STRANGER, STRANGER)


def elsewhere(folder: Path, planted: Path) -> None:
    """Link to a stranger's folder."""
    strangers(folder, planted)
    folder.rename(planted.with_name("elsewhere-really"))
    folder.symlink_to(planted.with_name("elsewhere-really"))


WAYS = {
    swapped: "has [0-9,]+ bytes, and was written with",
    additional: "more.so was not written with the rest",
    linked: "is a symbolic link",
    open_to_all: r"may be written to by others \(mode 0777\)",
    strangers: f"belongs to the user {STRANGER}",
    elsewhere: "is not a folder that can be read",
}


@as_root
@needs_compiler
@pytest.mark.parametrize("what", ["model", "operators"])
def test_a_planted_library_is_loaded_by_no_worker(
    what: str, compiled: Path, cache: Path, planted: Path, marker: Path, tmp_path: Path
) -> None:
    operators = native.build(cache)
    source = compiled if what == "model" else operators.parent
    folders = {way: Path(shutil.copytree(source, tmp_path / way.__name__)) for way in WAYS}
    given: list[Path] = []
    for way, folder in folders.items():
        given += (folder, operators) if what == "model" else (compiled, folder / operators.name)
        way(folder, planted)
    done = subprocess.run([sys.executable, "-c", LOAD, *map(str, given)], capture_output=True, text=True, check=True)
    for line, (way, why) in zip(done.stdout.splitlines(), WAYS.items(), strict=True):
        assert re.fullmatch(f"{folders[way]}.*{why}.*; compile the model again", line)
    assert not marker.exists()
    torch.ops.load_library(planted)  # this does create the marker
    assert marker.exists()


@as_root
@needs_compiler
@pytest.mark.parametrize("way", WAYS)
def test_a_planted_library_is_replaced_where_it_is_compiled(
    way: Callable[[Path, Path], None], compiled: Path, planted: Path, checkpoint: Checkpoint, cache: Path, marker: Path
) -> None:
    way(compiled, planted)
    assert compile_model(checkpoint("bert"), cache=cache) == compiled
    with Sealed.open(compiled) as sealed:
        sealed.check()
    assert not marker.exists()
