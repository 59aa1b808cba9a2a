"""Find, read and understand Hugging Face checkpoints. No code of a checkpoint is ever run."""

from bertstream.workers.compile.checkpoints.adapters import merge_adapters
from bertstream.workers.compile.checkpoints.config import CheckpointConfig, read_config
from bertstream.workers.compile.checkpoints.decoder_weights import FoundDecoder, encoder_side, find_decoder
from bertstream.workers.compile.checkpoints.generation_settings import GenerationSettings, read_generation
from bertstream.workers.compile.checkpoints.gliner import (
    GlinerParts,
    GlinerSettings,
    read_gliner,
    take_apart,
    with_marks,
)
from bertstream.workers.compile.checkpoints.head_settings import Task, of_modules
from bertstream.workers.compile.checkpoints.head_weights import NO_HEADS, FoundHeads, find_heads
from bertstream.workers.compile.checkpoints.inferred_tasks import Inferred, infer_task
from bertstream.workers.compile.checkpoints.markers import describe_multi_vector, with_markers
from bertstream.workers.compile.checkpoints.sentence_settings import SentenceSettings, read_sentence_settings
from bertstream.workers.compile.checkpoints.sentence_weights import read_sentence_weights
from bertstream.workers.compile.checkpoints.static_weights import read_static_weights
from bertstream.workers.compile.checkpoints.token_heads import (
    describe_file_head,
    find_token_heads,
    joined_heads,
    without_projection,
)
from bertstream.workers.compile.checkpoints.tokenizer import TokenizerSettings, read_tokenizer
from bertstream.workers.compile.checkpoints.tokenizer_versions import token_ids
from bertstream.workers.compile.checkpoints.weights import convert_weights, read_weights
from bertstream.workers.compile.sources import (
    EMBEDDED_NAME,
    CheckpointError,
    all_weight_files,
    embedded,
    from_hub,
    resolve,
    settings_files,
    static_weights_folder,
    tokenizer_folder,
    transformer_folder,
    weight_files,
)

__all__ = [
    "EMBEDDED_NAME",
    "NO_HEADS",
    "CheckpointConfig",
    "CheckpointError",
    "FoundDecoder",
    "FoundHeads",
    "GenerationSettings",
    "GlinerParts",
    "GlinerSettings",
    "Inferred",
    "SentenceSettings",
    "Task",
    "TokenizerSettings",
    "all_weight_files",
    "convert_weights",
    "describe_file_head",
    "describe_multi_vector",
    "embedded",
    "encoder_side",
    "find_decoder",
    "find_heads",
    "find_token_heads",
    "from_hub",
    "infer_task",
    "joined_heads",
    "merge_adapters",
    "of_modules",
    "read_config",
    "read_generation",
    "read_gliner",
    "read_sentence_settings",
    "read_sentence_weights",
    "read_static_weights",
    "read_tokenizer",
    "read_weights",
    "resolve",
    "settings_files",
    "static_weights_folder",
    "take_apart",
    "token_ids",
    "tokenizer_folder",
    "transformer_folder",
    "weight_files",
    "with_markers",
    "with_marks",
    "without_projection",
]
