"""Errors of runs over files, besides those of Python."""

from __future__ import annotations


class WrongUse(ValueError):
    """What was asked for does not fit the file, or needs a package that is not installed."""


class FileError(OSError, ValueError):
    """A file cannot be read, or its values cannot be written.

    An OSError, as for other files that cannot be read; and a ValueError, since it is the content that is at fault.
    """
