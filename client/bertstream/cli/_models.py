"""The command `bertstream models`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bertstream.cli._options import SMALL_SECONDS, Commands, client, command
from bertstream.cli._output import print_json
from bertstream.cli._tables import shown_table

if TYPE_CHECKING:
    from bertstream.client import Model

EXAMPLES = """\
examples:
  bertstream models              a table, the default model first
  bertstream models NAME         all properties of one model
  bertstream models --json"""

HEADER = ("NAME", "FAMILY", "LAYERS", "HIDDEN", "TOKENS", "POOLING", "TYPE", "DEVICE", "WORKERS", "HEADS")
RIGHT, SPARE = (2, 3, 4, 8), (2, 3, 1, 8, 4, 7, 5)  # in full: `bertstream models NAME`


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "models", run, "list the served models", EXAMPLES, seconds=SMALL_SECONDS)
    parser.add_argument("name", nargs="?", metavar="NAME", help="print all properties of this model")


def run(arguments: argparse.Namespace) -> int:
    """Print the models."""
    with client(arguments) as connection:
        named, timeout = arguments.name is not None, arguments.timeout
        models = [connection.model(arguments.name, timeout=timeout)] if named else connection.models(timeout=timeout)
    if arguments.json:
        values = [model_values(model) for model in models]
        print_json(values[0] if named else values, indent=2)
    else:
        print(_details(models[0]) if named else models_table(models))
    return 0


def model_values(model: Model) -> dict[str, Any]:
    """Return a model's properties as values for JSON."""
    return {**asdict(model), "vector_size": model.vector_size}


def models_table(models: Iterable[Model]) -> str:
    """Return a table of models, and below it the deviation from float32 of each model in another precision."""
    listed = list(models)
    lines = [f"{each.name} in {each.compute_type}: {cosine}" for each in listed if (cosine := _cosine(each))]
    return "\n\n".join([shown_table(HEADER, map(_row, listed), RIGHT, SPARE), *(["\n".join(lines)] if lines else [])])


def _row(model: Model) -> tuple[str, ...]:
    numbers = (str(model.layers), str(model.hidden_size), str(model.default_max_length))
    workers = f"{model.live_workers}/{model.workers}"
    heads = ", ".join(model.heads) or "-"
    return (model.name, model.family, *numbers, _pooling(model), model.compute_type, model.device, workers, heads)


def _pooling(model: Model) -> str:
    pooling = model.default_pooling
    return pooling.mode + (", normalized" if pooling.normalize else "")


def _cosine(model: Model) -> str:
    """Return the deviation from float32 in short, for a model in a lower precision."""
    test = model.precision_test if model.compute_type != "float32" else None
    return f"least cosine of a token's state to float32 {test.min_cosine:.5f} on made-up texts" if test else ""


def _precision(model: Model) -> str:
    """Return the deviation from float32 in full, for a model in any precision."""
    if (test := model.precision_test) is None:
        return ""
    difference = f"greatest difference of a number {test.max_abs_difference:.1e}"
    return f"least cosine of a token's state to float32 {test.min_cosine:.5f}, {difference}, on made-up texts"


def _generation(model: Model) -> str:
    found = model.generation
    return f"at most {found.max_tokens:,} tokens, {found.cache_tokens:,} of all at once" if found else ""


def _details(model: Model) -> str:
    values = {
        **{name: value for name, value in model_values(model).items() if not isinstance(value, dict | list | tuple)},
        "default_pooling": f"{_pooling(model)}, layers {', '.join(map(str, model.default_pooling.layers))}",
        "special_tokens": ", ".join(f"{role} {t.token} {t.id}" for role, t in model.special_tokens.items()),
        "prompts": ", ".join(f"{name}: {prompt!r}" for name, prompt in model.prompts.items()),
        "pooling_steps": ", ".join(model.pooling_steps),
        "outputs": ", ".join(model.outputs),
        "heads": ", ".join(model.heads),
        "labels": ", ".join(model.labels),
        "generation": _generation(model),
        "limits": f"{model.limits.max_texts:,} texts and {model.limits.max_request_bytes:,} bytes a message",
        "precision_test": _precision(model),
        "warnings": "; ".join(model.warnings),
    }
    return shown_table(("FIELD", "VALUE"), ((name, str(value) or "-") for name, value in values.items()))
