"""Write bertstream.json, the Grafana dashboard, from the table of its panels.

Run `python deploy/grafana/generate.py` after a change; a test compares the file with this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("bertstream.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECT = 'job="$job", instance=~"$instance"'
MODEL = f'{SELECT}, model=~"$model"'
WIDTH, HEIGHT, A_ROW = 8, 7, 3  # of a panel, in the grid's units, of which 24 are a row


class Panel(NamedTuple):
    """A picture of some queries; each legend has its query."""

    title: str
    unit: str  # one of Grafana's
    queries: dict[str, str]
    about: str


def rate(metric: str, by: str, select: str = SELECT, more: str = "") -> str:
    """Return the query for how fast a counter goes up, by some labels."""
    return f"sum by ({by}) (rate({metric}{{{select}{more}}}[$__rate_interval]))"


def quantiles(metric: str, select: str = SELECT, more: str = "") -> dict[str, str]:
    """Return the queries for the median and two high quantiles of a histogram."""
    return {
        f"p{part * 100:g}": f"histogram_quantile({part}, {rate(f'{metric}_bucket', 'le', select, more)})"
        for part in (0.5, 0.9, 0.99)
    }


def ratio(above: str, below: str, by: str, select: str = MODEL) -> str:
    """Return the query for what a histogram's values are on average, or a part of a whole, by rates."""
    return f"{rate(above, by, select)} / {rate(below, by, select)}"


