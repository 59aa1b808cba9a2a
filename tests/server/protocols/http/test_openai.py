"""What a body of OpenAI's API asks for."""

from __future__ import annotations

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.plans import default_pooling
from bertstream.server.protocols.http.openai import EmbeddingsRequest, check_task, plan_of, wanted
from tests.server.protocols.bertstream_v1.validation.support import description


@pytest.mark.parametrize("dimensions", [None, 0])  # infinity's client sends 0 unless it is told
def test_without_dimensions_vectors_are_whole(dimensions: int | None) -> None:
    model = description()
    plan = plan_of(EmbeddingsRequest(input="a", dimensions=dimensions), model)
    assert plan.output_options.pooling == default_pooling(model)


@pytest.mark.parametrize("dimensions", [-1, 1 << 20])
def test_dimensions_that_a_model_has_not_are_refused(dimensions: int) -> None:
    with pytest.raises(RequestError, match=rf"dimensions: {dimensions} is not between 1 and "):
        plan_of(EmbeddingsRequest(input="a", dimensions=dimensions), description())


def test_a_task_is_answered_by_the_model_with_its_adapter() -> None:
    query, passage, other = (description(adapter=task) for task in ("retrieval.query", "retrieval.passage", ""))
    first, *_ = wanted("retrieval.passage").kinds
    assert [first(each) for each in (query, passage, other)] == [False, True, False]
    assert not any(wanted(None).kinds[0](each) for each in (query, other))
    for fits in ((None, query), ("retrieval.query", query), ("retrieval.query", other)):
        check_task(*fits)
    with pytest.raises(RequestError, match=r"task: this model is served with the adapter for retrieval\.query"):
        check_task("retrieval.passage", query)
