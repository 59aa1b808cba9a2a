"""Compile a checkpoint into a directory: program.pt, weights.bin, description.json, tokenizer.json.

A compiled directory appears whole, by a rename, and never changes: one that has changed is made anew (trust/seal.py).
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bertstream.workers.compile import checkpoints, precision, targets
from bertstream.workers.compile.checkpoints import (
    CheckpointConfig,
    CheckpointError,
    FoundDecoder,
    FoundHeads,
    GenerationSettings,
    SentenceSettings,
    Task,
    TokenizerSettings,
)
from bertstream.workers.compile.revisions import (
    DEFAULT_OPTIONS,
    Progress,
    ReadingOptions,
    default_cache,
    model_folder,
    revision_of,
)
from bertstream.workers.compile.targets import Target
from bertstream.workers.contract import ADAPTER_TASKS, TASKS
from bertstream.workers.models import (
    ENCODER_PREFIX,
    STATIC_WEIGHTS,
    EncoderShape,
    Model,
    encoder_weight_shapes,
    largest_inputs,
    load_model,
)
from bertstream.workers.programs import program, weights_file
from bertstream.workers.programs.description import (
    EntityDescription,
    ModelDescription,
    MultiVectorDescription,
    PrecisionTest,
)
from bertstream.workers.trust import store


@dataclass(frozen=True, slots=True)
class Contents:
    """Hold all that a checkpoint has, read and converted."""

    config: CheckpointConfig
    sentence: SentenceSettings
    tokenizer: TokenizerSettings
    weights: dict[str, torch.Tensor]  # the encoder's, by a Model's names
    sentence_weights: dict[str, torch.Tensor]
    heads: FoundHeads
    decoder: FoundDecoder | None
    generation: GenerationSettings | None
    head_warnings: tuple[str, ...]
    multi_vector: MultiVectorDescription | None = None
    adapter: str = ""
    entities: EntityDescription | None = None

    def model(self, target: Target, largest: Mapping[str, torch.Tensor]) -> Model:
        """Return the model with all of the weights.

        largest: as load_model takes it.
        """
        weights, decoder = self.weights | self.heads.weights | self.sentence_weights, None
        if self.decoder is not None:
            weights, decoder = weights | self.decoder.weights, self.decoder.shape
        its, heads, sentence = self.config.shape, self.heads.shapes, self.sentence.shape
        return load_model(its, target.operators, weights, target.states, heads, decoder, largest, sentence)


def compile_model(
    source: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    cache: Path | None = None,
    progress: Progress | None = None,
    task: str = "",
    allow_unsupported_modules: bool = False,
) -> Path:
    """Compile the checkpoint that `source` names, unless the cache has it, and return the compiled directory.

    One that the cache has is checked down to its last bit, and put aside where it is not as it was compiled.

    source: a directory, or a name on the Hugging Face hub; dtype: "float32", "float16", "bfloat16", on the
    CPU "int8", on CUDA "fp8"; device: "cpu" or "cuda"; progress: told of each step, in the order "operators" (where
    there may be any), "find", "check", "read", "save", "test", "ready"; task: one of contract.TASKS, the head
    that it is, whatever the checkpoint says or leaves open, or of contract.ADAPTER_TASKS, the adapter that becomes a
    part of the weights; allow_unsupported_modules: serve without what cannot be run.
    Safe to call from several processes at once. Raises CheckpointError, ValueError, TrustError where others may write
    to the cache, native.ReadOnlyError where it lacks operators and nobody may, and ProcessorError where the environment
    asks for instructions that there are not.
    """
    tell = progress or (lambda step, done, total: None)
    cache = cache or default_cache()
    target = targets.choose(dtype, device, cache, tell)
    tell("find", 0, 1)
    options = ReadingOptions(task, allow_unsupported_modules)
    return compile_checkpoint(checkpoints.resolve(source), target, cache, tell, options)


def compile_checkpoint(
    checkpoint: Path, target: Target, cache: Path, tell: Progress, options: ReadingOptions = DEFAULT_OPTIONS
) -> Path:
    """Compile the checkpoint in a directory for a target, as compile_model does."""
    if options.task and options.task not in (*TASKS, *ADAPTER_TASKS):
        raise ValueError(f"the task {options.task!r} is not one of {', '.join((*TASKS, *ADAPTER_TASKS))}")
    revision = revision_of(checkpoint, torch.__version__, target.identity, tell, options)
    compiled = model_folder(cache, revision)
    if not store.is_sound(compiled):
        with store.new(compiled) as folder:
            write_model(checkpoint, target, revision, folder, tell, options)
    tell("ready", 1, 1)
    return compiled


def write_model(
    checkpoint: Path,
    target: Target,
    revision: str,
    folder: Path,
    tell: Progress,
    options: ReadingOptions = DEFAULT_OPTIONS,
) -> None:
    """Write all files of a compiled model into `folder`, as compile_model does."""
    contents = _read(checkpoint, tell, options)
    tell("save", 0, 1)
    shape, operators = contents.config.shape, target.operators
    largest = largest_inputs(shape, contents.weights) if operators.products == "int8" else {}
    _save_program(contents.model(target, largest), folder)
    if target.kernels:
        shutil.copy(target.kernels, folder)
    contents.tokenizer.save(folder)
    tell("save", 1, 1)
    tell("test", 0, 1)
    measured = precision.measure(shape, contents.weights, target.states, target.device, operators, largest)
    describe(contents, target, revision, measured).save(folder)
    tell("test", 1, 1)


def _read(root: Path, tell: Progress, options: ReadingOptions = DEFAULT_OPTIONS) -> Contents:
    checkpoint = checkpoints.transformer_folder(root)
    config = checkpoints.read_config(checkpoint, root, Task(options.head))
    gliner = checkpoints.read_gliner(root)
    adapter = config.adapters.number(options.adapter, root)
    sentence = checkpoints.read_sentence_settings(root, config.shape.hidden_size, config.family.own_encoders)
    if options.adapter:
        sentence = sentence.for_task(options.adapter, config.adapters.prompts[options.adapter])
    if not config.shape.TAILS:
        sentence = sentence.without_tails(config.family.name)
    _refuse(root, (*config.unsupported, *sentence.unsupported), options)
    tokenizer = checkpoints.read_tokenizer(checkpoints.tokenizer_folder(checkpoint), config.family)
    if sentence.multi_vector is not None:
        tokenizer = checkpoints.with_markers(tokenizer, sentence.multi_vector)
    files = checkpoints.weight_files(checkpoint)
    found = checkpoints.read_weights(files, lambda done, total: tell("read", done, total))
    found = checkpoints.merge_adapters(found, config.adapters, adapter)
    of_spans = checkpoints.NO_HEADS
    if gliner is not None:
        parts = checkpoints.take_apart(found, gliner, config.shape)
        found, of_spans, config = parts.encoder, parts.heads, replace(config, shape=parts.shape)
        tokenizer = checkpoints.with_marks(tokenizer, gliner, config.shape.vocabulary_size)
    found, projection = checkpoints.without_projection(found, config.architecture)
    side = checkpoints.encoder_side(found, config)
    weights = checkpoints.convert_weights(side, config.family, config.shape)
    config, warning = _with_task(checkpoint, root, config, sentence, side, options)
    config = replace(config, shape=replace(config.shape, has_pooler="pooler.dense.weight" in weights))
    _check_shapes(config.shape, weights, checkpoint)
    heads = checkpoints.find_heads(side, weights["embeddings.word.weight"], config)
    of_tokens = checkpoints.find_token_heads(root, sentence.multi_vector, projection, config.shape)
    decoder = checkpoints.find_decoder(found, weights, config)
    generation = _generation(checkpoint, config, heads, decoder, tokenizer)
    modules = checkpoints.read_sentence_weights(sentence)
    if (folder := checkpoints.static_weights_folder(root)) is not None:
        names = checkpoints.token_ids(tokenizer.definition)
        modules[STATIC_WEIGHTS] = checkpoints.read_static_weights(folder, names, config.shape.vocabulary_size)
    weights = {ENCODER_PREFIX + name: weight for name, weight in weights.items()}
    joined = checkpoints.joined_heads(heads, of_tokens, of_spans)
    multi_vector, lost = _multi_vector(sentence, tokenizer, of_tokens)
    told = (*(warning or heads.warnings), *lost, *config.adapters.warnings(options.adapter))
    return Contents(
        *(config, sentence, tokenizer, weights, modules, joined, decoder, generation, told, multi_vector),
        entities=None if gliner is None else gliner.description,
        adapter=options.adapter,
    )


def _multi_vector(
    sentence: SentenceSettings, tokenizer: TokenizerSettings, heads: FoundHeads
) -> tuple[MultiVectorDescription | None, tuple[str, ...]]:
    """Return what the server needs to know of vectors of tokens, where there are any, and warnings."""
    if sentence.multi_vector is not None and sentence.multi_vector.steps:
        return checkpoints.describe_multi_vector(sentence.multi_vector, tokenizer)
    return checkpoints.describe_file_head(heads), ()


def _with_task(
    checkpoint: Path,
    root: Path,
    config: CheckpointConfig,
    sentence: SentenceSettings,
    weights: Mapping[str, torch.Tensor],
    options: ReadingOptions,
) -> tuple[CheckpointConfig, tuple[str, ...]]:
    """Return the settings with the head that the user names or the weights tell, and a warning if neither does."""
    said = options.head or ("sequence_classification" if sentence.classifies and not config.names_class else "")
    warning = ""
    if said or not config.names_class:
        inferred = checkpoints.infer_task(weights, config, said)
        warning = inferred.warning
        config = checkpoints.read_config(checkpoint, root, Task(inferred.task, inferred.outputs))
    if sentence.scores_by_modules:
        scores = checkpoints.of_modules(config.heads, root, sentence.shape.steps[-1].outputs)
        config = replace(config, heads=scores)
    _refuse(root, config.unsupported, options)
    return config, (warning,) if warning else ()


def _refuse(root: Path, unsupported: Sequence[str], options: ReadingOptions) -> None:
    """Refuse vectors and scores that are not what the checkpoint's authors meant, unless the user allows them."""
    if unsupported and not options.allow_unsupported_modules:
        raise CheckpointError(
            f"{root} cannot be served as its authors meant: {unsupported[0]} is not supported; "
            "to serve it without, say --allow-unsupported-modules"
        )


