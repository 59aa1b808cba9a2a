"""Ray Data: whole corpora, on actors with an engine each, without a server or a port between."""

from bertstream.ray.data.corpora import encode_files, predict_files
from bertstream.ray.data.datasets import encode_dataset, predict_dataset
from bertstream.ray.data.jobs import FilesReport, JobFailed, Progress
from bertstream.ray.data.tables import RowFailed

__all__ = [
    "FilesReport",
    "JobFailed",
    "Progress",
    "RowFailed",
    "encode_dataset",
    "encode_files",
    "predict_dataset",
    "predict_files",
]
