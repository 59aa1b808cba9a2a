"""Files in and out: the options that all commands which read them have in common, and the run itself."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertstream.cli._input import InsteadOf
from bertstream.cli._options import UsageError, client, words
from bertstream.cli._output import note, print_json
from bertstream.cli._ray import ROWS_FAILED, add_ray, on_ray, run_on_ray

if TYPE_CHECKING:
    from bertstream.client import FileReport

FORMATS = ("parquet", "arrow", "jsonl", "npy")
INPUT_FORMATS = ("txt", "jsonl", "csv", "tsv", "parquet", "arrow")
VECTORS = ("list", "binary")
VECTOR_TYPES = ("float32", "float16", "int8")
TABLES = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
COMPRESSED = (".gz", ".zst")
SUFFIXES = (*TABLES, ".txt", ".jsonl", ".ndjson", ".csv", ".tsv", *COMPRESSED)
_ALONE = ("column", "keep", "input_format", "overwrite", "vectors", "vector_type")
_OPTIONS = (*_ALONE, "format", "progress", "timeout")

DESCRIPTION = """\
With -o, arguments are files in place of texts: .txt (a text a line), .jsonl, .csv, .tsv, each also with .gz or .zst,
.parquet or .arrow; folders; patterns in quotes; - for stdin; s3://… and others with fsspec. Each row gets a row."""


def add_files(
    parser: argparse.ArgumentParser, *, unneeded: argparse.Action | None = None, has_output: bool = False
) -> argparse._ArgumentGroup:
    """Add the options for files. `unneeded` is an argument that may be left out with -o.

    With `has_output` the parser has -o, --format and --progress already.
    """
    group = parser.add_argument_group("files", DESCRIPTION)
    parser.set_defaults(files=True)
    if not has_output:
        instead: dict[str, Any] = {"action": InsteadOf, "argument": unneeded} if unneeded else {}
        group.add_argument("-o", "--output", metavar="FILE", help="a file, or a folder (NAME/) for several", **instead)
        group.add_argument("--format", choices=[*FORMATS[:-1]], help="default: by FILE's suffix; parquet for a folder")
        group.add_argument("--progress", action=argparse.BooleanOptionalAction, help="show the progress (default)")
    group.add_argument("--column", type=words, metavar="NAME,…", help="the column with the texts, or two for pairs")
    group.add_argument("--keep", type=words, metavar="NAME,…", help="columns that the output has as well; all for all")
    group.add_argument("--input-format", choices=INPUT_FORMATS, help="default: by the suffix; txt for stdin")
    group.add_argument("--overwrite", action="store_true", help="replace outputs that are there already")
    add_ray(parser)
    return group


def add_vector_columns(group: argparse._ArgumentGroup) -> None:
    """Add the options for vectors in files."""
    group.add_argument("--vectors", choices=VECTORS, help="how parquet and arrow hold a vector (default: list)")
    group.add_argument("--vector-type", choices=VECTOR_TYPES, help="default: float32; int8 has a column of scales too")


def wants_files(arguments: argparse.Namespace, given: Sequence[str], *, texts_too: bool = False) -> bool:
    """Return whether the arguments are files. With `texts_too` they may be texts although there is an output.

    Raises UsageError for options that make no sense then.
    """
    alone = [name for name in _ALONE if getattr(arguments, name, None)]
    if on_ray(arguments):
        alone.append("on")
    no_lines = str(getattr(arguments, "input", "")).lower().endswith((*TABLES, *COMPRESSED))
    if arguments.output is None:
        if alone:
            raise UsageError(f"--{alone[0].replace('_', '-')} goes with --output FILE")
        if no_lines:
            raise UsageError(f"{arguments.input} has rows, but no lines of text: --output FILE reads them")
        return False
    _check_output(str(arguments.output))
    is_bulk = bool(alone) or no_lines or arguments.format in ("parquet", "arrow") or _is_of_files(arguments, given)
    if texts_too and not is_bulk:
        return not arguments.literal and any(map(is_source, given))
    if arguments.literal:
        raise UsageError("--literal is for texts that are printed; with --output give files")
    if getattr(arguments, "skip_empty", False):
        raise UsageError("--skip-empty is for texts that are printed: in a file each row has its row")
    return True


def sources_of(arguments: argparse.Namespace, given: Sequence[str]) -> list[str]:
    """Return the files to read: those that are given, or that of --input. Raises UsageError for both, or none."""
    named = getattr(arguments, "input", None)
    if named is not None and given:
        raise UsageError("give the files or --input FILE, not both")
    if named is None and not given:
        raise UsageError("give a file to read")
    return list(given) if named is None else [str(named)]


def is_source(given: str) -> bool:
    """Return whether an argument is meant as a file to read, even if there is none of that name.

    What looks like a path is one: a mistyped name must not become a text. A text may end with a question mark, and one
    of several words may have a slash.
    """
    if given == "-":
        return False
    with suppress(OSError, ValueError):  # raised for a text that is too long for a name, or has a zero
        if Path(given).exists():
            return True
    if any(character.isspace() for character in given):
        return given.startswith(("/", "./", "../")) or given.endswith("/")
    return given.lower().endswith(SUFFIXES) or any(each in given.rstrip("?") for each in "/*?[")


def run_files(
    arguments: argparse.Namespace, task: str, sources: Sequence[str], options: Mapping[str, Any], **texts: str | None
) -> int:
    """Run a task over files, and return the exit code. `texts` are `first` or `second` of each pair."""
    if on_ray(arguments):
        return run_on_ray(arguments, task, sources, options, **texts)
    named = {name: value for name in _OPTIONS if (value := getattr(arguments, name, None)) is not None}
    named["progress"] = arguments.progress is not False
    if named.get("keep") == ["all"]:
        named["keep"] = "all"
    given = {**options, **named, **{name: text for name, text in texts.items() if text is not None}}
    with client(arguments) as connection:
        method = getattr(connection, f"{task}_file", None)
        try:
            if method is not None:
                report = method(sources, str(arguments.output), **given)
            else:
                report = connection.predict_file(task, sources, str(arguments.output), **given)
        except FileExistsError as error:
            raise UsageError(str(error)) from None
    _tell(arguments, report)
    return ROWS_FAILED if report.failed else 0


def _tell(arguments: argparse.Namespace, report: FileReport) -> None:
    if report.skipped:
        count, first = len(report.skipped), report.skipped[0]
        note(f"bertstream: note: left out what has no known format: {count:,} file(s), such as {first}")
    if arguments.json:
        print_json(asdict(report))
        return
    files = f" in {len(report.outputs):,} files" if len(report.outputs) > 1 else ""
    failed = f"; {report.failed:,} failed, see {report.failed_file}" if report.failed else ""
    note(f"{arguments.output}: {report.rows:,} rows{files}, {report.seconds:,.1f} s{failed}")


def _check_output(output: str) -> None:
    """Raise UsageError for an output that is neither a file nor a folder."""
    from bertstream.files.plan import check_output

    if output == "-":
        raise UsageError("-o - is no file: leave -o out to print texts, or write NAME.jsonl for the rows of files")
    try:
        check_output(output)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _is_of_files(arguments: argparse.Namespace, given: Sequence[str]) -> bool:
    """Return whether the output is none that is written for texts, but a table or a folder."""
    name = str(arguments.output)
    if name.endswith("/") or Path(name).is_dir() or name.lower().endswith(TABLES):
        return True
    return not (arguments.format or arguments.json or Path(name).suffix or list(given) == ["-"])
