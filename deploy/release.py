"""Check what a release would publish, from the last commit: `make release-check`.

The wheel is built twice, from the sources and from the sdist, and both must hold the same. It is then installed as a
user would do it, on each Python that is there, and asked what it is.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = 11, 15  # minor versions of Python 3 that are looked for
SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
ASKED = (("--version",), ("--help",), ("encode", "--help"))


class ReleaseError(Exception):
    """What would be published is not as it should be; the message is one line that says why."""


def main() -> None:
    """Check the release, and print what was found."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        check()
    except ReleaseError as error:
        sys.exit(f"not fit to be released: {error}")


def check() -> None:
    """Check the version, the builds, and an installation for each Python. Raises ReleaseError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = committed(ROOT, folder / "sources")
        version = checked_version(sources)
        print(f"version {version}")
        wheel = built_wheel(sources, folder / "wheel")
        again = built_wheel(unpacked(built_sdist(sources, folder / "sdist"), folder / "unpacked"), folder / "again")
        if found := differences(contents(wheel), contents(again)):
            raise ReleaseError(f"the sdist builds another wheel: {', '.join(found[:5])}")
        print(f"{wheel.name}: {len(contents(wheel))} files, the same from the sdist")
        pythons = dict(interpreters())
        for minor, python in pythons.items():
            check_installation(python, wheel, version, folder / f"3.{minor}")
            print(f"Python 3.{minor}: installed from the wheel, and runs")


def committed(root: Path, folder: Path) -> Path:
    """Write the files of the last commit into a folder, and return it."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=root, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def checked_version(sources: Path) -> str:
    """Return the version of pyproject.toml, which the changelog has to have. Raises ReleaseError."""
    project = tomllib.loads((sources / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version: str = project["version"]
    told = re.findall(r"^## \[([^\]]+)\]", (sources / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if version not in told:
        raise ReleaseError(f"CHANGELOG.md has no section [{version}], only {', '.join(told)}")
    return version


def built_sdist(sources: Path, folder: Path) -> Path:
    """Build the sdist of a copy, since setuptools leaves its own files beside the sources."""
    folder.mkdir()
    run([sys.executable, "-c", SDIST, folder], _copy(sources, folder))
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def built_wheel(sources: Path, folder: Path) -> Path:
    """Build the wheel for any platform, of a copy too."""
    folder.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    run([*pip, "--no-build-isolation", "--wheel-dir", folder, "."], _copy(sources, folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpacked(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist, and return the folder within it."""
    with tarfile.open(sdist) as files:
        files.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def contents(wheel: Path) -> Mapping[str, bytes]:
    """Return the files of a wheel, by name."""
    with zipfile.ZipFile(wheel) as files:
        return {name: files.read(name) for name in files.namelist()}


def differences(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """Return the names of files that only one has, or that are not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def interpreters() -> Iterator[tuple[int, str]]:
    """Return the Pythons that are there, by minor version. Each is run, since a shim may stand for one that is not."""
    for minor in range(OLDEST, NEWEST + 1):
        python = shutil.which(f"python3.{minor}")
        if python and not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            yield minor, python


def check_installation(python: str, wheel: Path, version: str, folder: Path) -> None:
    """Install a wheel's client into a fresh environment, and ask it what it is. Raises ReleaseError."""
    run([python, "-m", "venv", folder], folder.parent)
    bin_ = folder / "bin"
    run([bin_ / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", wheel], folder)
    run([bin_ / "python", "-m", "pip", "check"], folder)
    said = [run([bin_ / "bertstream", *asked], folder) for asked in ASKED]
    if said[0].strip() != f"bertstream {version}":
        raise ReleaseError(f"{python}: `bertstream --version` says {said[0].strip()!r}")
    run(
        [bin_ / "python", "-W", "error", "-c", "import bertstream.client, bertstream.files, bertstream.adapters"],
        folder,
    )


def _copy(sources: Path, beside: Path) -> Path:
    return Path(shutil.copytree(sources, beside.with_name(f"{beside.name}-sources")))


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command in a folder, and return what it printed. Raises ReleaseError with its last line."""
    done = subprocess.run([str(each) for each in command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()
        raise ReleaseError(f"{' '.join(map(str, command))}: {told[-1] if told else done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
