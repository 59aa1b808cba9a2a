"""Install the packages of a lock, all with known hashes, into the environment of the Python that runs this.

    python deploy/install.py deploy/locks/dev.txt --project .

torch comes first. PyPI's build for Linux is for GPUs, with gigabytes of libraries. If pip knows an index or a folder
(PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS) that has the build for CPUs, that is taken, and the libraries are left out.

With --no-compile, Python compiles each module at its first import; most of the 16,000 are never imported.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

GPU_LIBRARY = re.compile(r"cuda-|nvidia-|triton\b")  # tritonclient is none
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
AT_ONCE = 2  # pips; of more, one has the largest packages all the same
# Run in a new process, since torch may have been installed after this one began.
ASK_TORCH = "import importlib.metadata as m; print(m.version('torch'), *m.requires('torch') or (), sep='\\n')"


@dataclass(frozen=True, slots=True)
class Pinned:
    """A package of a lock."""

    name: str
    text: str  # with its version, marker and hashes

    @property
    def requirement(self) -> str:
        """The package without hashes, such as `numpy==2.4.6 ; python_full_version < '3.12'`."""
        return self.text.partition("\\\n")[0].strip()

    @property
    def version(self) -> str:
        """The version, such as 2.13.0."""
        return self.requirement.partition("==")[2].partition(" ")[0]

    @property
    def for_gpus(self) -> bool:
        """Whether only torch's build for GPUs needs it."""
        return GPU_LIBRARY.match(self.name) is not None


def main() -> None:
    """Install the lock that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lock", type=Path)
    parser.add_argument("--project", type=Path, metavar="FOLDER", help="also install the project there, editable")
    parser.add_argument("--leave-out", action="store_true", help="leave out what cannot be installed, and print it")
    parser.add_argument("--no-compile", action="store_true", help="as pip has it: write no bytecode")
    arguments = parser.parse_args()
    if arguments.no_compile:
        os.environ["PIP_COMPILE"] = "0"  # for each run of pip
    install = install_what_can_be if arguments.leave_out else install_all
    complete = install_lock(packages(arguments.lock.read_text(encoding="utf-8")), install)
    if arguments.project:
        pip("install", "--no-deps", "--no-build-isolation", "--editable", str(arguments.project))
    if complete:
        pip("check")


def packages(lock: str) -> list[Pinned]:
    """Return the packages of a lock, each of which begins at the start of a line."""
    blocks = re.findall(r"^([A-Za-z0-9][\w.-]*)(==[^\n]*\n(?:[ \t]+[^\n]*\n)*)", lock, re.MULTILINE)
    return [Pinned(name.lower(), name + rest) for name, rest in blocks]


def install_lock(lock: list[Pinned], install: Callable[[Iterable[Pinned]], bool]) -> bool:
    """Install torch, then the rest, and return whether nothing was left out."""
    rest = [each for each in lock if each.name != "torch"]
    for torch in (each for each in lock if each.name == "torch"):
        install_torch(torch)
        if not any(GPU_LIBRARY.match(line) for line in installed_torch()):
            rest = [each for each in rest if not each.for_gpus]
    return install(rest)


def install_torch(torch: Pinned) -> None:
    """Install torch's build for CPUs if pip finds one, else PyPI's.

    Left to choose, pip would prefer PyPI's, whose hash it knows before the download.
    """
    if installed_torch()[:1] in ([torch.version], [f"{torch.version}+cpu"]):
        return
    for_cpus = replace(torch, text=torch.text.replace(f"=={torch.version}", f"=={torch.version}+cpu", 1))
    try:
        install_all([for_cpus], verbose=False)
    except SystemExit:
        if sys.platform == "linux":
            print(f"Taking torch for GPUs, with gigabytes of libraries; for CPUs: PIP_EXTRA_INDEX_URL={CPU_INDEX}")
        install_all([torch])


def installed_torch() -> list[str]:
    """Return the version of the installed torch, and its requirements; empty if there is none."""
    asked = subprocess.run([sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, check=False)
    return asked.stdout.splitlines()


def install_all(some: Iterable[Pinned], *, verbose: bool = True) -> bool:
    """Install these packages and nothing else, and return True. Exits if that fails.

    Where no progress is shown, a few pips share them: each mostly unpacks, on one core.
    """
    wanted = list(some)
    shares = 1 if _shows_progress(verbose) else min(AT_ONCE, len(wanted))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(_install, wanted[at::shares], verbose) for at in range(shares)]:
            done.result()
    return True


def _install(some: Sequence[Pinned], verbose: bool) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(each.text for each in some))
        file.flush()
        pip("install", "--no-deps", "--require-hashes", "--requirement", file.name, verbose=verbose)


def install_what_can_be(some: Iterable[Pinned]) -> bool:
    """Install all packages at once, or one by one if that fails; print what was left out, and return if nothing was."""
    try:
        return install_all(some := list(some))
    except SystemExit:
        return not [each.name for each in some if not _installs(each)]


def _installs(one: Pinned) -> bool:
    try:
        return install_all([one])
    except SystemExit:
        print(f"left out: {one.name}", file=sys.stderr)
        return False


def pip(*arguments: str, verbose: bool = True) -> None:
    """Run pip, with its progress on a terminal only, and without any output unless `verbose`. Exits if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    if not _shows_progress(verbose):
        command += ["-qq"] if arguments[0] == "check" else ["-qq", "--progress-bar", "off"]
    output = None if verbose else subprocess.DEVNULL
    done = subprocess.run(command, stdout=output, stderr=output, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def _shows_progress(verbose: bool) -> bool:
    return verbose and sys.stderr.isatty()


if __name__ == "__main__":
    main()
