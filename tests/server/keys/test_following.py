"""Which keys are in use while their file changes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bertstream.server.keys.editing import add, hash_of, remove
from bertstream.server.keys.file import KeysError, KeyTable
from bertstream.server.keys.following import FollowedKeys, Slots
from bertstream.server.settings import KeyEntry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "keys.toml"
    add(made, KeyTable("one", hash_of("1")))
    return made


def names(followed: FollowedKeys) -> list[str]:
    return [each.name for each in followed.current]


def test_what_changes_is_followed_and_what_does_not_is_not_read(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bertstream")
    followed = FollowedKeys(path, certificates=False)
    assert names(followed) == ["one"]
    assert not followed.follow()
    add(path, KeyTable("two", hash_of("2")))
    assert followed.follow()
    assert names(followed) == ["one", "two"]
    remove(path, "one")
    assert followed.follow()
    assert names(followed) == ["two"]
    assert not followed.follow()
    told = [(each.getMessage(), each.__dict__["keys"]) for each in caplog.records]
    assert told == [(f"using the keys of {path}", count) for count in (1, 2, 1)]


def test_a_broken_file_keeps_the_old_keys_and_is_told_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    followed = FollowedKeys(path, certificates=False)
    good = path.read_text()
    path.write_text(good + "nonsense")
    assert [followed.follow() for _ in range(3)] == [False] * 3
    path.unlink()
    assert [followed.follow() for _ in range(3)] == [False] * 3
    assert names(followed) == ["one"]
    path.write_text(good)
    path.chmod(0o666)
    assert not followed.follow()
    messages = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert len(messages) == 3
    assert all(each.startswith("the keys in use are kept: ") for each in messages)
    assert ["Expected" in messages[0], "No such file" in messages[1], "may write" in messages[2]] == [True] * 3
    path.chmod(0o600)
    assert not followed.reload()  # the same keys as before
    assert names(followed) == ["one"]


def test_an_emptied_file_keeps_the_old_keys_and_the_last_one_can_be_removed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    followed = FollowedKeys(path, certificates=False)
    good = path.read_text()
    path.write_text("")
    assert not followed.follow()
    assert names(followed) == ["one"]
    path.write_text(good)
    assert not followed.follow()
    remove(path, "one")
    assert followed.follow()
    assert names(followed) == []
    about_kept, about_none = (each.getMessage() for each in caplog.records)
    assert about_kept.startswith(f"the keys in use are kept: {path} has no keys")
    assert about_none.startswith("nobody may call, as no key is left")


def test_a_hang_up_reads_it_at_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bertstream")
    followed = FollowedKeys(path, certificates=False)
    assert not followed.reload()
    assert len(caplog.records) == 2
    add(path, KeyTable("two", hash_of("2")))
    assert followed.reload()
    assert not followed.follow()


def test_a_first_file_must_be_good(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="cannot read"):
        FollowedKeys(tmp_path / "none", certificates=False)


def test_a_warning_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.chmod(0o644)
    FollowedKeys(path, certificates=False)
    assert [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING] == [
        f"every user of this machine can read {path}: chmod o-r"
    ]


def test_each_key_keeps_its_slot_and_a_free_one_is_the_last_to_be_given() -> None:
    slots = Slots(4)
    one, two, three = (KeyEntry(name, subject=f"CN={name}") for name in ("one", "two", "three"))
    assert [each.slot for each in slots.assign([one, two])] == [0, 1]
    assert [each.slot for each in slots.assign([two])] == [1]
    assert [(each.name, each.slot) for each in slots.assign([three, two])] == [("three", 2), ("two", 1)]
    assert [each.slot for each in slots.assign([one, two, three])] == [3, 1, 2]
    again = KeyEntry("two", subject="CN=two", weight=2.0)
    assert [(each.slot, each.weight) for each in slots.assign([again])] == [(1, 2.0)]
    assert [each.slot for each in slots.assign([KeyEntry("two", hash="0")])] == [0]
