"""The items of a message, as the caller sent them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bertstream.server.core.tokenization import Pairs
from bertstream.server.protocols.bertstream_v1.validation.inputs import text_path
from bertstream.v1 import tasks_pb2, types_pb2

# Pairs are what a call makes of items that are no batch, such as one query and its documents.
Inputs = types_pb2.TextBatch | tasks_pb2.ChoiceLists | Pairs


@dataclass(frozen=True, slots=True)
class Sent:
    """Items of one kind, and where they lie in the request."""

    inputs: Inputs
    path: str = "inputs"  # of all of them; where they are a bare message, such as Texts, its path
    bad: Sequence[int] = ()  # the indexes of those that have strings which are not UTF-8
    field: str = ""  # what an item's index stands behind, where it is not `path` and the kind: "documents"
    offset: int = 0  # items of the same message before the first
    options: str = "options"  # the path of the task's options

    def at(self, index: int) -> str:
        """The path of an item: "inputs.texts[3]"."""
        index += self.offset
        if self.field or isinstance(self.inputs, Pairs):
            return f"{self.field or self.path}[{index}]"
        return text_path(self.inputs, self.path, index)

    def parts(self, size: int) -> Iterator[Sent]:
        """Whole texts, so many at a time; everything else, and what is no more, as it is."""
        if not isinstance(self.inputs, types_pb2.TextBatch) or len(self.inputs.texts.texts) <= size:
            yield self
            return
        texts = self.inputs.texts.texts
        for first in range(0, len(texts), size):
            some = types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts[first : first + size]))
            bad = [index - first for index in self.bad if first <= index < first + size]
            yield replace(self, inputs=some, bad=bad, offset=self.offset + first)
