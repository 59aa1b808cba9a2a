"""How many replicas there should be, by the tokens that wait in them.

Not by requests, as Ray counts them: a request may be one word or a stream of millions of texts, and requests that wait
are what batches are made of, so that a replica with many of them may be just busy. Ray sends this module to its
controller by value; so it imports nothing of ours.
"""

from __future__ import annotations

import math
from typing import Any

TOKENS_WAITING = "tokens_waiting"  # in `record_autoscaling_stats`: of all models of the replica, under way or waiting
TOKENS_PER_REPLICA = 16_384  # about a second of work for a small encoder on a few cores


class TokensWaiting:
    """A policy for `autoscaling_config.policy`: as many replicas as the tokens that wait need, by a target for each."""

    def __init__(self, tokens_per_replica: float = TOKENS_PER_REPLICA) -> None:
        """Take how many tokens may wait in one replica on average; raises ValueError where that is not above 0."""
        if not tokens_per_replica > 0:
            raise ValueError("tokens_per_replica must be above 0")
        self._tokens_per_replica = tokens_per_replica

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Return the number of replicas wanted, for Ray's AutoscalingContext, and the policy's state, which is empty.

        Bounds, delays and factors of `autoscaling_config` are applied by Ray.
        """
        waiting = (context.aggregated_metrics or {}).get(TOKENS_WAITING) or {}
        if not waiting:  # nothing was reported yet
            return context.target_num_replicas, {}
        return max(1, math.ceil(sum(waiting.values()) / self._tokens_per_replica)), {}
