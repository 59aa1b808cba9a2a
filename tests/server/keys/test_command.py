"""`bertstream keys`, and how it changes the file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bertstream.server.core.keys import Keys
from bertstream.server.keys.command import main
from bertstream.server.keys.editing import new_key
from bertstream.server.keys.file import read
from bertstream.server.settings import KeyEntry

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs one command, and returns its exit code, its output and its errors."""

    def once(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments, {"BERTSTREAM_KEYS_FILE": str(path)})
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return once


def entries(path: Path) -> tuple[KeyEntry, ...]:
    return read(path, certificates=True).keys


def test_keys_are_long_random_and_can_be_told_by_their_beginning() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"bs_[A-Za-z0-9_-]{43}", key) for key in keys)  # 256 bits


def test_a_key_is_printed_once_and_only_its_hash_is_kept(run: Run, path: Path) -> None:
    code, printed, told = run("add", "search")
    key = printed.strip()
    assert (code, printed) == (0, f"{key}\n")
    assert key not in told
    assert told.startswith(f"search is in {path}: this is the key, which nobody can show again")
    assert key not in path.read_text()
    assert Keys(entries(path)).identify(f"Bearer {key}").name == "search"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["keys.toml"]  # nothing beside it
    assert key not in run("list")[1]


def test_all_options(run: Run, path: Path) -> None:
    options = (
        "--role",
        "admin",
        "--tokens-per-second",
        "20000",
        "--concurrent",
        "8",
        "--models",
        "a, ü",
        "--weight",
        "2",
    )
    assert run("add", "batch", *options)[0] == 0
    code, printed, told = run("add", "ingest", "--subject", "CN=ingest.example.com")
    assert (code, printed) == (0, "")
    assert told == f"ingest is in {path}: clients whose certificate has CN=ingest.example.com are known by it\n"
    batch, ingest = entries(path)
    assert batch == KeyEntry("batch", batch.hash, "", "admin", ("a", "ü"), 20_000.0, 8, 2.0)
    assert ingest == KeyEntry("ingest", subject="CN=ingest.example.com")
    assert run("list")[1].splitlines() == [
        "name    shows                  role   tokens/s  calls  models  weight",
        "batch   a key                  admin  20,000    8      a,ü     2",
        "ingest  CN=ingest.example.com  use    -         -      all     1",
    ]


def test_removing_one_leaves_the_others_and_all_comments(run: Run, path: Path) -> None:
    for name in ("one", "two", "three"):
        run("add", name)
    path.write_text(path.read_text().replace("[[keys]]", "# mine\n[[keys]]", 1) + "# the end of three\n")
    kept = [each for each in entries(path) if each.name != "two"]
    assert run("remove", "two") == (0, "", f"two is no key any more in {path}\n")
    assert list(entries(path)) == kept
    assert "# mine" in path.read_text()
    assert "# the end of three" in path.read_text()
    run("remove", "three")
    run("remove", "one")
    assert entries(path) == ()
    assert path.read_text().endswith("\n\n# mine\nkeys = []  # no key is left: nobody may call\n")
    assert run("add", "four")[0] == 0
    assert [each.name for each in entries(path)] == ["four"]
    assert "keys = []" not in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("add", "one"), 1, "has a key 'one' already: remove it, or take another name"),
        (("remove", "two"), 1, "has no key 'two'"),
        (("add", "a b"), 2, "name must be 1 to 64 letters, digits and . _ @ -"),
        (("add", "b", "--weight", "0"), 2, "weight must be a number above 0"),
        (("add", "b", "--tokens-per-second", "-5"), 2, "tokens_per_second must be a number, 0 or more"),
        (("add", "b", "--concurrent", "many"), 2, "argument --concurrent: invalid int value: 'many'"),
        (("add", "b", "--models", "a,,b"), 2, "models must be a list of models' names"),
        (("add", "b", "--subject", "me"), 2, "subject must be CN= or SAN= and a name"),
        (("add", "b", "--role", "king"), 2, "argument --role: invalid choice: 'king'"),
        ((), 2, "the following arguments are required: COMMAND"),
        (("list", "--file", "/none/keys.toml"), 1, "cannot read /none/keys.toml: there is no such file"),
        (("add", "b", "--file", "/none/keys.toml"), 1, "cannot open the folder /none: No such file or directory"),
    ],
)
def test_what_goes_wrong_is_one_line_and_changes_nothing(
    run: Run, path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    run("add", "one")
    before = path.read_text()
    found, printed, told = run(*arguments)
    assert (found, printed, told.count("\n")) == (code, "", 1)
    assert told.startswith("bertstream: error: ")
    assert message in told
    assert path.read_text() == before


def test_a_file_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"], {}) == 2
    assert capsys.readouterr().err == (
        "bertstream: error: say which file of keys: --file FILE, or $BERTSTREAM_KEYS_FILE\n"
    )


@pytest.mark.parametrize("command", [("add", "two"), ("remove", "one")])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys = [{", "Invalid"),
        ('keys = [{name = "one", subject = "CN=one"}]', "in a way that this cannot change"),
        ('[[keys]]\nname = "one"\nsubject = "CN=one"\nbad = 1', "there is no option 'bad'"),
    ],
)
def test_a_file_that_it_cannot_change_stays_as_it_is(
    run: Run, path: Path, command: tuple[str, ...], text: str, message: str
) -> None:
    path.write_text(text)
    code, printed, told = run(*command)
    assert (code, printed, path.read_text()) == (1, "", text)
    assert message in told or "Cannot mutate" in told  # a table behind an inline list is no TOML


def test_a_link_stays_one(run: Run, path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path.symlink_to(tmp_path / "real" / "keys.toml")
    assert run("add", "one")[0] == 0
    assert path.is_symlink()
    assert [each.name for each in entries(tmp_path / "real" / "keys.toml")] == ["one"]


ADD = """
import sys
from bertstream.server.keys.command import main

for name in sys.argv[2:]:
    main(["add", name, "--file", sys.argv[1]])
"""


def test_many_writers_at_once_lose_nothing(path: Path) -> None:
    names = [[f"w{writer}-{number}" for number in range(10)] for writer in range(3)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(path), *own], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for own in names
    ]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    assert {each.name for each in entries(path)} == {name for own in names for name in own}
