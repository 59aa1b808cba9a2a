"""Wait in tests for what another task, thread or process does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Check again and again until it is true. Raises TimeoutError in the end."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - there is no event for what tests look at
            await asyncio.sleep(0.001)
