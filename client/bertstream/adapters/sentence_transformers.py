"""The class SentenceTransformer of sentence-transformers, with a server in place of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bertstream.adapters._embedder import ADDRESS, KEY_VARIABLE, Connection, found_model, prompts_of
from bertstream.adapters._vectors import Precision, Similarity, normalized, pairwise, quantized, similarities, tensor
from bertstream.client import Client, Model

OutputValue = Literal["sentence_embedding", "token_embeddings"]


class SentenceTransformer:
    """Encodes texts as the class of the same name of sentence-transformers does, by a server.

    ```python
    model = SentenceTransformer("all-MiniLM-L6-v2", address="127.0.0.1:50051")
    vectors = model.encode(["Hello!", "Good day!"])  # [2, 384]
    ```

    Vectors equal those of that library for the same checkpoint. torch is needed only where tensors are asked for.
    Similarities are tensors if the vectors are, and arrays otherwise. The server chooses the device and the batches, so
    that `device`, `batch_size`, `pool` and `chunk_size` are taken, but change nothing. What changes a model, such as
    training it, has no counterpart here.

    Args:
        model_name_or_path: the name of a served model, with or without `org/`; empty for the server's default.
        device: ignored.
        prompts, default_prompt_name, similarity_fn_name, truncate_dim: as there. Without `prompts` those of the
            checkpoint are used.
        address, tls, api_key_env_var, client: how the server is reached, as in the other adapters.
    """

    def __init__(
        self,
        model_name_or_path: str = "",
        *,
        device: object = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: Similarity | None = None,
        truncate_dim: int | None = None,
        address: str = ADDRESS,
        tls: bool = False,
        api_key_env_var: str = KEY_VARIABLE,
        client: Client | None = None,
    ) -> None:
        self._name, self._prompts, self._default_prompt_name = model_name_or_path, prompts, default_prompt_name
        self._connection = Connection(address, tls=tls, api_key_env_var=api_key_env_var, client=client)
        self.similarity_fn_name: Similarity = similarity_fn_name or "cosine"
        self.truncate_dim = truncate_dim
        self._max_seq_length: int | None = None

    @cached_property
    def served(self) -> Model:
        """Return the model as the server describes it."""
        return found_model(self._connection.client, self._name)

    @cached_property
    def prompts(self) -> dict[str, str]:
        """Return the prompts by name."""
        return prompts_of(self.served) | (self._prompts or {})

    @cached_property
    def default_prompt_name(self) -> str | None:
        """Return the name of the prompt that texts get for which none is given."""
        return self._default_prompt_name or self.served.default_prompt_name or None

    @property
    def max_seq_length(self) -> int:
        """Return the number of tokens that texts are cut to, special ones included. It can be set."""
        return self._max_seq_length or self.served.default_max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        self._max_seq_length = tokens

    @property
    def device(self) -> str:
        """Return the kind of device that the server computes on, "cpu" or "cuda"."""
        return self.served.device

    def get_max_seq_length(self) -> int:
        """Return the number of tokens that texts are cut to, special ones included."""
        return self.max_seq_length

    def get_embedding_dimension(self) -> int:
        """Return the length of a vector."""
        size = self.served.vector_size
        return size if self.truncate_dim is None else min(size, self.truncate_dim)

    def get_sentence_embedding_dimension(self) -> int:
        """Return the length of a vector, by the method's older name."""
        return self.get_embedding_dimension()

    def encode_query(
        self, inputs: str | Sequence[str], prompt_name: str | None = None, prompt: str | None = None, **options: Any
    ) -> Any:
        """Return what `encode` does, by default with the prompt "query"."""
        return self.encode(inputs, self._prompt_name(prompt_name, prompt, "query"), prompt, **options)

    def encode_document(
        self, inputs: str | Sequence[str], prompt_name: str | None = None, prompt: str | None = None, **options: Any
    ) -> Any:
        """Return what `encode` does, by default with the prompt "document"."""
        return self.encode(inputs, self._prompt_name(prompt_name, prompt, "document"), prompt, **options)

    def encode(
        self,
        inputs: str | Sequence[str] = (),
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: OutputValue = "sentence_embedding",
        precision: Precision = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: object = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: object = None,
        chunk_size: int | None = None,
        *,
        sentences: str | Sequence[str] | None = None,
    ) -> Any:
        """Return the vectors [n, d] of texts, or [d] of one text.

        Args:
            inputs: a text or a list of texts; also as `sentences`, by its older name.
            prompt_name, prompt: what goes before each text: one of `prompts` by its name, or the text itself.
            batch_size: ignored unless progress is shown, which it is this often.
            show_progress_bar: whether to show the progress on standard error.
            output_value: "sentence_embedding", or "token_embeddings" for a list of the tokens' states [tokens, hidden],
                as tensors.
            precision: "float32", or "int8", "uint8", "binary" or "ubinary" for smaller numbers.
            convert_to_numpy: whether to return an array, else a list of tensors.
            convert_to_tensor: whether to return one tensor.
            device, pool, chunk_size: ignored.
            normalize_embeddings: whether to scale vectors to a length of 1.
            truncate_dim: how many of the first dimensions to keep.
        """
        texts = inputs if sentences is None else sentences
        listed = [texts] if isinstance(texts, str) else list(texts)
        single = isinstance(texts, str)
        options = self._options(prompt_name, prompt)
        if output_value == "token_embeddings":
            states = self._connection.client.forward(listed, ["last_hidden_state"], **options)
            found = [tensor(np.array(each.last_hidden_state)) for each in states]
            return found[0] if single else found
        if output_value != "sentence_embedding":
            raise ValueError("output_value must be sentence_embedding or token_embeddings; `Client.forward` gives more")
        vectors = self._vectors(listed, bool(show_progress_bar), batch_size, options)
        vectors = vectors[:, : truncate_dim if truncate_dim is not None else self.truncate_dim]
        vectors = quantized(normalized(vectors) if normalize_embeddings else vectors, precision)
        if convert_to_tensor:
            return tensor(vectors[0] if single else vectors)
        rows = vectors if convert_to_numpy else list(map(tensor, vectors))
        return rows[0] if single else rows

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return how similar each of n vectors is to each of m: [n, m]. Distances are negative."""
        return similarities(self.similarity_fn_name, embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return how similar each of n vectors is to the one in the same place: [n]. Distances are negative."""
        return pairwise(self.similarity_fn_name, embeddings1, embeddings2)

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Keep this many of the first dimensions within the block."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    def _vectors(self, texts: list[str], progress: bool, batch_size: int, options: dict[str, Any]) -> NDArray[Any]:
        client = self._connection.client
        if not progress or not texts:
            return client.encode(texts, **options)
        batches = client.encode_stream(texts, progress=True, batch_size=batch_size, **options)
        return np.concatenate([batch.vectors for batch in batches])

    def _options(self, prompt_name: str | None, prompt: str | None) -> dict[str, Any]:
        name = prompt_name or self.default_prompt_name
        if prompt is None and name is not None:
            if name not in self.prompts:
                raise ValueError(f"there is no prompt {name!r}; those of this model are {', '.join(self.prompts)}")
            prompt = self.prompts[name]
        return {"model": self.served.name, "prompt": prompt, "max_length": self._max_seq_length}

    def _prompt_name(self, prompt_name: str | None, prompt: str | None, role: str) -> str | None:
        return role if prompt_name is None and prompt is None else prompt_name
