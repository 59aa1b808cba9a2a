"""A file that is read row by row, whatever its format and wherever it lies."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import IO, cast

from bertstream.files.arrow import arrow
from bertstream.files.errors import FileError, WrongUse
from bertstream.files.formats import Encoded
from bertstream.files.rows import Chunk, Wanted
from bertstream.files.sources.lines import read_csv, read_jsonl, read_lines, read_tsv
from bertstream.files.sources.tables import read_arrow, read_parquet

BUFFER_BYTES = 1 << 20
_LINES = {"txt": read_lines, "jsonl": read_jsonl, "csv": read_csv, "tsv": read_tsv}
_TABLES = {"parquet": read_parquet, "arrow": read_arrow}


class Source:
    """Reads the rows of one file, of `size` bytes where that is known."""

    def __init__(self, name: str, file: IO[bytes], encoded: Encoded, size: int | None = None) -> None:
        self.name = name
        self._file, self._encoded, self._size = file, encoded, size
        self._share = 0.0

    @property
    def share(self) -> float:
        """Return how much of the file has been read, from 0 to 1; 0 if its size is not known."""
        if self._size and self._encoded.format in _LINES and not self._file.closed:
            self._tell(self._file.tell() / self._size)
        return self._share

    def chunks(self, wanted: Wanted, start: int = 0) -> Iterator[Chunk]:
        """Yield the rows from number `start` on, in chunks.

        Raises WrongUse for a file of other columns, and FileError for one that cannot be read, with the file's name.
        """
        try:
            with closing(self._file):
                yield from self._chunks(wanted, start)
        except WrongUse as error:
            raise WrongUse(f"{self.name}: {error}") from error
        except (ValueError, NotImplementedError, KeyError, OSError, EOFError, zlib.error) as error:  # Arrow's, too
            raise FileError(f"{self.name}: {error}") from error

    def _chunks(self, wanted: Wanted, start: int) -> Iterator[Chunk]:
        if self._encoded.format in _LINES:
            yield from _LINES[self._encoded.format](_decompressed(self._file, self._encoded), wanted, start)
        else:
            yield from _TABLES[self._encoded.format](self._file, wanted, start, self._tell)
        self._share = 1.0

    def _tell(self, share: float) -> None:
        self._share = min(1.0, share)


def _decompressed(file: IO[bytes], encoded: Encoded) -> IO[bytes]:
    if encoded.compression == "gz":
        return cast("IO[bytes]", gzip.open(file))
    if encoded.compression == "zst":
        return io.BufferedReader(arrow("a .zst file").CompressedInputStream(file, "zstd"), BUFFER_BYTES)
    return file
