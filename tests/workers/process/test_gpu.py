from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bertstream.workers.measuring import worker_metrics as metrics
from bertstream.workers.process.gpu import gpu_readings


def test_on_the_cpu_there_is_nothing_to_read() -> None:
    assert list(gpu_readings("worker-0-0", "cpu")) == []


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_is_read_by_its_number(monkeypatch: pytest.MonkeyPatch, device: str, index: int) -> None:
    """Read a made-up GPU, of whose use nobody tells, as its driver does not know it."""
    properties = SimpleNamespace(uuid="00000000-0000-0000-0000-000000000000")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (30 - gpu, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 7 + gpu)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: properties)
    assert {(each.name, each.labels): each.value for each in gpu_readings("worker-0-0", device)} == {
        (metrics.GPU_PROCESS_MEMORY.name, ("worker-0-0",)): 7 + index,
        (metrics.GPU_USED.name, (str(index),)): 70 + index,
        (metrics.GPU_SIZE.name, (str(index),)): 100,
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_tells_its_memory_and_use() -> None:
    held = torch.zeros(1 << 20, device="cuda")
    found = {each.name: each.value for each in gpu_readings("worker-0-0", "cuda")}
    assert held.nbytes <= found[metrics.GPU_PROCESS_MEMORY.name] <= found[metrics.GPU_USED.name]
    assert found[metrics.GPU_USED.name] < found[metrics.GPU_SIZE.name]
    assert 0 <= found[metrics.GPU_USE.name] <= 1
