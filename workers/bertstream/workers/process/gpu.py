"""How much of a GPU a worker takes, and how busy it is; NVML tells the latter, where its library is there."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import cache

import torch

from bertstream.workers.measuring import worker_metrics as metrics
from bertstream.workers.measuring.instruments import reading
from bertstream.workers.measuring.snapshots import Value

_LIBRARY = "libnvidia-ml.so.1"


class _Utilization(ctypes.Structure):
    """Hold nvmlUtilization_t: percents of the last moments."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def gpu_readings(worker: str, device: str) -> Iterable[Value]:
    """Yield what a worker has of its GPU, and what all have; nothing on the CPU."""
    if not device.startswith("cuda"):
        return
    used = torch.device(device)
    index = used.index or 0
    free, size = torch.cuda.mem_get_info(index)
    yield reading(metrics.GPU_PROCESS_MEMORY, torch.cuda.memory_reserved(index), worker)
    yield reading(metrics.GPU_USED, size - free, str(index))
    yield reading(metrics.GPU_SIZE, size, str(index))
    if (use := _use(str(torch.cuda.get_device_properties(index).uuid))) is not None:
        yield reading(metrics.GPU_USE, use, str(index))


def _use(uuid: str) -> float | None:
    """Return the part of the last moments in which a GPU computed; None where nobody tells."""
    library, handle = _nvml(), ctypes.c_void_p()
    if library is None:
        return None
    if library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode(), ctypes.byref(handle)):
        return None
    found = _Utilization()
    if library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(found)):
        return None
    return float(found.gpu) / 100


@cache
def _nvml() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    return None if library.nvmlInit_v2() else library
