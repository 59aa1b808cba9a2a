"""ONNX Runtime on the graph that its own optimizer for BERT makes; int8 by its own quantizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions

from benchmarks.peers import Left, Settings, Vectors
from benchmarks.peers.exported import INPUTS, OUTPUT, States, example
from benchmarks.peers.feeding import Feeder, Padded, calibration
from benchmarks.peers.keeping import kept


class OnnxRuntime(Feeder):
    """With one stream a session has all threads; with several each call computes in its caller's thread."""

    def __init__(self, settings: Settings) -> None:
        if settings.device != "cpu":
            raise Left("measured on the CPU only")
        super().__init__(settings)
        self.path = graph(settings)

    def versions(self) -> dict[str, str]:
        """Of what computes."""
        return {"onnxruntime": onnxruntime.__version__}

    def build(self, streams: int) -> Any:
        """A session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, self.settings.threads // streams)
        options.inter_op_num_threads = 1
        # Where others are measured too, threads must not spin while they wait.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(str(self.path), options, ["CPUExecutionProvider"])

    def states(self, batch: Padded, streams: int) -> Vectors:
        """-> [b, s, H]"""
        session = self.built(streams)
        inputs = {each.name: batch.inputs[each.name].astype(_TYPES[each.type]) for each in session.get_inputs()}
        states: Vectors = session.run([OUTPUT], inputs)[0]
        return states


_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def graph(settings: Settings) -> Path:
    """The file for this precision."""
    way = settings.options.get("way", "float32")
    fused = way != "int8-static"  # of which the static quantizer does not know the fused attention
    name = f"onnx-{onnxruntime.__version__}"
    plain = kept(Path(settings.work) / name, lambda folder: export(settings.directory, folder / "model.onnx"))
    optimized = kept(
        Path(settings.work) / f"{name}-{'fused' if fused else 'unfused'}",
        lambda folder: optimize(settings.directory, plain / "model.onnx", folder / "model.onnx", fused),
    )
    if way == "float32":
        return optimized / "model.onnx"
    folder = kept(
        Path(settings.work) / f"{name}-{way}",
        lambda folder: quantize(settings, way, optimized / "model.onnx", folder / "model.onnx"),
    )
    return folder / "model.onnx"


def export(directory: str, path: Path) -> None:
    """By the exporter, and with the attention, whose graphs the optimizer knows how to fuse."""
    axes = {name: {0: "batch", 1: "sequence"} for name in (*INPUTS, OUTPUT)}
    torch.onnx.export(
        States(directory, "eager"),
        tuple(example().values()),
        str(path),
        input_names=list(INPUTS),
        output_names=[OUTPUT],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


def optimize(directory: str, plain: Path, path: Path, fused: bool) -> None:
    """Fuse what the runtime has kernels for. Raises Left where attention stays in pieces."""
    config = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
    options = FusionOptions("bert")
    options.enable_attention = fused
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    made = optimizer.optimize_model(str(plain), "bert", heads, hidden, optimization_options=options, opt_level=1)
    found = made.get_fused_operator_statistics()
    if fused and found["Attention"] != config["num_hidden_layers"]:
        raise Left(f"the optimizer fused {found['Attention']} of {config['num_hidden_layers']} attentions")
    made.save_model_to_file(str(path))


def quantize(settings: Settings, way: str, source: Path, path: Path) -> None:
    """Weights with a scale for each channel; activations with scales of each batch, or of the calibration texts."""
    if way == "int8-dynamic":
        # It cannot tell the types of what its own optimizer's fused operators give.
        types = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(source, path, per_channel=True, weight_type=QuantType.QInt8, extra_options=types)
        return
    quantize_static(
        source,
        path,
        Reader(settings),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        # Products of two activations, inside attention, stay float: they lose much and gain little.
        extra_options={"MatMulConstBOnly": True},
    )


class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped where it is not installed
    """The calibration texts, one a batch."""

    def __init__(self, settings: Settings) -> None:
        self._inputs: Iterator[dict[str, Any]] = iter(calibration(settings))

    def get_next(self) -> dict[str, Any] | None:
        """As the quantizer asks for them."""
        return next(self._inputs, None)


def load(settings: Settings) -> OnnxRuntime:
    """The adapter."""
    return OnnxRuntime(settings)
