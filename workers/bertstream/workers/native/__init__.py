"""Provide operators in C++, with ATen computing the same where there is no compiler."""

from bertstream.workers.native.library import (
    SWITCHES,
    NativeError,
    ReadOnlyError,
    build,
    compiler,
    failures,
    file_name,
    has_amx,
    has_vectors,
    instructions,
    load,
    load_sealed,
    loaded_library,
    provide,
    source_hash,
    status,
)

__all__ = [
    "SWITCHES",
    "NativeError",
    "ReadOnlyError",
    "build",
    "compiler",
    "failures",
    "file_name",
    "has_amx",
    "has_vectors",
    "instructions",
    "load",
    "load_sealed",
    "loaded_library",
    "provide",
    "source_hash",
    "status",
]
