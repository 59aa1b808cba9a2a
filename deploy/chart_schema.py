"""Write the server's options into the schema of the Helm chart's values; `make chart-schema` runs it.

So a value that the server would refuse is refused before anything is installed.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from bertstream.server.config import FIELDS, ModelTable
from bertstream.workers.contract import TASKS

SCHEMA = Path(__file__).resolve().parent / "helm" / "bertstream" / "values.schema.json"
# Those that the chart's ports, probes and volumes have to agree with. The kubelet's probes show no certificate, so that
# there is none of clients.
CHARTS_OWN = {
    *("models", "host", "port", "http_port", "admin_host", "admin_port", "insecure", "cache"),
    *("tls_certificate", "tls_key", "tls_client_ca", "keys_file"),
}


def schema() -> str:
    """Return the chart's schema with the options that the server has now."""
    written = json.loads(SCHEMA.read_text("utf-8"))
    written["properties"]["config"] = _options()
    return _written(written) + "\n"


def _written(value: Any, indent: str = "") -> str:
    """Return JSON whose objects are on one line where they fit there."""
    line = json.dumps(value)
    if not isinstance(value, dict) or len(indent) + len(line) <= 120:
        return line
    inner = indent + "  "
    lines = [f"{inner}{json.dumps(name)}: {_written(each, inner)}" for name, each in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _options() -> dict[str, Any]:
    """Return the schema of `config`: an object of the server's options, and of a table for each model."""
    options = {name: _of_option(name) for name in FIELDS if name not in CHARTS_OWN}
    of_model = _object({each.name: _of_model(each.name) for each in dataclasses.fields(ModelTable)})
    return _object(options | {"model": {"type": "object", "additionalProperties": of_model}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _of_option(name: str) -> dict[str, Any]:
    option = FIELDS[name]
    about = {"description": option.metadata["help"]}
    if option.metadata["choices"]:
        return about | {"enum": list(option.metadata["choices"])}
    if isinstance(option.default, tuple):
        return about | {"type": "array", "items": {"type": "string"}}
    kind = {bool: "boolean", int: "integer", float: "number", str: "string"}[type(option.default)]
    bounds = {"minimum": option.metadata["least"], "maximum": option.metadata["most"]}
    return about | {"type": kind} | (bounds if kind in ("integer", "number") else {})


def _of_model(name: str) -> dict[str, Any]:
    """Return the schema of an option of a model's table, which is that of all models where there is one."""
    of_its_own: dict[str, dict[str, Any]] = {
        "source": {"type": "string", "minLength": 1},
        "device": {"type": "string", "pattern": r"^(auto|cpu|cuda(:[0-9]{1,3})?)$"},
        "task": {"enum": list(TASKS)},
        "max_length": {"type": "integer", "minimum": FIELDS["max_texts"].metadata["least"]},
    }
    return of_its_own.get(name) or _of_option(name)


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
