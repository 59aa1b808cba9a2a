"""A job on the cluster of RAY_ADDRESS, as a script would run it: `python -m tests.ray.data.driver '{"source": …}'`."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any


def main(given: dict[str, Any]) -> None:
    import ray
    import ray.data

    from bertstream.ray import encode_files, predict_dataset

    ray.init(log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    # What reads and writes must have room on two cores, too.
    common: dict[str, Any] = {"num_cpus": 0.5, "actors": 1, "server": given["server"]}
    report = encode_files(given["source"], given["output"], given["model"], keep=("id",), **common)
    if "tables" in given:
        rows = [{"text": text} for text in given["texts"]]
        options: dict[str, Any] = {"top_k": 2, "on_error": "collect", **common}
        answers = predict_dataset(ray.data.from_items(rows), given["model"], "fill_mask", **options)
        answers.write_parquet(given["tables"])
    sys.stdout.write(json.dumps(dataclasses.asdict(report)) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
