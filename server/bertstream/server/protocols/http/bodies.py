"""Parse the bodies of requests."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from bertstream.server.core.errors import invalid

Body = TypeVar("Body", bound=msgspec.Struct)


def parsed(body: bytes, request: type[Body]) -> Body:
    """Return a body as a value of this type. Raises MALFORMED_MESSAGE, or INVALID_TYPE with the field's path."""
    try:
        return msgspec.json.decode(body, type=request)
    except msgspec.ValidationError as error:
        about, _, path = str(error).partition(" - at `$")
        raise invalid(path.strip("`.") or "", about.replace("`", "'"), "INVALID_TYPE") from None
    except RecursionError:
        raise invalid("", "the body is nested too deeply", "MALFORMED_MESSAGE") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise invalid("", f"the body is no JSON: {str(error)[:200]}", "MALFORMED_MESSAGE") from None
