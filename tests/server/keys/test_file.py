"""What a file of keys may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertstream.server.keys.file import MOST_KEYS, KeysError, parse, read
from bertstream.server.settings import KeyEntry

HASH = "0123456789abcdef" * 4
SECRET = "bs_0123456789012345678901234567890123456789012"
ONE = f'[[keys]]\nname = "search"\nhash = "sha256:{HASH}"\n'


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_all_that_a_key_may_say(tmp_path: Path) -> None:
    options = 'role = "admin"\nmodels = ["a", "b"]\ntokens_per_second = 5\nconcurrent = 3\nweight = 2.5\n'
    path = written(tmp_path, f'# a comment\n{ONE}{options}[[keys]]\nname = "ingest"\nsubject = "SAN=a.example.com"\n')
    found = read(path, certificates=True)
    assert found.keys == (
        KeyEntry("search", HASH, "", "admin", ("a", "b"), 5.0, 3, 2.5),
        KeyEntry("ingest", subject="SAN=a.example.com"),
    )
    assert found.warnings == ()
    assert HASH not in repr(found)


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n"])
def test_a_file_without_keys_is_a_mistake(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(KeysError) as raised:
        read(path, certificates=False)
    assert str(raised.value) == (
        f"{path} has no keys: `bertstream keys add` makes one, and keys = [] says that nobody may call"
    )
    assert parse(text.encode(), "keys.toml") == ()


def test_a_file_that_says_so_lets_nobody_in(tmp_path: Path) -> None:
    path = written(tmp_path, "keys = []")
    found = read(path, certificates=False)
    assert found.keys == ()
    assert found.warnings == (f"nobody may call, as no key is left in {path}: `bertstream keys add` makes one",)


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").symlink_to("/dev/zero")
    with pytest.raises(KeysError, match=r"^cannot read .*/keys.toml: it is not a regular file$"):
        read(tmp_path / "keys.toml", certificates=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys = 3", "it must be nothing but [[keys]] tables, and at most 4,096 of them"),
        ("port = 3", "it must be nothing but [[keys]] tables, and at most 4,096 of them"),
        ('[[keys]]\nrole = "use"', "key 1 has no name"),
        ('[[keys]]\nname = "a"', "the key 'a' must have either a hash or a subject"),
        (f'{ONE}subject = "CN=a"', "the key 'search' must have either a hash or a subject"),
        (f'[[keys]]\nname = "a"\nkey = "{SECRET}"', "key 1: there is no option 'key'"),
        (f'[[keys]]\nname = "a"\nhash = "{SECRET}"', "key 1: hash must be sha256: and 64 hexadecimal digits"),
        (f'[[keys]]\nname = "a"\nhash = "sha256:{HASH.upper()}"', "key 1: hash must be sha256: and 64 hexadecimal"),
        ('[[keys]]\nname = "a b"', "key 1: name must be 1 to 64 letters, digits and . _ @ -"),
        ('[[keys]]\nname = "a\\n"', "key 1: name must be 1 to 64 letters, digits and . _ @ -"),
        (f'{ONE}[[keys]]\nname = 3\nsubject = "CN=a"', "key 2: name must be 1 to 64"),
        ('[[keys]]\nname = "a"\nsubject = "a"', "key 1: subject must be CN= or SAN= and a name in a certificate"),
        (f'{ONE}role = "{SECRET}"', "key 1: role must be use or admin"),
        (f'{ONE}models = "a"', "key 1: models must be a list of models' names"),
        (f'{ONE}models = [""]', "key 1: models must be a list of models' names"),
        (f"{ONE}tokens_per_second = -1", "key 1: tokens_per_second must be a number, 0 or more; 0 is no bound"),
        (f"{ONE}tokens_per_second = nan", "key 1: tokens_per_second must be a number"),
        (f"{ONE}tokens_per_second = inf", "key 1: tokens_per_second must be a number"),
        (f"{ONE}concurrent = true", "key 1: concurrent must be a whole number, 0 or more; 0 is no bound"),
        (f"{ONE}concurrent = 1.5", "key 1: concurrent must be a whole number"),
        (f"{ONE}weight = 0", "key 1: weight must be a number above 0, and at most 1000"),
        (f"{ONE}{ONE.replace('search', 'other')}", "'search' and 'other' have the same hash"),
        (f"{ONE}{ONE.replace('0123', '3210')}", "'search' and 'search' have the same name"),
        (f"{ONE}weight = ", "Invalid value"),
    ],
)
def test_what_it_may_not_say_is_named_and_not_shown(text: str, message: str) -> None:
    with pytest.raises(KeysError) as raised:
        parse(text.encode(), "keys.toml")
    assert str(raised.value).startswith(f"keys.toml: {message}")
    assert SECRET not in str(raised.value)
    assert HASH[:16] not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_more_keys_than_there_may_be() -> None:
    text = "".join(f'[[keys]]\nname = "a{number}"\nsubject = "CN=a{number}"\n' for number in range(MOST_KEYS + 1))
    with pytest.raises(KeysError, match="at most 4,096 of them"):
        parse(text.encode(), "keys.toml")
    assert len(parse(text.rpartition("[[keys]]")[0].encode(), "keys.toml")) == MOST_KEYS


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(KeysError, match=r"^keys.toml is no text in UTF-8$"):
        parse(b"\xff", "keys.toml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"^cannot read .*/none: No such file or directory$"):
        read(tmp_path / "none", certificates=False)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeysError, match=r"others than its owner may write .*: chmod go-w$"):
        read(written(tmp_path, ONE, mode), certificates=False)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_all_may_read_is_a_warning(tmp_path: Path, mode: int, warned: bool) -> None:
    path = written(tmp_path, ONE, mode)
    expected = (f"every user of this machine can read {path}: chmod o-r",)
    assert read(path, certificates=False).warnings == (expected if warned else ())


def test_a_key_for_a_certificate_where_no_client_shows_one(tmp_path: Path) -> None:
    path = written(tmp_path, '[[keys]]\nname = "ingest"\nsubject = "CN=a"\n')
    with pytest.raises(KeysError, match="the key 'ingest' is for a certificate, which clients show with tls_client_ca"):
        read(path, certificates=False)
