"""Render the chart by Helm's own code, in a process of its own, since it brings the runtime of Go."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.imports import ROOT

CHART = ROOT / "deploy" / "helm" / "bertstream"
ICON = "icon is recommended"  # which nothing that we have shows


@dataclass(frozen=True, slots=True)
class Release:
    """What Helm makes of the chart and a release's values."""

    objects: Mapping[str, Any]  # of Kubernetes, by kind
    notes: str
    findings: tuple[str, ...]  # of `helm lint --strict`
    error: str  # why there are none of these; "" where there are


def is_installed() -> bool:
    """Tell whether Helm's code is there."""
    return importlib.util.find_spec("helm_python") is not None


def releases(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Release]:
    """Return the releases of these values, by name, each with the release's name and the namespace `bertstream`."""
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(
        command, input=json.dumps(values), stdout=subprocess.PIPE, text=True, check=True, timeout=120, cwd=ROOT
    )
    return {name: _release(**made) for name, made in json.loads(done.stdout).items()}


def _release(files: Mapping[str, str], findings: list[str], error: str) -> Release:
    objects = [yaml.safe_load(text) for name, text in files.items() if name.endswith(".yaml")]
    notes = files.get("bertstream/templates/NOTES.txt", "")
    return Release({each["kind"]: each for each in objects if each}, notes, tuple(findings), error)


def main() -> None:
    """Read values as JSON, and write what Helm makes of them."""
    helm = importlib.import_module("helm_python")
    with helm.Chart.load(CHART) as chart:
        json.dump({name: _made(helm, chart, values) for name, values in json.load(sys.stdin).items()}, sys.stdout)


def _made(helm: Any, chart: Any, values: dict[str, Any]) -> dict[str, Any]:
    try:
        files = chart.render(values, name="bertstream", namespace="bertstream")
    except helm.HelmError as error:
        return {"files": {}, "findings": [], "error": str(error)}
    report = helm.lint(CHART, values, strict=True)
    found = [*report["errors"], *(each["error"] for each in report["messages"] if each["error"] != ICON)]
    return {"files": files, "findings": found, "error": ""}


if __name__ == "__main__":
    main()
