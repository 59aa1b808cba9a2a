"""Flat, scriptable modules. They know torch and each other, nothing else."""

from bertstream.workers.models.activations import SUPPORTED as SUPPORTED_ACTIVATIONS
from bertstream.workers.models.heads import state_name, weight_shapes
from bertstream.workers.models.loading import DECODER_PREFIX, decoder_weight_shapes, load_model
from bertstream.workers.models.model import Model
from bertstream.workers.models.pooling import MODES as POOLING_MODES
from bertstream.workers.models.shape import DecoderShape, EncoderShape, HeadShape, Operators

__all__ = [
    "DECODER_PREFIX",
    "POOLING_MODES",
    "SUPPORTED_ACTIVATIONS",
    "DecoderShape",
    "EncoderShape",
    "HeadShape",
    "Model",
    "Operators",
    "decoder_weight_shapes",
    "load_model",
    "state_name",
    "weight_shapes",
]
