"""What text-embeddings-inference does unless it is told otherwise, whether it is asked by gRPC or by HTTP."""

from __future__ import annotations

from dataclasses import replace

from bertstream.server.core.errors import invalid, not_suitable
from bertstream.server.core.kinds import for_kind
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import EncodingPlan, default_pooling, output_sizes, pooled_width
from bertstream.server.core.tasks import similarities
from bertstream.server.core.tasks.base import require_head
from bertstream.server.core.tasks.labels import (
    HEAD,
    ClassifyTexts,
    RerankTexts,
    classify_texts,
    own_function,
    rerank_texts,
)
from bertstream.server.core.tasks.similarities import RerankBySimilarity, rerank_by_similarity
from bertstream.server.core.tasks.sparse import EncodeSparse, encode_sparse, own_top_k
from bertstream.server.core.tokenization import Side, TokenizeOptions, Truncation
from bertstream.workers.contract import OutputOptions, Pooling, ScoreFunction
from bertstream.workers.programs.description import ModelDescription


def truncation(description: ModelDescription, *, truncate: bool, side: Side) -> Truncation:
    """Return how to cut a text, or the longer one of a pair; without `truncate` it is refused."""
    return Truncation("longest_first" if truncate else "refuse", description.default_max_length, side)


def prompt(name: str | None, description: ModelDescription) -> str:
    """Return the text of the prompt that is named, or else of the checkpoint's default. Raises INVALID_PROMPT_NAME.

    The message lists the prompts in the form in which clients look for them there.
    """
    if name is None:
        return description.prompts.get(description.default_prompt_name, "")
    if name not in description.prompts:
        names = ", ".join(f'"{each}"' for each in sorted(description.prompts))
        there = f"Available prompts: [{names}]" if names else "this checkpoint has no prompts"
        raise invalid("prompt_name", f"no prompt has this name. {there}", "INVALID_PROMPT_NAME")
    return description.prompts[name]


def pooling(description: ModelDescription, *, normalize: bool | None, dimensions: int | None) -> Pooling:
    """Return the checkpoint's pooling, with what the caller asks for; unset `normalize` means yes.

    Raises INVALID_RANGE.
    """
    own = default_pooling(description)
    normalize = True if normalize is None else normalize
    if dimensions is None:
        return replace(own, normalize=normalize)
    width = pooled_width(own, description)
    if not 1 <= dimensions <= width:
        raise invalid("dimensions", f"{dimensions} is not between 1 and {width}", "INVALID_RANGE")
    return replace(own, normalize=normalize, dimensions=dimensions)


def plan(
    output_options: OutputOptions, cut: Truncation, prefix: str, description: ModelDescription, priority: int
) -> EncodingPlan:
    """Return the plan for texts whose outputs, truncation and prompt are known."""
    return EncodingPlan(
        output_options,
        TokenizeOptions(cut),
        add_special_tokens=None,
        prompt=prefix,
        prompt_asked=True,
        priority=priority,
        sizes=output_sizes(output_options, description),
        shown=frozenset(),
        type_ids=False,
    )


def sparse_task(
    model: ServedModel, cut: Truncation, prefix: str, priority: int, *, prompt_asked: bool = False
) -> EncodeSparse:
    """Return the task that weighs the vocabulary's ids for texts, as many as the checkpoint says.

    Raises HEAD_NOT_AVAILABLE.
    """
    most = own_top_k(model.description)
    return encode_sparse(model, cut, priority, prompt=prefix, prompt_asked=prompt_asked, top_k=most)


def score_function(description: ModelDescription, *, raw: bool) -> ScoreFunction:
    """Return what is done with logits: one label has its sigmoid, and several have what their checkpoint says."""
    if raw:
        return "none"
    return "sigmoid" if len(description.labels) == 1 else own_function(description.score_function)


def label_task(model: ServedModel, cut: Truncation, priority: int, *, raw: bool) -> ClassifyTexts:
    """Return the task that gives all labels of texts or pairs. Raises HEAD_NOT_AVAILABLE."""
    description = model.description
    require_head(description, HEAD)
    return classify_texts(model, cut, priority, score_function(description, raw=raw), len(description.labels))


def rerank_task(model: ServedModel, cut: Truncation, priority: int, *, raw: bool) -> RerankTexts | RerankBySimilarity:
    """Return the task that gives pairs the score of the only label, or, without a head for labels, their MaxSim.

    Raises HEAD_NOT_AVAILABLE, or HEAD_NOT_SUITABLE where the head has several labels.
    """
    if HEAD not in model.description.heads and similarities.HEAD in model.description.heads:
        return rerank_by_similarity(model, _of_documents(cut, model.description), priority)
    require_head(model.description, HEAD)
    if (labels := len(model.description.labels)) > 1:
        raise not_suitable(f"this checkpoint has {labels} labels, so it is a classifier and no reranker")
    return rerank_texts(model, cut, priority, "none" if raw else "sigmoid", 0)


def _of_documents(cut: Truncation, description: ModelDescription) -> Truncation:
    """Return how documents are cut, as texts of their own."""
    length = for_kind(description, "document").default_max_length
    return Truncation("refuse" if cut.strategy == "refuse" else "longest_first", length, cut.side)
