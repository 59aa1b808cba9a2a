// What the charts show of one event of /api/live. Pure.

const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);
const total = (counts) => sum(Object.values(counts ?? {}));

/** Returns the value of each series by its name; null where there is none. */
export function seriesOf(numbers) {
  const { calls, models, processes } = numbers;
  const computing = models.filter((model) => model.batches_per_second > 0);
  return {
    calls: calls.per_second,
    texts: numbers.texts_per_second,
    tokens: numbers.tokens_per_second,
    under_way: calls.under_way,
    refused: total(numbers.refused_per_second),
    failed: calls.failed_per_second,
    p50: calls.latency_seconds?.p50,
    p90: calls.latency_seconds?.p90,
    p99: calls.latency_seconds?.p99,
    interactive: sum(models.map((model) => model.queue_tokens?.interactive)),
    bulk: sum(models.map((model) => model.queue_tokens?.bulk)),
    fill: computing.length ? weighted(computing, "batch_fill", "batches_per_second") : null,
    memory: sum(processes.map((process) => process.resident_bytes)),
    cores: sum(processes.map((process) => process.cpu_cores)),
  };
}

function weighted(items, value, weight) {
  return sum(items.map((item) => item[value] * item[weight])) / sum(items.map((item) => item[weight]));
}

/** Returns [name, count] of those above 0, the largest first; the rest as one. */
export function ranked(counts, most = 8) {
  const entries = Object.entries(counts ?? {}).filter(([, value]) => value > 0);
  entries.sort((one, other) => other[1] - one[1] || one[0].localeCompare(other[0]));
  if (entries.length <= most) return entries;
  return [...entries.slice(0, most - 1), ["others", sum(entries.slice(most - 1).map(([, value]) => value))]];
}

export const SERIES = [
  "calls",
  "texts",
  "tokens",
  "under_way",
  "refused",
  "failed",
  "p50",
  "p90",
  "p99",
  "interactive",
  "bulk",
  "fill",
  "memory",
  "cores",
];
