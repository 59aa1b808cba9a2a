"""What answers can do in a notebook: show themselves, and become tensors of torch or frames of pandas.

The classes are bases of the data classes in _types.py, whose columns they use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client._heatmaps import HeatMap, HeatMaps
from bertstream.client._optional import frame, tensor
from bertstream.client._svg import table_html, tokens_html

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ShownTokens:
    """The tokens of a text, as HTML and as a frame."""

    __slots__ = ()
    token_ids: NDArray[np.int32]
    tokens: list[str]
    offsets: NDArray[np.int32]
    token_type_ids: NDArray[np.int32]
    special_tokens_mask: NDArray[np.bool_]
    word_ids: NDArray[np.int32]
    sequence_ids: NDArray[np.int32]

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row for each token and its columns, as far as they are there. It needs pandas."""
        return frame(token_columns(self))

    def _repr_html_(self) -> str:
        return tokens_html(
            self.tokens, self.token_ids.tolist(), self.offsets.tolist(), self.special_tokens_mask.tolist()
        )


def token_columns(tokens: ShownTokens) -> dict[str, Any]:
    """Return the columns of tokens that are not empty, each [n]; offsets are `start` and `end`."""
    columns: dict[str, Any] = {"token_id": tokens.token_ids, "token": tokens.tokens}
    if len(tokens.offsets):
        columns |= {"start": tokens.offsets[:, 0], "end": tokens.offsets[:, 1]}
    columns |= {
        "type_id": tokens.token_type_ids,
        "special": tokens.special_tokens_mask,
        "word_id": tokens.word_ids,
        "sequence_id": tokens.sequence_ids,
    }
    return {name: values for name, values in columns.items() if len(values) == len(tokens.token_ids)}


class ShownOutputs:
    """The outputs of a text, as HTML, as tensors and as maps of attention."""

    __slots__ = ()
    token_ids: NDArray[np.int32]
    tokens: list[str]
    offsets: NDArray[np.int32]
    pooled: NDArray[np.floating[Any]] | None
    pooler_output: NDArray[np.floating[Any]] | None
    pooled_spans: NDArray[np.floating[Any]] | None
    last_hidden_state: NDArray[np.floating[Any]] | None
    hidden_states: dict[int, NDArray[np.floating[Any]]]
    attentions: dict[int, NDArray[np.floating[Any]]]
    heads: tuple[int, ...]

    def attention_map(self, layer: int = -1, head: int | None = None) -> HeatMap:
        """Return which token attends to which: by one head of a layer, or as the mean of all heads that are here.

        `layer` is one of `attentions`, or counts these from the end if it is negative; `head` is one of `heads`. Raises
        ValueError for what is not there.
        """
        layer = _chosen(layer, list(self.attentions), "layer")
        if head is None:
            return self._map(self.attentions[layer].astype(np.float32).mean(axis=0), f"layer {layer}, mean of heads")
        head = _chosen(head, list(self.heads), "head")
        return self._map(self.attentions[layer][self.heads.index(head)], f"layer {layer}, head {head}")

    def attention_maps(self, layer: int = -1) -> HeatMaps:
        """Return the maps of all heads of a layer, as one picture. Raises ValueError for a layer that is not there."""
        layer = _chosen(layer, list(self.attentions), "layer")
        pairs = zip(self.heads, self.attentions[layer], strict=True)
        return HeatMaps([self._map(weights, f"head {head}") for head, weights in pairs], title=f"layer {layer}")

    def to_torch(self) -> dict[str, Any]:
        """Return the arrays that are there as tensors, by their names; those of layers in a dict of their own.

        torch has to be installed.
        """
        found: dict[str, Any] = {"token_ids": tensor(self.token_ids)}
        for name in ("pooled", "pooler_output", "pooled_spans", "last_hidden_state"):
            if (array := getattr(self, name)) is not None:
                found[name] = tensor(array)
        layers: Mapping[str, dict[int, Any]] = {"hidden_states": self.hidden_states, "attentions": self.attentions}
        return found | {name: {k: tensor(v) for k, v in each.items()} for name, each in layers.items() if each}

    def _map(self, weights: NDArray[np.floating[Any]], title: str) -> HeatMap:
        return HeatMap(weights, self.tokens, self.tokens, title)

    def _repr_html_(self) -> str:
        arrays = {
            name: getattr(self, name) for name in ("pooled", "pooler_output", "pooled_spans", "last_hidden_state")
        }
        arrays |= {f"hidden_states[{layer}]": states for layer, states in self.hidden_states.items()}
        arrays |= {f"attentions[{layer}]": weights for layer, weights in self.attentions.items()}
        shapes = [(name, _described(array)) for name, array in arrays.items() if array is not None]
        parts = [tokens_html(self.tokens, self.token_ids.tolist(), self.offsets.tolist()), table_html(shapes)]
        if self.attentions and len(self.tokens) == len(self.token_ids):
            parts.append(self.attention_map().svg())
        return "".join(parts)


class ShownLayer:
    """One layer of a text, as HTML and as a tensor."""

    __slots__ = ()
    layer: int
    kind: Any
    array: NDArray[np.floating[Any]]
    heads: tuple[int, ...]
    tokens: list[str]

    def to_torch(self) -> Any:
        """Return the array as a tensor. torch has to be installed."""
        return tensor(self.array)

    def _repr_html_(self) -> str:
        about = table_html([(f"{self.kind}[{self.layer}]", _described(self.array))])
        if self.kind != "attentions" or len(self.tokens) != self.array.shape[-1]:
            return about
        weights = self.array.astype(np.float32).mean(axis=0)
        return about + HeatMap(weights, self.tokens, self.tokens, f"layer {self.layer}, mean of heads").svg()


class ShownVectors:
    """Vectors of some texts of a stream, as a tensor and as a frame."""

    __slots__ = ()
    ids: NDArray[np.int64]
    vectors: NDArray[np.floating[Any]]

    def to_torch(self) -> Any:
        """Return the vectors [k, d] as a tensor. torch has to be installed."""
        return tensor(self.vectors)

    def to_pandas(self) -> Any:
        """Return a DataFrame [k, d] with the ids as its index. pandas has to be installed."""
        return frame(self.vectors, index=self.ids)


def _chosen(number: int, there: Sequence[int], what: str) -> int:
    """Return the one of these that a number means: itself, or counted from the end."""
    if number in there:
        return number
    if -len(there) <= number < 0:
        return there[number]
    listed = ", ".join(map(str, there)) if there else "none: ask for outputs=['attentions']"
    raise ValueError(f"there is no {what} {number}; those here are {listed}")


def _described(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
