"""Run one batch through the program, and split the outputs by work again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bertstream.workers.engine.batch import Prepared
from bertstream.workers.engine.heads import Heads
from bertstream.workers.engine.outputs import Attentions, Outputs, Pending, collect
from bertstream.workers.engine.sessions import Key, Reached, Sessions
from bertstream.workers.programs.interface import AttentionOptions, Encoded, ForwardResult, Program


def run(
    program: Program, batch: Prepared, sessions: Sessions | None = None, keys: Sequence[Key] = ()
) -> list[dict[str, Tensor]]:
    """Return the outputs of each work, by name, in the wire's types, as CPU tensors in the work's own order of texts.

    A step of a session is a batch of one work, and `keys` names the session.
    """
    return launch(program, batch, sessions, keys).outputs()


class Launched:
    """Hold a batch that has been launched on the GPU and may still compute; on the CPU it is done."""

    def __init__(self, outputs: list[Pending], device: torch.device) -> None:
        self._outputs = outputs
        self._done: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(device))

    @property
    def done(self) -> bool:
        """Return whether outputs() would return without waiting."""
        return self._done is None or self._done.query()

    def outputs(self) -> list[dict[str, Tensor]]:
        """Wait for the batch, and return what run returns."""
        if self._done is not None:
            self._done.synchronize()
        return [collect(each) for each in self._outputs]


def launch(program: Program, batch: Prepared, sessions: Sessions | None = None, keys: Sequence[Key] = ()) -> Launched:
    """Launch a batch as run does, without waiting for the GPU where only vectors are asked for."""
    with torch.inference_mode():
        encoded, attentions = _compute(program, batch, sessions, keys)
        outputs, heads = Outputs(program, batch, encoded, attentions), Heads(program, batch, encoded.states)
        placed = enumerate(zip(batch.works, batch.places(), strict=True))
        return Launched(
            [outputs.of(work, place) | heads.of(index) for index, (work, place) in placed], batch.ids.device
        )


def _compute(
    program: Program, batch: Prepared, sessions: Sessions | None, keys: Sequence[Key]
) -> tuple[Encoded, Attentions | None]:
    """Return the program's states, and attention weights where any work asks for them."""
    attention = batch.attention
    if sessions is not None and batch.works[0].session:
        advanced = _step(program, batch, attention, sessions, keys[0])
    elif attention is not None or batch.attended is not None:
        asked = (batch.ids, batch.type_ids, batch.lengths, batch.layers, attention, batch.attended)
        advanced = program.forward(*asked)
    else:
        poolings, layers = batch.poolings, batch.state_layers
        return program.encode(batch.ids, batch.type_ids, batch.lengths, layers, poolings), None
    # A step may have one layer more, for the next step.
    states = Encoded(dict(zip(batch.layers, advanced.states, strict=False)))
    return states, None if attention is None else Attentions(attention, advanced.weights)


def _step(
    program: Program, batch: Prepared, attention: AttentionOptions | None, sessions: Sessions, key: Key
) -> ForwardResult:
    """Go on from where the session is.

    Where that is not known, or beyond what is asked for, the step starts from the embeddings.
    """
    layers, attended = batch.layers, attention.layers if attention else ()
    lowest = min([*layers, *(layer - 1 for layer in attended)])
    highest = max([*layers, *attended])
    reached = sessions.get(key)
    if reached is None or reached.layer > lowest:
        reached = Reached(0, program.embed(batch.ids, batch.type_ids, batch.lengths))
    further = [] if batch.works[0].final or highest in layers else [highest]
    advanced = program.advance(reached.states, batch.lengths, reached.layer, [*layers, *further], attention)
    if batch.works[0].final:
        sessions.forget(*_source_and_number(key))
    else:
        at = layers.index(highest) if highest in layers else len(layers)
        sessions.put(key, Reached(highest, advanced.states[at]))
    return advanced


def _source_and_number(key: Key) -> tuple[object, tuple[int]]:
    return key[0], (key[1],)
