"""Find the operators that a wheel for one platform brings along (deploy/wheel.py makes it).

    prebuilt/prebuilt.json
        {"torch": "2.13", "source": hash of the operators' source, "files": {file name: SHA-256}}
    prebuilt/<file name>, for each set of instructions

A library fits one minor version of torch, whose C++ interface may be another in the next.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).with_name("prebuilt")
FACTS = "prebuilt.json"


class PrebuiltError(Exception):
    """The wheel's operators cannot be used here; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Prebuilt:
    """Name a library that fits, and what it must contain."""

    path: Path
    sha256: str

    def read(self) -> bytes:
        """Return its content, after a check that it is what was built. Raises PrebuiltError."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise PrebuiltError(f"{self.path} cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise PrebuiltError(f"{self.path} has other content than was built (its SHA-256 differs)")
        return content


def minor_version(version: str) -> str:
    """Return the part of torch's version that a library is for: "2.13" of "2.13.0+cpu"."""
    return ".".join(version.split(".")[:2])


def _torch() -> str:
    try:
        return minor_version(metadata.version("torch"))
    except metadata.PackageNotFoundError as error:
        raise PrebuiltError("torch is not installed as a package, so its version is not known") from error


def find(name: str, source: str) -> Prebuilt | None:
    """Return the library of this name, or None where the package has none at all.

    source: the hash of the operators' source. Raises PrebuiltError where what is there does not fit.
    """
    facts = FOLDER / FACTS
    if not facts.exists():
        return None
    try:
        said = json.loads(facts.read_bytes())
        built_for, of, files = str(said["torch"]), str(said["source"]), dict(said["files"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PrebuiltError(f"{facts} is damaged") from error
    if built_for != (here := _torch()):
        raise PrebuiltError(f"the package's operators are for torch {built_for}, and this is {here}")
    if of != source:
        raise PrebuiltError("the package's operators are not those of its source")
    if name not in files:
        raise PrebuiltError(f"the package has no {name}")
    return Prebuilt(FOLDER / name, str(files[name]))
