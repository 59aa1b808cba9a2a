"""Build the wheels: one for any platform, and one with the C++ operators, compiled for this kind of machine.

    python -m deploy.wheel [--output dist]

The second is the first with a library for each set of instructions in bertstream/workers/native/prebuilt. It is for the
minor version of torch that is installed here; beside any other, the machine's own compiler does as with the first.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bertstream.workers import native
from bertstream.workers.native import library, prebuilt

ROOT = Path(__file__).resolve().parents[1]
PORTIONS = ("protos", "client", "server", "workers")
FLAVOURS = ("avx2", "avx512")
PLACE = "bertstream/workers/native/prebuilt"
# What a library may be linked to: torch's, which are loaded before it and have libgomp with them, and what every Linux
# with glibc has.
LINKED = re.compile(
    r"lib(torch_cpu|c10)\.so|lib(stdc\+\+|m|gomp|gcc_s|c|pthread|dl|rt)\.so\.\d+|ld-linux-x86-64\.so\.2"
)
Version = tuple[int, ...]
# The newest symbols of libstdc++, GLIBCXX and CXXABI, that systems of a manylinux tag have, by its glibc (the
# policies of auditwheel for x86_64). A tag between two has the symbols of the earlier one.
LIBSTDCXX: dict[Version, tuple[Version, Version]] = {
    (2, 17): ((3, 4, 19), (1, 3, 7)),
    (2, 24): ((3, 4, 22), (1, 3, 10)),
    (2, 27): ((3, 4, 24), (1, 3, 11)),
    (2, 31): ((3, 4, 28), (1, 3, 12)),
    (2, 34): ((3, 4, 29), (1, 3, 13)),
    (2, 35): ((3, 4, 30), (1, 3, 13)),
    (2, 39): ((3, 4, 33), (1, 3, 15)),
}


class WheelError(Exception):
    """A wheel cannot be built; the message is one line that says why."""


def pure_wheel(output: Path) -> Path:
    """Build the wheel for any platform into `output`, from a copy, so that nothing left over from builds gets in."""
    with tempfile.TemporaryDirectory() as name:
        source, built = Path(name) / "source", Path(name) / "built"
        source.mkdir()
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, source)
        for portion in PORTIONS:
            unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.o")
            shutil.copytree(ROOT / portion, source / portion, ignore=unwanted)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps")
        _output((*pip, "--no-build-isolation", "--wheel-dir", str(built), str(source)))
        (wheel,) = built.glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, output))


def compile_operators(folder: Path, flavours: Sequence[str] = FLAVOURS) -> list[Path]:
    """Compile the operators for each set of instructions into `folder`. Raises NativeError."""
    made = []
    for flavour in flavours:
        made.append(folder / library.library_name(flavour))
        library.compile_library(library.compile_command(flavour), made[-1])
    return made


def with_operators(wheel: Path, operators: Iterable[Path], output: Path) -> Path:
    """Write a wheel for this platform: another one, and the libraries with their hashes. Raises WheelError."""
    contents = {path.name: path.read_bytes() for path in operators}
    tag = platform_tag(contents)
    target = output / re.sub(r"-any\.whl$", f"-{tag}.whl", wheel.name)
    facts = json.dumps(prebuilt_facts(contents), indent=2).encode() + b"\n"
    added = {f"{PLACE}/{name}": content for name, content in {**contents, prebuilt.FACTS: facts}.items()}
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        files = {name: source.read(name) for name in source.namelist() if not name.endswith("/RECORD")}
        (about,) = (name for name in files if name.endswith(".dist-info/WHEEL"))
        files[about] = _for_platform(files[about].decode(), tag).encode()
        for name, content in (files | added).items():
            made.writestr(_entry(name), content)
        record = about.replace("WHEEL", "RECORD")
        made.writestr(_entry(record), "".join(map(_recorded, (files | added).items())) + f"{record},,\n")
    return target


def prebuilt_facts(contents: Mapping[str, bytes]) -> dict[str, object]:
    """Return what prebuilt.json says of libraries that were compiled here."""
    import torch

    return {
        "torch": prebuilt.minor_version(torch.__version__),
        "source": native.source_hash(),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }


def platform_tag(contents: Mapping[str, bytes]) -> str:
    """Return the oldest platform that all libraries run on. Raises WheelError."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in contents]
        for path in paths:
            path.write_bytes(contents[path.name])
        check_links(paths)
        newest = max(oldest_glibc(_output(("objdump", "-T", str(path)))) for path in paths)
    return f"manylinux_{newest[0]}_{newest[1]}_{platform.machine()}"


def check_links(libraries: Iterable[Path]) -> None:
    """Check that no library needs what a user may not have. Raises WheelError."""
    for path in libraries:
        found = _output(("objdump", "-p", str(path)))
        linked = re.findall(r"^\s*NEEDED\s+(\S+)$", found, re.MULTILINE)
        if others := [name for name in linked if not LINKED.fullmatch(name)]:
            raise WheelError(f"{path.name} is linked to {', '.join(others)}, which users may not have")
        if re.search(r"^\s*(RPATH|RUNPATH)\s", found, re.MULTILINE):
            raise WheelError(f"{path.name} looks for libraries in folders of the machine that it was built on")


def oldest_glibc(symbols: str) -> Version:
    """Return the glibc of the oldest manylinux tag whose systems have all symbols of a library. Raises WheelError.

    symbols: what `objdump -T` prints of the library.
    """
    cxx, abi = newest_symbol(symbols, "GLIBCXX"), newest_symbol(symbols, "CXXABI")
    promised = (
        glibc for glibc, (newest_cxx, newest_abi) in LIBSTDCXX.items() if cxx <= newest_cxx and abi <= newest_abi
    )
    if (beside := next(promised, None)) is None:
        raise WheelError("the compiler's libstdc++ is newer than any that a manylinux tag stands for; use an older one")
    return max(beside, newest_symbol(symbols, "GLIBC")[:2])


def newest_symbol(symbols: str, name: str) -> Version:
    """Return the newest version of symbols, such as (3, 4, 21) of GLIBCXX; () where there is none."""
    found = re.findall(rf"\({name}_(\d[\d.]*)\)", symbols)
    return max((tuple(map(int, each.split("."))) for each in found), default=())


def _for_platform(about: str, tag: str) -> str:
    about = re.sub(r"^Root-Is-Purelib: .*$", "Root-Is-Purelib: false", about, flags=re.MULTILINE)
    return re.sub(r"^Tag: (.*)-any$", rf"Tag: \1-{tag}", about, flags=re.MULTILINE)


def _entry(name: str) -> zipfile.ZipInfo:
    """Return a file's entry that is the same at each build."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _recorded(file: tuple[str, bytes]) -> str:
    name, content = file
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except OSError as error:
        raise WheelError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise WheelError(f"{Path(command[0]).name} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout


def main() -> int:
    """Build both, and print their paths; only the first where there is no compiler, or no x86 with Linux."""
    parser = argparse.ArgumentParser("python -m deploy.wheel", description=__doc__.partition("\n")[0])
    default = ROOT / "dist"
    parser.add_argument("--output", type=Path, default=default, help="folder for the wheels (default: %(default)s)")
    output: Path = parser.parse_args().output
    try:
        wheel = pure_wheel(output)
        print(wheel)
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise WheelError("the operators are compiled for Linux on x86-64 alone")
        with tempfile.TemporaryDirectory() as folder:
            print(with_operators(wheel, compile_operators(Path(folder)), output))
    except (WheelError, native.NativeError) as error:
        print(f"no wheel with operators: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
