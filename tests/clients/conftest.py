"""What others' clients ask: the documents' server, and one that wants TLS and a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bertstream.client import TLS, Client
from tests.support.certificates import Authority
from tests.support.keys import KeyFile
from tests.support.server import running


@dataclass(frozen=True, slots=True)
class Secured:
    """A server that wants TLS and a key: its address, the file of its authority, and a key."""

    address: str
    authority: Path
    key: str

    @property
    def environment(self) -> dict[str, str]:
        """Return what tells our own programs all three."""
        return {
            "BERTSTREAM_ADDRESS": self.address,
            "BERTSTREAM_TLS_CA": str(self.authority),
            "BERTSTREAM_API_KEY": self.key,
        }

    def client(self) -> Client:
        return Client(self.address, tls=TLS(self.authority), api_key=self.key)


@pytest.fixture(scope="session")
def client(documented: str) -> Iterator[Client]:
    with Client(documented) as opened:
        yield opened


@pytest.fixture(scope="session")
def secured(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority, keys = Authority(folder), KeyFile(folder / "keys.toml")
    files, key = authority.issue("server"), keys.add("tests")
    options = ("--workers", "1", "--threads", "1", "--keys-file", str(keys.path))
    tls = ("--tls-certificate", files.certificate, "--tls-key", files.key)
    with running([f"tiny={checkpoint('bert')}"], *options, *tls, cache=compile_cache) as server:
        yield Secured(server.address.replace("127.0.0.1", "localhost"), authority.path, key)
