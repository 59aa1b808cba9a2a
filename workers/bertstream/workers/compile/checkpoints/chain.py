"""Follow what sentence-transformers' modules do to a text's states one after the other, as far as we can run them.

Source: the modules of its release 6, which reads what releases from 2 on have written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertstream.workers.compile.sources.bounds import MOST_WIDTH, check_count, shortened, shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.modules import ENCODERS, Module
from bertstream.workers.contract import SPARSE_ACTIVATIONS as ACTIVATIONS
from bertstream.workers.contract import SPARSE_STRATEGIES as STRATEGIES
from bertstream.workers.models import DENSE_ACTIVATIONS, SentenceShape, VectorShape
from bertstream.workers.programs.description import SparseDefault

# Release 6 writes "pooling_mode": "mean", or a list. Earlier ones write a boolean for each mode, joined in this order.
_MODES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last_token",
}
_OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_VECTOR, _SCORES = "sentence_embedding", "scores"  # the names under which modules pass on their results
_SPARSE = {"pooling_strategy": "max", "activation_function": "relu"}  # SpladePooling's settings, and its defaults
_TASKS = ("feature-extraction", "sequence-classification", "fill-mask")
_OUTPUTS = dict.fromkeys(_TASKS, "last_hidden_state") | {"fill-mask": "logits"}  # of the encoder, by its task


@dataclass(frozen=True, slots=True)
class Chain:
    """Collect what the modules read so far do."""

    hidden_size: int
    modes: tuple[str, ...] = ()  # pooling modes; empty where nothing pools
    include_prompt: bool = True
    steps: tuple[VectorShape, ...] = ()
    folders: tuple[Path, ...] = ()  # the folder of each step
    descriptions: tuple[str, ...] = ()  # names the pooling and each step, for people to read
    scores: bool = False  # the last step gives scores, not a vector
    classifies: bool = False  # the encoder's class has a head, and gives its scores alone
    gives_logits: bool = False  # of the vocabulary, for each token, in place of states
    sparse: SparseDefault | None = None  # how logits are pooled
    unsupported: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Return the size of the vectors that the chain gives so far."""
        return self.steps[-1].outputs if self.steps else max(1, len(self.modes)) * self.hidden_size

    @property
    def shape(self) -> SentenceShape:
        return SentenceShape(self.modes, self.steps)

    def refusing(self, what: object) -> Chain:
        """Return the chain with something that cannot be run."""
        return replace(self, unsupported=(*self.unsupported, str(what)))

    def with_step(self, step: VectorShape, folder: Path, description: str) -> Chain:
        return replace(
            self,
            steps=(*self.steps, step),
            folders=(*self.folders, folder),
            descriptions=(*self.descriptions, description),
        )

    def without_last(self) -> Chain:
        """Return the chain without its last step."""
        return replace(self, steps=self.steps[:-1], folders=self.folders[:-1], descriptions=self.descriptions[:-1])

    def without_steps(self) -> Chain:
        """Return the pooling alone, normalised if the whole chain would normalise."""
        plain = replace(self, steps=(), folders=(), descriptions=self.descriptions[:1], scores=False)
        last = self.steps[-1:]
        return plain if not last or last[0].kind != "normalize" else _normalized(plain, self.folders[-1])


def read_chain(
    modules: Sequence[Module], first: Mapping[str, Any], hidden_size: int, encoders: Sequence[str] = ()
) -> Chain:
    """Return the chain of all of a checkpoint's modules. Raises CheckpointError.

    first: the encoder's own settings. encoders: classes of the checkpoint's own code that are the encoder, too.
    """
    chain = Chain(hidden_size)
    for number, module in enumerate(modules):
        if number == 0 and (module.kind in ENCODERS or module.type in encoders):
            chain = _transformer(chain, module, first)
        elif chain.gives_logits:
            chain = _of_logits(chain, module)
        elif module.kind == "Pooling":
            chain = _pooling(chain, module)
        elif module.kind in _READERS:
            chain = _READERS[module.kind](chain, module)
        elif module.kind != "Dropout":
            chain = chain.refusing(module)
    return chain


def _transformer(chain: Chain, module: Module, settings: Mapping[str, Any]) -> Chain:
    task = settings.get("transformer_task", _TASKS[2 if module.kind == "MLMTransformer" else 0])
    if task not in _TASKS:
        return chain.refusing(f"{module} with the task {task}")
    if task == _TASKS[1]:
        return replace(chain, classifies=True)
    given, name = _given(settings, _OUTPUTS[task]), settings.get("module_output_name", "token_embeddings")
    if (given, name) == ("pooler_output", _VECTOR):
        return replace(chain, modes=("pooler",), descriptions=("pooler",))
    if (given, name) != (_OUTPUTS[task], "token_embeddings"):
        return chain.refusing(f"{module} that gives {given} as {name}")
    return replace(chain, gives_logits=task == "fill-mask")


