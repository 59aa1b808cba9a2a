"""Describe a compiled model: all that the supervisor and the frontend need to know, without loading torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bertstream.workers.trust.ownership import TrustError
from bertstream.workers.trust.seal import Sealed

FILE_NAME = "description.json"
FORMAT = 5


class DescriptionError(Exception):
    """description.json is missing, damaged, or of another version of bertstream."""


class DefaultPooling(Struct, frozen=True, forbid_unknown_fields=True):
    """Say how the checkpoint's authors turn token states into one vector a text, where a caller does not say."""

    mode: str = "mean"  # one of contract.PoolingMode; "checkpoint" where no other mode says it all
    normalize: bool = False
    dimensions: int = 0  # keep the first n; 0 keeps all, and is never set for "checkpoint"
    # For "checkpoint" alone:
    width: int = 0  # of a vector before it is cut to its dimensions
    include_prompt: bool = True  # False leaves a prompt's tokens out of the pooling
    steps: tuple[str, ...] = ()  # what is done after the last layer, for people to read


class SparseDefault(Struct, frozen=True, forbid_unknown_fields=True):
    """Say how the checkpoint's authors make sparse vectors of logits, as contract.SparsePooling does."""

    strategy: Literal["max", "sum"] = "max"
    activation: Literal["relu", "log1p_relu"] = "relu"
    top_k: int = 0  # the most weights of a text where a caller does not say; 0: all


class QueryExpansion(Struct, frozen=True, forbid_unknown_fields=True):
    """Say how short queries are made longer by a token that means nothing, as ColBERT does."""

    token_id: int
    length: int  # tokens that a query has at least
    fixed: bool = True  # whether longer queries are cut to that length
    attend: bool = False  # whether the query's own tokens attend to those that are added


class MultiVectorDescription(Struct, frozen=True, forbid_unknown_fields=True):
    """Describe a model that gives a vector for each token (ColBERT), by its head "multi_vector"."""

    width: int
    similarity: Literal["maxsim", "meanmaxsim"] = "maxsim"
    query_length: int = 0  # where queries are cut, special tokens included; 0: as all texts
    document_length: int = 0
    expansion: QueryExpansion | None = None  # of queries
    skipped_ids: tuple[int, ...] = ()  # tokens that have no vector, such as punctuation
    skips_in: tuple[Literal["query", "document"], ...] = ("document",)  # of which texts
    skips_first: bool = False  # whether a text's first token has no vector


class EntityDescription(Struct, frozen=True, forbid_unknown_fields=True):
    """Describe a model that finds entities by the caller's labels (GLiNER), by its head "zero_shot_entities"."""

    longest: int  # the most words of an entity
    max_words: int  # the most words of a text that the model was trained for
    label_token: str  # stands before each label
    text_token: str  # stands between the labels and the text
    reads_name: bool = False  # whether a label's state is that of the first token of its name, not of the label_token


