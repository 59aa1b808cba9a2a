"""Say which models a task's route chooses among where the body names none."""

from __future__ import annotations

from bertstream.server.core.tasks.zero_shot import entailment_label
from bertstream.server.protocols.http.tasks.base import has
from bertstream.server.protocols.tei_v1.choosing import Wanted
from bertstream.workers.programs.description import ModelDescription


def _fills_masks(description: ModelDescription) -> bool:
    return "fill_mask" in description.heads and "mask" in description.special_tokens


def _only_fills_masks(description: ModelDescription) -> bool:
    return _fills_masks(description) and description.sparse_pooling is None  # which is trained to weigh tokens


def _knows_entailment(description: ModelDescription) -> bool:
    return "sequence_classification" in description.heads and entailment_label(description) is not None


MASKED = Wanted("a masked language model", (_only_fills_masks, _fills_masks))
NEXT_SENTENCE = Wanted("trained to predict next sentences", (has("next_sentence"),))
ENTAILMENT = Wanted("trained for entailment", (_knows_entailment,))
ENTITIES = Wanted("a model that finds entities", (has("token_classification"), has("zero_shot_entities")))
QUESTION_ANSWERING = Wanted("trained to answer questions", (has("question_answering"),))
MULTIPLE_CHOICE = Wanted("trained for multiple choice", (has("multiple_choice"),))
