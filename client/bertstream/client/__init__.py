"""The Python SDK of bertstream: tokenize, encode, ask task heads, generate and stream over gRPC.

Needs grpcio, protobuf and NumPy, no torch. What `__all__` names is public; the packages and modules within, whose names
begin with an underscore, are private and change without notice.
"""

from __future__ import annotations

from bertstream.client._async import AsyncClient
from bertstream.client._encoding.options import EncodeOptions, ForwardOptions, TextOptions, TokenizeOptions
from bertstream.client._encoding.spans import SpannedText
from bertstream.client._errors import (
    Aborted,
    BertstreamError,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RpcError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from bertstream.client._files.options import (
    EncodeFileOptions,
    EncodeMultiFileOptions,
    FileOptions,
    GenerateFileOptions,
    SummarizeFileOptions,
    TokenizeFileOptions,
)
from bertstream.client._generation.options import GenerateOptions, SummarizeOptions
from bertstream.client._generation.reports import EffectiveGenerationOptions
from bertstream.client._generation.types import GeneratedBatch, Generation, GenerationDone, GenerationPiece
from bertstream.client._heatmaps import HeatMap, HeatMaps
from bertstream.client._reports import EffectiveOptions, Report
from bertstream.client._sparse import SparseVector
from bertstream.client._sync import Client
from bertstream.client._tasks.answer import Answer, AnswerOptions
from bertstream.client._tasks.batches import PredictedBatch
from bertstream.client._tasks.classify import ClassifyOptions
from bertstream.client._tasks.encode_sparse import SparseOptions
from bertstream.client._tasks.entities import Entity, EntityOptions
from bertstream.client._tasks.fill_mask import Candidate, FillMaskOptions
from bertstream.client._tasks.labels import Label
from bertstream.client._tasks.options import TaskOptions, WindowOptions
from bertstream.client._tasks.reports import EffectiveTaskOptions
from bertstream.client._tasks.rerank import Ranked, RerankOptions
from bertstream.client._tasks.score_text import TextScore
from bertstream.client._tasks.zero_shot import ZeroShotOptions
from bertstream.client._texts import Text
from bertstream.client._transport.security import TLS
from bertstream.client._types import (
    ComputeType,
    EncodedBatch,
    GenerationDescription,
    Health,
    ItemError,
    Layer,
    LayerCombination,
    LayerKind,
    LayersDone,
    Limits,
    LongTexts,
    Model,
    MultiVector,
    OffsetUnit,
    Output,
    Outputs,
    OutputsBatch,
    Pooling,
    PoolingMode,
    PrecisionTest,
    Priority,
    Progress,
    SpanUnit,
    SpecialToken,
    StreamWindow,
    TextKind,
    TokenColumn,
    TokenizedBatch,
    Tokens,
    Truncation,
    TruncationSide,
    WindowPooling,
    WireType,
)
from bertstream.client._usage import Timings, Usage
from bertstream.files.asked import FileReport
from bertstream.files.progress import FileProgress

__all__ = [
    "TLS",
    "Aborted",
    "Answer",
    "AnswerOptions",
    "AsyncClient",
    "BertstreamError",
    "Cancelled",
    "Candidate",
    "ClassifyOptions",
    "Client",
    "ComputeType",
    "DeadlineExceeded",
    "EffectiveGenerationOptions",
    "EffectiveOptions",
    "EffectiveTaskOptions",
    "EncodeFileOptions",
    "EncodeMultiFileOptions",
    "EncodeOptions",
    "EncodedBatch",
    "Entity",
    "EntityOptions",
    "FailedPrecondition",
    "FieldViolation",
    "FileOptions",
    "FileProgress",
    "FileReport",
    "FillMaskOptions",
    "ForwardOptions",
    "GenerateFileOptions",
    "GenerateOptions",
    "GeneratedBatch",
    "Generation",
    "GenerationDescription",
    "GenerationDone",
    "GenerationPiece",
    "Health",
    "HeatMap",
    "HeatMaps",
    "Internal",
    "InvalidArgument",
    "ItemError",
    "Label",
    "Layer",
    "LayerCombination",
    "LayerKind",
    "LayersDone",
    "Limits",
    "LongTexts",
    "Model",
    "MultiVector",
    "NotFound",
    "OffsetUnit",
    "Output",
    "Outputs",
    "OutputsBatch",
    "Overloaded",
    "PermissionDenied",
    "Pooling",
    "PoolingMode",
    "PrecisionTest",
    "PredictedBatch",
    "Priority",
    "Progress",
    "QuotaExceeded",
    "Ranked",
    "Report",
    "RerankOptions",
    "RpcError",
    "SpanUnit",
    "SpannedText",
    "SparseOptions",
    "SparseVector",
    "SpecialToken",
    "StreamWindow",
    "SummarizeFileOptions",
    "SummarizeOptions",
    "TaskOptions",
    "Text",
    "TextKind",
    "TextOptions",
    "TextScore",
    "Timings",
    "TokenColumn",
    "TokenizeFileOptions",
    "TokenizeOptions",
    "TokenizedBatch",
    "Tokens",
    "Truncation",
    "TruncationSide",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Usage",
    "WindowOptions",
    "WindowPooling",
    "WireType",
    "ZeroShotOptions",
]

# Tracebacks and help name these as users import them. Data classes and options keep the module that defines them: it is
# where their type hints are looked up.
for _name in __all__:
    if isinstance(_public := globals()[_name], type) and issubclass(_public, BertstreamError | Client | AsyncClient):
        _public.__module__ = __name__
del _name, _public
