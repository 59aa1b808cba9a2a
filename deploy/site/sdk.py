"""The reference of the SDK: each public name, whose docstring mkdocstrings reads from the source."""

from __future__ import annotations

import inspect

import bertstream.client

CLIENTS = ("Client", "AsyncClient")
_INTRODUCTION = """\
# SDK reference

All that `bertstream.client` has. [The introduction](../index.md#use-it-from-python) shows how it is used.
"""


def page() -> str:
    """Return the page."""
    names = bertstream.client.__all__
    errors = [name for name in names if _is_error(name)]
    rest = [name for name in names if name not in (*CLIENTS, *errors)]
    parts = [_INTRODUCTION]
    for title, group in (("Clients", CLIENTS), ("Errors", errors), ("Options, answers and others", rest)):
        parts.append(f"## {title}\n")
        parts += [f"::: bertstream.client.{name}\n    options:\n      heading_level: 3\n" for name in sorted(group)]
    return "\n".join(parts)


def _is_error(name: str) -> bool:
    value = getattr(bertstream.client, name)
    return inspect.isclass(value) and issubclass(value, Exception)
