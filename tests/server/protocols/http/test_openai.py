"""What a body of OpenAI's API asks for."""

from __future__ import annotations

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.plans import default_pooling
from bertstream.server.protocols.http.openai import EmbeddingsRequest, plan_of
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
