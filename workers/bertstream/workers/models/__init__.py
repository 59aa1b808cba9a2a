"""Flat, scriptable modules. They know torch and each other, nothing else."""

from bertstream.workers.models.activations import SUPPORTED as SUPPORTED_ACTIVATIONS
from bertstream.workers.models.model import Model, load_model
from bertstream.workers.models.pooling import MODES as POOLING_MODES
from bertstream.workers.models.shape import EncoderShape, Operators

__all__ = ["POOLING_MODES", "SUPPORTED_ACTIVATIONS", "EncoderShape", "Model", "Operators", "load_model"]