UNARY = ', grpc_status="OK", grpc_method=~"bertstream[.]v1[.].*", grpc_method!~".*/Stream.*|.*/(Load|Unload)Model"'
CALLS = "grpc_server_call_duration_seconds"
ROWS: dict[str, list[Panel]] = {
    "Calls": [
        Panel("Calls by rpc", "reqps", {"{{grpc_method}}": rate(f"{CALLS}_count", "grpc_method")}, "Calls that ended."),
        Panel(
            "Calls that failed, by status",
            "reqps",
            {"{{grpc_status}}": rate(f"{CALLS}_count", "grpc_status", more=', grpc_status!="OK"')},
            "INVALID_ARGUMENT is the caller's fault, INTERNAL ours.",
        ),
        Panel("How long unary calls take", "s", quantiles(CALLS, more=UNARY), "From the first link to the status."),
        Panel(
            "Calls and streams under way",
            "short",
            {
                "calls": f"sum(bertstream_calls_active{{{SELECT}}})",
                "bulk streams": f"sum(bertstream_stream_active{{{SELECT}}})",
            },
            "Each frontend lets in `concurrent_calls` at most.",
        ),
        Panel(
            "Refusals by reason",
            "reqps",
            {"{{reason}}, {{of}}": rate("bertstream_refusals_total", "reason, of")},
            "Reasons are explained in docs/protocol.md; `item` is one text of a bulk stream.",
        ),
        Panel(
            "Tokens by caller",
            "short",
            {"{{caller}}": rate("bertstream_caller_tokens_total", "caller")},
            "By the names of keys; empty where the server has none.",
        ),
    ],
    "Texts": [
        Panel(
            "Texts a second",
            "short",
            {"{{model}}, {{work}}": rate("bertstream_admitted_texts_total", "model, work", MODEL)},
            "Callers' texts that were let in.",
        ),
        Panel(
            "Tokens a second",
            "short",
            {"{{model}}, {{work}}": rate("bertstream_admitted_tokens_total", "model, work", MODEL)},
            "Tokens that were let in.",
        ),
        Panel(
            "How long tokenizing takes",
            "s",
            quantiles("bertstream_tokenize_duration_seconds", MODEL),
            "All texts of one message, without the wait for a thread.",
        ),
    ],
    "Queues and batches": [
        Panel(
            "Tokens that wait",
            "short",
            {
                "{{model}}, {{work}}, {{priority}}": (
                    f"sum by (model, work, priority) (bertstream_queue_tokens{{{MODEL}}})"
                )
            },
            "In the queues of workers.",
        ),
        Panel(
            "How long work waits",
            "s",
            quantiles("bertstream_queue_duration_seconds", MODEL),
            "In a worker's queue, until its computation began.",
        ),
        Panel(
            "How long a text would wait now",
            "s",
            {"{{model}}": f"max by (model) (bertstream_queue_wait_seconds{{{MODEL}}})"},
            "By the estimate of the worker with the longest queue.",
        ),
        Panel(
            "How full batches are",
            "percentunit",
            {"{{model}}": ratio("bertstream_batch_fill_sum", "bertstream_batch_fill_count", "model")},
            "Tokens, as a part of `batch_tokens`. Low while there is little to do.",
        ),
        Panel(
            "How long batches take",
            "s",
            quantiles("bertstream_compute_duration_seconds", MODEL),
            "From the start of a batch until its outputs are there.",
        ),
        Panel(
            "Work that was not computed",
            "short",
            {"{{model}}, {{reason}}": rate("bertstream_work_failures_total", "model, reason", MODEL)},
            "By workers: too late, too much, or too large.",
        ),
    ],
    "Generation": [
        Panel(
            "Tokens generated a second",
            "short",
            {"{{model}}": rate("bertstream_generation_tokens_total", "model", MODEL)},
            "Those of all beams.",
        ),
        Panel(
            "How full the cache is",
            "percentunit",
            {
                "{{model}}": (
                    f"sum by (model) (bertstream_generation_cache_used{{{MODEL}}})"
                    f" / sum by (model) (bertstream_generation_cache_size{{{MODEL}}})"
                )
            },
            "Tokens whose keys and values are kept, of `cache_tokens` of each worker.",
        ),
        Panel(
            "How long a step takes",
            "s",
            quantiles("bertstream_generation_duration_seconds", MODEL, ', phase="step"'),
            "One more token of all sequences.",
        ),
    ],
    "Processes": [
        Panel(
            "Processes that are ready",
            "short",
            {"{{kind}} {{model}}": f"sum by (kind, model) (bertstream_processes{{{SELECT}}})"},
            "",
        ),
        Panel(
            "Processes that died, in an hour",
            "short",
            {
                "{{kind}} {{model}}: {{cause}}": (
                    f"sum by (kind, model, cause) (increase(bertstream_process_restarts_total{{{SELECT}}}[1h]))"
                )
            },
            "All but planned ends; each is replaced.",
        ),
        Panel(
            "Memory",
            "bytes",
            {"{{instance}} {{process}}": f"sum by (instance, process) (bertstream_process_memory_bytes{{{SELECT}}})"},
            "Resident, with what processes share.",
        ),
        Panel(
            "Cores in use",
            "short",
            {"{{instance}} {{process}}": rate("bertstream_process_cpu_time_seconds_total", "instance, process")},
            "",
        ),
        Panel(
            "Memory of GPUs",
            "percentunit",
            {
                "{{instance}} {{gpu}}": (
                    f"max by (instance, gpu) (bertstream_gpu_memory_used_bytes{{{SELECT}}})"
                    f" / max by (instance, gpu) (bertstream_gpu_memory_size_bytes{{{SELECT}}})"
                )
            },
            "By anyone; empty without GPUs.",
        ),
        Panel(
            "Use of GPUs",
            "percentunit",
            {"{{instance}} {{gpu}}": f"max by (instance, gpu) (bertstream_gpu_use_ratio{{{SELECT}}})"},
            "As the driver tells it.",
        ),
    ],
}
VARIABLES = {
    "job": "label_values(bertstream_build, job)",
    "instance": 'label_values(bertstream_build{job="$job"}, instance)',
    "model": 'label_values(bertstream_model_workers{job="$job", instance=~"$instance"}, model)',
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": 24, "x": 0, "y": top}
        panels.append({"type": "row", "title": title, "id": len(panels) + 1, "gridPos": place, "collapsed": False})
        for number, panel in enumerate(row):
            down, right = divmod(number, A_ROW)
            place = {"h": HEIGHT, "w": WIDTH, "x": WIDTH * right, "y": top + 1 + HEIGHT * down}
            panels.append(_panel(panel, len(panels) + 1, place))
        top += 1 + HEIGHT * -(-len(row) // A_ROW)
    return {
        "title": "bertstream",
        "uid": "bertstream",
        "tags": ["bertstream"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), *(_variable(name, query) for name, query in VARIABLES.items())]},
        "panels": panels,
    }


def text() -> str:
    """Return the contents of the file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "id": number,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    several = name != "job"
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # as the time range changes
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "current": {"text": "All", "value": "$__all"} if several else {},
    }


if __name__ == "__main__":
    FILE.write_text(text())
