"""A generator of random numbers of the SDK's own.

Programs seed Python's own for their results to be the same each time; if all of them then chose the same server, and
waited as long before they tried again, the load would come in waves.
"""

from __future__ import annotations

import random

CHANCE = random.Random()
