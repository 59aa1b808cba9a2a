"""RerankTexts by late interaction (ColBERT): documents are scored by the vectors of their tokens and the query's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError
from bertstream.server.core.kinds import TextKind, for_kind, join_pairs, prompt_name, with_token_vectors
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task
from bertstream.server.core.tasks.labels import Relevances
from bertstream.server.core.tasks.texts import TaskTexts, tokenize
from bertstream.server.core.tokenization import Pairs, Texts, TokenizeOptions, Truncation
from bertstream.workers.contract import HeadName, HeadOptions, OutputOptions

HEAD: HeadName = "multi_vector"


@dataclass(frozen=True)
class RerankBySimilarity(Task[None]):
    """A score for each pair of query and document, which are computed as texts of their own."""

    kinds = ("pairs",)

    queries: TokenizeOptions
    documents: TokenizeOptions

    def prepare(self, sent: SentItems) -> Rows[None]:
        assert isinstance(sent.inputs, Pairs)
        distinct = list(dict.fromkeys(sent.inputs.firsts))
        numbers = {text: number for number, text in enumerate(distinct)}
        of = np.array([numbers[text] for text in sent.inputs.firsts], np.int64)
        queries = self._tokenized(distinct, "query", sent, lambda number: int(np.flatnonzero(of == number)[0]))
        documents = self._tokenized(sent.inputs.seconds, "document", sent, lambda item: item)
        documents = documents.without(_of_queries(queries, of))
        items = documents.tokens.text_indexes
        rows = np.full(len(distinct), -1, np.int64)
        rows[queries.tokens.text_indexes] = np.arange(queries.tokens.lengths.size)
        description = self.model.description
        batch = join_pairs(
            with_token_vectors(queries.batch, description, "query"),
            with_token_vectors(documents.batch, description, "document"),
            rows[of[items]],
        )
        truncated = documents.tokens.truncated | queries.tokens.truncated[of]
        return Rows(batch, items, documents.failed, truncated, None)

    def answer(self, rows: Rows[None], share: Share) -> Relevances:
        return Relevances(share.tensors["max_similarities"])

    def _tokenized(
        self, texts: Sequence[str], kind: TextKind, sent: SentItems, item: Callable[[int], int]
    ) -> TaskTexts:
        """Tokenize texts, each of which is a part of the item that `item` names."""
        options = self.queries if kind == "query" else self.documents
        description = self.model.description
        prompt = description.prompts.get(prompt_name(description, kind), "")
        # Items that are not UTF-8 fail with their documents.
        own = replace(sent, bad=() if kind == "query" else sent.bad)
        sequence = int(kind == "document")
        return tokenize(
            self.model, Texts(texts), options, own, at=lambda index, _: sent.at(item(index), sequence), prompt=prompt
        )


def rerank_by_similarity(model: HeadModel, documents: Truncation, priority: int) -> RerankBySimilarity:
    """Return the task that scores documents by late interaction, cut as said; the model has the head."""
    description = model.description
    assert description.multi_vector is not None
    head = HeadOptions(HEAD, similarity=description.multi_vector.similarity)
    options = OutputOptions(("max_similarities",), head=head)
    queries = replace(documents, max_length=for_kind(description, "query").default_max_length)
    return RerankBySimilarity(model, options, priority, TokenizeOptions(queries), TokenizeOptions(documents))


def _of_queries(queries: TaskTexts, of: NDArray[np.int64]) -> dict[int, RequestError]:
    """Return the errors of the items whose query failed."""
    return {int(item): error for number, error in queries.failed.items() for item in np.flatnonzero(of == number)}
