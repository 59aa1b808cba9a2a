"""The wheel, installed outside the repository: the client alone is small, and with the server it serves."""

from __future__ import annotations

import json
import math
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bertstream.workers import native
from bertstream.workers.native import library, prebuilt
from deploy import install
from deploy import wheel as wheels
from deploy.wheel import PLACE, WheelError, oldest_glibc, pure_wheel, with_operators
from tests.support.imports import PORTIONS, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLIENT_DISTRIBUTIONS = {"bertstream", "grpcio", "protobuf", "numpy", "googleapis-common-protos", "typing-extensions"}


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment, used from an empty folder, from which nothing of the repository can be imported."""

    root: Path
    home: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / "bin" / "bertstream"), *arguments]

    @property
    def variables(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "BERTSTREAM_"))}
        return kept | {"BERTSTREAM_CACHE": str(self.home / "cache"), "PYTHONWARNINGS": "error::ImportWarning"}

    def run(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.home, env=self.variables, capture_output=True, text=True, timeout=timeout, check=False
        )


def _checked(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    _checked(subprocess.run(command, capture_output=True, text=True, timeout=500, check=False))


def _environment(root: Path) -> Environment:
    venv.create(root / "venv", with_pip=False, symlinks=True)
    (root / "home").mkdir()
    return Environment(root / "venv", root / "home")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pure_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def platform_wheel(wheel: Path, compile_cache: Path) -> Path:
    """Return a wheel with the operators for this processor alone, which the other tests have compiled."""
    if not native.status()[0] or platform.machine() != "x86_64" or not shutil.which("objdump"):
        pytest.skip("there are no operators for a wheel here, or there is no objdump")
    return with_operators(wheel, [native.build(compile_cache)], wheel.parent)


@pytest.fixture(scope="module")
def client_only(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = _environment(tmp_path_factory.mktemp("client_only"))
    # The wheel's requirements, in the versions of the lock, so that a later release changes nothing here.
    pins = [each.requirement for each in install.packages((ROOT / "deploy/locks/dev.txt").read_text())]
    constraints = environment.home.parent / "constraints.txt"
    constraints.write_text("\n".join(pins))
    _pip("--python", str(environment.python), "install", "--quiet", "-c", str(constraints), str(wheel))
    return environment


@pytest.fixture(scope="module")
def with_server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheel's bertstream; all else comes from the environment that runs the tests.

    A path in a .pth file is searched last, and the .pth files in it (of an editable install, say) are not read.
    """
    return _with_server(wheel, tmp_path_factory.mktemp("with_server"))


def _with_server(wheel: Path, root: Path) -> Environment:
    environment = _environment(root)
    _pip("--python", str(environment.python), "install", "--quiet", "--no-deps", str(wheel))
    others = [each for each in sys.path if Path(each).name == "site-packages"]
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site_packages = Path(_checked(environment.run(str(environment.python), "-c", code)).strip())
    (site_packages / "others.pth").write_text("".join(f"{each}\n" for each in others))
    return environment


def test_the_wheel_has_all_that_a_user_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "bertstream/__init__.py" not in names
    wanted = ["*.proto", "py.typed", "*.pyi", "*.cpp", "*.cu", "*.h", "*.py", "*.html", "*.css", "*.js", "*.svg"]
    sources = {
        str(path.relative_to(ROOT / portion))
        for portion in PORTIONS
        for pattern in wanted
        for path in (ROOT / portion / "bertstream").rglob(pattern)
    }
    assert {name for name in names if name.startswith("bertstream/")} == sources
    # Others' .proto files, which are beside ours in the repository, come with their own distributions.
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"bertstream"}
    some = {"v1/encoding.proto", "client/py.typed", "workers/process/worker.py"}
    assert {f"bertstream/{name}" for name in some} <= sources
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_client_draws_in_little(client_only: Environment) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps([d.name for d in m.distributions()]))"
    listed = json.loads(_checked(client_only.run(str(client_only.python), "-c", code)))
    assert {name.lower().replace("_", "-") for name in listed} - {"pip", "setuptools"} == CLIENT_DISTRIBUTIONS


def test_the_client_imports_without_a_server(client_only: Environment) -> None:
    code = "from bertstream.client import AsyncClient, Client; from bertstream.v1 import encoding_pb2_grpc; print('ok')"
    assert _checked(client_only.run(str(client_only.python), "-W", "error", "-c", code)) == "ok\n"