def _generation(
    checkpoint: Path,
    config: CheckpointConfig,
    heads: FoundHeads,
    decoder: FoundDecoder | None,
    tokenizer: TokenizerSettings,
) -> GenerationSettings | None:
    if decoder is None and all(head.name != "causal_lm" for head in heads.shapes):
        return None
    shape = config.shape if decoder is None else decoder.shape.shape
    first = tokenizer.special_tokens.get("cls")
    return checkpoints.read_generation(
        checkpoint,
        vocabulary_size=shape.vocabulary_size,
        max_tokens=shape.max_tokens,
        has_source=decoder is not None,
        first_token=None if first is None else first[1],
    )


def _check_shapes(shape: EncoderShape, weights: dict[str, torch.Tensor], checkpoint: Path) -> None:
    for name, wanted in encoder_weight_shapes(shape).items():
        if weights[name].shape != wanted:
            found = list(weights[name].shape)
            raise CheckpointError(f"{checkpoint}: weight {name} is {found}, and config.json says {list(wanted)}")


def _save_program(model: Model, folder: Path) -> None:
    with warnings.catch_warnings():
        # Deprecated upstream without a date; docs/decisions says why we still use it.
        for name in ("script", "save", "script_method"):
            message = rf"`torch\.jit\.{name}` is deprecated"
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        scripted = torch.jit.script(model)
        weights_file.take_out(scripted, folder / weights_file.FILE_NAME)
        torch.jit.save(scripted, folder / program.FILE_NAME)


