"""The methods of the synchronous client that read and write files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from itertools import chain
from typing import Any, Unpack

from bertstream.client._calls.models import get_model
from bertstream.client._files.options import (
    EncodeFileOptions,
    EncodeMultiFileOptions,
    GenerateFileOptions,
    SummarizeFileOptions,
    TokenizeFileOptions,
)
from bertstream.client._files.runs import SUMMARIZE, File, Files, file_run, outcomes
from bertstream.client._generation.operations import require_summaries
from bertstream.client._transport.sync_transport import SyncTransport
from bertstream.files.asked import FileReport


class FileMethods:
    """The methods of Client that read and write files."""

    _transport: SyncTransport

    def encode_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[EncodeFileOptions]
    ) -> FileReport:
        """Encode a column of a file, or of all files of a folder, and write the vectors, in constant memory.

        ```python
        report = client.encode_file("corpus.parquet", "vectors.parquet", column="body", keep=["id"])
        print(report.rows, report.failed)
        ```

        Inputs are .txt (a text a line), .jsonl, .csv, .tsv, each also with .gz or .zst, .parquet and .arrow, in a
        folder too, or by a pattern; `-` is standard input. Outputs are .parquet, .arrow, .jsonl and, of vectors alone,
        .npy; a folder gets the folders and names of those that are read. Parquet, Arrow and .zst need
        `bertstream[files]`; paths such as s3://… need fsspec. Every row of the input has one row in the output, in
        order, in the column `vector`; one that fails is NaN (null in binary and JSON), and listed in a file beside the
        output, such as `vectors.parquet.failed.jsonl`, with its number, reason and message.

        An output appears only when it is complete. A run that was stopped, even killed, goes on where it stopped when
        it is called again with the same arguments: what it has done lies in a folder beside the output until then.

        `timeout` applies to all of it, in seconds; there is no limit unless it is given. Raises FileExistsError if an
        output is there already, or another run has begun it, unless `overwrite` is given.
        """
        return self._run_files("encode", source, output, timeout, options)

    def encode_multi_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[EncodeMultiFileOptions]
    ) -> FileReport:
        """Encode a column of files as `encode_file` does, a vector for each token, in lists in a column `vectors`.

        Their tokens are those of `encode_multi`. A row that fails is null. NumPy's .npy has no such lists.
        """
        return self._run_files("encode_multi", source, output, timeout, options)

    def tokenize_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[TokenizeFileOptions]
    ) -> FileReport:
        """Tokenize a column of files as `encode_file` does; with `overflow` or `stride` there is a column `windows`."""
        return self._run_files("tokenize", source, output, timeout, options)

    def predict_file(
        self, task: str, source: Files, output: File, *, timeout: float | None = None, **options: Any
    ) -> FileReport:
        """Ask a task head about the rows of files, as `encode_file` does.

        ```python
        client.predict_file("answer", "questions.csv", "answers.parquet", column=["question", "context"])
        client.predict_file("rerank", "documents.jsonl", "scores.jsonl", first="a query", column="body")
        ```

        `task` is the name of a method, and the options are those of `predict_stream` and of FileOptions, and `first`
        or `second`: a text of each pair that is the same for all rows. For "rerank" the second column may have lists
        of documents, for "choose" it has lists of choices.
        """
        return self._run_files(task, source, output, timeout, options)

    def generate_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[GenerateFileOptions]
    ) -> FileReport:
        """Generate text after the prompts of files, as `encode_file` does, in a column `generated`."""
        return self._run_files("generate", source, output, timeout, options)

    def summarize_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[SummarizeFileOptions]
    ) -> FileReport:
        """Summarize the texts of files, as `encode_file` does, in a column `summary`."""
        return self._run_files(SUMMARIZE, source, output, timeout, options)

    def _run_files(
        self, task: str, source: Files, output: File, timeout: float | None, options: Mapping[str, Any]
    ) -> FileReport:
        run = file_run(task, source, output, options)
        if task == SUMMARIZE:
            self._transport.run(require_summaries(self._transport.descriptions, run.request.model), timeout)
        model = self._transport.run(get_model(run.request.model), timeout)
        with run.job(model) as job:
            with (
                closing(job.item_lists()) as lists,
                closing(self._transport.stream(run.request, chain.from_iterable(lists), timeout)) as batches,
            ):
                for batch in batches:
                    job.take(outcomes(batch))
            return job.finish()
