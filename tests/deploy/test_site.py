"""The pages of the site: links lead somewhere, and the references have all that there is."""

from __future__ import annotations

import posixpath
from pathlib import Path

import pytest
import yaml
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

import bertstream.client
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2, types_pb2
from deploy.site import commands, protocol, sdk
from deploy.site.pages import documents, pages, targets

MODULES = (encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2, types_pb2)
REFERENCES = {"reference/protocol.md", "reference/sdk.md", "reference/commands.md"}
PAGES = pages()
TEXTS = {name: content for name, content in PAGES.items() if isinstance(content, str)}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_other_pages(page: str) -> None:
    for target in targets(TEXTS[page]):
        name = target.partition("#")[0]
        if name and "://" not in name and not name.startswith("mailto:"):
            assert posixpath.normpath(posixpath.join(posixpath.dirname(page), name)) in {*PAGES, *REFERENCES}


def test_links_within_code_stay_as_they_are() -> None:
    assert list(targets("[a](b.md)\n\n```python\nc[d](e)\n```\n\n[f](g.md#h)\n")) == ["b.md", "g.md#h"]


def test_blocks_are_of_a_language_that_the_site_colours() -> None:
    kinds = {line.strip() for text in TEXTS.values() for line in text.splitlines() if line.startswith("```")}
    assert "```python" in kinds
    assert not [kind for kind in kinds if " " in kind]


def test_every_document_is_found_from_the_navigation() -> None:
    def leaves(node: object) -> set[str]:
        if isinstance(node, str):
            return {node}
        values = node.values() if isinstance(node, dict) else node
        assert isinstance(values, list | type({}.values()))
        return {leaf for each in values for leaf in leaves(each)}

    navigation = leaves(yaml.safe_load(Path("deploy/site/mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    own = {page for source, page in documents().items() if "decisions" not in source.parts}
    assert navigation == own | REFERENCES


def test_the_protocol_has_every_rpc_message_and_field() -> None:
    files = FileDescriptorSet()
    for module in MODULES:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        files.file.append(file)
    page = protocol.page(files.SerializeToString())
    for file in files.file:
        for service in file.service:
            assert all(f"| `{method.name}` |" in page for method in service.method)
        for message in file.message_type:
            assert f"\n### {message.name}\n" in page
            assert all(f"| `{field.name}` |" in page for field in message.field)
        for enum in file.enum_type:
            assert all(f"| `{value.name}` |" in page for value in enum.value)


def test_comments_of_protos_are_told() -> None:
    file = FileDescriptorProto(name="bertstream/v1/a.proto", package="bertstream.v1")
    message = file.message_type.add(name="Vector")
    message.field.add(name="size", type=FieldDescriptorProto.TYPE_UINT32, label=1)
    for path, comment in (((4, 0), " A vector.\n"), ((4, 0, 2, 0), " Its size,\n a | b.\n")):
        file.source_code_info.location.add(path=path, leading_comments=comment)
    page = protocol.page(FileDescriptorSet(file=[file]).SerializeToString())
    assert "### Vector\n\nA vector.\n" in page
    assert "| `size` | `uint32` | Its size, a \\| b. |" in page


def test_the_sdk_has_every_public_name() -> None:
    page = sdk.page()
    assert all(f"::: bertstream.client.{name}\n" in page for name in bertstream.client.__all__)


def test_every_command_has_its_help() -> None:
    page = commands.page()
    for name in ("serve", "encode", "keys add", "summarize"):
        assert f"\n## bertstream {name}\n\n```text\nusage: bertstream {name} " in page