def describe(contents: Contents, target: Target, revision: str, measured: PrecisionTest) -> ModelDescription:
    """Return all that the server tells of the model."""
    config, sentence, tokenizer = contents.config, contents.sentence, contents.tokenizer
    shape = config.shape
    wanted_length = sentence.max_seq_length or tokenizer.model_max_length or shape.max_tokens
    scores = config.heads.scores
    return ModelDescription(
        revision=revision,
        family=config.family.name,
        architecture=config.architecture,
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        attention_heads=shape.attention_heads,
        vocabulary_size=shape.vocabulary_size,
        type_vocabulary_size=shape.type_vocabulary_size,
        max_tokens=shape.max_tokens,
        default_max_length=min(wanted_length, shape.max_tokens),
        has_pooler=shape.has_pooler,
        compute_type=target.dtype,
        device=target.device,
        native_operators=target.operators.native,
        products=target.operators.products,
        amx=target.amx,
        bfloat16=target.operators.bfloat16,
        precision_test=measured,
        default_pooling=sentence.pooling,
        sparse_pooling=sentence.sparse,
        multi_vector=contents.multi_vector,
        adapter=contents.adapter,
        zero_shot_entities=contents.entities,
        prompts=sentence.prompts,
        default_prompt_name=sentence.default_prompt_name,
        lowercase=sentence.lowercase,
        truncation_side=tokenizer.truncation_side,
        clean_up_spaces=tokenizer.clean_up_spaces,
        special_tokens=tokenizer.special_tokens,
        scores_by_modules=sentence.scores_by_modules,
        mean_heads=tuple(head.name for head in contents.heads.shapes if head.pooling == "mean"),
        heads=_heads(contents),
        labels=config.heads.labels,
        score_function=scores.function,
        rerank_function=scores.rerank_function,
        generation=contents.generation.description if contents.generation else None,
        warnings=_warnings(contents),
    )


def _heads(contents: Contents) -> tuple[str, ...]:
    by_modules = ("sequence_classification",) if contents.sentence.scores_by_modules else ()
    own = tuple(head.name for head in contents.heads.shapes if head.name not in by_modules)
    static = ("static_weights",) if STATIC_WEIGHTS in contents.sentence_weights else ()
    return (*own, *by_modules, *static, *(("sequence_to_sequence",) if contents.decoder else ()))


def _warnings(contents: Contents) -> tuple[str, ...]:
    config, generation = contents.config, contents.generation
    too_high = contents.tokenizer.highest_id >= config.shape.vocabulary_size
    unsupported = (*config.unsupported, *contents.sentence.unsupported)
    return (
        *(f"What the checkpoint's authors meant is not done: {each} is not supported." for each in unsupported),
        *contents.sentence.warnings,
        *config.warnings,
        *contents.tokenizer.warnings,
        *config.heads.scores.warnings,
        *contents.head_warnings,
        *(generation.warnings if generation else ()),
        *((VOCABULARY_WARNING,) if too_high else ()),
    )


VOCABULARY_WARNING = "The tokenizer knows ids that the model has no embeddings for; texts that use them are refused."
