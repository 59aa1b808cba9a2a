"""Read sentence-transformers' modules.json: the modules of a checkpoint, and the folders that they are in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.compile.sources.bounds import file_problem
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_json, read_object

FILE_NAME = "modules.json"
ENCODERS = ("Transformer", "MLMTransformer")  # the latter in SparseEncoders of releases before 5.4
KINDS_WITH_WEIGHTS = (*ENCODERS, "Dense", "LayerNorm")  # those that we can run
_OWN = "sentence_transformers."  # the prefix of its own classes, in all releases
_ALIASES = {"pylate.models.Dense.Dense": "Dense"}  # PyLate's, which is that of sentence-transformers
COLBERT_SETTINGS = "artifact.metadata"  # of Stanford's ColBERT
_SETTINGS_GLOBS = ("*.json", "*.txt", "*.model", COLBERT_SETTINGS)


@dataclass(frozen=True, slots=True)
class Module:
    """Hold one entry of modules.json."""

    type: str  # the class, such as "sentence_transformers.models.Pooling"
    folder: Path

    @property
    def kind(self) -> str:
        """Return the class's own name; "" for one that is the checkpoint's code, not sentence-transformers'."""
        return self.type.rsplit(".", 1)[-1] if self.type.startswith(_OWN) else _ALIASES.get(self.type, "")

    @property
    def config(self) -> dict[str, Any]:
        """Return the module's config.json, or {} where it has none. Raises CheckpointError."""
        return read_object(self.folder / "config.json")

    def __str__(self) -> str:
        return f"module {self.kind or self.type} ({self.folder.name})"


def read_modules(root: Path) -> tuple[Module, ...]:
    """Return the modules in order; none where there is no modules.json. Raises CheckpointError."""
    path = root / FILE_NAME
    if not path.exists():
        return ()
    listed = read_json(path)
    try:
        return tuple(Module(str(each["type"]), _inside(root, str(each["path"]))) for each in listed)
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path} must be a list of modules with a type and a path") from error


def _inside(root: Path, folder: str) -> Path:
    """Return the module's folder, which must not lead out of the checkpoint: modules.json comes from outside."""
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise CheckpointError(f"{root / FILE_NAME} names the path {folder!r}, outside the checkpoint")
    return root / folder


def transformer_folder(root: Path) -> Path:
    """Return the folder with the encoder's config.json, weights and tokenizer. Raises CheckpointError."""
    modules = read_modules(root)
    named = [module.folder for module in modules if module.kind in ENCODERS]
    # The checkpoint's own class may be an encoder too; whether it is refused is decided elsewhere.
    others = [module.folder for module in modules[:1] if (module.folder / "config.json").exists()]
    return (*named, *others, root)[0]


def settings_files(root: Path) -> Iterator[Path]:
    """Yield each file, but weights, that the checkpoint's meaning depends on, in any of its folders, in no order.

    Files that are refused for their length where they are read are left out.
    """
    folders = {root, *(module.folder for module in read_modules(root))}
    for path in {path for folder in folders for pattern in _SETTINGS_GLOBS for path in folder.glob(pattern)}:
        if path.is_file() and not file_problem(path):
            yield path
