"""A real server with keys: two frontends that know the same keys, and count the use of each together."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from bertstream.client import (
    Client,
    FailedPrecondition,
    Health,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RpcError,
    Unauthenticated,
)
from tests.support.generation_checkpoints import tiny_causal
from tests.support.keys import KeyFile
from tests.support.server import Server, eventually, running

FRONTENDS = ("frontend-0", "frontend-1")
RATE = 4000  # tokens a second of the key `bounded`, of whose burst 5 calls of 200 texts have room
AT_ONCE = 8
SLOW = ("--tokens-per-second", "0.1")  # a text of 20 tokens is worth 200 s
TEXT = [5] * 20
_sizes = itertools.count(1 << 26)  # makes channels differ, since those with the same arguments share one connection


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(tmp_path_factory.mktemp("keys") / "keys.toml")


@pytest.fixture(scope="module")
def keys(file: KeyFile) -> dict[str, str]:
    """Return the keys that are there from the start, by name."""
    options: dict[str, tuple[str, ...]] = {
        "user": (),
        "ops": ("--role", "admin"),
        "tiny-only": ("--models", "tiny,later"),
        "bounded": ("--tokens-per-second", str(RATE)),
        "few": ("--concurrent", "2"),
        "slow-0": SLOW,
        "slow-1": SLOW,
    }
    return {name: file.add(name, *given) for name, given in options.items()}


@pytest.fixture(scope="module")
def server(
    checkpoint: Callable[[str], Path],
    compile_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
    file: KeyFile,
    keys: dict[str, str],
) -> Iterator[Server]:
    causal = tiny_causal(tmp_path_factory.mktemp("causal") / "causal", family="bert")
    models = [f"tiny={checkpoint('bert')}", f"causal={causal}"]
    options = ("--workers", "1", "--threads", "1", "--frontends", "2", "--log-level", "debug")
    with running(models, *options, "--keys-file", str(file.path), cache=compile_cache) as started:
        yield started


def client(server: Server, key: str | None, retries: int = 0, **options: Any) -> Client:
    return Client(server.address, channels=1, retries=retries, max_message_bytes=next(_sizes), api_key=key, **options)


@contextlib.contextmanager
def client_of_each_frontend(server: Server, key: str) -> Iterator[list[Client]]:
    """Yield a client of each frontend; chance decides which one gets a connection, so enough are opened."""
    with ExitStack() as stack:
        found: dict[str, Client] = {}

        def both() -> bool:
            request_id = uuid.uuid4().hex
            opened = stack.enter_context(client(server, key, metadata=[("x-request-id", request_id)]))
            opened.server_version()

            def answered_by() -> list[str]:
                return [json.loads(line)["process"] for line in list(server.log) if f'"{request_id}"' in line]

            eventually(lambda: bool(answered_by()), "the call to be logged")
            found.setdefault(answered_by()[0], opened)
            return len(found) == 2

        eventually(both, "a connection to each frontend")
        yield [found[name] for name in FRONTENDS]


def everything(each: Client) -> dict[str, Callable[[], Any]]:
    """Return a call of every kind."""
    return {
        "unary": lambda: each.encode(["a b"], model="tiny"),
        "stream": lambda: list(each.encode_stream(["a"] * 3, model="tiny")),
        "layers": lambda: list(each.stream_layers(["a b"], model="tiny")),
        "tokenize": lambda: each.tokenize(["a b"], model="tiny"),
        "generate": lambda: each.generate(["The quick"], model="causal", max_new_tokens=3),
        "pieces": lambda: list(each.stream_generate("The quick", model="causal", max_new_tokens=3)),
        "models": lambda: each.models(),
        "version": lambda: each.server_version(),
    }


def reasons(each: Client) -> dict[str, str]:
    """Return the reason for which each call is refused; calls that are answered are left out."""
    found = {}
    for name, call in everything(each).items():
        try:
            call()
        except RpcError as error:
            found[name] = error.reason
    return found


def knows(server: Server, key: str) -> bool:
    """Return whether the frontend that gets a new connection knows the key."""
    with client(server, key) as each:
        return reasons(each) == {}


def test_it_says_so_and_answers_who_has_a_key(server: Server, keys: dict[str, str]) -> None:
    assert " | keys | " in server.ready_line
    for name in ("user", "ops", "bounded", "few"):
        with client(server, keys[name]) as each:
            assert reasons(each) == {}


@pytest.mark.parametrize(("key", "reason"), [(None, "KEY_REQUIRED"), ("bs_wrong", "KEY_UNKNOWN")])
def test_who_has_none_gets_health_alone(server: Server, key: str | None, reason: str) -> None:
    with client(server, key) as each:
        assert reasons(each) == dict.fromkeys(everything(each), reason)
        assert each.health() is Health.SERVING
        with pytest.raises(Unauthenticated) as raised:
            each.encode(["a"])
        assert "key" in str(raised.value)


def test_reflection_needs_a_key(server: Server, keys: dict[str, str]) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            ProtoReflectionDescriptorDatabase(channel).get_services()
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with_key = grpc.intercept_channel(channel, _Shows(keys["user"]))
        assert "bertstream.v1.EncodingService" in ProtoReflectionDescriptorDatabase(with_key).get_services()


class _Shows(grpc.StreamStreamClientInterceptor):
    """Sends a key with each stream."""

    def __init__(self, key: str) -> None:
        self._key = key

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        details = details._replace(metadata=(("authorization", f"Bearer {self._key}"),))
        return continuation(details, requests)


def test_models_that_a_key_is_not_for(server: Server, keys: dict[str, str]) -> None:
    with client(server, keys["tiny-only"]) as each:
        assert [model.name for model in each.models()] == ["tiny"]
        assert reasons(each) == {"generate": "MODEL_NOT_ALLOWED", "pieces": "MODEL_NOT_ALLOWED"}
        with pytest.raises(PermissionDenied, match="name one that it is for: tiny, later"):
            each.encode(["a"], model="causal")
        with pytest.raises(NotFound, match=r"there is no model 'later'; served: tiny$"):
            each.encode(["a"], model="later")


def test_only_an_admin_changes_what_is_served(server: Server, keys: dict[str, str]) -> None:
    with client(server, keys["user"]) as user, client(server, keys["ops"]) as admin:
        changes: list[Callable[[Client], object]] = [
            lambda each: each.load_model("a", "b"),
            lambda each: each.unload_model("a"),
        ]
        for change in changes:
            with pytest.raises(PermissionDenied) as raised:
                change(user)
            assert raised.value.reason == "ROLE_NOT_ALLOWED"
            with pytest.raises(FailedPrecondition, match="without leave to load models"):
                change(admin)


def until(ended: threading.Event) -> Iterator[list[int]]:
    while not ended.is_set():
        yield TEXT


def test_keys_come_and_go_while_streams_run(server: Server, keys: dict[str, str], file: KeyFile) -> None:
    """Take a key away: a stream that began with it ends with its next message, and nobody else notices."""
    added, ended = file.add("guest"), threading.Event()
    with client(server, added) as guest, client(server, keys["user"]) as user:
        eventually(lambda: reasons(guest) == {}, "the new key to be known to both frontends")
        kept = user.encode_stream(until(ended), model="tiny", batch_size=10)
        next(kept)
        stream = guest.encode_stream(until(threading.Event()), model="tiny", batch_size=10)
        for _ in range(5):
            next(stream)
        removed = time.monotonic()
        file.remove("guest")
        with pytest.raises(Unauthenticated) as raised:
            for _ in stream:
                pass
        assert time.monotonic() - removed < 30
        assert raised.value.reason == "KEY_UNKNOWN"
        eventually(lambda: "KEY_UNKNOWN" in reasons(guest).values(), "the key to be refused")
        next(kept)
        ended.set()
        assert all(not batch.errors for batch in kept)


def test_a_broken_file_keeps_the_keys_and_a_hang_up_reads_it_at_once(
    server: Server, keys: dict[str, str], file: KeyFile
) -> None:
    good = file.path.read_text()

    def kept() -> list[str]:
        return [each["message"] for each in server.records if "the keys in use are kept" in each["message"]]

    try:
        file.write(good + "nonsense")
        eventually(lambda: bool(kept()), "the fault to be told")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(kept()) == 2, "the fault to be told again")
    finally:
        file.write(good)
    with client(server, keys["user"]) as each:
        assert reasons(each) == {}
    time.sleep(2.5)
    assert len(kept()) == 2  # once for each change of the file, by one process
    assert str(file.path) in kept()[0]


def test_calls_at_once_are_counted_in_all_frontends(server: Server, keys: dict[str, str]) -> None:
    ended = threading.Event()
    with client_of_each_frontend(server, keys["few"]) as (one, other):
        streams = [each.encode_stream(until(ended), model="tiny", batch_size=10) for each in (one, other)]
        for stream in streams:
            next(stream)
        for each in (one, other):
            with pytest.raises(QuotaExceeded, match="2 calls under way"):
                each.encode(["a"], model="tiny")
        ended.set()
        for stream in streams:
            list(stream)
        eventually(lambda: reasons(one) == reasons(other) == {}, "room for more calls")


@pytest.mark.parametrize("kind", ["unary", "stream", "layers", "refused"])
def test_a_text_is_charged_once_and_not_where_it_is_refused(server: Server, file: KeyFile, kind: str) -> None:
    """Use a key of 4 tokens a second, whose burst is just one text."""
    with client(server, file.add(f"charged-{kind}", "--tokens-per-second", "4")) as each:
        eventually(lambda: shows_a_key(each), "the key to be known")
        began = time.monotonic()
        match kind:
            case "unary":
                each.encode([TEXT], model="tiny")
            case "stream":
                assert len(list(each.encode_stream([TEXT], model="tiny"))) == 1
            case "layers":
                assert len(list(each.stream_layers([TEXT], model="tiny"))) == 7  # layers 0 to 5, and their end
            case _:
                with pytest.raises(InvalidArgument):
                    each.encode([TEXT, [10**6]], model="tiny")
        if kind == "refused":
            assert each.encode([TEXT], model="tiny").shape == (1, 36)
        else:
            wait = refused_for(each)
            while wait <= 1 / 4 + 0.001:  # a call that comes at once is refused until there is room for a token
                time.sleep(wait)
                wait = refused_for(each)
            spent = time.monotonic() - began
            assert wait <= 5.0 <= wait + spent + 0.01
            assert spent < 5.0
    file.remove(f"charged-{kind}")


def refused_for(each: Client) -> float:
    """Return after how many seconds a call that is refused may be tried again."""
    with pytest.raises(QuotaExceeded) as raised:
        each.encode([TEXT], model="tiny")
    assert raised.value.retry_after is not None
    return raised.value.retry_after


def shows_a_key(each: Client) -> bool:
    try:
        each.server_version()
    except Unauthenticated:
        return False
    return True


def used_up(each: Client, threads: ThreadPoolExecutor) -> float | None:
    """Encode until a call is refused; return after how many seconds it says to try again.

    More calls at once than a burst has room for are refused at once, however slowly texts are computed.
    """
    calls = [threads.submit(each.encode, [TEXT] * 200, model="tiny") for _ in range(AT_ONCE)]
    for call in as_completed(calls):
        if error := call.exception():
            assert isinstance(error, QuotaExceeded)
            return error.retry_after
    raise AssertionError("no call was refused")


def test_a_call_above_its_quota_is_refused_and_tried_again_in_time(server: Server, keys: dict[str, str]) -> None:
    with client(server, keys["bounded"]) as each, client(server, keys["bounded"], retries=4) as patient:
        patient.server_version()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            wait = used_up(each, threads)
            assert wait is not None
            assert 0 < wait <= 4000 / RATE
            began = time.monotonic()
            assert patient.encode([TEXT] * 200, model="tiny", timeout=60).shape == (200, 36)
            assert time.monotonic() - began > 0.2 * wait
        with client(server, keys["user"]) as unbounded:
            for _ in range(20):
                assert unbounded.encode([TEXT] * 200, model="tiny").shape == (200, 36)


@pytest.mark.parametrize("first", [0, 1])
def test_tokens_are_counted_in_all_frontends(server: Server, keys: dict[str, str], first: int) -> None:
    """Use up a quota at one frontend, so that nothing is left for it at the other."""
    with client_of_each_frontend(server, keys[f"slow-{first}"]) as both:
        assert both[first].encode([TEXT], model="tiny").shape == (1, 36)
        for each in both:
            with pytest.raises(QuotaExceeded) as raised:
                each.encode([TEXT], model="tiny")
            assert (raised.value.retry_after or 0.0) > 20


def test_a_new_life_of_a_frontend_knows_the_newest_keys_and_has_no_calls_of_the_last(
    server: Server, keys: dict[str, str], file: KeyFile
) -> None:
    with client_of_each_frontend(server, keys["few"]) as both:
        streams = [each.encode_stream(until(threading.Event()), model="tiny", batch_size=10) for each in both]
        for stream in streams:
            next(stream)
        victim = next(each for each in server.children("server.frontend.process") if FRONTENDS[0] in each.cmdline())
        victim.kill()
        victim.wait(20)
        added = file.add("late")
        eventually(lambda: any(each.get("life") == 1 for each in server.records), "another frontend")
        streams[0].close()
        with client(server, keys["few"]) as again:
            eventually(lambda: reasons(again) == {}, "the calls of the dead to be forgotten")
        streams[1].close()
    # Each frontend has some of eight connections, except in 1 of 128 runs.
    eventually(lambda: all(knows(server, added) for _ in range(8)), "both frontends to know the key")
    file.remove("late")


def test_no_key_is_to_be_seen(server: Server, keys: dict[str, str], file: KeyFile) -> None:
    """Search all that the other tests have written, in the last of them."""
    logged = "".join(server.log)
    hashes = [line.partition(":")[2].strip('"') for line in file.path.read_text().splitlines() if "sha256:" in line]
    assert len(hashes) >= len(keys)
    for secret in (*keys.values(), "bs_", *hashes):
        assert secret not in logged
        for process in [psutil.Process(server.process.pid), *server.children()]:
            assert secret not in " ".join(process.cmdline()) + str(process.environ())
    assert '"caller": "user"' in logged
