"""Embedders of Haystack."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from bertstream.adapters._embedder import ADDRESS, KEY_VARIABLE, Connection, Embedder
from bertstream.adapters._needs import needs
from bertstream.client import Client

with needs("haystack-ai", __name__):
    from haystack import Document, component, default_from_dict, default_to_dict


@component
class BertstreamTextEmbedder:
    """The vector of a query, for a retriever of Haystack.

    Args:
        address: as `Client` takes it.
        model: the model; empty for the server's default.
        tls: whether to use TLS with the authorities that the system trusts.
        api_key_env_var: the environment variable that has the API key, if there is one.
        options: further keyword arguments of `Client.encode`.
        client: a client to use in place of the address and what belongs to it. A pipeline with it cannot be saved.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        model: str = "",
        tls: bool = False,
        api_key_env_var: str = KEY_VARIABLE,
        options: dict[str, Any] | None = None,
        client: Client | None = None,
    ) -> None:
        connection = Connection(address, tls=tls, api_key_env_var=api_key_env_var, client=client)
        self._model, self._options = model, options or {}
        self._embedder = Embedder(connection, {"model": model, **self._options})

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """Return the text's vector, as `embedding`, with the checkpoint's prompt for queries."""
        if not isinstance(text, str):
            raise TypeError("BertstreamTextEmbedder takes a str; BertstreamDocumentEmbedder takes documents")
        return {"embedding": self._embedder.queries([text])[0].tolist()}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, list[float]]:
        """Return what `run` does, which runs in a thread."""
        return await asyncio.to_thread(self.run, text)

    def to_dict(self) -> dict[str, Any]:
        """Return what a pipeline saves. Raises ValueError if a client was given."""
        return _saved(self, self._embedder.connection, self._model, self._options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BertstreamTextEmbedder:
        """Return a component that is made from what was saved."""
        made: BertstreamTextEmbedder = default_from_dict(cls, data)
        return made


@component
class BertstreamDocumentEmbedder:
    """The vectors of documents, before a document store of Haystack takes them.

    Args:
        address, model, tls, api_key_env_var, options, client: as in BertstreamTextEmbedder.
        meta_fields_to_embed: fields of a document's meta that go before its text.
        embedding_separator: what goes between them.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        model: str = "",
        tls: bool = False,
        api_key_env_var: str = KEY_VARIABLE,
        options: dict[str, Any] | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        client: Client | None = None,
    ) -> None:
        connection = Connection(address, tls=tls, api_key_env_var=api_key_env_var, client=client)
        self._model, self._options = model, options or {}
        self._fields, self._separator = meta_fields_to_embed or [], embedding_separator
        self._embedder = Embedder(connection, {"model": model, **self._options})

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Return copies of the documents with their vectors, with the checkpoint's prompt for documents."""
        if any(not isinstance(document, Document) for document in documents):
            raise TypeError("BertstreamDocumentEmbedder takes documents; BertstreamTextEmbedder takes a str")
        vectors = self._embedder.documents(map(self._text, documents)).tolist()
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Return what `run` does, which runs in a thread."""
        return await asyncio.to_thread(self.run, documents)

    def to_dict(self) -> dict[str, Any]:
        """Return what a pipeline saves. Raises ValueError if a client was given."""
        own = {"meta_fields_to_embed": self._fields, "embedding_separator": self._separator}
        return _saved(self, self._embedder.connection, self._model, self._options, **own)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BertstreamDocumentEmbedder:
        """Return a component that is made from what was saved."""
        made: BertstreamDocumentEmbedder = default_from_dict(cls, data)
        return made

    def _text(self, document: Document) -> str:
        meta = (document.meta.get(name) for name in self._fields)
        return self._separator.join([*(str(value) for value in meta if value is not None), document.content or ""])


def _saved(embedder: object, connection: Connection, model: str, options: dict[str, Any], **own: Any) -> dict[str, Any]:
    saved: dict[str, Any] = default_to_dict(embedder, **connection.settings(), model=model, options=options, **own)
    return saved
