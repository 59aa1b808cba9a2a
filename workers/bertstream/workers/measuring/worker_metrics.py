"""Declare what workers count and time."""

from __future__ import annotations

from bertstream.workers.measuring.declarations import PARTS, SECONDS, TOKENS, Metric

_QUEUE = ("model", "work", "priority")
_WORK = "`work` is `encode`, or `generate` for text that is generated; `priority` is `interactive` or `bulk`."
QUEUE_TOKENS = Metric(
    "bertstream.queue.tokens", "gauge", "{token}", f"Counts tokens that wait in workers' queues. {_WORK}", _QUEUE
)
QUEUE_DURATION = Metric(
    "bertstream.queue.duration",
    "histogram",
    "s",
    f"Measures how long a piece of work waited in a worker's queue until its computation began. {_WORK}",
    _QUEUE,
    SECONDS,
)
QUEUE_WAIT = Metric(
    "bertstream.queue.wait",
    "gauge",
    "s",
    "Measures how long a small interactive text would have to wait now, by the estimate of the worker with the longest "
    "queue.",
    ("model",),
    merge="max",
)
BATCH_SIZE = Metric(
    "bertstream.batch.size", "histogram", "{token}", "Measures the tokens of a batch.", ("model",), TOKENS
)
BATCH_FILL = Metric(
    "bertstream.batch.fill",
    "histogram",
    "1",
    "Measures the tokens of a batch as a part of `batch_tokens`, the most that it may have.",
    ("model",),
    PARTS,
)
BATCH_TEXTS = Metric(
    "bertstream.batch.texts", "counter", "{text}", "Counts texts, or rows made of them, that were computed.", ("model",)
)
COMPUTE_DURATION = Metric(
    "bertstream.compute.duration",
    "histogram",
    "s",
    "Measures how long a batch took, from its start until its outputs were there.",
    ("model",),
    SECONDS,
)
FULL_BATCH = Metric(
    "bertstream.batch.expected_duration",
    "gauge",
    "s",
    "Measures how long a full batch of interactive work would take now, by the estimate of the slowest worker.",
    ("model",),
    merge="max",
)
FAILURES = Metric(
    "bertstream.work.failures",
    "counter",
    "{work}",
    "Counts pieces of work that a worker did not compute: `expired` and `overloaded` by their deadline, `queue_full`, "
    "`out_of_memory`, and `internal` for our own faults.",
    ("model", "reason"),
)
GENERATION_DURATION = Metric(
    "bertstream.generation.duration",
    "histogram",
    "s",
    "Measures one computation for all sequences that are generated. `phase` is `prefill` for new prompts, and `step` "
    "for one more token of each sequence.",
    ("model", "phase"),
    SECONDS,
)
GENERATED_TOKENS = Metric(
    "bertstream.generation.tokens",
    "counter",
    "{token}",
    "Counts tokens that were generated, those of all beams.",
    ("model",),
)
GENERATIONS = Metric(
    "bertstream.generation.active", "gauge", "{generation}", "Counts inputs that text is generated for.", ("model",)
)
CACHE_USED = Metric(
    "bertstream.generation.cache.used", "gauge", "{token}", "Counts tokens whose keys and values are kept.", ("model",)
)
CACHE_SIZE = Metric(
    "bertstream.generation.cache.size",
    "gauge",
    "{token}",
    "Counts tokens whose keys and values could be kept: `cache_tokens` of each worker.",
    ("model",),
)
GPU_PROCESS_MEMORY = Metric(
    "bertstream.process.gpu.memory",
    "gauge",
    "By",
    "Measures the memory of a GPU that a worker has reserved.",
    ("process",),
)
GPU_USED = Metric(
    "bertstream.gpu.memory.used",
    "gauge",
    "By",
    "Measures the memory of a GPU that is in use by anyone.",
    ("gpu",),
    (),
    "max",
)
GPU_SIZE = Metric("bertstream.gpu.memory.size", "gauge", "By", "Measures the memory of a GPU.", ("gpu",), (), "max")
GPU_USE = Metric(
    "bertstream.gpu.use",
    "gauge",
    "1",
    "Measures the part of the last moments in which a GPU computed, as its driver tells it.",
    ("gpu",),
    merge="max",
)

WORKER = (
    *(QUEUE_TOKENS, QUEUE_DURATION, QUEUE_WAIT),
    *(BATCH_SIZE, BATCH_FILL, BATCH_TEXTS, COMPUTE_DURATION, FULL_BATCH, FAILURES),
    *(GENERATION_DURATION, GENERATED_TOKENS, GENERATIONS, CACHE_USED, CACHE_SIZE),
    *(GPU_PROCESS_MEMORY, GPU_USED, GPU_SIZE, GPU_USE),
)
