"""Keep what a process has loaded out of the collections of garbage."""

from __future__ import annotations

import gc


def settle() -> None:
    """Collect all garbage, and take what is left for what this process needs to its end.

    A full collection looks at every object: with all that is loaded, it holds up each call under way for some 50 ms.
    What was taken for needed by an earlier call, and is garbage by now, is collected.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
