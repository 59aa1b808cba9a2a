"""A real server with TLS follows changed certificates, asks clients for theirs, and refuses wrong options."""

from __future__ import annotations

import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from bertstream.cli import main
from bertstream.client import TLS, Client, Unauthenticated, Unavailable
from bertstream.server.settings import TlsFiles
from tests.support.certificates import Authority
from tests.support.server import Server, eventually, running
from tests.support.web import ask

_sizes = itertools.count(1 << 26)  # makes channels differ, since those with the same arguments share one connection


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def server(checkpoint: Callable[[str], Path], compile_cache: Path, authority: Authority) -> Iterator[Server]:
    """Yield a server with two frontends, on an address that only TLS makes safe."""
    files = authority.issue("server")
    tls = ("--tls-certificate", files.certificate, "--tls-key", files.key)
    options = ("--host", "0.0.0.0", "--workers", "1", "--threads", "1", "--frontends", "2")
    with running([f"tiny={checkpoint('bert')}"], *options, *tls, cache=compile_cache) as started:
        yield started


@pytest.fixture(autouse=True)
def _own_certificate(authority: Authority) -> None:
    """Put the server's own certificate back, whatever an earlier test has left."""
    authority.issue("server")


def client(server: Server, authority: Authority, **options: str) -> Client:
    address = server.address.replace("0.0.0.0", "127.0.0.1")
    return Client(address, channels=1, retries=0, max_message_bytes=next(_sizes), tls=TLS(authority.path, **options))


def shows_a_name(server: Server, authority: Authority, name: str, times: int = 8) -> bool:
    """Return whether new connections find this name; each frontend has some of them, except in 1 of 128 runs."""
    for _ in range(times):
        with client(server, authority, server_name=name) as each:
            try:
                each.health(timeout=60)
            except Unavailable:
                return False
    return True


def used_by_supervisor(server: Server) -> list[str]:
    told = [each["message"] for each in server.records if each["process"] == "supervisor"]
    return [message for message in told if message.startswith("using the certificate")]


def kept(server: Server) -> list[str]:
    return [each["message"] for each in server.records if "is kept" in each["message"]]


def test_it_says_so_and_answers(server: Server, authority: Authority) -> None:
    assert " | TLS | " in server.ready_line
    with client(server, authority) as each:
        assert each.encode(["a b"]).shape == (1, 36)
        assert sum(len(batch.ids) for batch in each.encode_stream(["a"] * 100)) == 100
    with Client(server.address, retries=0) as plain, pytest.raises(Unavailable, match="it may want TLS"):
        plain.health()


def test_a_new_certificate_is_shown_without_a_word_and_no_call_is_dropped(server: Server, authority: Authority) -> None:
    with client(server, authority) as old:
        stream = old.encode_stream(itertools.repeat("a", 5000), batch_size=10)
        next(stream)
        authority.issue("server", "renewed.example.com")
        assert shows_a_name(server, authority, "renewed.example.com")
        assert sum(len(batch.ids) for batch in stream) == 4990


def test_a_broken_pair_keeps_the_old_one_which_new_frontends_show_too(server: Server, authority: Authority) -> None:
    authority.issue("server", "kept.example.com")
    assert shows_a_name(server, authority, "kept.example.com")
    used = len(used_by_supervisor(server))
    server.process.send_signal(signal.SIGHUP)
    # The supervisor hands new frontends what it has read, which must be whole until then.
    eventually(lambda: len(used_by_supervisor(server)) > used, "the supervisor to have read it")
    path = Path(authority.issue("other").key).with_name("server.key")
    path.write_bytes(path.with_name("other.key").read_bytes())
    before = len(kept(server))
    assert shows_a_name(server, authority, "kept.example.com")
    frontend = server.children("bertstream.server.frontend.process")[0]
    frontend.kill()
    frontend.wait(20)
    eventually(lambda: any(each.get("life") == 1 for each in server.records), "another frontend to be ready")
    assert shows_a_name(server, authority, "kept.example.com")
    told = kept(server)[before:]
    assert told
    assert all(str(path) in each and "is not the key of" in each for each in told)
    # At most one of the supervisor, and two of each frontend, for gRPC and for HTTP, and as many more of those that
    # hear of the hang-up after it.
    assert len(told) <= (1 + 2 + 2) * 2 + 2


def test_a_hang_up_has_the_files_read_at_once(server: Server, authority: Authority) -> None:
    path = Path(authority.issue("server").certificate)
    path.write_text("nonsense")
    before = len(kept(server))
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(kept(server)) > before, "the fault to be told")
    assert kept(server)[-1] == f"the certificate in use is kept: {path} has no certificate in PEM form"
    authority.issue("server", "hang-up.example.com")
    used = len(server.logged(f"using the certificate {path}"))
    server.process.send_signal(signal.SIGHUP)
    # The supervisor and both frontends say it, without a handshake.
    eventually(lambda: len(server.logged(f"using the certificate {path}")) >= used + 3, "all to have read it")
    assert shows_a_name(server, authority, "hang-up.example.com")


