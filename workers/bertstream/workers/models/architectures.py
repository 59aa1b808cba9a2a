"""Map each class of shape to the modules for it.

To add an architecture, add a file beside this one, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bertstream.workers.models.albert import AlbertEncoder, AlbertShape
from bertstream.workers.models.bert import BertEncoder, BertShape
from bertstream.workers.models.deberta import DebertaEncoder, DebertaShape
from bertstream.workers.models.decoder import CausalEncoder
from bertstream.workers.models.encoder import Encoder
from bertstream.workers.models.jina import JinaEncoder, JinaShape
from bertstream.workers.models.modernbert import ModernBertEncoder, ModernBertShape
from bertstream.workers.models.mpnet import MPNetEncoder, MPNetShape
from bertstream.workers.models.rotary_bert import RotaryBertEncoder, RotaryBertShape
from bertstream.workers.models.shape import EncoderShape, Operators

# Keyed by the class of the shape, which a family names. Each takes a shape of that class, and operators.
ENCODERS: Mapping[type[EncoderShape], Callable[[Any, Operators], Encoder]] = {
    BertShape: BertEncoder,
    MPNetShape: MPNetEncoder,
    ModernBertShape: ModernBertEncoder,
    RotaryBertShape: RotaryBertEncoder,
    DebertaShape: DebertaEncoder,
    AlbertShape: AlbertEncoder,
    JinaShape: JinaEncoder,
}
# The encoders that generate too. They also have `new_cache`, `prefill` and `step`, as CausalEncoder has them.
CAUSAL_ENCODERS: Mapping[type[EncoderShape], Callable[[Any, Operators], Encoder]] = {
    BertShape: CausalEncoder,
}


def encoder_of(shape: EncoderShape, operators: Operators) -> Encoder:
    """Make the encoder that a shape describes, with weights that are yet to be loaded."""
    return ENCODERS[type(shape)](shape, operators)


def causal_encoder_of(shape: EncoderShape, operators: Operators) -> Encoder:
    """Make the encoder that a shape describes, for one that generates too."""
    return CAUSAL_ENCODERS[type(shape)](shape, operators)
