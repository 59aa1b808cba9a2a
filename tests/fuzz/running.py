"""How long to look: briefly and always at the same in the tests, at length and at random for `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES_VARIABLE = "BERTSTREAM_FUZZ_EXAMPLES"


def examples(brief: int) -> settings:
    """Return settings for so many examples of one test, or for as many as the environment says."""
    asked = int(os.environ.get(EXAMPLES_VARIABLE, "0"))
    return settings(
        max_examples=asked or brief,
        derandomize=not asked,
        print_blob=bool(asked),
        database=None,
        suppress_health_check=list(HealthCheck),
    )
