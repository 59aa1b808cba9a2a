"""Packages that the client does without, except where what they make is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def tensor(array: NDArray[Any]) -> Any:
    """Return a torch tensor with a copy of the array's numbers, which may be read-only."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise _missing("torch", "to_torch()", error) from None
    return torch.from_numpy(np.array(array))


def frame(values: Mapping[str, Any] | NDArray[Any], **labels: Sequence[Any] | NDArray[Any]) -> Any:
    """Return a DataFrame of pandas; `labels` are its `index` and `columns`."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise _missing("pandas", "to_pandas()", error) from None
    return pd.DataFrame(values, **labels)


def figure(width: float, height: float) -> Any:
    """Return an empty figure of matplotlib, of this many inches, that no window shows by itself."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise _missing("matplotlib", "plot()", error) from None
    return Figure(figsize=(width, height), layout="constrained")


def _missing(package: str, what: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    if error.name != package and not str(error.name).startswith(f"{package}."):
        return error  # the package itself lacks something
    return ModuleNotFoundError(f"{what} needs {package}, which is not installed: pip install {package}", name=package)
