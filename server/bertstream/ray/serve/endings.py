"""How a call ends for its caller where Ray, and no replica of ours, has ended it. Pure."""

from __future__ import annotations

import grpc

from bertstream.server.core.errors import Code, RequestError, deadline_exceeded, not_available, overloaded

CHANGES = ("LoadModel", "UnloadModel", "RepositoryModelLoad", "RepositoryModelUnload")
_RETRY_SECONDS = 0.5  # until another replica is chosen, or a lost one was noticed


def error_of(code: grpc.StatusCode, model: str, rpc: str = "") -> RequestError | None:
    """Return the error for a call that Ray has ended with this code; None where its caller has cancelled it.

    What Ray says of it goes to no caller, as it may be a traceback. model: that the call has asked for; "" for none.
    rpc: the last part of its name.
    """
    match code:
        case grpc.StatusCode.NOT_FOUND if rpc in CHANGES:
            return not_available("models are deployed to Ray Serve, and not loaded by calls", "LOADING_NOT_ALLOWED")
        case grpc.StatusCode.CANCELLED:
            return None
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return deadline_exceeded(
                "the call took longer than Ray Serve gives a call (grpc_options.request_timeout_s)"
            )
        case grpc.StatusCode.NOT_FOUND if model:
            about = f"no application of Ray Serve serves the model {model[:200]!r}"
            return RequestError(Code.NOT_FOUND, "MODEL_NOT_FOUND", about)
        case grpc.StatusCode.NOT_FOUND:
            about = "several applications are served: name a model, or an application in the metadata"
            return RequestError(Code.NOT_FOUND, "MODEL_NOT_FOUND", about)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return overloaded("more calls wait for replicas than may (max_queued_requests)", _RETRY_SECONDS)
        case grpc.StatusCode.UNAVAILABLE:
            return _lost("no replica is there")
        case _:
            return _lost("the replica that had the call is gone, or could not take it")


def _lost(message: str) -> RequestError:
    return RequestError(Code.UNAVAILABLE, "WORKER_LOST", message, retry_seconds=_RETRY_SECONDS)
