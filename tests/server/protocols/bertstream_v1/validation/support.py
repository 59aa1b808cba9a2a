"""A model to validate against."""

from __future__ import annotations

from typing import Any

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.workers.programs.description import DefaultPooling, ModelDescription


def description(**changes: Any) -> ModelDescription:
    values: dict[str, Any] = {
        "revision": "0" * 32,
        "family": "bert",
        "architecture": "BertModel",
        "layers": 5,
        "hidden_size": 36,
        "attention_heads": 3,
        "vocabulary_size": 407,
        "type_vocabulary_size": 2,
        "max_tokens": 512,
        "default_max_length": 128,
        "has_pooler": True,
        "compute_type": "float32",
        "device": "cpu",
        "native_operators": False,
        "default_pooling": DefaultPooling("cls", normalize=True),
        "prompts": {"query": "query: ", "passage": "passage: "},
    }
    return ModelDescription(**(values | changes))


def refused(raised: pytest.ExceptionInfo[RequestError]) -> tuple[str, str, str]:
    """Return the code, the reason, and the first field at fault."""
    error = raised.value
    return error.code.name, error.reason, error.violations[0].field if error.violations else ""
