"""ONNX Runtime with the graph of its own optimizer for BERT; int8 by its own quantizer."""

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

from benchmarks.peers import NotMeasurable, Settings, Vectors
from benchmarks.peers.caching import cached_folder
from benchmarks.peers.exported import INPUTS, OUTPUT, States, example
from benchmarks.peers.feeding import Feeder, Padded, calibration


class OnnxRuntime(Feeder):
    """An adapter whose session has all threads for one stream, and computes in the callers' threads for several."""

    def __init__(self, settings: Settings) -> None:
        if settings.device != "cpu":
            raise NotMeasurable("measured on the CPU only")
        super().__init__(settings)
        self.path = graph(settings)

    def versions(self) -> dict[str, str]:
        """Return the version of ONNX Runtime."""
        return {"onnxruntime": onnxruntime.__version__}

    def build(self, streams: int) -> Any:
        """Return a session for this number of streams."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, self.settings.threads // streams)
        options.inter_op_num_threads = 1
        # Waiting threads must not spin, since other contenders are measured on the same machine.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(str(self.path), options, ["CPUExecutionProvider"])

    def states(self, batch: Padded, streams: int) -> Vectors:
        """Return the last hidden states [b, s, H]."""
        session = self.built(streams)
        inputs = {each.name: batch.inputs[each.name].astype(_TYPES[each.type]) for each in session.get_inputs()}
        states: Vectors = session.run([OUTPUT], inputs)[0]
        return states


_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def graph(settings: Settings) -> Path:
    """Return the graph's file for this precision."""
    way = settings.options.get("way", "float32")
    fused = way != "int8-static"  # the static quantizer does not know the fused attention
    name = f"onnx-{onnxruntime.__version__}"
    plain = cached_folder(Path(settings.work) / name, lambda folder: export(settings.directory, folder / "model.onnx"))
    optimized = cached_folder(
        Path(settings.work) / f"{name}-{'fused' if fused else 'unfused'}",
        lambda folder: optimize(settings.directory, plain / "model.onnx", folder / "model.onnx", fused),
    )
    if way == "float32":
        return optimized / "model.onnx"
    folder = cached_folder(
        Path(settings.work) / f"{name}-{way}",
        lambda folder: quantize(settings, way, optimized / "model.onnx", folder / "model.onnx"),
    )
    return folder / "model.onnx"


def export(directory: str, path: Path) -> None:
    """Export the model with the exporter and the attention whose graphs the optimizer can fuse."""
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
    """Fuse the operators that have kernels. Raises NotMeasurable if an attention cannot be fused."""
    config = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
    options = FusionOptions("bert")
    options.enable_attention = fused
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    made = optimizer.optimize_model(str(plain), "bert", heads, hidden, optimization_options=options, opt_level=1)
    found = made.get_fused_operator_statistics()
    if fused and found["Attention"] != config["num_hidden_layers"]:
        raise NotMeasurable(f"the optimizer fused {found['Attention']} of {config['num_hidden_layers']} attentions")
    made.save_model_to_file(str(path))


def quantize(settings: Settings, way: str, source: Path, path: Path) -> None:
    """Quantize weights with a scale per channel, and activations with scales per batch or from calibration texts."""
    if way == "int8-dynamic":
        # The quantizer does not know the output types of the fused operators.
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
        # Products of two activations, inside attention, stay float: int8 loses much accuracy there for little speed.
        extra_options={"MatMulConstBOnly": True},
    )


class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped if it is not installed
    """The calibration texts, one text per batch."""

    def __init__(self, settings: Settings) -> None:
        self._inputs: Iterator[dict[str, Any]] = iter(calibration(settings))

    def get_next(self) -> dict[str, Any] | None:
        """Return the next inputs, or None after the last."""
        return next(self._inputs, None)


def load(settings: Settings) -> OnnxRuntime:
    """Return the adapter."""
    return OnnxRuntime(settings)
