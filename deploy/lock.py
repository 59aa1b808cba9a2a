"""Make deploy/locks/*.txt again: all packages of each environment, pinned with their hashes.

`make lock` runs it in an environment that has uv. A lock has markers, so that one file serves Python 3.11 to 3.13 on
any platform. PyPI's torch for Linux is for GPUs; the builds for CPUs are taken from PyTorch's own index or, if that is
out of reach, from the list for the same version in deploy/requirements.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent
ROOT = DEPLOY.parent
LOCKS, REQUIREMENTS = DEPLOY / "locks", DEPLOY / "requirements"
OLDEST_PYTHON, PYTHON_TAGS = "3.11", ("cp311", "cp312", "cp313")
CPU_INDEX = "https://download.pytorch.org/whl/cpu/torch/"
CPU_BUILDS = "torch-cpu"  # the hashes of torch's builds for CPUs, as `sha256sum` writes them


@dataclass(frozen=True, slots=True)
class Lock:
    """One environment: what it is made from, and the versions that it has to agree with."""

    name: str
    extras: tuple[str, ...] = ()  # of bertstream
    inputs: tuple[str, ...] = ()  # files of deploy/requirements
    constraints: tuple[str, ...] = ("requirements/torch.in",)  # files of deploy
    options: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The lock's file."""
        return LOCKS / f"{self.name}.txt"


LOCKS_IN_ORDER = (
    Lock("dev", extras=("dev",)),
    Lock("server", extras=("server", "demo"), constraints=("locks/dev.txt",)),
    Lock("lowest", extras=("server", "demo", "test"), constraints=(), options=("--resolution", "lowest-direct")),
    Lock("proto", inputs=("proto.in",), constraints=()),
    Lock("bench", inputs=("bench.in",)),
    Lock("bench-infinity", inputs=("bench-infinity.in",)),
    Lock("docs", inputs=("docs.in",), constraints=()),
    Lock("lock", inputs=("lock.in",), constraints=()),
)


def main() -> None:
    """Make the locks that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="LOCK", help="such as dev (default: all)")
    parser.add_argument("--no-upgrade", action="store_true", help="keep the versions of a lock that still fit")
    arguments = parser.parse_args()
    for lock in LOCKS_IN_ORDER:
        if not arguments.names or lock.name in arguments.names:
            print(f"locking {lock.name}", flush=True)
            compile_lock(lock, upgrade=not arguments.no_upgrade)


def compile_lock(lock: Lock, *, upgrade: bool) -> None:
    """Resolve a lock with uv, and add torch's builds for CPUs."""
    sources = [str(ROOT / "pyproject.toml")] if lock.extras else []
    sources += [str(REQUIREMENTS / name) for name in lock.inputs]
    options = [part for extra in lock.extras for part in ("--extra", extra)]
    options += [part for name in lock.constraints for part in ("--constraints", str(DEPLOY / name))]
    command = [
        *(str(_uv()), "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON),
        *("--generate-hashes", "--no-annotate", "--no-header", "--output-file", str(lock.path)),
        *(["--upgrade"] if upgrade else []),
        *options,
        *lock.options,
        *sources,
        "-",
    ]
    if subprocess.run(command, input=_build_requirements(lock), text=True, check=False, cwd=ROOT).returncode:
        raise SystemExit(f"could not lock {lock.name}")
    heading = f"# {lock.name}: made by `make lock`; edit pyproject.toml or deploy/requirements, not this.\n"
    lock.path.write_text(heading + with_cpu_builds(lock.path.read_text()))


def _uv() -> Path:
    found = shutil.which("uv", path=str(Path(sys.executable).parent))
    if found is None:
        raise SystemExit("there is no uv beside this Python; run `make lock`")
    return Path(found)


def _build_requirements(lock: Lock) -> str:
    """Return the requirements for building bertstream, which are pinned too, since it is built without isolation."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        requires = tomllib.load(file)["build-system"]["requires"]
    return "\n".join(requires) if lock.extras else ""


def with_cpu_builds(lock: str) -> str:
    """Return the lock with the hashes of torch's builds for CPUs added to those of its torch."""
    found = re.search(r"^torch==(\S+)[^\n]*\n((?:    --hash\S+(?: \\)?\n)+)", lock, re.MULTILINE)
    if not found:
        return lock
    ours = [line.strip(" \\") for line in found[2].splitlines()]
    hashes = sorted({*ours, *(f"--hash=sha256:{digest}" for digest in cpu_builds(found[1]).values())})
    lines = " \\\n".join(f"    {each}" for each in hashes) + "\n"
    return lock[: found.start(2)] + lines + lock[found.end(2) :]


def cpu_builds(version: str) -> dict[str, str]:
    """Return the SHA-256 by file name of a torch's builds for CPUs; a file keeps them for when the index is down."""
    path = REQUIREMENTS / f"{CPU_BUILDS}-{version}.sha256"
    try:
        with urllib.request.urlopen(CPU_INDEX, timeout=20) as response:
            found = listed_builds(response.read().decode(), version)
    except (urllib.error.URLError, TimeoutError) as error:
        known = [line.split("  ") for line in path.read_text().splitlines()] if path.exists() else []
        print(f"  {CPU_INDEX} is out of reach ({error}): {len(known)} builds of torch {version} for CPUs are known")
        return {name: digest for digest, name in known}
    if not found:
        raise SystemExit(f"{CPU_INDEX} lists no builds of torch {version} for CPUs")
    path.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(found.items())))
    return found


def listed_builds(page: str, version: str) -> dict[str, str]:
    """Return the SHA-256 by file name of this version's builds for our Pythons, from the index's page (PEP 503)."""
    links = re.findall(r'href="[^"#]*/(torch-[^"#/]+\.whl)#sha256=([0-9a-f]{64})"', page)
    named = {name.replace("%2B", "+"): digest for name, digest in links}
    wanted = tuple(f"torch-{version}+cpu-{tag}-{tag}-" for tag in PYTHON_TAGS)
    return {name: digest for name, digest in named.items() if name.startswith(wanted)}


if __name__ == "__main__":
    main()
