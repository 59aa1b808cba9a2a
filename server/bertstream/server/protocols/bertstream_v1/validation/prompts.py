"""Parses the prompt that goes before every text."""

from __future__ import annotations

from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.kinds import TextKind, prompt_name
from bertstream.v1 import encoding_pb2, tasks_pb2
from bertstream.workers.programs.description import ModelDescription

MAX_PROMPT = 10_000  # characters; it is put before each of thousands of texts


def parse_prompt(
    options: encoding_pb2.EncodingOptions | tasks_pb2.SparseOptions,
    description: ModelDescription,
    path: str,
    text_kind: TextKind | None = None,
) -> str:
    """Return the prompt's text, by default the checkpoint's for this kind of text.

    Raises REQUEST_TOO_LARGE or INVALID_PROMPT_NAME.
    """
    kind = options.WhichOneof("prefix")
    if kind == "prompt":
        if len(options.prompt) > MAX_PROMPT:
            raise too_large(f"{path}.prompt", f"{len(options.prompt)} characters; the limit is {MAX_PROMPT}")
        return options.prompt
    name = options.prompt_name if kind else prompt_name(description, text_kind)
    if kind and name not in description.prompts:
        prompts = ", ".join(description.prompts) or "none"
        raise invalid(f"{path}.prompt_name", f"no prompt has this name; there: {prompts}", "INVALID_PROMPT_NAME")
    return description.prompts.get(name, "")
