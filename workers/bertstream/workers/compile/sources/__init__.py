"""Find a checkpoint and its files, and refuse what is none, all of it without torch."""

from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.gliner import encoder_settings, tokenizer_folder
from bertstream.workers.compile.sources.modules import settings_files, static_weights_folder, transformer_folder
from bertstream.workers.compile.sources.source import EMBEDDED_NAME, embedded, from_hub, resolve
from bertstream.workers.compile.sources.weight_files import all_weight_files, weight_files

__all__ = [
    "EMBEDDED_NAME",
    "CheckpointError",
    "all_weight_files",
    "embedded",
    "encoder_settings",
    "from_hub",
    "resolve",
    "settings_files",
    "static_weights_folder",
    "tokenizer_folder",
    "transformer_folder",
    "weight_files",
]
