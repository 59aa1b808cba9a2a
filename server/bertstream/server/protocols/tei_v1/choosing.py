"""Choose the model that answers a call: the one that its metadata names, or else the first that can do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bertstream.server.core.errors import not_available
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.tasks import similarities, sparse
from bertstream.server.core.tasks.labels import HEAD
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.workers.programs.description import ModelDescription

METADATA_KEY = "x-model"


def type_of(description: ModelDescription) -> tei_pb2.ModelType.ValueType:
    """Return what a model is for: as in text-embeddings-inference, one label makes a reranker of a classifier."""
    if HEAD not in description.heads:
        return tei_pb2.MODEL_TYPE_EMBEDDING
    return tei_pb2.MODEL_TYPE_RERANKER if len(description.labels) == 1 else tei_pb2.MODEL_TYPE_CLASSIFIER


@dataclass(frozen=True, slots=True)
class Wanted:
    """Describe the models that can do what an rpc is for; any of an earlier kind comes before all of a later kind."""

    name: str  # for people
    kinds: tuple[Callable[[ModelDescription], bool], ...]

    def choose(self, models: Models, call: Call) -> ServedModel:
        """Return the model for a call, which counts as in use until the call ends.

        Raises as `Models.get` does where the call names one, and else MODEL_NOT_SUITABLE.
        """
        if name := str(call.metadata.get(METADATA_KEY, "")):
            return models.get(name, call.until_end, call.caller)
        for kind in self.kinds:
            if (found := models.first(kind, call.until_end, call.caller)) is not None:
                return found
        about = f"no model that you may use here is {self.name}; `{METADATA_KEY}` among the headers would name one"
        raise not_available(about, "MODEL_NOT_SUITABLE")


def _classifies(description: ModelDescription) -> bool:
    return type_of(description) == tei_pb2.MODEL_TYPE_CLASSIFIER


def _reranks(description: ModelDescription) -> bool:
    return type_of(description) == tei_pb2.MODEL_TYPE_RERANKER


def _compares_tokens(description: ModelDescription) -> bool:
    return similarities.HEAD in description.heads


def _embeds(description: ModelDescription) -> bool:
    return type_of(description) == tei_pb2.MODEL_TYPE_EMBEDDING and description.generation is None


def _embeds_densely(description: ModelDescription) -> bool:
    return _embeds(description) and description.sparse_pooling is None


def _is_for_sparse_vectors(description: ModelDescription) -> bool:
    is_meant = description.sparse_pooling is not None or sparse.LEXICAL in description.heads
    return is_meant and _weighs_its_vocabulary(description)


def _weighs_its_vocabulary(description: ModelDescription) -> bool:
    return sparse.HEAD in description.heads or sparse.LEXICAL in description.heads


ANY = Wanted("served", (lambda description: True,))
EMBEDDING = Wanted("an embedding model", (_embeds_densely, _embeds))
SPARSE = Wanted("a masked language model", (_is_for_sparse_vectors, _weighs_its_vocabulary))
CLASSIFIER = Wanted("a classifier", (_classifies, _reranks))
RERANKER = Wanted("a reranker, with one label or vectors of tokens", (_reranks, _compares_tokens))
MULTI_VECTOR = Wanted("a model of vectors of tokens", (_compares_tokens,))
