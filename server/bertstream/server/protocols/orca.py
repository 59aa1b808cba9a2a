"""ORCA's messages: how loaded a server is, for balancers that choose by it.

Sources: gRFC A51 (https://github.com/grpc/proposal/blob/master/A51-custom-backend-metrics.md), and the files in
protos/xds. No code is generated from those, since a process can have only one definition of a message: another package
may bring its own, and then that one is used.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2  # noqa: F401 - the duration is imported by a file
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message_factory import GetMessageClass

from bertstream.server.core.load import Load

TRAILER = "endpoint-load-metrics-bin"
SERVICE_NAME = "xds.service.orca.v3.OpenRcaService"
_DATA, _SERVICE = "xds.data.orca.v3", "xds.service.orca.v3"
_DATA_FILE, _SERVICE_FILE = "xds/data/orca/v3/orca_load_report.proto", "xds/service/orca/v3/orca.proto"
_Field = descriptor_pb2.FieldDescriptorProto
_NUMBERS = {
    "cpu_utilization": 1,
    "mem_utilization": 2,
    "rps_fractional": 6,
    "eps": 7,
    "application_utilization": 9,
}
_MAPS = {"request_cost": 4, "utilization": 5, "named_metrics": 8}


def _report_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=_DATA_FILE, package=_DATA, syntax="proto3")
    report = file.message_type.add(name="OrcaLoadReport")
    for name, number in _NUMBERS.items():
        report.field.add(name=name, number=number, type=_Field.TYPE_DOUBLE, label=_Field.LABEL_OPTIONAL)
    rps = report.field.add(name="rps", number=3, type=_Field.TYPE_UINT64, label=_Field.LABEL_OPTIONAL)
    rps.options.deprecated = True
    for name, number in _MAPS.items():
        entry = report.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=_Field.TYPE_DOUBLE, label=_Field.LABEL_OPTIONAL)
        type_name = f".{_DATA}.OrcaLoadReport.{entry.name}"
        field = report.field.add(name=name, number=number, type=_Field.TYPE_MESSAGE, label=_Field.LABEL_REPEATED)
        field.type_name = type_name
    return file


def _service_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=_SERVICE_FILE, package=_SERVICE, syntax="proto3")
    file.dependency.extend(("google/protobuf/duration.proto", _DATA_FILE))
    request = file.message_type.add(name="OrcaLoadReportRequest")
    interval = request.field.add(name="report_interval", number=1, type=_Field.TYPE_MESSAGE)
    interval.label, interval.type_name = _Field.LABEL_OPTIONAL, ".google.protobuf.Duration"
    request.field.add(name="request_cost_names", number=2, type=_Field.TYPE_STRING, label=_Field.LABEL_REPEATED)
    method = file.service.add(name="OpenRcaService").method.add(name="StreamCoreMetrics", server_streaming=True)
    method.input_type, method.output_type = f".{_SERVICE}.OrcaLoadReportRequest", f".{_DATA}.OrcaLoadReport"
    return file


def _added(file: descriptor_pb2.FileDescriptorProto) -> FileDescriptor:
    """Return the descriptor of a file, which is added to those of the process unless it is there."""
    pool = descriptor_pool.Default()
    try:
        return pool.FindFileByName(file.name)
    except KeyError:
        pool.AddSerializedFile(file.SerializeToString())
        return pool.FindFileByName(file.name)


REPORT_FILE = _added(_report_file())
SERVICE_FILE = _added(_service_file())
OrcaLoadReport: Any = GetMessageClass(REPORT_FILE.message_types_by_name["OrcaLoadReport"])
OrcaLoadReportRequest: Any = GetMessageClass(SERVICE_FILE.message_types_by_name["OrcaLoadReportRequest"])


def report_of(load: Load) -> Any:
    """Return the load as an OrcaLoadReport."""
    queues = {f"bertstream.queue_seconds.{name}": seconds for name, seconds in load.queue_seconds.items()}
    return OrcaLoadReport(
        cpu_utilization=load.cpu,
        mem_utilization=load.memory,
        application_utilization=load.application,
        rps_fractional=load.calls_per_second,
        eps=load.failures_per_second,
        named_metrics=queues,
    )