def test_the_client_alone_has_the_command_line(client_only: Environment) -> None:
    help_text = _checked(client_only.run(*client_only.command("--help")))
    assert all(command in help_text for command in ("serve", "compile", "models", "tokenize", "encode", "health"))


@pytest.mark.parametrize("command", [("serve",), ("compile", "some-model")])
def test_the_client_alone_says_how_to_get_the_server(client_only: Environment, command: tuple[str, ...]) -> None:
    done = client_only.run(*client_only.command(*command))
    assert done.returncode not in (0, -signal.SIGTERM)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "bertstream[server]" in done.stderr


@dataclass(frozen=True, slots=True)
class Serving:
    """A server process that runs, and its address."""

    process: subprocess.Popen[str]
    address: str


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler that takes what was compiled for this processor already, which saves a quarter of a minute."""

    path: Path

    @classmethod
    def of(cls, compiled: Path, folder: Path) -> Compiler:
        made = cls(folder / "compiler")
        lines = ("[ $1 = --version ] && exit", "for last; do :; done", f'echo "$*" >> {folder}/asked')
        made.path.write_text("\n".join(["#!/bin/sh", *lines, f'cp {compiled} "$last"', ""]))
        made.path.chmod(0o755)
        return made

    @property
    def asked(self) -> list[str]:
        """Return the arguments of its calls, those of each in a line."""
        return self.path.with_name("asked").read_text().splitlines()


@pytest.fixture
def quick_compiler(compile_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler | None:
    """Return the compiler of this test and its processes; None where there are no operators."""
    if not native.status()[0]:
        return None
    made = Compiler.of(native.build(compile_cache), tmp_path)
    monkeypatch.setenv("CXX", str(made.path))
    return made


@pytest.fixture
def serving(with_server: Environment, quick_compiler: Compiler | None) -> Iterator[Serving]:
    options = ["--port", "0", "--device", "cpu", "--workers", "1", "--threads", "1"]
    log = with_server.home / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            with_server.command("serve", *options),
            cwd=with_server.home,
            env=with_server.variables,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield Serving(process, _ready_address(process, log))
        finally:
            process.kill()
            process.communicate()


def _ready_address(process: subprocess.Popen[str], log: Path) -> str:
    """Wait for the line that says where the server is; the first start builds the operators and compiles the model."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    seen = ""
    while line := lines.get(timeout=400):
        seen += line
        if found := re.search(r"ready on (\S+:\d+)", line):
            return found[1]
    raise AssertionError(f"the server ended before it was ready:\n{seen}\n{log.read_text()}")


def test_the_server_comes_from_the_wheel(with_server: Environment) -> None:
    code = "import bertstream.server, bertstream.workers as w; print(bertstream.server.__file__, w.__file__, sep='\\n')"
    for place in _checked(with_server.run(str(with_server.python), "-c", code)).split():
        assert Path(place).is_relative_to(with_server.root)


def test_the_installed_server_encodes_and_stops(
    with_server: Environment, serving: Serving, quick_compiler: Compiler | None
) -> None:
    command = with_server.command("encode", "Hello, Welt!", "--json", "--address", serving.address)
    row = json.loads(_checked(with_server.run(*command)))
    assert len(row["vector"]) == 384
    assert math.hypot(*row["vector"]) == pytest.approx(1, abs=1e-5)
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(timeout=60) == 0
    if quick_compiler:
        (asked,) = quick_compiler.asked
        (source,) = (Path(each) for each in asked.split() if each.endswith(".cpp"))
        assert source.is_relative_to(with_server.root)
        assert source.is_file()


USE = """
import sys
from pathlib import Path
from bertstream.workers import native
print(native.status()[1], native.provide(Path(sys.argv[1])), native.instructions(), sep="\\n")
"""


def test_a_machine_without_a_compiler_has_the_operators_of_the_wheel(
    platform_wheel: Path, compile_cache: Path, tmp_path: Path
) -> None:
    environment = _with_server(platform_wheel, tmp_path)
    code = f"import os; os.environ['PATH'] = ''; os.environ.pop('CXX', None)\n{USE}"
    cache = tmp_path / "cache"
    said = _checked(environment.run(str(environment.python), "-W", "ignore", "-c", code, str(cache))).splitlines()
    native.load(native.build(compile_cache))
    assert said[0] == "part of the package"
    assert Path(said[1]).parent.parent == cache / "native"
    assert Path(said[1]).read_bytes() == native.build(compile_cache).read_bytes()
    assert said[2] == native.instructions()


