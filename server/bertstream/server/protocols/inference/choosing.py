"""Find the model that a request names."""

from __future__ import annotations

from contextlib import ExitStack

from bertstream.server.core.errors import not_utf8, version_not_found
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.decoding import Decoded, M

VERSION = "1"  # a name has one version at a time


def choose(models: Models, name: str, version: str, call: Call, until: ExitStack | None = None) -> ServedModel:
    """Return the model of this name, or the default one for no name; it is in use until the call or `until` ends.

    Raises as `Models.get` does, and NOT_FOUND for another version than "1".
    """
    model = models.get(name, call.until_end if until is None else until, call.caller)
    check_version(model, version)
    return model


def check_version(model: ServedModel, version: str) -> None:
    """Raise NOT_FOUND for another version than "1"."""
    if version not in ("", VERSION):
        raise version_not_found(model.name, version)


def checked(request: Decoded[M]) -> M:
    """Return the message. Raises INVALID_ARGUMENT for one that is malformed, or has a string that is not UTF-8."""
    message = request.value()
    for bad in request.bad_strings:
        raise not_utf8(bad.path)
    return message
