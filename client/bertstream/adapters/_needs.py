"""A clear error where the framework of an adapter is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(package: str, adapter: str) -> Iterator[None]:
    """Turn a ModuleNotFoundError for this package, which is named as pip knows it, into one that says what to install.

    Errors for other modules, such as those that the package itself lacks, stay as they are.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        top = package.replace("-", "_")
        if (error.name or "").partition(".")[0] not in (top, top.removesuffix("_core"), top.removesuffix("_ai")):
            raise
        message = f"{adapter} needs {package}, which is not installed: pip install {package}"
        raise ModuleNotFoundError(message, name=error.name) from None
