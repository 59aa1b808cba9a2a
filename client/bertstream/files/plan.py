"""Which files are read, and which are written for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from bertstream.files.formats import (
    INPUT_FORMATS,
    INPUT_NAMES,
    OUTPUT_FORMATS,
    OUTPUT_NAMES,
    Encoded,
    InputFormat,
    OutputFormat,
    input_format,
    output_format,
    stem,
)
from bertstream.files.storage import is_pattern, storage_of

STDIN = "-"
HIDDEN = (".", "_")
"""What names of files and folders begin with that hold no rows, such as `_SUCCESS`."""
FAILED_SUFFIX = ".failed.jsonl"


@dataclass(frozen=True, slots=True)
class FilePair:
    """Name a file that is read, and the one that is written for it."""

    source: str
    encoded: Encoded
    output: str
    name: str
    """The output's path below the folder that is written, or its name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what a run reads and writes."""

    pairs: tuple[FilePair, ...]
    format: OutputFormat
    output: str
    """The file or the folder that is written."""
    in_folder: bool
    skipped: tuple[str, ...] = ()
    """Files in the folders that are read, of formats that are not known."""

    @property
    def work_folder(self) -> str:
        """Return the folder of the run's journal: beside the output file, or in the output folder."""
        if self.in_folder:
            return joined(self.output, ".unfinished")
        folder, name = _parted(self.output)
        return joined(folder, f".{name}.unfinished")

    @property
    def failed_file(self) -> str:
        """Return the file for the rows that fail, beside the output; it has the output's whole name before its own."""
        folder, name = _parted(self.output.rstrip("/"))
        if name in ("", ".", ".."):  # a folder that has no name to call the file by
            return joined(self.output, FAILED_SUFFIX.lstrip("."))
        return joined(folder, name + FAILED_SUFFIX)

    @property
    def reads_stdin(self) -> bool:
        """Return whether the only input is standard input, which cannot be read again."""
        return any(pair.source == STDIN for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    name: str  # below the folder that was named, or the file's own name
    folder: str | None = None  # that was named, and is read with all that is in it
    matched: bool = False  # by a pattern


def planned(
    sources: Sequence[str],
    output: str,
    output_type: OutputFormat | None = None,
    input_type: InputFormat | None = None,
) -> Plan:
    """Return the plan for files, folders and patterns, and an output file or folder.

    A folder is written where the output is one, ends with / or has no suffix of a format; its files have the names and
    folders of those that are read. Raises ValueError for what makes no sense, and FileNotFoundError.
    """
    _check_names(output_type, input_type)
    if not sources:
        raise ValueError("no files to read: give a file, a folder or a pattern")
    check_output(output)
    found = [each for source in sources for each in _found(source)]
    if not found:
        raise FileNotFoundError(f"{', '.join(sources)}: no files to read")
    in_folder = _is_folder(output)
    if in_folder and _is_file(output.rstrip("/")):
        raise ValueError(f"{output}: there is a file of that name, and no folder; give {OUTPUT_NAMES}, or a new folder")
    kind = output_type or output_format(output) or ("parquet" if in_folder else None)
    if kind is None:
        raise ValueError(f"{output}: of what format? Give {OUTPUT_NAMES}, or its `format`")
    known = [(each, encoded) for each in found if (encoded := _encoded(each.path, input_type, sources))]
    skipped = tuple(each.path for each in found if _encoded(each.path, input_type, sources) is None)
    if not known:
        raise FileNotFoundError(f"{', '.join(sources)}: no files to read; their names must be {INPUT_NAMES}")
    if not in_folder and len(known) > 1:
        raise ValueError(f"{output}: {len(known)} files go into a folder: -o {_without_suffix(output)}/")
    pairs = [_pair(each, encoded, output, kind, in_folder) for each, encoded in known]
    plan = Plan(tuple(pairs), kind, output, in_folder, skipped)
    _check(plan, [each for each, _ in known])
    return plan


def check_output(output: str) -> None:
    """Raise ValueError for an output that is neither a file nor a folder."""
    if not output:
        raise ValueError("the output has no name; give a file, or a folder (NAME/)")
    if output == STDIN:
        raise ValueError(
            "-: an output is a file or a folder, and not standard output; write NAME.jsonl, and print that"
        )
    if storage_of(output).is_other(output):
        raise ValueError(f"{output}: an output is a file or a folder, and not a pipe or a device; write NAME.jsonl")


def joined(folder: str, name: str) -> str:
    """Return the path of a file in a folder; an empty one is that in which the process runs."""
    if not folder:
        return name
    return f"{folder}{name}" if folder.endswith("/") else f"{folder}/{name}"


def _check_names(output_type: str | None, input_type: str | None) -> None:
    if output_type not in (None, *OUTPUT_FORMATS):
        raise ValueError(f"format must be one of {', '.join(OUTPUT_FORMATS)} for files, not {output_type!r}")
    if input_type not in (None, *INPUT_FORMATS):
        raise ValueError(f"input_format must be one of {', '.join(INPUT_FORMATS)}, not {input_type!r}")


def _pair(found: _Found, encoded: Encoded, output: str, kind: OutputFormat, in_folder: bool) -> FilePair:
    if not in_folder:
        return FilePair(found.path, encoded, output, _parted(output)[1])
    name = f"{stem(found.name)}.{kind}"
    return FilePair(found.path, encoded, joined(output, name), name)


def _check(plan: Plan, found: Sequence[_Found]) -> None:
    """Raise ValueError for two inputs with one output, and for what is written where it is read, or would be next."""
    known = {plan.failed_file: "the list of rows that fail"}
    for pair in plan.pairs:
        if pair.output in known:
            raise ValueError(f"{known[pair.output]} and {pair.source} would both become {pair.output}")
        known[pair.output] = pair.source
    written = _Written(plan)
    for each, pair in zip(found, plan.pairs, strict=True):
        if each.path != STDIN and (path := written.clash(each, pair)):
            advice = "give another name or folder than those that are read"
            raise ValueError(f"{plan.output}: {advice} ({each.path}, and {path} would be written)")


class _Written:
    """What a plan writes, by its real paths: an input may be spelled otherwise, or reached by links."""

    def __init__(self, plan: Plan) -> None:
        self._storage = storage_of(plan.output)
        self._real = self._storage.real
        paths = (*(pair.output for pair in plan.pairs), plan.failed_file)
        self._files = {self._real(path): path for path in paths}
        self._folder = plan.output if plan.in_folder else None

    def clash(self, found: _Found, pair: FilePair) -> str | None:
        """Return what of it is an input, or lies where inputs are looked for; None for nothing."""
        if storage_of(found.path) is not self._storage:
            return None
        if (path := self._files.get(self._real(found.path))) is not None:
            return path
        if self._storage.is_same(found.path, pair.output):  # a hard link
            return pair.output
        return pair.output if self._folder is not None and self._is_looked_for(found, pair) else None

    def _is_looked_for(self, found: _Found, pair: FilePair) -> bool:
        if found.folder is not None:
            read, written = self._real(found.folder).rstrip("/"), self._real(self._folder or ".")
            return written == read or (written.startswith(f"{read}/") and _is_shown(written, read))
        beside = (self._real(_parted(path)[0] or ".") for path in (found.path, pair.output))
        return found.matched and len(set(beside)) == 1


def _encoded(path: str, input_type: InputFormat | None, named: Sequence[str]) -> Encoded | None:
    """Return how to read a file; None for one that a folder has besides. Raises ValueError if it was named itself."""
    if path == STDIN:
        if input_type == "parquet":
            raise ValueError("Parquet cannot be read from standard input, since it begins with its end")
        return Encoded(input_type or "txt")
    told = input_format(path)
    if input_type is not None:
        return Encoded(input_type, told.compression if told else None)
    if told is None and path in named:
        raise ValueError(f"{path}: of what format? Give {INPUT_NAMES}, or its `input_format`")
    return told


def _found(source: str) -> Iterator[_Found]:
    """Yield the files of a folder or a pattern, or the file itself."""
    if source == STDIN:
        yield _Found(STDIN, STDIN)
        return
    storage = storage_of(source)
    if storage.stamp(source) is not None and not storage.is_folder(source):
        yield _Found(source, _parted(source)[1])
    elif storage.is_folder(source):
        for path in storage.find(source):
            if _is_shown(path, source):
                yield _Found(path, _below(path, source), folder=source)
    elif is_pattern(source):
        root = _root(source)
        for path in storage.glob(source):
            if not storage.is_folder(path) and _is_shown(path, root):
                yield _Found(path, _below(path, root), matched=True)
    else:
        raise FileNotFoundError(f"{source}: no such file")


def _is_shown(path: str, folder: str) -> bool:
    return not any(part.startswith(HIDDEN) for part in _below(path, folder).split("/"))


def _below(path: str, folder: str) -> str:
    if storage_of(path).is_local:  # so that ./c is c
        path, folder = (PurePosixPath(each).as_posix() for each in (path, folder))
    return path if folder in ("", ".") else path.removeprefix(folder.rstrip("/")).lstrip("/")


def _root(pattern: str) -> str:
    """Return the folder in which a pattern begins: all of its path before the first wildcard."""
    before = pattern[: next(place for place, character in enumerate(pattern) if is_pattern(character))]
    return before.rpartition("/")[0]


def _is_folder(output: str) -> bool:
    if output.endswith("/") or storage_of(output).is_folder(output):
        return True
    return output_format(output) is None and not PurePosixPath(output).suffix


def _is_file(path: str) -> bool:
    storage = storage_of(path)
    return bool(path) and storage.stamp(path) is not None and not storage.is_folder(path)


def _parted(path: str) -> tuple[str, str]:
    folder, found, name = path.rpartition("/")
    return (folder or ("/" if found else "")), name


def _without_suffix(name: str) -> str:
    return name[: len(name) - len(PurePosixPath(name).suffix)] or name
