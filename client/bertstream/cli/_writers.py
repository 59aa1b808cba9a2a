"""Files that appear only when they are complete, and the outputs of `bertstream encode`, all in constant memory."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from bertstream.cli._interrupt import check, half_files
from bertstream.cli._table import clipped
from bertstream.client import EncodedBatch


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


class Writer(OutputFile):
    """Writes batches of vectors."""

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        raise NotImplementedError


class LineWriter(Writer):
    """Writes one JSON object per text: {"id": 0, "vector": [...]}, or {"id": 0, "error": {...}}."""

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        failed = {failure.id: failure.error for failure in batch.errors}
        for item, vector in zip(batch.ids.tolist(), batch.vectors, strict=True):
            if item in failed:
                error = {"status": failed[item].status, "message": failed[item].message}
                self._line({"id": item, "error": error})
            else:
                # The shortest decimals that are read back as the same float32 or float16.
                self._line({"id": item, "vector": [float(str(value)) for value in vector]})

    def _line(self, row: dict[str, Any]) -> None:
        if self._output and not self._file:
            self.binary_file()
        line = json.dumps(row) + "\n"
        if self._file:
            self._file.write(line.encode())
        else:
            sys.stdout.write(line)

    def finish(self) -> None:
        """Make an empty file if there was nothing to write."""
        if self._output and not self._file:
            self.binary_file()


class SummaryWriter(LineWriter):
    """Writes a summary for people: the first numbers of each vector, its length and norm."""

    def __init__(self, output: Path | None, texts: Sequence[str]) -> None:
        super().__init__(output)
        self._texts = texts

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        for item, vector in zip(batch.ids.tolist(), batch.vectors, strict=True):
            name = f"{item} {clipped(self._texts[item], 60)}" if item < len(self._texts) else str(item)
            numbers = " ".join(f"{value:+.4f}" for value in vector[:6])
            more = " …" if len(vector) > 6 else ""
            norm = float(np.linalg.norm(vector.astype(np.float32)))
            line = f"{name}\n  [{len(vector)}] {vector.dtype}, norm {norm:.4f}: {numbers}{more}\n"
            if self._output:
                (self._file or self.binary_file()).write(line.encode())
            else:
                sys.stdout.write(line)


class ArrayWriter(Writer):
    """Writes a .npy file of shape [n, d]. Its header has room for any n, which is filled in at the end."""

    _rows = 0
    _shape: tuple[int, ...] = (0,)
    _dtype: np.dtype[Any] = np.dtype(np.float32)

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        if self._file is None:
            self._shape, self._dtype = batch.vectors.shape[1:], batch.vectors.dtype
            self._header(self.binary_file())
        assert self._file is not None
        if batch.vectors.shape[1:] != self._shape and len(batch.errors) == len(batch):
            batch = replace(batch, vectors=np.full((len(batch), *self._shape), np.nan, self._dtype))
        self._file.write(np.ascontiguousarray(batch.vectors).tobytes())
        self._rows += len(batch)

    def finish(self) -> None:
        """Fill in the number of rows."""
        file = self._file or self.binary_file()
        file.seek(0)
        self._header(file)

    def _header(self, file: IO[bytes]) -> None:
        description = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self._rows, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)  # pads so that the first axis can grow in place


class ArchiveWriter(Writer):
    """Writes a .npz file with `ids` [n] and `vectors` [n, d]."""

    def __init__(self, output: Path) -> None:
        super().__init__(output)
        self._ids: list[np.ndarray[Any, Any]] = []
        self._folder = tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=f".{output.name}.")
        self._path = Path(self._folder.name) / "vectors.npy"
        self._vectors = ArrayWriter(self._path)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            if kind is not None:
                self._vectors.__exit__(kind, error, traceback)
            self._folder.cleanup()

    def write(self, batch: EncodedBatch) -> None:
        """Write a batch."""
        self._ids.append(batch.ids)
        self._vectors.write(batch)

    def finish(self) -> None:
        """Write the archive."""
        self._vectors.__exit__(None, None, None)
        with zipfile.ZipFile(self.binary_file(), "w", allowZip64=True) as archive:
            archive.write(self._path, "vectors.npy")
            with archive.open("ids.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.concatenate([np.empty(0, np.int64), *self._ids]))


def writer_for(kind: str, output: Path | None, texts: Sequence[str]) -> Writer:
    """Return the writer of a format."""
    if kind == "npy":
        return ArrayWriter(output)
    if kind == "npz":
        assert output is not None
        return ArchiveWriter(output)
    return SummaryWriter(output, texts) if kind == "summary" else LineWriter(output)
