"""The clean-up of spaces that some checkpoints ask for: "it ' s so ." becomes "it's so."."""

from __future__ import annotations

import re

# The replacements of transformers' clean_up_tokenization, one after the other, each in the whole text.
REPLACEMENTS = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
# A text without any of these has nothing to replace, and no end that could become part of a replacement.
_BEGINNINGS = re.compile(" (?:[" + re.escape("".join(sorted({old[1] for old, _ in REPLACEMENTS}))) + r"]|\Z)")


def clean_up(text: str) -> str:
    """Return the whole text, cleaned up."""
    if _BEGINNINGS.search(text):
        for old, new in REPLACEMENTS:
            text = text.replace(old, new)
    return text


class CleanUp:
    """Cleans up a text that comes in pieces; all that `push` and `finish` return is the whole text, cleaned up."""

    def __init__(self) -> None:
        self._steps = [_Replacement(old, new) for old, new in REPLACEMENTS]
        self._holds = False

    def push(self, text: str) -> str:
        """Return the text that is certain now, and was not before."""
        if not (self._holds or _BEGINNINGS.search(text)):
            return text
        for step in self._steps:
            text = step.push(text)
        self._holds = any(step.holds for step in self._steps)
        return text

    def finish(self) -> str:
        """Return the rest of the text, after the last piece."""
        rest = ""
        for step in self._steps:
            rest = step.push(rest) + step.finish()
        return rest


class _Replacement:
    """Does str.replace on pieces, holding back an end that may begin `old`, which begins with a space."""

    def __init__(self, old: str, new: str) -> None:
        self._old = old
        self._new = new
        self._held = ""

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def push(self, text: str) -> str:
        if not self._held and " " not in text:
            return text
        # Only behind the last match, since str.replace does not search its own replacements.
        *before, last = (self._held + text).split(self._old)
        end = len(last) - self._begun(last)
        self._held = last[end:]
        return self._new.join([*before, last[:end]])

    def finish(self) -> str:
        rest, self._held = self._held, ""
        return rest

    def _begun(self, text: str) -> int:
        longest = min(len(self._old) - 1, len(text))
        return next((count for count in range(longest, 0, -1) if self._old.startswith(text[-count:])), 0)
