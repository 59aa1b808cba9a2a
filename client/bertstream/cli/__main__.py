"""The entry point of `python -m bertstream.cli`."""

from __future__ import annotations

import sys

from bertstream.cli import main

sys.exit(main())