def test_a_key_is_nowhere_to_be_seen(server: Server, folder: Path) -> None:
    secret = (folder / "server.key").read_text().splitlines()[1]
    for process in [psutil.Process(server.process.pid), *server.children()]:
        assert secret not in " ".join(process.cmdline()) + str(process.environ())
    assert secret not in "".join(server.log)


def test_clients_that_must_show_a_certificate(
    checkpoint: Callable[[str], Path], compile_cache: Path, authority: Authority, folder: Path
) -> None:
    files, own = authority.issue("mutual"), authority.issue("client")
    foreign = Authority(folder, "foreign").issue("stranger")
    file = folder / "bertstream.toml"
    file.write_text(
        f'tls_certificate = "{files.certificate}"\ntls_key = "{files.key}"\ntls_client_ca = "{authority.path}"\n'
    )
    options = ("--workers", "1", "--threads", "1", "--config", str(file))
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
        assert " | mutual TLS | " in server.ready_line
        with client(server, authority, certificate=own.certificate, key=own.key) as each:
            assert each.encode(["a b"]).shape == (1, 36)
        with client(server, authority) as each, pytest.raises(Unavailable, match="may want a certificate"):
            each.health()
        shown = {"certificate": foreign.certificate, "key": foreign.key}
        with client(server, authority, **shown) as each, pytest.raises(Unavailable, match="may not trust"):
            each.health()


def test_a_certificate_stands_for_a_key(
    checkpoint: Callable[[str], Path], compile_cache: Path, authority: Authority, folder: Path
) -> None:
    files, known = authority.issue("keyed"), authority.issue("known", "ingest.example.com")
    unknown = authority.issue("unknown", "other.example.com")
    file = folder / "keys.toml"
    main(["keys", "add", "ingest", "--subject", "SAN=ingest.example.com", "--file", str(file)])
    tls = ("--tls-certificate", files.certificate, "--tls-key", files.key, "--tls-client-ca", str(authority.path))
    options = ("--workers", "1", "--threads", "1", "--log-level", "debug", "--keys-file", str(file), "--http-port", "0")
    with running([f"tiny={checkpoint('bert')}"], *options, *tls, cache=compile_cache) as server:
        assert " | mutual TLS | keys | " in server.ready_line
        with client(server, authority, certificate=known.certificate, key=known.key) as each:
            assert each.encode(["a b"]).shape == (1, 36)
        eventually(lambda: any(each.get("caller") == "ingest" for each in server.records), "the call to be logged")
        shown = {"certificate": unknown.certificate, "key": unknown.key}
        with client(server, authority, **shown) as each, pytest.raises(Unauthenticated, match="wants a key"):
            each.encode(["a b"])
        assert models_over_http(server, authority, known) == (200, "tiny")
        assert models_over_http(server, authority, unknown) == (401, "invalid_api_key")
        with pytest.raises((urllib.error.URLError, ConnectionError)):  # without a certificate there is no connection
            ask(f"{server.http_url}/health", tls=ssl.create_default_context(cafile=str(authority.path)))


def models_over_http(server: Server, authority: Authority, shown: TlsFiles) -> tuple[int, str]:
    """Return what a caller who shows this certificate is told: the first model, or the code of the error."""
    trusting = ssl.create_default_context(cafile=str(authority.path))
    trusting.load_cert_chain(shown.certificate, shown.key)
    answer = ask(f"{server.http_url}/v1/models", tls=trusting)
    return answer.status, answer.json["data"][0]["id"] if answer.status == 200 else answer.json["error"]["code"]


def refused(cache: Path, *options: str) -> str:
    """Return the output of a server that ends with status 2 and has compiled nothing."""
    command = [sys.executable, "-m", "bertstream.cli", "serve", "/none/at-all", "--port", "0", *options]
    environment = {**os.environ, "BERTSTREAM_CACHE": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (record,) = map(json.loads, done.stderr.splitlines())
    return str(record["message"])


def test_starts_that_are_refused(tmp_path: Path, authority: Authority, folder: Path) -> None:
    one, two = authority.issue("one"), authority.issue("two")

    def said(*options: str) -> str:
        return refused(tmp_path, *options)

    assert said("--host", "0.0.0.0").startswith("host '0.0.0.0' can be reached by other machines")
    assert said("--tls-key", one.key) == "tls_key needs tls_certificate beside it"
    mixed: Sequence[str] = ("--tls-certificate", one.certificate, "--tls-key", two.key)
    assert said(*mixed) == f"{two.key} is not the key of {one.certificate}, of the first certificate there"
    absent: Sequence[str] = ("--tls-certificate", f"{folder}/none", "--tls-key", two.key)
    assert said(*absent) == f"cannot read {folder}/none: No such file or directory"


def test_a_hang_up_without_tls_changes_nothing(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    options = ("--host", "0.0.0.0", "--insecure", "--workers", "1", "--threads", "1")
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
        server.process.send_signal(signal.SIGHUP)
        told = "SIGHUP: without TLS and keys there is nothing to read again"
        eventually(lambda: bool(server.logged(told)), "the signal to be told")
        with Client(server.address) as each:
            assert each.encode(["a b"]).shape == (1, 36)
