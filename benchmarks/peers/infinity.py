"""infinity, as a server over HTTP; the option "python" is the Python of its own environment."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Choice, NotMeasurable, Peer, Settings, Vectors

START_SECONDS = 600.0
TEXTS_A_REQUEST = 256
REQUESTS_AT_ONCE = 8
HOST = "127.0.0.1"


class Infinity(Peer):
    """Sends several requests of many texts at once; the server sorts them by length."""

    concurrent = True

    def __init__(self, settings: Settings) -> None:
        python = Path(settings.options["python"])
        command = python.with_name("infinity_emb")
        if not command.is_file():
            raise NotMeasurable("infinity-emb is not installed")
        self.port = free_port()
        self.local = threading.local()
        self.version = version(python)
        self.process = subprocess.Popen(
            [str(command), *arguments(settings, self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotMeasurable(f"the server ended with status {self.process.returncode}")
            try:
                self.post(["ready?"])
                return
            except OSError:
                time.sleep(0.2)
        raise NotMeasurable(f"the server was not ready after {START_SECONDS:.0f} s")

    def versions(self) -> dict[str, str]:
        """Return the version of the server."""
        return {"infinity-emb": self.version}

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """Return the vectors [n, d] of all texts."""
        requests = [texts[start : start + TEXTS_A_REQUEST] for start in range(0, len(texts), TEXTS_A_REQUEST)]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            return np.concatenate(list(pool.map(self.post, requests)))

    def encode_one(self, texts: list[str]) -> Vectors:
        """Return the vector [1, d] of one text."""
        return self.post(texts)

    def post(self, texts: list[str]) -> Vectors:
        """Send one request over this thread's connection, and return its vectors [n, d]."""
        body = json.dumps({"model": "bench", "input": texts, "encoding_format": "base64"})
        try:
            response, answer = self.exchange(body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            response, answer = self.exchange(body)  # the server closes connections that were idle for a while
        if response.status != 200:
            raise NotMeasurable(f"HTTP {response.status}: {answer[:200].decode(errors='replace')}")
        return vectors(json.loads(answer))

    def exchange(self, body: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request over this thread's connection, or a new one if there is none, and return the response."""
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = self.local.connection = http.client.HTTPConnection(HOST, self.port, timeout=600)
        try:
            connection.request("POST", "/embeddings", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response, response.read()
        except OSError:
            connection.close()
            self.local.connection = None
            raise

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def vectors(answer: dict[str, Any]) -> Vectors:
    """Return the rows of an answer in the order of their numbers: [n, d]."""
    rows = sorted(answer["data"], key=lambda row: int(row["index"]))
    return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), np.float32) for row in rows])


def arguments(settings: Settings, port: int) -> list[str]:
    """Return the server's arguments. "bettertransformer" is off, since it needs an old torch and transformers."""
    return [
        "v2",
        *("--model-id", settings.directory, "--served-model-name", "bench", "--host", HOST, "--port", str(port)),
        *("--engine", "torch", "--device", settings.device, "--dtype", settings.precision, "--batch-size", "32"),
        *("--no-bettertransformer", "--log-level", "warning"),
    ]


def version(python: Path) -> str:
    """Return the version of infinity in the environment of that Python."""
    code = "import importlib.metadata; print(importlib.metadata.version('infinity-emb'))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port


def load(settings: Settings) -> Infinity:
    """Return the adapter."""
    return Infinity(settings)
