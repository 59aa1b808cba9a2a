"""Files that appear only when they are complete: lines, and arrays that grow row by row, all in constant memory."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from bertstream.cli._interrupt import check, half_files


class OutputFile:
    """A file that gets its name only when it is complete; None stands for standard output."""

    def __init__(self, output: Path | None) -> None:
        if output and not output.absolute().parent.is_dir():
            raise FileNotFoundError(f"{output}: no such folder")
        self._output = output
        self._file: IO[Any] | None = None
        self._half: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        whole = False
        try:
            if kind is None:
                self.finish()
                check()
                whole = True
        finally:
            self._settle(whole)

    def finish(self) -> None:
        """Complete the output, after everything was written."""

    def _settle(self, whole: bool) -> None:
        if not self._half or not self._output:
            return
        if self._file:
            self._file.close()
        if whole:
            self._half.replace(self._output)
        else:
            self._half.unlink(missing_ok=True)
        half_files.discard(self._half)

    def binary_file(self) -> IO[bytes]:
        """Return a new file beside the output."""
        assert self._output is not None
        folder, name = self._output.absolute().parent, self._output.name
        # Registered before it exists, so that no interrupt can come between.
        self._half = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        half_files.add(self._half)
        self._file = self._half.open("x+b")
        return self._file


class LinesFile(OutputFile):
    """Writes lines of text."""

    def line(self, line: str) -> None:
        """Write a line, with its end."""
        if self._output:
            (self._file or self.binary_file()).write(line.encode())
        else:
            sys.stdout.write(line)

    def finish(self) -> None:
        """Make an empty file if there was nothing to write."""
        if self._output and not self._file:
            self.binary_file()


class ArrayFile(OutputFile):
    """Writes a .npy file of shape [n, d]. Its header has room for any n, which is filled in at the end."""

    _rows = 0
    _shape: tuple[int, ...] = (0,)
    _dtype: np.dtype[Any] = np.dtype(np.float32)

    def append(self, rows: np.ndarray[Any, Any], *, missing: bool = False) -> None:
        """Write some rows, which are NaN where they are `missing`, and then of the width of those that are there."""
        if self._file is None:
            self._shape, self._dtype = rows.shape[1:], rows.dtype
            self._header(self.binary_file())
        assert self._file is not None
        if rows.shape[1:] != self._shape and missing:
            rows = np.full((len(rows), *self._shape), np.nan, self._dtype)
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self._rows += len(rows)

    def finish(self) -> None:
        """Fill in the number of rows."""
        file = self._file or self.binary_file()
        file.seek(0)
        self._header(file)

    def _header(self, file: IO[bytes]) -> None:
        description = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self._rows, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)  # pads so that the first axis can grow in place


class ArchiveFile(OutputFile):
    """Writes a .npz file with `vectors`, which grow row by row, and what is known at the end."""

    def __init__(self, output: Path) -> None:
        super().__init__(output)
        self._folder = tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=f".{output.name}.")
        self._path = Path(self._folder.name) / "vectors.npy"
        self._vectors = ArrayFile(self._path)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            if kind is not None:
                self._vectors.__exit__(kind, error, traceback)
            self._folder.cleanup()

    def append(self, rows: np.ndarray[Any, Any], *, missing: bool = False) -> None:
        """Write some rows of `vectors`."""
        self._vectors.append(rows, missing=missing)

    def others(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return the other arrays by their names, after everything was written."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write the archive."""
        self._vectors.__exit__(None, None, None)
        with zipfile.ZipFile(self.binary_file(), "w", allowZip64=True) as archive:
            archive.write(self._path, "vectors.npy")
            for name, array in self.others().items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array)