class PrecisionTest(Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the worst differences that a self-test at compile time found, over made-up texts of different lengths."""

    max_abs_difference: float = 0.0  # between a last hidden state and float32's
    min_cosine: float = 1.0  # between a token's last hidden state and float32's


class GenerationDescription(Struct, frozen=True, forbid_unknown_fields=True):
    """Describe how a model generates, by its head "causal_lm" or "sequence_to_sequence"."""

    vocabulary_size: int  # of the decoder; generated ids are below it
    max_tokens: int  # in the longest sequence that the decoder's positions allow; for "causal_lm", the prompt counts
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int = 0
    decoder_start_token_id: int = -1  # the start of the decoder's sequences; -1 for "causal_lm"
    # Those settings that the checkpoint's generation_config.json (or config.json) has, among max_new_tokens,
    # max_length, min_new_tokens, min_length, num_beams, num_return_sequences, length_penalty, early_stopping (as in
    # transformers), do_sample, temperature, top_k, top_p, repetition_penalty, no_repeat_ngram_size.
    defaults: dict[str, Any] = {}


class ModelDescription(Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag=FORMAT):
    """Describe one compiled model. Stored as description.json beside its program."""

    revision: str  # a hash of checkpoint, code, torch, compute type, device kind and operators; 32 hex digits
    family: str  # config.json's model_type, or ours where that is another family's, as with "jina-bert"
    architecture: str  # the checkpoint's class, "BertForMaskedLM"
    layers: int
    hidden_size: int
    attention_heads: int
    vocabulary_size: int
    type_vocabulary_size: int  # 0 where the family has no segments
    max_tokens: int  # the longest text that the positions allow, special tokens included
    default_max_length: int  # where texts are cut by default, at most max_tokens
    has_pooler: bool
    compute_type: str  # "float32", "float16", "bfloat16", "int8" or "fp8"
    device: str  # "cpu" or "cuda"
    native_operators: bool
    products: str = "plain"  # how linear layers multiply: "plain", "packed" (by our operators), "int8" or "fp8"
    amx: bool = False  # compiled for AMX: without it its "packed" cannot run, and "int8" is slow
    bfloat16: bool = False  # compiled for products of bfloat16: its "packed" cannot run where the processor has none
    precision_test: PrecisionTest = PrecisionTest()
    default_pooling: DefaultPooling = DefaultPooling()
    sparse_pooling: SparseDefault | None = None  # None where the checkpoint is not for sparse vectors (SPLADE)
    multi_vector: MultiVectorDescription | None = None
    adapter: str = ""  # the task whose adapter is a part of the weights, one of contract.ADAPTER_TASKS; "" for none
    zero_shot_entities: EntityDescription | None = None
    prompts: dict[str, str] = {}
    default_prompt_name: str = ""
    lowercase: bool = False  # lower-case texts before tokenizing, on top of what the tokenizer does
    truncation_side: str = "right"  # or "left"
    clean_up_spaces: bool = False  # of decoded texts: "it ' s so ." becomes "it's so."
    special_tokens: dict[str, tuple[str, int]] = {}  # cls sep pad mask unk bos eos
    scores_by_modules: bool = False  # sequence_classification reads pooled states, by sentence-transformers' modules
    mean_heads: tuple[str, ...] = ()  # those of whole texts that read the mean of all states, not the first one
    heads: tuple[str, ...] = ()  # contract.HeadName, "causal_lm", "sequence_to_sequence"
    labels: tuple[str, ...] = ()  # of sequence_classification or token_classification, by number
    score_function: str = "softmax"  # for sequence_classification, as the config says; one of contract.ScoreFunction
    rerank_function: str = ""  # of a sentence-transformers CrossEncoder; "" where it names none
    generation: GenerationDescription | None = None
    warnings: tuple[str, ...] = ()  # what the checkpoint asks for and this server does not do, in plain words

    @property
    def has_sentence_modules(self) -> bool:
        """Return whether the program pools by "checkpoint"."""
        return self.scores_by_modules or self.default_pooling.mode == "checkpoint"

    def with_default_length(self, tokens: int) -> ModelDescription:
        """Return the same model, whose texts are cut to this many tokens by default."""
        return msgspec.structs.replace(self, default_max_length=tokens)

    def save(self, directory: Path) -> None:
        """Write description.json into `directory`."""
        (directory / FILE_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")

    @classmethod
    def load(cls, directory: Path) -> ModelDescription:
        """Read description.json of a compiled directory. Raises DescriptionError."""
        try:
            with Sealed.open(directory) as sealed:
                return cls.parse(sealed)
        except TrustError as error:
            raise DescriptionError(f"{error}; compile the model again") from error

    @classmethod
    def parse(cls, sealed: Sealed) -> ModelDescription:
        """Read the description of a compiled directory that is open. Raises DescriptionError, SealError."""
        path, content = sealed.path / FILE_NAME, sealed.read(FILE_NAME)
        try:
            if msgspec.json.decode(content, type=_Format).format != FORMAT:
                raise DescriptionError(f"{path} was written by another version of bertstream; compile the model again")
            return msgspec.json.decode(content, type=cls)
        except ValueError as error:  # UnicodeDecodeError too
            raise DescriptionError(f"{path} is damaged ({error}); compile the model again") from error


class _Format(Struct):
    """Hold the field that a description of any version has."""

    format: int
