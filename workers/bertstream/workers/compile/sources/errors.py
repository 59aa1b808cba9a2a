"""Define the error for anything that is wrong with a checkpoint."""

from __future__ import annotations


class CheckpointError(Exception):
    """The checkpoint cannot be found, read or served; the message is one line for the person who named it."""
