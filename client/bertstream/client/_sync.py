"""The synchronous client."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from types import TracebackType
from typing import Self, Unpack

import grpc

from bertstream.client._calls import models
from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.requests import Delivery, OnError
from bertstream.client._encoding import operations
from bertstream.client._encoding.layers import layers_request
from bertstream.client._encoding.options import EncodeOptions, ForwardOptions, TextOptions, TokenizeOptions
from bertstream.client._encoding.requests import (
    FORWARD_BATCH,
    Item,
    encode_request,
    forward_items,
    forward_request,
    multi_vector_request,
    spans_request,
    tokenize_request,
)
from bertstream.client._encoding.spans import Spans, spanned
from bertstream.client._files.sync_files import FileMethods
from bertstream.client._generation.sync_generation import GenerationMethods
from bertstream.client._reports import ReportOption
from bertstream.client._tasks.sync_tasks import TaskMethods
from bertstream.client._texts import Text, listed
from bertstream.client._transport.addresses import servers_of
from bertstream.client._transport.channels import Connection
from bertstream.client._transport.security import TLS, security
from bertstream.client._transport.sync_transport import SyncTransport
from bertstream.client._types import (
    ComputeType,
    EncodedBatch,
    FloatArray,
    Health,
    Layer,
    LayersDone,
    Model,
    Output,
    Outputs,
    OutputsBatch,
    SpanUnit,
    TokenizedBatch,
    Tokens,
)


class Client(TaskMethods, GenerationMethods, FileMethods):
    """A connection to a bertstream server.

    ```python
    with Client("127.0.0.1:50051") as client:
        vectors = client.encode(["Hello!", "Good day!"], pooling="mean", normalize=True)  # [2, hidden]
    ```

    A text is a str, a pair (a tuple of two str), a list of words, or token ids (a list of int, an integer array or
    Tokens); a list may mix them. Methods raise a BertstreamError, or TypeError or ValueError for misuse. Several
    threads may use one client at once. An empty list has an empty answer, for which the server is not asked, and so
    does not check the options.

    Methods that work on texts take `report`: a function, such as `reports.append`, that is called with a Report (the
    options in effect, usage, timings) for each message that is answered; a call may take several messages.

    Args:
        address: `host:port`, or another gRPC target with a port, such as `dns:///host:port`, or `unix:path`. Anything
            else raises ValueError. Several servers of the same models, with commas between or as a sequence, share the
            calls by what is under way; those that are gone or drain get none. gRPC itself shares calls in turn between
            all servers that it finds behind a `dns:` name or in one `ipv4:` or `ipv6:` address. If the environment says
            so (`grpc_proxy`, `https_proxy`, `http_proxy`, `no_proxy`), gRPC connects through a proxy, but never to this
            machine.
        timeout: seconds that one message of a unary call may take, unless a method's own `timeout` is given; None or
            infinity for no limit. Streams have no limit unless their own `timeout` is given.
        channels: the number of connections to each server, each opened when it is needed. Where several frontend
            processes share a port, each connection may reach another; a call takes the one with the fewest calls under
            way.
        retries: how often a unary call is tried again (0 to 4) that failed with UNAVAILABLE or RESOURCE_EXHAUSTED. Each
            try goes from one of several servers to the next, until one takes the call.
        tls: True for TLS with the authorities that the system trusts, or a TLS with other settings; False for plain
            text.
        credentials: gRPC's own channel credentials, in place of `tls`.
        api_key: sent with every call, as `authorization: Bearer …`. Raises ValueError if it would go to another machine
            in plain text.
        insecure_key: send the key in plain text all the same, over a network that is safe itself.
        metadata: pairs sent with every call.
        max_message_bytes: the largest message to send or to take.
        reconnect_seconds: how long to try to take up a broken stream again before its error is raised: one that takes
            texts, or `stream_generate`.
        stream_calls: how many calls a stream that takes texts is spread over, each opened when those before it are
            busy; None for one to each of several servers, and four where gRPC finds the servers behind an address.
        channel: gRPC's own channel, with interceptors or to a server in this process, in place of those that the client
            makes by `address` and the options of connections; whoever gives it closes it.
    """

    def __init__(
        self,
        address: str | Sequence[str] = "127.0.0.1:50051",
        *,
        timeout: float | None = 60.0,
        channels: int = 4,
        retries: int = 4,
        tls: bool | TLS = False,
        credentials: grpc.ChannelCredentials | None = None,
        api_key: str | None = None,
        insecure_key: bool = False,
        metadata: Iterable[tuple[str, str | bytes]] = (),
        max_message_bytes: int = 64 << 20,
        reconnect_seconds: float = 30.0,
        stream_calls: int | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        servers = servers_of(address)
        self._transport = SyncTransport(
            Connection(
                servers,
                timeout,
                channels,
                retries,
                security(servers, tls, credentials, api_key, insecure_key),
                tuple(metadata),
                max_message_bytes,
                reconnect_seconds,
                stream_calls,
                channel,
            )
        )
        self._run = self._transport.run
        self._descriptions = self._transport.descriptions

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls under way raise Cancelled."""
        self._transport.close()

    def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """Return the health of the server, or of one `service` of it. The value is true if that is serving.

        A service is one such as "bertstream.v1.EncodingService", or a model as "models/NAME". SERVICE_UNKNOWN means
        that the server has no such service or model.
        """
        return self._run(models.health(service), timeout)

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """Return the served models, the default one first."""
        return self._run(models.list_models(), timeout)[0]

    def model(self, name: str = "", *, timeout: float | None = None) -> Model:
        """Return a model, by default the server's default model. Raises NotFound for an unknown name."""
        return self._run(models.get_model(name), timeout)

    def server_version(self, *, timeout: float | None = None) -> str:
        """Return the server's version, such as "0.1.0"."""
        return self._run(models.list_models(), timeout)[1]

    def load_model(
        self,
        name: str,
        source: str,
        *,
        dtype: ComputeType | None = None,
        workers: int = 0,
        allow_unsupported_modules: bool = False,
        timeout: float | None = None,
    ) -> Model:
        """Load a model, and return once it is served.

        A model that is already served under this name is replaced, without failing any call. There is no time limit
        unless `timeout` is given.

        Args:
            name: the name to serve it under.
            source: a name below one of the server's model roots, or on the hub where the server allows that.
            dtype: the type to compute in; None for the server's choice. "int8" is for models on the CPU, "fp8"
                for those on GPUs such as an H100.
            workers: worker processes; 0 for the server's choice.
            allow_unsupported_modules: leave out modules of the model that the server cannot run, although its vectors
                then differ from those that its authors meant; its `warnings` name them.
            timeout: in seconds.

        Raises FailedPrecondition if the server does not allow loading models, or cannot load this one. The call is
        never retried automatically; after the timeout, the server continues to load.
        """
        work = models.load_model(self._descriptions, name, source, dtype, workers, allow_unsupported_modules)
        return self._run(work, timeout)

    def unload_model(self, name: str, *, timeout: float | None = None) -> None:
        """Take a model out of service: calls under way finish, later ones raise NotFound."""
        self._run(models.unload_model(self._descriptions, name), timeout)

    def tokenize(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TokenizeOptions],
    ) -> list[Tokens]:
        """Return the tokens of each text, in order, or of each of its windows with `overflow` or `stride`.

        A single str is treated as a list of one.
        """
        return self._run(operations.tokenize(self._descriptions, texts, report, **options), timeout)

    def detokenize(
        self,
        token_ids: Iterable[Text],
        *,
        skip_special_tokens: bool = False,
        model: str = "",
        timeout: float | None = None,
    ) -> list[str]:
        """Return a text for each list (or array, or Tokens) of ids."""
        return self._run(operations.detokenize(self._descriptions, token_ids, skip_special_tokens, model), timeout)

    def encode(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> FloatArray:
        """Return the pooled vectors [n, d] in the order of the texts, or [d] for a single str (or Tokens).

        They are float32, or float16 with `wire_type="float16"`, and writable. A long list is cut into messages, of
        which several are under way at a time. An empty list gives [0, d], by the model's description alone. For corpora
        see `encode_stream`.
        """
        return self._run(operations.encode(self._descriptions, texts, report, **options), timeout)

    def encode_windows(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> list[FloatArray]:
        """Return the pooled vectors [windows, d] of the windows of each text, in order, as `encode` pools them.

        A text has one window, or several where it is longer than `max_length` tokens, each sharing `stride` tokens with
        the one before. `encode` with `long_texts="windows"` makes one vector of them.
        """
        return self._run(operations.encode_windows(self._descriptions, texts, report, **options), timeout)

    def encode_spans(
        self,
        texts: Text | Iterable[Text],
        spans: Iterable[Spans],
        *,
        unit: SpanUnit = "characters",
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> list[FloatArray]:
        """Return the pooled vectors [spans, d] of the spans of each text, in order (late chunking).

        Each text is encoded once, as a whole, and then its spans are pooled, so that each vector has the context of
        the whole text. `spans` has for each text a list of (start, end) or an array [spans, 2]; ends are exclusive.
        Characters are Unicode code points, as Python counts them, and a span takes every token that it touches; words
        are those of `word_ids`; tokens include special ones. A span that touches no token is refused. The list may be
        of any length. A single str is treated as a list of one, and has its spans in a list too: `[[(0, 5)]]`.
        """
        request = spans_request(unit, Delivery(batch_size=FORWARD_BATCH, report=report), **options)
        items = spanned(listed(texts)[0], spans)
        return [vectors for some in self._transport.stream(request, items, timeout) for vectors in some]

    def encode_multi(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TextOptions],
    ) -> list[FloatArray]:
        """Return the vectors of each text's tokens, [tokens that count, d], for late interaction (ColBERT).

        `kind` says what the texts are for, query or document, which such models treat in different ways: each has a
        mark of its own, queries may be expanded, and documents may have no vectors of punctuation. `rerank` scores
        documents by these vectors. The list may be of any length. A single str is treated as a list of one.
        """
        request = multi_vector_request(Delivery(batch_size=FORWARD_BATCH, report=report), **options)
        items = listed(texts)[0]
        return [vectors for some in self._transport.stream(request, items, timeout) for vectors in some]

    def forward(
        self,
        texts: Text | Iterable[Text],
        outputs: Sequence[Output] | None = None,
        *,
        spans: Iterable[Spans] | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ForwardOptions],
    ) -> list[Outputs]:
        """Return the outputs of the encoder for each text, in order, without padding.

        `outputs` are some of pooled, pooler_output, last_hidden_state, hidden_states, attentions, pooled_spans,
        token_vectors and sparse_weights; None means pooled, last_hidden_state, and pooler_output if the model has one.
        Tokens, their ids and offsets are always included. pooled_spans needs `spans`, as `encode_spans` does. A single
        str is treated as a list of one. The list may be of any length, but all outputs are held in memory at once;
        `forward_stream` avoids that.
        """
        delivery = Delivery(batch_size=FORWARD_BATCH, report=report)
        request = forward_request(outputs, delivery, interactive=True, **options)
        items = forward_items(texts, spans, outputs)
        return [row for batch in self._transport.stream(request, items, timeout) for row in batch.outputs]

    def forward_stream(
        self,
        texts: Iterable[Item],
        outputs: Sequence[Output] | None = None,
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 16,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ForwardOptions],
    ) -> Generator[OutputsBatch, None, None]:
        """Stream the outputs of a corpus of any size, in constant memory: as `encode_stream`, with those of `forward`.

        If outputs are large, fewer texts are under way, so that about 64 MiB of outputs are, and at most twice as much
        waits in the client. With "pooled_spans" among the outputs each text is a SpannedText.
        """
        request = forward_request(outputs, Delivery(ordered, on_error, batch_size, progress, report), **options)
        return self._transport.stream(request, texts, timeout)

    def stream_layers(
        self,
        texts: Text | Iterable[Text],
        outputs: Sequence[Output] = ("hidden_states",),
        *,
        spans: Iterable[Spans] | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ForwardOptions],
    ) -> Generator[Layer | LayersDone, None, None]:
        """Stream the layers of one text or a few, each as soon as the server has computed it, and then a LayersDone.

        ```python
        for event in client.stream_layers("A text", layers=[0, 6, 12]):
            if isinstance(event, Layer):
                print(event.layer, event.array.shape)
        ```

        All texts must be of one kind, such as str or pairs. The layers of each text come from the lowest to the
        highest, the states of a layer before its attentions; a last_hidden_state comes as the last layer's
        hidden_states. Only the layer that is coming in is held in memory, and the server waits for a slow reader.
        Closing the generator cancels the call, and higher layers are not computed. The stream cannot be resumed: if
        the connection breaks, Unavailable is raised. A single str is treated as a list of one.
        """
        return self._transport.events(layers_request(texts, outputs, spans, report, **options), timeout)

    def encode_stream(
        self,
        texts: Iterable[Text | tuple[int, Text]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Generator[EncodedBatch, None, None]:
        """Stream the vectors of a corpus of any size, in constant memory and in batches of `batch_size` texts.

        The last batch may be smaller. Items may be (id, text) with ids of yours, which are whole numbers of 64 bits;
        otherwise a text's position is its id.
        `texts` is iterated in the thread that iterates the result, never far ahead of it, so that a batch which is
        ready waits until a slow source has given its next text. With `ordered=False` rows come as they are ready.
        `on_error="raise"` raises a failed item's exception (`item_id` is its id) after all rows that were ready before
        it; "collect" lists it in `errors`, and its row is NaN. A connection that breaks is opened again, and only texts
        without an answer are sent again, as are those that the server refuses for now. Where it takes none for half a
        minute, its error is raised. Closing the generator cancels the call.
        `timeout` applies to the whole stream.
        """
        request = encode_request(Delivery(ordered, on_error, batch_size, progress, report), **options)
        return self._transport.stream(request, texts, timeout)

    def tokenize_stream(
        self,
        texts: Iterable[Text | tuple[int, Text]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TokenizeOptions],
    ) -> Generator[TokenizedBatch, None, None]:
        """Stream the tokens of a corpus of any size, as `encode_stream` does; failed items have no Tokens."""
        request = tokenize_request(Delivery(ordered, on_error, batch_size, progress, report), **options)
        return self._transport.stream(request, texts, timeout)
