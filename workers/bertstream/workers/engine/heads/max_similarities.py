"""Score documents by late interaction: how well each of a query's tokens finds its like in the document.

Source: ColBERT, Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bertstream.workers.contract import HeadName, Similarity
from bertstream.workers.engine.heads.asking import Asking, Named

_HEAD: HeadName = "multi_vector"


def max_similarities(asking: Asking, index: int) -> Named:
    """Score each document by its query, [n]."""
    counts = asking.spans(index).counts.tolist()
    vectors = asking.program.logits(_HEAD, asking.states([asking.span_tokens(index)])).float()
    texts, query_of = vectors.split(counts), asking.query_of(index)
    documents = texts[len(texts) - query_of.size :]
    similarity = asking.options(index).similarity
    # One document at a time, so that its score does not depend on what else is in the batch.
    scores = [
        _score(texts[query], document, similarity) for query, document in zip(query_of.tolist(), documents, strict=True)
    ]
    return {"max_similarities": torch.stack(scores).cpu()}


def _score(query: Tensor, document: Tensor, similarity: Similarity) -> Tensor:
    """Return the score of one document. query: [q, D]; document: [d, D] -> []."""
    if not len(query) or not len(document):
        return query.new_zeros(())
    score = (query @ document.T).amax(dim=1).sum()
    return score / len(query) if similarity == "meanmaxsim" else score
