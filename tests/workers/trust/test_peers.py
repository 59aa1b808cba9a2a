"""Test who is at the other end of a socket, as the kernel tells."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bertstream.workers.trust.peers import peer_problem
from tests.support.strangers import STRANGER, as_root, connecting


def test_one_s_own_process() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_problem(one) == ""


@as_root
def test_another_user_s_process(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with connecting(str(tmp_path / "socket")) as pid:
            accepted, _ = listener.accept()
            with accepted:
                assert peer_problem(accepted) == f"process {pid} is the user {STRANGER}'s, not 0's"


def test_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    one, other = socket.socketpair()
    with one, other:
        assert peer_problem(one) == ""