def _of_logits(chain: Chain, module: Module) -> Chain:
    """Return the chain with a module that reads logits, of which SpladePooling is the only one that we can run."""
    if module.kind == "Dropout":
        return chain
    if module.kind != "SpladePooling" or chain.sparse is not None:
        return chain.refusing(f"{module} of {'logits' if chain.sparse is None else 'sparse vectors'}")
    strategy, activation = (module.config.get(key, value) for key, value in _SPARSE.items())
    if strategy not in STRATEGIES or activation not in ACTIVATIONS:
        return chain.refusing(f"{module} by {shortened(f'{strategy}, {activation}')}")
    return replace(chain, sparse=SparseDefault(strategy, activation))


def _given(settings: Mapping[str, Any], default: str) -> str:
    """Return which of the encoder's outputs its module passes on."""
    found = settings.get("modality_config") or {"text": {"method": "forward", "method_output_name": default}}
    if not isinstance(found, dict) or list(found) != ["text"] or not isinstance(found["text"], dict):
        return f"answers to {', '.join(map(str, found)) if isinstance(found, dict) else shown(found)}"
    output = found["text"].get("method_output_name")
    names = output if isinstance(output, list) else [output] if output else []
    called = found["text"].get("method")
    return ".".join(map(str, names)) if called == "forward" else f"what {called} returns"


def _pooling(chain: Chain, module: Module) -> Chain:
    config = module.config
    wanted = config.get("pooling_mode")
    if wanted is None:
        wanted = [mode for key, mode in _OLD_KEYS.items() if config.get(key) is True] or ["mean"]
    wanted = wanted if isinstance(wanted, list) else [wanted]
    if unknown := [mode for mode in wanted if not isinstance(mode, str) or mode not in _MODES]:
        return replace(chain.refusing(f"{module} by {shortened(', '.join(map(str, unknown)))}"), modes=("mean",))
    modes = tuple(_MODES[mode] for mode in wanted)
    include_prompt = config.get("include_prompt") is not False
    description = f"{' + '.join(modes)} pooling{'' if include_prompt else ' without the prompt'}"
    return replace(chain, modes=modes, include_prompt=include_prompt, steps=(), folders=(), descriptions=(description,))


def _refusal(chain: Chain, module: Module, config: Mapping[str, Any]) -> str:
    """Return why a module that maps a vector to a vector cannot be run here; "" if it can."""
    read = config.get("module_input_name", _VECTOR)
    written = config.get("module_output_name") or read
    if read != _VECTOR or written not in (_VECTOR, *((_SCORES,) if module.kind == "Dense" else ())):
        return f"{module} from {read} to {written}"
    if not chain.modes or (chain.modes == ("pooler",) and module.kind != "Normalize"):
        return f"{module} of {'the pooler' if chain.modes else 'what is not pooled'}"
    return f"{module} after the scores" if chain.scores else ""


def _dense(chain: Chain, module: Module) -> Chain:
    config = module.config
    if refusal := _refusal(chain, module, config):
        return chain.refusing(refusal)
    step = dense_shape(module, config, chain.width)
    if isinstance(step, str):
        return chain.refusing(step)
    scores = config.get("module_output_name") == _SCORES
    description = f"dense {step.inputs} to {step.outputs}, {step.activation}"
    return replace(chain.with_step(step, module.folder, description), scores=scores)


def dense_shape(module: Module, config: Mapping[str, Any], width: int) -> VectorShape | str:
    """Return the shape of a Dense of vectors of this width, or why it cannot be run. Raises CheckpointError."""
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    library, _, name = activation.rpartition(".")
    if name not in DENSE_ACTIVATIONS or not library.startswith("torch.nn"):
        return f"{module} with the activation {activation}"
    inputs, outputs = _size(config, "in_features", module), _size(config, "out_features", module)
    bias, residual = config.get("bias") is not False, config.get("use_residual") is True
    _check_width(width, module, inputs)
    return VectorShape("dense", inputs, outputs, bias, name, residual)


def _layer_norm(chain: Chain, module: Module) -> Chain:
    config = module.config
    if refusal := _refusal(chain, module, {}):
        return chain.refusing(refusal)
    size = _size(config, "dimension", module)
    _check_width(chain.width, module, size)
    return chain.with_step(VectorShape("layer_norm", size, size), module.folder, "layer norm")


def _normalize(chain: Chain, module: Module) -> Chain:
    config = module.config
    if not chain.modes and config.get("module_input_name", _VECTOR) == _VECTOR:
        return chain  # there is no vector yet, so there is nothing to normalise
    if refusal := _refusal(chain, module, config):
        return chain.refusing(refusal)
    return _normalized(chain, module.folder)


def _normalized(chain: Chain, folder: Path) -> Chain:
    return chain.with_step(VectorShape("normalize", chain.width, chain.width), folder, "normalize")


_READERS = {"Dense": _dense, "LayerNorm": _layer_norm, "Normalize": _normalize}


def _size(config: Mapping[str, Any], key: str, module: Module) -> int:
    return check_count(config.get(key), MOST_WIDTH, module.folder / "config.json", key)


def _check_width(width: int, module: Module, size: int) -> None:
    if size != width:
        raise CheckpointError(f"{module.folder / 'config.json'}: it takes {size} numbers, but gets {width}")