def test_the_platform_is_what_the_operators_need(platform_wheel: Path, wheel: Path) -> None:
    """Any glibc that torch needs is older than the one here, and nothing but torch's own libraries is asked for."""
    found = re.fullmatch(r"bertstream-.*-py3-none-manylinux_2_(\d+)_x86_64\.whl", platform_wheel.name)
    assert found is not None
    assert 14 <= int(found[1]) <= int(platform.libc_ver()[1].split(".")[1])
    with zipfile.ZipFile(wheel) as pure, zipfile.ZipFile(platform_wheel) as other:
        added = set(other.namelist()) - set(pure.namelist())
        (about,) = (name for name in other.namelist() if name.endswith(".dist-info/WHEEL"))
        text = other.read(about).decode()
    assert added == {f"{PLACE}/{name}" for name in (native.file_name(), prebuilt.FACTS)}
    assert f"Tag: py3-none-manylinux_2_{found[1]}_x86_64\n" in text
    assert "Root-Is-Purelib: false\n" in text


SYMBOLS = """
0000000000000000      DF *UND*  0000000000000000 (GLIBC_{glibc}) memcpy
0000000000000000      DF *UND*  0000000000000000 (GLIBC_2.2.5) free
0000000000000000      DF *UND*  0000000000000000 (GLIBCXX_{cxx}) _ZSt20__throw_length_errorPKc
0000000000000000      DO *UND*  0000000000000000 (CXXABI_{abi}) _ZTVN10__cxxabiv117__class_type_infoE
0000000000001000 g    DF .text  0000000000000010  Base        mine
"""


@pytest.mark.parametrize(
    ("glibc", "cxx", "abi", "oldest"),
    [
        ("2.14", "3.4.19", "1.3.7", (2, 17)),
        ("2.32", "3.4.21", "1.3.9", (2, 32)),
        ("2.14", "3.4.21", "1.3.9", (2, 24)),
        ("2.14", "3.4", "1.3.11", (2, 27)),
        ("2.17", "3.4.29", "1.3.13", (2, 34)),
        ("2.3.4", "3.4.9", "1.3.15", (2, 39)),
    ],
)
def test_the_platform_has_all_symbols_of_both_libraries(
    glibc: str, cxx: str, abi: str, oldest: tuple[int, int]
) -> None:
    assert oldest_glibc(SYMBOLS.format(glibc=glibc, cxx=cxx, abi=abi)) == oldest


def test_a_library_of_a_compiler_that_is_too_new_is_no_part_of_a_wheel() -> None:
    with pytest.raises(WheelError, match="newer than any that a manylinux tag stands for"):
        oldest_glibc(SYMBOLS.format(glibc="2.17", cxx="3.4.99", abi="1.3.7"))


@pytest.fixture
def command_line(wheel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """Return the command line, which takes the wheel for any platform as it is and writes into a folder."""

    def pure(output: Path) -> Path:
        output.mkdir()
        return Path(shutil.copy(wheel, output))

    monkeypatch.setattr(wheels, "pure_wheel", pure)
    monkeypatch.setattr(sys, "argv", ["wheel", "--output", str(tmp_path / "dist")])
    return wheels.main


def test_without_a_compiler_there_is_the_wheel_for_any_platform(
    command_line: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    library.compiler.cache_clear()  # which this process may have found before
    try:
        assert command_line() == 1
    finally:
        library.compiler.cache_clear()
    said = capsys.readouterr()
    assert [Path(line).suffix for line in said.out.splitlines()] == [".whl"]
    assert said.err == "no wheel with operators: no C++ compiler found\n"


def test_a_library_that_needs_others_is_no_part_of_a_wheel(wheel: Path, tmp_path: Path) -> None:
    if not shutil.which("objdump"):
        pytest.skip("there is no objdump")
    with pytest.raises(WheelError, match=r"is linked to .*, which users may not have|looks for libraries in folders"):
        with_operators(wheel, [Path(torch.__file__).parent / "lib" / "libtorch_python.so"], tmp_path)
