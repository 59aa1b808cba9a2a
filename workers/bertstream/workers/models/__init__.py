"""Define the models as flat, scriptable modules, which know torch and each other, and nothing else."""

from bertstream.workers.models.activations import SUPPORTED as SUPPORTED_ACTIVATIONS
from bertstream.workers.models.bert import BertShape
from bertstream.workers.models.calibration import largest_inputs
from bertstream.workers.models.decoder import DecoderShape
from bertstream.workers.models.heads import KINDS as HEAD_KINDS
from bertstream.workers.models.heads import state_name, weight_shapes
from bertstream.workers.models.loading import (
    DECODER_PREFIX,
    ENCODER_PREFIX,
    STATIC_WEIGHTS,
    decoder_weight_shapes,
    encoder_weight_shapes,
    load_model,
)
from bertstream.workers.models.model import Model
from bertstream.workers.models.pooling import POOLINGS
from bertstream.workers.models.sentence import DENSE_ACTIVATIONS, sentence_weight_shapes
from bertstream.workers.models.sentence import PREFIX as SENTENCE_PREFIX
from bertstream.workers.models.shape import (
    NO_SENTENCE,
    EncoderShape,
    HeadShape,
    Operators,
    Products,
    SentenceShape,
    TextPooling,
    VectorShape,
)

__all__ = [
    "DECODER_PREFIX",
    "DENSE_ACTIVATIONS",
    "ENCODER_PREFIX",
    "HEAD_KINDS",
    "NO_SENTENCE",
    "POOLINGS",
    "SENTENCE_PREFIX",
    "STATIC_WEIGHTS",
    "SUPPORTED_ACTIVATIONS",
    "BertShape",
    "DecoderShape",
    "EncoderShape",
    "HeadShape",
    "Model",
    "Operators",
    "Products",
    "SentenceShape",
    "TextPooling",
    "VectorShape",
    "decoder_weight_shapes",
    "encoder_weight_shapes",
    "largest_inputs",
    "load_model",
    "sentence_weight_shapes",
    "state_name",
    "weight_shapes",
]
