"""Ask the admin port of a real server."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.server import Server, eventually

_URL = re.compile(r"admin at (\S+)")


@dataclass(frozen=True)
class AdminPort:
    """Hold where it is, and by which key and certificate it is asked."""

    url: str
    key: str = ""
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, server: Server, **options: Any) -> AdminPort:
        found = _URL.search(server.ready_line)
        assert found is not None
        return cls(found[1], **options)

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return the status and the body."""
        given = {**headers, **({"authorization": f"Bearer {self.key}"} if self.key else {})}
        asked = urllib.request.Request(self.url + path, headers=given)
        try:
            with urllib.request.urlopen(asked, timeout=30, context=self.tls) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path: str) -> Any:
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def settled(self) -> Metrics:
        """Return all metrics once no call is under way, as one is counted just after its caller has the answer.

        What is counted of calls has to stand still, too: of a process that is too busy to answer in a second, what it
        had counted before is shown.
        """
        counts: list[float] = []
        found: list[Metrics] = []

        def is_settled() -> bool:
            found[:] = [self.metrics()]
            counts.append(found[0].sum("grpc_server_call_started_total"))
            return found[0].sum("bertstream_calls_active") == 0 and counts[-2:] == [counts[-1]] * 2

        eventually(is_settled, "the end of all calls")
        return found[0]

    def metrics(self) -> Metrics:
        """Return all metrics as they are now."""
        status, body = self.get("/metrics")
        assert status == 200, body
        samples = [each for family in text_string_to_metric_families(body) for each in family.samples]
        return Metrics({(each.name, frozenset(each.labels.items())): each.value for each in samples})


@dataclass(frozen=True)
class Metrics:
    """Hold samples by their name and labels."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum over all samples of this name that have these labels."""
        wanted = labels.items()
        return sum(value for (each, has), value in self.samples.items() if each == name and has >= set(wanted))
