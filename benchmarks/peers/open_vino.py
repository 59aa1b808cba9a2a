"""OpenVINO on the graph that it converts itself; int8 by NNCF, with scales from calibration texts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import openvino

from benchmarks.peers import Left, Settings, Vectors
from benchmarks.peers.exported import States, example
from benchmarks.peers.feeding import Feeder, Padded, calibration
from benchmarks.peers.keeping import kept

MODEL = "model.xml"


class OpenVino(Feeder):
    """One stream compiled for latency, several for throughput, each by its own hint."""

    def __init__(self, settings: Settings) -> None:
        if settings.device != "cpu":
            raise Left("measured on the CPU only")
        super().__init__(settings)
        self.path = graph(settings)
        self.core = openvino.Core()
        self.local = threading.local()

    def versions(self) -> dict[str, str]:
        """Of what computes."""
        return {"openvino": openvino.__version__.split("-")[0]}

    def build(self, streams: int) -> Any:
        """A compiled model."""
        # Without it, float32 becomes bfloat16 where the processor is good at that.
        kind = {"float32": "f32", "int8": "f32", "bfloat16": "bf16"}[self.settings.precision]
        hints = {
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": self.settings.threads,
            "INFERENCE_PRECISION_HINT": kind,
        }
        own = {"NUM_STREAMS": streams} if streams > 1 else {}
        return self.core.compile_model(self.path, "CPU", hints | own)

    def states(self, batch: Padded, streams: int) -> Vectors:
        """-> [b, s, H]"""
        request = getattr(self.local, f"request{streams}", None)
        if request is None:
            request = self.built(streams).create_infer_request()
            setattr(self.local, f"request{streams}", request)
        states: Vectors = request.infer(batch.inputs)[0]
        return states


def graph(settings: Settings) -> Path:
    """The file for this precision."""
    name = f"openvino-{openvino.__version__.split('-')[0]}"
    plain = kept(Path(settings.work) / name, lambda folder: convert(settings.directory, folder / MODEL))
    if settings.precision != "int8":
        return plain / MODEL
    folder = Path(settings.work) / f"{name}-int8"
    return kept(folder, lambda folder: quantize(settings, plain / MODEL, folder / MODEL)) / MODEL


def convert(directory: str, path: Path) -> None:
    """From transformers' model, with sdpa, which has an operator of its own there."""
    model = openvino.convert_model(States(directory, "sdpa"), example_input=example())
    openvino.save_model(model, path, compress_to_fp16=False)


def quantize(settings: Settings, source: Path, path: Path) -> None:
    """As NNCF advises for transformers: smooth quantization, all products, a scale for each channel of weights."""
    import nncf  # large, and needed once only

    inputs = calibration(settings)
    quantized = nncf.quantize(
        openvino.Core().read_model(source),
        nncf.Dataset(inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(inputs),
    )
    openvino.save_model(quantized, path, compress_to_fp16=False)


def load(settings: Settings) -> OpenVino:
    """The adapter."""
    return OpenVino(settings)
