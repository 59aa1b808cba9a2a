"""Give the labels of texts and of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from bertstream.server.core.errors import invalid
from bertstream.server.core.models import Models
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.labels import ClassifyTexts, TextLabels
from bertstream.server.core.tokenization import Inputs, Pairs, Texts
from bertstream.server.protocols.ordered import Group
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import CLASSIFIER
from bertstream.server.protocols.tei_v1.defaults import label_task
from bertstream.server.protocols.tei_v1.grouping import items_group
from bertstream.server.protocols.tei_v1.serving import Operation, Turn
from bertstream.server.protocols.tei_v1.validation import Classifiable, sent, truncation_of


def handlers(models: Models) -> dict[str, Handler]:
    """Return the handler of each rpc."""
    texts, pairs = Operation(models, CLASSIFIER, predict), Operation(models, CLASSIFIER, predict_pair)
    return {
        "Predict": texts.one,
        "PredictStream": texts.many,
        "PredictPair": pairs.one,
        "PredictPairStream": pairs.many,
    }


async def predict(messages: Sequence[tei_pb2.PredictRequest], turn: Turn) -> Group[tei_pb2.PredictResponse]:
    """Prepare texts for their labels."""
    texts = [message.inputs for message in messages]
    return await _labels(messages[0], Texts(texts), [len(text) for text in texts], turn)


async def predict_pair(messages: Sequence[tei_pb2.PredictPairRequest], turn: Turn) -> Group[tei_pb2.PredictResponse]:
    """Prepare pairs, or one text in place of a pair, for their labels."""
    lists = [list(message.inputs) for message in messages]
    kind = len(lists[0])
    if kind not in (1, 2):
        raise invalid("inputs", f"it must have one text or two, not {kind}", "INVALID_LENGTHS")
    inputs = Texts([text for (text,) in lists]) if kind == 1 else Pairs(*map(list, zip(*lists, strict=True)))
    return await _labels(messages[0], inputs, [sum(map(len, texts)) for texts in lists], turn)


async def _labels(
    options: Classifiable, inputs: Inputs, characters: Sequence[int], turn: Turn
) -> Group[tei_pb2.PredictResponse]:
    model = turn.model

    def begin() -> tuple[ClassifyTexts, SentItems]:
        truncation = truncation_of(options, model.description)
        return label_task(model, truncation, turn.priority, raw=options.raw_scores), sent(inputs)

    def respond(predictions: list[tei_pb2.Prediction], metadata: tei_pb2.Metadata) -> tei_pb2.PredictResponse:
        return tei_pb2.PredictResponse(predictions=predictions, metadata=metadata)

    return await items_group(characters, begin, turn, _predictions, respond)


def _predictions(answer: TextLabels) -> list[list[tei_pb2.Prediction]]:
    pairs = zip(answer.label_ids.tolist(), answer.scores.tolist(), strict=True)
    listed = [tei_pb2.Prediction(label=answer.labels[label], score=score) for label, score in pairs]
    ends = accumulate(answer.label_counts, initial=0)
    return [listed[start:end] for start, end in pairwise(ends)]
