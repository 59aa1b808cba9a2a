"""Text that grows token by token, and stops before a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from bertstream.server.core.tokenization import Writer


class StopStrings:
    """Finds where a growing text stops."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._longest = max(map(len, strings), default=0)

    def find(self, text: str) -> int | None:
        """Return where the stop string begins that ends first; of several that end at one place, the longest."""
        found = [(at + len(string), at) for string in self._strings if (at := text.find(string)) >= 0]
        return min(found)[1] if found else None

    def held(self, text: str) -> int:
        """Return how many characters at the text's end may be the beginning of a stop string."""
        for count in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-count:]
            if any(string.startswith(end) for string in self._strings):
                return count
        return 0


class GrowingText:
    """The text of one answer, which is all that `push` and `finish` return, put together."""

    def __init__(self, writer: Writer, stops: StopStrings) -> None:
        self._writer = writer
        self._stops = stops
        self._held = ""  # text that may be the beginning of a stop string
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Return the text that is certain with this token, and was not before."""
        return self._add(self._writer.push(token_id))

    def finish(self) -> str:
        """Return the rest of the text, after the last token."""
        text = self._add(self._writer.finish())
        rest, self._held = self._held, ""
        return text + rest

    def _add(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        end = self._stops.find(text)
        self.stopped = end is not None
        if end is None:
            end = len(text) - self._stops.held(text)
        self._held = "" if self.stopped else text[end:]
        return text[:end]
