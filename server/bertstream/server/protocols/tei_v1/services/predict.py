"""Give the labels of texts and of pairs."""

from __future__ import annotations

from bertstream.server.core.errors import invalid
from bertstream.server.core.models import Models
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.calls import answer_items, prepare_items
from bertstream.server.core.tasks.labels import ClassifyTexts, TextLabels
from bertstream.server.core.tokenization import Inputs, Pairs, Texts
from bertstream.server.protocols.ordered import Step
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import CLASSIFIER
from bertstream.server.protocols.tei_v1.defaults import label_task
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


async def predict(message: tei_pb2.PredictRequest, turn: Turn) -> Step[tei_pb2.PredictResponse]:
    """Prepare a text for its labels."""
    return await _labels(message, Texts([message.inputs]), len(message.inputs), turn)


async def predict_pair(message: tei_pb2.PredictPairRequest, turn: Turn) -> Step[tei_pb2.PredictResponse]:
    """Prepare a pair, or one text, for its labels."""
    texts = list(message.inputs)
    if len(texts) not in (1, 2):
        raise invalid("inputs", f"it must have one text or two, not {len(texts)}", "INVALID_LENGTHS")
    inputs: Inputs = Pairs(texts[:1], texts[1:]) if len(texts) == 2 else Texts(texts)
    return await _labels(message, inputs, sum(map(len, texts)), turn)


async def _labels(message: Classifiable, inputs: Inputs, characters: int, turn: Turn) -> Step[tei_pb2.PredictResponse]:
    model = turn.model

    def begin() -> tuple[ClassifyTexts, SentItems]:
        truncation = truncation_of(message, model.description)
        return label_task(model, truncation, turn.priority, raw=message.raw_scores), sent(inputs)

    turn.check_room()
    prepared = await prepare_items(model, begin, "send a shorter text")

    async def answer() -> tei_pb2.PredictResponse:
        answered = await answer_items(model, prepared, _predictions, turn.call, waits=turn.waits)
        metadata = turn.metadata(characters, prepared.tokens, prepared.tokenize_seconds, answered.outcomes)
        return tei_pb2.PredictResponse(predictions=answered.written, metadata=metadata)

    return Step(prepared.tokens, answer)


def _predictions(answer: TextLabels) -> list[tei_pb2.Prediction]:
    pairs = zip(answer.label_ids.tolist(), answer.scores.tolist(), strict=True)
    return [tei_pb2.Prediction(label=answer.labels[label], score=score) for label, score in pairs]
