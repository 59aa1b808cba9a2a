from __future__ import annotations

import pytest

from bertstream.server.core.admission import Admission
from bertstream.server.core.callers import NOBODY, Caller
from bertstream.server.core.errors import RequestError
from bertstream.server.core.measures import AdmissionMeasures, ModelMeasures
from bertstream.server.core.quotas import Quota
from bertstream.server.settings import KeyEntry
from bertstream.workers.measuring import frontend_metrics as metrics
from bertstream.workers.measuring.instruments import Registry

KEYED = Caller("team", quota=Quota(KeyEntry("team")))


async def test_what_is_let_in_is_counted_once_and_by_the_callers_key() -> None:
    registry = Registry()
    admission = Admission(100, AdmissionMeasures(registry, "tiny", "encode"))
    with admission.unary(30, KEYED, texts=3):
        with pytest.raises(RequestError), admission.unary(90, KEYED, texts=9):
            pass
        async with admission.stream(20, NOBODY, texts=2):
            pass
    async with admission.stream(20, KEYED, texts=2, charged=False):  # the next layer of the same tokens
        pass
    async with admission.interactive_stream(5, KEYED):
        pass
    found = registry.snapshot()
    assert found.value(metrics.ADMITTED_TEXTS.name, "tiny", "encode") == 6
    assert found.value(metrics.ADMITTED_TOKENS.name, "tiny", "encode") == 55
    assert found.value(metrics.CALLER_TOKENS.name, "team") == 35
    assert [each.labels for each in found.values if each.name == metrics.CALLER_TOKENS.name] == [("team",)]


def test_lost_work_is_counted_by_whether_it_was_computed() -> None:
    registry = Registry()
    measures = ModelMeasures(registry, "tiny")
    for computing in (True, True, False):
        measures.lost(computing=computing)
    found = registry.snapshot()
    assert (found.value(metrics.WORK_LOST.name, "tiny", "yes"), found.value(metrics.WORK_LOST.name, "tiny", "no")) == (
        2,
        1,
    )
