"""Certificates are checked as they are read, and followed as their files change."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from bertstream.server.certificates import CertificateError, FollowedCertificates, read
from bertstream.server.settings import TlsFiles
from tests.support.certificates import Authority

ENCRYPTED = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII\n-----END ENCRYPTED PRIVATE KEY-----\n"
EMPTY = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return authority.issue("server")


def test_what_is_read_is_what_the_files_hold(authority: Authority, files: TlsFiles) -> None:
    found = read(dataclasses.replace(files, client_ca=str(authority.path)))
    assert found.certificates.certificate == Path(files.certificate).read_text()
    assert found.certificates.key == Path(files.key).read_text()
    assert found.certificates.client_ca == authority.path.read_text()
    assert found.expires.endswith(" GMT")
    assert found.warnings == ()


def test_text_beside_the_certificates_may_be_in_any_encoding(files: TlsFiles) -> None:
    path = Path(files.certificate)
    path.write_bytes("Überprüfung\n".encode() + path.read_bytes())
    assert read(files).certificates.certificate.encode("latin-1") == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("certificate", None, "cannot read {}: No such file or directory"),
        ("key", None, "cannot read {}: No such file or directory"),
        ("client_ca", None, "cannot read {}: No such file or directory"),
        ("certificate", "", "{} has no certificate in PEM form"),
        ("key", EMPTY, "{} has no private key in PEM form"),
        ("key", ENCRYPTED, "{} is encrypted"),
        ("certificate", EMPTY, "{} cannot be used: not valid PEM"),
        ("client_ca", EMPTY, "{} cannot be used: not valid PEM"),
    ],
)
def test_a_file_at_fault_is_named(files: TlsFiles, tmp_path: Path, name: str, text: str | None, fault: str) -> None:
    path = tmp_path / "odd"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CertificateError) as raised:
        read(dataclasses.replace(files, **{name: str(path)}))
    assert str(raised.value).startswith(fault.format(path))
    assert "\n" not in str(raised.value)


def test_a_key_of_another_certificate(authority: Authority, files: TlsFiles) -> None:
    other = authority.issue("other")
    with pytest.raises(CertificateError, match=rf"other\.key is not the key of {files.certificate}"):
        read(dataclasses.replace(files, key=other.key))


@pytest.mark.parametrize(("days", "fault"), [((-9, -1), "it has expired"), ((1, 9), "it is not valid yet")])
def test_a_certificate_that_clients_refuse_for_its_dates_is_served_with_a_warning(
    authority: Authority, days: tuple[int, int], fault: str
) -> None:
    files = authority.issue("server", days=days)
    found = read(files)
    assert found.warnings == (f"clients will refuse {files.certificate}: {fault}",)
    assert found.expires == ""


def test_a_key_that_all_can_read_is_a_warning(files: TlsFiles) -> None:
    Path(files.key).chmod(0o640)
    assert read(files).warnings == ()
    Path(files.key).chmod(0o644)
    assert read(files).warnings == (f"every user of this machine can read the key {files.key}: chmod o-r",)


def test_a_new_pair_is_used_from_the_next_look_on(authority: Authority, files: TlsFiles) -> None:
    followed = FollowedCertificates(files)
    first = followed.current
    followed.follow()
    assert followed.current is first
    authority.issue("server")
    followed.follow()
    assert followed.current == read(files).certificates != first


def test_a_broken_pair_keeps_the_one_in_use_and_is_one_line(
    authority: Authority, files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    followed = FollowedCertificates(files)
    first, key = followed.current, Path(files.key)
    authority.issue("other")
    key.write_bytes(key.with_name("other.key").read_bytes())
    for _ in range(3):
        followed.follow()
    assert followed.current is first
    (line,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert line.getMessage().startswith(f"the certificate in use is kept: {key} is not the key of")
    assert "-----" not in caplog.text
    assert not followed.reload()
    authority.issue("server")
    assert followed.reload()
    assert followed.current != first


def test_a_file_that_goes_and_comes_back(files: TlsFiles) -> None:
    followed = FollowedCertificates(files)
    first, path = followed.current, Path(files.certificate)
    text = path.read_text()
    path.unlink()
    followed.follow()
    assert followed.current is first
    path.write_text(text)
    followed.follow()
    assert followed.current == first


def test_what_was_given_first_is_not_trusted_to_be_the_newest(authority: Authority, files: TlsFiles) -> None:
    """The files may change after one process has read them and before another looks at them."""
    first = FollowedCertificates(files).current
    authority.issue("server")
    followed = FollowedCertificates(files, first)
    followed.follow()
    assert followed.current == read(files).certificates != first


def test_a_look_at_files_that_say_the_same_is_not_told(files: TlsFiles, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    followed = FollowedCertificates(files)
    Path(files.key).touch()
    followed.follow()
    assert len(caplog.records) == 1
    assert followed.reload()
    assert len(caplog.records) == 2


def test_a_good_pair_serves_although_the_files_are_broken_by_now(files: TlsFiles) -> None:
    first = FollowedCertificates(files).current
    Path(files.key).write_text("")
    assert FollowedCertificates(files, first).current is first
    with pytest.raises(CertificateError):
        FollowedCertificates(files)
