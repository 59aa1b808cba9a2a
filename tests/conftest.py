"""Fixtures for all tests."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from bertstream.workers import native
from bertstream.workers.process import logs
from tests.support import hosted, sharing
from tests.support.checkpoints import (
    tiny_albert,
    tiny_bert,
    tiny_camembert,
    tiny_deberta,
    tiny_distilbert,
    tiny_electra,
    tiny_gte,
    tiny_modernbert,
    tiny_mpnet,
    tiny_nomic_bert,
    tiny_roberta,
    tiny_xlm_roberta,
)
from tests.support.documented import served_as_documented
from tests.support.gliner import tiny_gliner, tiny_gliner_bert
from tests.support.heads import HEAD_MAKERS, LIKE_BERT_MAKERS
from tests.support.markdown import Documented
from tests.support.pairs import Pair
from tests.support.ray_serve import Application, mark_what_ray_lacks, ray_server
from tests.support.server import Server, running

MAKERS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "bert": (tiny_bert, {}),
    "bert-cased": (tiny_bert, {"lowercase": False}),
    "bert-gelu-new": (tiny_bert, {"hidden_act": "gelu_new"}),
    "roberta": (tiny_roberta, {}),
    "roberta-pad": (tiny_roberta, {"pad_id": 6}),
    "xlm-roberta": (tiny_xlm_roberta, {}),
    "camembert": (tiny_camembert, {}),
    "distilbert": (tiny_distilbert, {}),
    "electra": (tiny_electra, {}),
    "mpnet": (tiny_mpnet, {}),
    "modernbert": (tiny_modernbert, {}),
    "modernbert-long": (tiny_modernbert, {"num_hidden_layers": 2, "max_position_embeddings": 8192}),
    "nomic_bert": (tiny_nomic_bert, {}),
    "gte": (tiny_gte, {}),
    "deberta-v2": (tiny_deberta, {}),
    "albert": (tiny_albert, {}),
    "gliner": (tiny_gliner, {}),
    "gliner-bert": (tiny_gliner_bert, {}),
    **HEAD_MAKERS,
    **LIKE_BERT_MAKERS,
}

FAMILIES = ("xlm-roberta", "camembert", "distilbert", "electra", "mpnet")

# How long an example takes is up to all that runs beside it; pytest ends what hangs. Examples are the same in each run,
# so that it is a change that makes one fail; `--hypothesis-profile explore` and `make fuzz` look for others.
settings.register_profile("explore", deadline=None)
settings.register_profile("bertstream", deadline=None, derandomize=True)
settings.load_profile("bertstream")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return sharing.processes()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    sharing.share_cores(len(specs))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return sharing.scheduler(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ray", action="store_true", help="serve behind Ray Serve where a test does without own options")


def pytest_configure(config: pytest.Config) -> None:
    hosted.through_ray = bool(config.getoption("--ray"))
    logging.getLogger("asyncio").addFilter(_is_of_this_test)


def _is_of_this_test(record: logging.LogRecord) -> bool:
    """Leave out what gRPC, which has one queue for all event loops of a process, says of the closed loops of others."""
    return "PollerCompletionQueue._handle_events" not in record.getMessage()


@pytest.hookimpl(trylast=True)  # once those are left out that were not asked for
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hosted.through_ray:
        mark_what_ray_lacks(items)
    if hasattr(config, "workerinput"):  # a single process keeps the order of the files
        sharing.long_ones_first(items)
    sharing.give_time_to_start(items)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what a command of the server, run in this process, has made of the root logger."""
    root, hook = logging.getLogger(), sys.excepthook
    level, before = root.level, root.handlers[:]
    yield
    added = [each for each in root.handlers if isinstance(each.formatter, logs.JsonFormatter | logs.HumanFormatter)]
    for handler in (each for each in added if each not in before):
        root.removeHandler(handler)
        root.setLevel(level)
        logging.captureWarnings(False)
        sys.excepthook = hook


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all processes that run the tests."""
    return sharing.folder(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def checkpoint(shared_folder: Path) -> Callable[[str], Path]:
    """Return a function from a name in MAKERS to that tiny checkpoint's directory, which is made once.

    Tests must not write into it.
    """

    @functools.cache
    def make(name: str) -> Path:
        maker, config = MAKERS[name]
        return sharing.made_once(shared_folder / "checkpoints" / name, lambda folder: maker(folder, **config))

    return make


@pytest.fixture(scope="session")
def compile_cache(shared_folder: Path) -> Path:
    """Return one cache of compiled models for the whole run, so that nothing is compiled twice."""
    cache = shared_folder / "cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session")
def new_cache(compile_cache: Path) -> Callable[[Path], Path]:
    """Return a function that makes a folder a cache without models.

    The cache has the operators, since building them takes a quarter of a minute.
    """

    def make(folder: Path) -> Path:
        folder.mkdir()
        with contextlib.suppress(native.NativeError):
            native.build(compile_cache)
            (folder / "native").symlink_to(compile_cache / "native")
        return folder

    return make


@pytest.fixture(scope="session", autouse=True)
def _default_cache(compile_cache: Path) -> Iterator[None]:
    """Have all that is not given a cache use the one of the tests, not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTSTREAM_CACHE", str(compile_cache))
        yield


@pytest.fixture(scope="session")
def pair(checkpoint: Callable[[str], Path], compile_cache: Path) -> Callable[..., Pair]:
    """Return a function from a name in MAKERS and a precision to the program and transformers' model, as a pair."""

    @functools.cache
    def make(name: str, dtype: str = "float32") -> Pair:
        return Pair(checkpoint(name), compile_cache, dtype=dtype)

    return make


@pytest.fixture(scope="session")
def server(checkpoint: Callable[[str], Path], compile_cache: Path) -> Iterator[Server]:
    """Yield a server of the embedded model, its default, and of tiny ones, for all tests that do not change it."""
    sharing.check_shares_servers()
    tiny = [f"{name}={checkpoint(name)}" for name in ("bert", "roberta", "roberta-pad", *FAMILIES, "modernbert-long")]
    if hosted.through_ray:
        with ray_server([Application(["all-MiniLM-L6-v2", *tiny])], compile_cache) as rays:
            yield rays
        return
    with running(["all-MiniLM-L6-v2", *tiny], "--workers", "1", cache=compile_cache) as started:
        yield started


@pytest.fixture(scope="session")
def documented_server(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Documented]:
    """Yield a server of all models that the documents name, with tiny ones in place of the hub's."""
    sharing.check_shares_servers()
    with served_as_documented(checkpoint, compile_cache, tmp_path_factory.mktemp("documented")) as served:
        yield served


@pytest.fixture(scope="session")
def documented(documented_server: Documented) -> str:
    """Return the address of that server."""
    return documented_server.address
