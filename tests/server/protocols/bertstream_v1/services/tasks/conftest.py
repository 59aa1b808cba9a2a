from __future__ import annotations

from tests.server.core.tasks.conftest import stub

__all__ = ["stub"]
