"""Measure how fast a worker computes, so that it can tell when it will have answered."""

from __future__ import annotations

import math
from collections import deque

# The age, in seconds of computing, at which a measurement weighs a third. The machine's speed changes in seconds, as
# other programs come and go. What a batch costs besides its tokens does not change, and shows only where sizes differ.
_SPEED_SECONDS = 3.0
_SHAPE_SECONDS = 60.0
# Where all sizes are similar, a larger batch is expected to cost the same. Then at most a few batches are too many, and
# these are measured. If it were expected to cost in proportion, work that could have been computed would be refused.
_DOUBT = 1.0
_MOST_SPREAD = 0.5  # of a batch's time, so that one slow batch does not have everyone refused
_CAREFUL = 3.0  # of the mean spread, so that hardly any batch takes longer
_EFFICIENT = 3.0  # a batch whose tokens cost this many times its fixed cost is long enough


# Interactive work waits for the batch at hand and the one prepared after it, so a batch of it takes about this long,
# unless more than that part of its time were then what every batch costs.
_SHORT_SECONDS = 0.1
_MOST_FIXED = 0.05


def short_batch(small: tuple[int, float], large: tuple[int, float], most: int) -> int:
    """Return how many tokens, at most `most`, a batch has that is short and yet not dear, from two measured batches.

    Each is given by its tokens and its seconds.
    """
    each = (large[1] - small[1]) / (large[0] - small[0])
    if each <= 0:
        return most
    fixed = max(0.0, small[1] - each * small[0])
    tokens = max((_SHORT_SECONDS - fixed) / each, (1 / _MOST_FIXED - 1) * fixed / each)
    return max(1, min(most, int(tokens)))


class Pace:
    """Estimate how long a batch takes from a fixed cost and a cost per token; 0 before any was measured.

    The costs are a line through the measurements by least squares, which forgets slowly, times how fast the worker is
    now.
    """

    def __init__(self) -> None:
        self._fixed = 0.0  # the line
        self._each = 0.0
        self._speed = 1.0  # by how much longer batches take now
        self._spread = 0.0  # by how much they differ from that, as a fraction of it
        self._shape = _Sums(_SHAPE_SECONDS)
        self._lately = _Sums(_SPEED_SECONDS)

    @property
    def measured(self) -> bool:
        """Return whether any batch was measured."""
        return self._lately.count > 0

    @property
    def efficient_tokens(self) -> float:
        """Return the tokens below which a batch spends much of its time on its fixed cost."""
        return _EFFICIENT * self._fixed / self._each if self._each else math.inf

    def seconds(self, tokens: float) -> float:
        """Return what a batch of this many tokens takes, on average."""
        return self._speed * (self._fixed + self._each * tokens)

    def careful_seconds(self, tokens: float) -> float:
        """Return what it takes at most, as far as batches have lately differed."""
        return self.seconds(tokens) * (1 + _CAREFUL * self._spread)

    def add(self, tokens: int, seconds: float) -> None:
        """Note that a batch was computed, of at least one token."""
        seconds = max(seconds, 1e-6)
        expected = self.seconds(tokens)
        if expected:
            part = math.exp(-seconds / _SPEED_SECONDS)
            self._spread += (1 - part) * (min(abs(seconds / expected - 1), _MOST_SPREAD) - self._spread)
        self._shape.add(tokens, seconds)
        self._lately.add(tokens, seconds)
        self._fixed, self._each = self._shape.line()
        self._speed = self._lately.seconds / (self._fixed * self._lately.count + self._each * self._lately.tokens)


class _Sums:
    """Add up batches, older ones with less weight."""

    def __init__(self, horizon_seconds: float) -> None:
        self._horizon = horizon_seconds
        self.count = self.tokens = self.seconds = 0.0
        self._squares = self._products = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        decay = math.exp(-seconds / self._horizon)
        self.count = self.count * decay + 1
        self.tokens = self.tokens * decay + tokens
        self.seconds = self.seconds * decay + seconds
        self._squares = self._squares * decay + tokens * tokens
        self._products = self._products * decay + tokens * seconds

    def line(self) -> tuple[float, float]:
        """Return the seconds of a batch and of a token, neither of them below 0."""
        tokens, seconds = self.tokens / self.count, self.seconds / self.count
        variance = self._squares - self.count * tokens * tokens + _DOUBT * tokens * tokens
        slope = (self._products - self.count * tokens * seconds) / variance
        each = min(max(slope, 0.0), seconds / tokens)
        return seconds - each * tokens, each


class AtHand:
    """Track the batches that the engine computes one after another; when they are done, they tell its pace."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._batches: deque[tuple[int, float]] = deque()  # tokens, and when the first work came in
        self._free = -math.inf  # when the engine was done with the last one

    def __len__(self) -> int:
        return len(self._batches)

    def begin(self, tokens: int, arrival: float) -> None:
        """Note that the engine takes one more batch, whose first work came in at `arrival`."""
        self._batches.append((tokens, arrival))

    def done(self, now: float) -> None:
        """Note that the first batch is done.

        Its time includes all that its work waited for, such as steps of generation.
        """
        tokens, arrival = self._batches.popleft()
        self.pace.add(tokens, now - max(self._free, arrival))
        self._free = now

    def left_seconds(self, now: float) -> float:
        """Return how long it takes until the last batch is done."""
        if not self._batches:
            return 0.0
        all_of_them = [self.pace.seconds(tokens) for tokens, _ in self._batches]
        gone = now - max(self._free, self._batches[0][1])
        return max(0.0, all_of_them[0] - gone) + sum(all_of_them[1:])
