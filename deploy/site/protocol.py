"""The reference of the protocol, from the comments of its protos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

Path = tuple[int, ...]
# Numbers of fields in descriptor.proto, of which the paths of comments are made.
_PACKAGE, _MESSAGES, _ENUMS, _SERVICES = 12, 4, 5, 6
_METHODS, _FIELDS, _NESTED, _NESTED_ENUMS, _VALUES = 2, 2, 3, 4, 2
_TYPES = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}

_INTRODUCTION = """\
# Protocol reference

Every service, message and enum of `bertstream.v1`, from the comments of its protos. [The protocol](../protocol.md)
explains how they work together: streams, limits, errors and what a field that is not set means.
"""


def page(image: bytes) -> str:
    """Return the page, from the descriptors of all files with their comments, as protoc or buf write them."""
    files = [file for file in FileDescriptorSet.FromString(image).file if file.package == "bertstream.v1"]
    return "\n".join([_INTRODUCTION, *(line for file in files for line in _File(file).lines())]) + "\n"


class _File:
    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments: Mapping[Path, str] = {
            tuple(each.path): each.leading_comments or each.trailing_comments for each in file.source_code_info.location
        }

    def lines(self) -> Iterator[str]:
        yield f"## {self._file.name.rpartition('/')[2]}\n"
        yield from self._said((_PACKAGE,))
        for number, service in enumerate(self._file.service):
            yield from self._service(service, (_SERVICES, number))
        for number, message in enumerate(self._file.message_type):
            yield from self._message(message, (_MESSAGES, number), "")
        for number, enum in enumerate(self._file.enum_type):
            yield from self._enum(enum, (_ENUMS, number), "")

    def _said(self, path: Path) -> Iterator[str]:
        if said := self._comments.get(path, "").strip():
            yield " ".join(line.strip() for line in said.splitlines()) + "\n"

    def _cell(self, path: Path) -> str:
        return " ".join(self._comments.get(path, "").split()).replace("|", "\\|")

    def _service(self, service: ServiceDescriptorProto, path: Path) -> Iterator[str]:
        yield f"### {service.name}\n"
        yield from self._said(path)
        rows = []
        for number, method in enumerate(service.method):
            asked = ("stream of " if method.client_streaming else "") + _linked(method.input_type)
            answered = ("stream of " if method.server_streaming else "") + _linked(method.output_type)
            rows.append((f"`{method.name}`", asked, answered, self._cell((*path, _METHODS, number))))
        yield from _table(("rpc", "request", "response", ""), rows)

    def _message(self, message: DescriptorProto, path: Path, outer: str) -> Iterator[str]:
        if message.options.map_entry:
            return
        name = outer + message.name
        yield f"### {name}\n"
        yield from self._said(path)
        entries = {each.name: each for each in message.nested_type if each.options.map_entry}
        rows = []
        for number, field in enumerate(message.field):
            rows.append((f"`{field.name}`", _type(field, entries), self._cell((*path, _FIELDS, number))))
        yield from _table(("field", "type", ""), rows)
        for number, nested in enumerate(message.nested_type):
            yield from self._message(nested, (*path, _NESTED, number), f"{name}.")
        for number, enum in enumerate(message.enum_type):
            yield from self._enum(enum, (*path, _NESTED_ENUMS, number), f"{name}.")

    def _enum(self, enum: EnumDescriptorProto, path: Path, outer: str) -> Iterator[str]:
        yield f"### {outer}{enum.name}\n"
        yield from self._said(path)
        rows = [
            (f"`{value.name}`", str(value.number), self._cell((*path, _VALUES, number)))
            for number, value in enumerate(enum.value)
        ]
        yield from _table(("value", "number", ""), rows)


def _type(field: FieldDescriptorProto, entries: Mapping[str, DescriptorProto]) -> str:
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        return f"map of {_type(entry.field[0], {})} to {_type(entry.field[1], {})}"
    kind = _linked(field.type_name) if field.type_name else f"`{_TYPES[field.type]}`"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _linked(name: str) -> str:
    package, own = ".bertstream.v1.", name.removeprefix(".bertstream.v1.")
    if not name.startswith(package):
        return f"`{name.removeprefix('.')}`"
    return f"[`{own}`](#{own.lower().replace('.', '')})"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield f"| {' | '.join(head)} |\n|{'---|' * len(head)}"
        yield from (f"| {' | '.join(row)} |" for row in rows)
        yield ""
