"""The files of a command on a Ray cluster: `--on ray`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bertstream.cli._options import UsageError
from bertstream.cli._output import note, print_json

if TYPE_CHECKING:
    from bertstream.ray import FilesReport

ON = ("server", "ray")
OK, FAILED, ROWS_FAILED = 0, 1, 4
EMBEDDED = "all-MiniLM-L6-v2"  # which `bertstream serve` takes where none is named
DTYPES = ("float32", "float16", "bfloat16", "int8", "fp8")
_NEEDS_RAY = ("actors", "num_cpus", "num_gpus", "dtype")
_OF_CLIENTS = ("batch_size", "model", "timeout")  # options of calls to a server, which a job has in its own way

DESCRIPTION = """\
With --on ray no server is asked: actors of a Ray cluster (RAY_ADDRESS, or one on this machine) have the model in
themselves, which --model names as `bertstream serve` does. A folder is written; repeat the command to go on."""


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add the options for a cluster."""
    group = parser.add_argument_group("Ray", DESCRIPTION)
    group.add_argument("--on", choices=ON, default=ON[0], help="who answers (default: server)")
    group.add_argument("--actors", type=int, metavar="N", help="processes with the model (default: all nodes, full)")
    group.add_argument("--num-cpus", type=float, metavar="N", help="cores of each actor (default: all of a node's)")
    group.add_argument("--num-gpus", type=float, metavar="N", help="GPUs of each actor (default: 0)")
    group.add_argument("--dtype", choices=DTYPES, help="precision of the actors (default: as `bertstream serve`)")


def on_ray(arguments: argparse.Namespace) -> bool:
    """Return whether the command is for a cluster. Raises UsageError for options that are for one where it is not."""
    if arguments.on == "ray":
        return True
    if given := [name for name in _NEEDS_RAY if getattr(arguments, name) is not None]:
        raise UsageError(f"--{given[0].replace('_', '-')} goes with --on ray")
    return False


def run_on_ray(
    arguments: argparse.Namespace, task: str, sources: Sequence[str], options: Mapping[str, Any], **texts: str | None
) -> int:
    """Run a task over files on the cluster, and return the exit code."""
    _refuse(arguments)
    try:
        from bertstream.ray import JobFailed, encode_files, predict_files
        from bertstream.ray.data.cluster import join_quietly

        join_quietly()
    except ImportError as error:
        raise UsageError(str(error)) from None
    given: dict[str, Any] = {name: value for name, value in options.items() if name not in _OF_CLIENTS}
    given |= {name: getattr(arguments, name) for name in ("actors", "num_cpus", "overwrite")}
    given |= {"num_gpus": arguments.num_gpus or 0.0, "server": {"dtype": arguments.dtype} if arguments.dtype else None}
    given["keep"] = "all" if arguments.keep == ["all"] else tuple(arguments.keep or ())
    given["progress"] = None if arguments.progress is False else lambda progress: note(str(progress))
    model, columns = _model(arguments, task), tuple(arguments.column or ())
    try:
        given |= {name: value for name in ("vectors", "vector_type") if (value := getattr(arguments, name, None))}
        if task == "encode":
            given |= {"column": columns[0]} if columns else {}
            report = encode_files(sources, arguments.output, model, **given)
        else:
            given |= {name: text for name, text in texts.items() if text is not None}
            report = predict_files(sources, arguments.output, model, task, columns=columns, **given)
    except FileExistsError as error:
        raise UsageError(str(error)) from None
    except JobFailed as error:
        note(f"bertstream: error: {error}")
        return FAILED
    return _told(arguments, report)


def _model(arguments: argparse.Namespace, task: str) -> str:
    """Return the checkpoint. Raises UsageError where none is named, and the embedded one does not do."""
    if not arguments.model and task != "encode":
        raise UsageError("--on ray needs --model: a directory, or a name on the Hugging Face hub")
    return str(arguments.model or EMBEDDED)


def _refuse(arguments: argparse.Namespace) -> None:
    """Raise UsageError for what a job does not do."""
    if arguments.format not in (None, "parquet"):
        raise UsageError(f"--on ray writes Parquet, not {arguments.format}")
    if arguments.input_format:
        raise UsageError("--on ray tells the format of each file by its name; leave --input-format out")


def _told(arguments: argparse.Namespace, report: FilesReport) -> int:
    if report.left_out:
        count, first = len(report.left_out), report.left_out[0]
        note(f"bertstream: note: left out what has no known format: {count:,} file(s), such as {first}")
    for path, why in report.failed_files.items():
        note(f"bertstream: error: {why if path in why else f'{path}: {why}'}")
    if arguments.json:
        print_json(asdict(report))
    else:
        done = f"; {report.skipped:,} files were done before" if report.skipped else ""
        failed = f"; {report.failed_rows:,} failed, see {report.failed_file}" if report.failed_rows else ""
        told = f"{report.rows:,} rows in {report.files:,} files, {report.seconds:,.1f} s{done}{failed}"
        note(f"{arguments.output}: {told}")
    if report.failed_files:
        return FAILED
    return ROWS_FAILED if report.failed_rows else OK
