"""Maps of numbers with labels: which token attends to which, and how similar texts are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client._optional import figure, frame, tensor
from bertstream.client._svg import Drawn, grid_svg

_INCHES_A_CELL, _LEAST_INCHES = 0.28, 2.4


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Numbers [n, m], drawn as squares that are the darker, the larger they are; negative ones have another colour.

    A notebook shows it as a picture in which each square tells its number.
    """

    values: NDArray[np.floating[Any]]
    """[n, m]"""
    rows: Sequence[str]
    """[n]: the labels of the rows."""
    columns: Sequence[str]
    """[m]: the labels of the columns."""
    title: str = ""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), len(self.columns)):
            labels = f"{len(self.rows)} rows and {len(self.columns)} columns"
            raise ValueError(f"values are {list(self.values.shape)}, and there are labels of {labels}")

    @classmethod
    def of_similarities(
        cls,
        texts: Sequence[str],
        vectors: NDArray[np.floating[Any]],
        others: Sequence[str] | None = None,
        other_vectors: NDArray[np.floating[Any]] | None = None,
    ) -> HeatMap:
        """Return the cosines of all texts' vectors [n, d] to each other, or to those of other texts [m, d].

        ```python
        HeatMap.of_similarities(texts, client.encode(texts))
        ```
        """
        if (others is None) != (other_vectors is None):
            raise ValueError("give both others and other_vectors, or neither")
        columns = texts if others is None else others
        cosines = _unit(vectors) @ _unit(vectors if other_vectors is None else other_vectors).T
        return cls(cosines, list(texts), list(columns), "cosine similarity")

    def svg(self) -> str:
        """Return the picture as SVG, with the labels."""
        return grid_svg([self._drawn()], 1)

    def plot(self) -> Any:
        """Return a figure of matplotlib, which has to be installed."""
        return HeatMaps([self]).plot()

    def to_pandas(self) -> Any:
        """Return a DataFrame [n, m] with the labels. pandas has to be installed."""
        return frame(self.values, index=list(self.rows), columns=list(self.columns))

    def to_torch(self) -> Any:
        """Return a tensor [n, m]. torch has to be installed."""
        return tensor(self.values)

    def _drawn(self) -> Drawn:
        return Drawn(self.values, self.rows, self.columns, self.title)

    def _repr_html_(self) -> str:
        return self.svg()


@dataclass(frozen=True, slots=True, eq=False)
class HeatMaps:
    """Several maps side by side, such as those of all heads of a layer."""

    maps: Sequence[HeatMap]
    across: int = 4
    """How many are in a row of the picture."""
    title: str = field(default="")

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, place: int) -> HeatMap:
        return self.maps[place]

    def svg(self) -> str:
        """Return all maps as one picture in SVG, with the labels."""
        return grid_svg([each._drawn() for each in self.maps], self.across, self.title)

    def plot(self) -> Any:
        """Return one figure of matplotlib, which has to be installed, with all maps."""
        across = min(self.across, len(self.maps)) or 1
        down = math.ceil(len(self.maps) / across) or 1
        most = max((max(each.values.shape) for each in self.maps), default=1)
        inches = max(_LEAST_INCHES, _INCHES_A_CELL * most)
        drawn = figure(inches * across * 1.3, inches * down * 1.2)
        drawn.suptitle(self.title)
        for place, each in enumerate(self.maps):
            _plot(each, drawn, drawn.add_subplot(down, across, place + 1))
        return drawn

    def _repr_html_(self) -> str:
        return self.svg()


def _plot(heat_map: HeatMap, drawn: Any, axes: Any) -> None:
    values = np.asarray(heat_map.values, np.float32)
    greatest = float(np.abs(values).max(initial=0.0)) or 1.0
    negative = bool((values < 0).any())
    image = axes.imshow(
        values, cmap="RdBu" if negative else "viridis", vmin=-greatest if negative else 0.0, vmax=greatest
    )
    axes.set_title(heat_map.title)
    axes.set_xticks(range(len(heat_map.columns)), [_plain(label) for label in heat_map.columns], rotation=90)
    axes.set_yticks(range(len(heat_map.rows)), [_plain(label) for label in heat_map.rows])
    drawn.colorbar(image, ax=axes)


def _plain(label: str) -> str:
    """Return a label in which no dollar sign begins a formula."""
    return label.replace("$", r"\$")


def _unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    rows = np.atleast_2d(np.asarray(vectors, np.float64))
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-30))
