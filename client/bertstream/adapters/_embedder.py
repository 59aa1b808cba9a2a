"""What the adapters share: a connection that can be made again elsewhere, and vectors of queries and documents."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client import Client, EncodeOptions, Model, NotFound

ADDRESS, KEY_VARIABLE = "127.0.0.1:50051", "BERTSTREAM_API_KEY"


class Connection:
    """How a server is reached. Its client is made when it is first needed, once in each process.

    So what has a connection can be copied, pickled and saved, unless the caller gave a client of its own.

    Args:
        address: as `Client` takes it.
        tls: whether to use TLS with the authorities that the system trusts.
        api_key_env_var: the environment variable that has the API key, if there is one. The key itself is never saved.
        client: a client to use in place of all these, for other settings of TLS, time limits and the like.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        *,
        tls: bool = False,
        api_key_env_var: str = KEY_VARIABLE,
        client: Client | None = None,
    ) -> None:
        self._settings = {"address": address, "tls": tls, "api_key_env_var": api_key_env_var}
        self._given = client
        self._made: Client | None = None

    @property
    def client(self) -> Client:
        """Return the client. Raises ValueError where the API key would go to another machine in plain text."""
        if self._given is not None:
            return self._given
        if self._made is None:
            key = os.environ.get(str(self._settings["api_key_env_var"])) or None
            self._made = Client(str(self._settings["address"]), tls=bool(self._settings["tls"]), api_key=key)
        return self._made

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make this connection again. Raises ValueError if the caller gave a client."""
        if self._given is not None:
            raise ValueError("a client that was given cannot be saved: give address, tls and api_key_env_var instead")
        return dict(self._settings)

    def close(self) -> None:
        """Close the client, unless it is the caller's."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def __deepcopy__(self, _: dict[int, Any]) -> Connection:
        return Connection(**self._settings, client=self._given)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        return _connection, (self.settings(),)


def _connection(settings: Mapping[str, Any]) -> Connection:
    return Connection(**settings)


class Embedder:
    """Gives the vectors of queries and of documents, with the prompts that the checkpoint has for these.

    Args:
        connection: how the server is reached.
        options: keyword arguments of `Client.encode`, among them `model`. Its `prompt` or `prompt_name` is for queries
            and documents alike. Raises TypeError for an unknown one.
    """

    def __init__(self, connection: Connection, options: Mapping[str, Any]) -> None:
        known = EncodeOptions.__required_keys__ | EncodeOptions.__optional_keys__
        if unknown := sorted(options.keys() - known):
            raise TypeError(
                f"unknown option {unknown[0]!r}; options are those of Client.encode: {', '.join(sorted(known))}"
            )
        self.connection, self.options = connection, dict(options)
        self._prompts: dict[str, str] | None = None

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors [n, d] of texts that are searched for."""
        return self._vectors(texts, "query")

    def documents(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Return the vectors [n, d] of texts that are found."""
        return self._vectors(texts, "document")

    def _vectors(self, texts: Iterable[str], role: str) -> NDArray[np.float32]:
        options = self.options
        if options.get("prompt") is None and options.get("prompt_name") is None:
            if self._prompts is None:
                self._prompts = prompts_of(self.connection.client.model(options.get("model", "")))
            options = {**options, "prompt": self._prompts[role]}
        vectors = self.connection.client.encode(list(texts), **options)
        return vectors.astype(np.float32, copy=False)


def prompts_of(model: Model) -> dict[str, str]:
    """Return a model's prompts by name. One without a prompt for queries or documents has an empty one.

    So does sentence-transformers, from which these names are.
    """
    return {"query": "", "document": "", **model.prompts}


def found_model(client: Client, name: str) -> Model:
    """Return the model of this name, or of its last part where a server knows `org/name` as `name`."""
    try:
        return client.model(name)
    except NotFound:
        if "/" not in name:
            raise
        return client.model(name.rstrip("/").rpartition("/")[2])
