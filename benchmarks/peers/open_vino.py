"""OpenVINO with its own conversion of the model; int8 by NNCF, with scales from calibration texts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import openvino

from benchmarks.peers import NotMeasurable, Settings, Vectors
from benchmarks.peers.caching import cached_folder
from benchmarks.peers.exported import States, example
from benchmarks.peers.feeding import Feeder, Padded, calibration

MODEL = "model.xml"


class OpenVino(Feeder):
    """An adapter that compiles for latency with one stream, and for throughput with several."""

    def __init__(self, settings: Settings) -> None:
        if settings.device != "cpu":
            raise NotMeasurable("measured on the CPU only")
        super().__init__(settings)
        self.path = graph(settings)
        self.core = openvino.Core()
        self.local = threading.local()

    def versions(self) -> dict[str, str]:
        """Return the version of OpenVINO."""
        return {"openvino": openvino.__version__.split("-")[0]}

    def build(self, streams: int) -> Any:
        """Return a model compiled for this number of streams."""
        # Without the hint, float32 becomes bfloat16 on processors that have it.
        kind = {"float32": "f32", "int8": "f32", "bfloat16": "bf16"}[self.settings.precision]
        hints = {
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": self.settings.threads,
            "INFERENCE_PRECISION_HINT": kind,
        }
        stream_hints = {"NUM_STREAMS": streams} if streams > 1 else {}
        return self.core.compile_model(self.path, "CPU", hints | stream_hints)

    def states(self, batch: Padded, streams: int) -> Vectors:
        """Return the last hidden states [b, s, H]."""
        request = getattr(self.local, f"request{streams}", None)
        if request is None:
            request = self.built(streams).create_infer_request()
            setattr(self.local, f"request{streams}", request)
        states: Vectors = request.infer(batch.inputs)[0]
        return states


def graph(settings: Settings) -> Path:
    """Return the graph's file for this precision."""
    name = f"openvino-{openvino.__version__.split('-')[0]}"
    plain = cached_folder(Path(settings.work) / name, lambda folder: convert(settings.directory, folder / MODEL))
    if settings.precision != "int8":
        return plain / MODEL
    folder = Path(settings.work) / f"{name}-int8"
    return cached_folder(folder, lambda folder: quantize(settings, plain / MODEL, folder / MODEL)) / MODEL


def convert(directory: str, path: Path) -> None:
    """Convert the model of transformers with sdpa, for which OpenVINO has an operator."""
    model = openvino.convert_model(States(directory, "sdpa"), example_input=example())
    openvino.save_model(model, path, compress_to_fp16=False)


def quantize(settings: Settings, source: Path, path: Path) -> None:
    """Quantize as NNCF advises for transformers: smooth quantization, all products, a scale per channel of weights."""
    import nncf  # large, and needed only once

    inputs = calibration(settings)
    quantized = nncf.quantize(
        openvino.Core().read_model(source),
        nncf.Dataset(inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(inputs),
    )
    openvino.save_model(quantized, path, compress_to_fp16=False)


def load(settings: Settings) -> OpenVino:
    """Return the adapter."""
    return OpenVino(settings)
