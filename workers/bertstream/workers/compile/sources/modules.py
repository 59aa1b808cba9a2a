"""Read sentence-transformers' modules.json: the modules of a checkpoint, and the folders that they are in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.compile.sources import gliner
from bertstream.workers.compile.sources.bounds import file_problem
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_json, read_object

FILE_NAME = "modules.json"
ROUTER_FILE = "router_config.json"
STATIC = "SparseStaticEmbedding"
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
    """Return the modules in order; none where there is no modules.json. Raises CheckpointError.

    Of a router whose queries have weights that do not depend on the text, those of documents stand in its place.
    """
    modules = _listed(root)
    routes = _routes(root, modules)
    return modules if routes is None else (*routes.documents, *modules[1:])


def static_weights_folder(root: Path) -> Path | None:
    """Return the folder with the weights of queries' tokens, None where queries are as documents."""
    routes = _routes(root, _listed(root))
    return None if routes is None else routes.queries.folder


@dataclass(frozen=True, slots=True)
class _Routes:
    """Hold what a router does with queries, and with documents and all else."""

    queries: Module
    documents: tuple[Module, ...]


def _listed(root: Path) -> tuple[Module, ...]:
    path = root / FILE_NAME
    if not path.exists():
        return ()
    listed = read_json(path)
    try:
        return tuple(Module(str(each["type"]), _inside(root, str(each["path"]))) for each in listed)
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path} must be a list of modules with a type and a path") from error


def _routes(root: Path, modules: tuple[Module, ...]) -> _Routes | None:
    """Return the routes where the first module is a router of the one kind that can be run. Raises CheckpointError."""
    if not modules or modules[0].kind != "Router":
        return None
    path = modules[0].folder / ROUTER_FILE
    saved = read_object(path)
    try:
        types, parameters = saved["types"], saved.get("parameters") or {}
        routes = {
            str(name): tuple(Module(str(types[each]), _inside(root, str(each), modules[0].folder)) for each in names)
            for name, names in saved["structure"].items()
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} must have types and a structure of routes") from error
    queries, documents = routes.get("query", ()), routes.get("document", ())
    is_known = routes.keys() == {"query", "document"} and not parameters.get("route_mappings")
    default = parameters.get("default_route") or next(iter(routes), "")
    if is_known and default == "document" and [each.kind for each in queries] == [STATIC] and documents:
        return _Routes(queries[0], documents)
    return None


def _inside(root: Path, folder: str, parent: Path | None = None) -> Path:
    """Return the module's folder, which must not lead out of the checkpoint: modules.json comes from outside."""
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise CheckpointError(f"{root / FILE_NAME} names the path {folder!r}, outside the checkpoint")
    return (parent or root) / folder


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
    static = static_weights_folder(root)
    folders = {root, *(module.folder for module in read_modules(root)), *([] if static is None else [static])}
    for path in {path for folder in folders for pattern in _SETTINGS_GLOBS for path in folder.glob(pattern)}:
        if path.is_file() and not file_problem(path):
            yield path
    yield from gliner.named_files(root)
