"""modules.json of sentence-transformers: the modules of a checkpoint, and the folders that they are in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.compile.checkpoints.bounds import file_problem
from bertstream.workers.compile.checkpoints.errors import CheckpointError
from bertstream.workers.compile.checkpoints.files import read_json, read_object

FILE_NAME = "modules.json"
KINDS_WITH_WEIGHTS = ("Transformer", "Dense", "LayerNorm")  # of those that are run
_OWN = "sentence_transformers."  # before the names of its own classes, in all releases
_SETTINGS_GLOBS = ("*.json", "*.txt", "*.model")


@dataclass(frozen=True, slots=True)
class Module:
    """One entry of modules.json."""

    type: str  # the class, "sentence_transformers.models.Pooling"
    folder: Path

    @property
    def kind(self) -> str:
        """The class's own name; "" for one that is not of sentence-transformers, which is code of the checkpoint's."""
        return self.type.rsplit(".", 1)[-1] if self.type.startswith(_OWN) else ""

    @property
    def config(self) -> dict[str, Any]:
        """Its config.json; {} where it has none. Raises CheckpointError."""
        return read_object(self.folder / "config.json")

    def __str__(self) -> str:
        return f"module {self.kind or self.type} ({self.folder.name})"


def read_modules(root: Path) -> tuple[Module, ...]:
    """In their order; none where there is no modules.json. Raises CheckpointError."""
    path = root / FILE_NAME
    if not path.exists():
        return ()
    listed = read_json(path)
    try:
        return tuple(Module(str(each["type"]), _inside(root, str(each["path"]))) for each in listed)
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path} must be a list of modules with a type and a path") from error


def _inside(root: Path, folder: str) -> Path:
    """modules.json is data from outside, so its paths must not lead out of the checkpoint."""
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise CheckpointError(f"{root / FILE_NAME} names the path {folder!r}, outside the checkpoint")
    return root / folder


def transformer_folder(root: Path) -> Path:
    """Where the encoder is: its config.json, weights and tokenizer. Raises CheckpointError."""
    modules = read_modules(root)
    named = [module.folder for module in modules if module.kind == "Transformer"]
    # A class of the checkpoint's own may be an encoder too; it is for others to refuse.
    others = [module.folder for module in modules[:1] if (module.folder / "config.json").exists()]
    return (*named, *others, root)[0]


def settings_files(root: Path) -> Iterator[Path]:
    """All files in all its folders that its meaning depends on, but for weights, each once, in no order.

    Without those that are refused where they are read, since they are too long.
    """
    folders = {root, *(module.folder for module in read_modules(root))}
    for path in {path for folder in folders for pattern in _SETTINGS_GLOBS for path in folder.glob(pattern)}:
        if path.is_file() and not file_problem(path):
            yield path
