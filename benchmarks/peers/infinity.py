"""infinity, in a server process of its own, over its HTTP; its Python is another one, given by the option "python"."""

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

from benchmarks.peers import Choice, Left, Peer, Settings, Vectors

START_SECONDS = 600.0
TEXTS_A_REQUEST = 256
REQUESTS_AT_ONCE = 8
HOST = "127.0.0.1"


class Infinity(Peer):
    """Requests of many texts, several at once: the server sorts what it has by length."""

    concurrent = True

    def __init__(self, settings: Settings) -> None:
        python = Path(settings.options["python"])
        command = python.with_name("infinity_emb")
        if not command.is_file():
            raise Left("infinity-emb is not installed")
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
        """Until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Left(f"the server ended with status {self.process.returncode}")
            try:
                self.post(["ready?"])
                return
            except OSError:
                time.sleep(0.2)
        raise Left(f"the server was not ready after {START_SECONDS:.0f} s")

    def versions(self) -> dict[str, str]:
        """Of the server."""
        return {"infinity-emb": self.version}

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """All texts. -> [n, d]"""
        requests = [texts[start : start + TEXTS_A_REQUEST] for start in range(0, len(texts), TEXTS_A_REQUEST)]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            return np.concatenate(list(pool.map(self.post, requests)))

    def encode_one(self, texts: list[str]) -> Vectors:
        """One text. -> [1, d]"""
        return self.post(texts)

    def post(self, texts: list[str]) -> Vectors:
        """One request, by this thread's own connection. -> [n, d]"""
        body = json.dumps({"model": "bench", "input": texts, "encoding_format": "base64"})
        try:
            response, answer = self.exchange(body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            response, answer = self.exchange(body)  # the server closes connections that were idle for a while
        if response.status != 200:
            raise Left(f"HTTP {response.status}: {answer[:200].decode(errors='replace')}")
        return vectors(json.loads(answer))

    def exchange(self, body: str) -> tuple[http.client.HTTPResponse, bytes]:
        """By this thread's connection, or a new one where there is none that works."""
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
        """Ends the server."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def vectors(answer: dict[str, Any]) -> Vectors:
    """The rows of an answer, which come with their numbers. -> [n, d]"""
    rows = sorted(answer["data"], key=lambda row: int(row["index"]))
    return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), np.float32) for row in rows])


def arguments(settings: Settings, port: int) -> list[str]:
    """Of its command line. Its "bettertransformer" is of a torch and transformers long gone."""
    return [
        "v2",
        *("--model-id", settings.directory, "--served-model-name", "bench", "--host", HOST, "--port", str(port)),
        *("--engine", "torch", "--device", settings.device, "--dtype", settings.precision, "--batch-size", "32"),
        *("--no-bettertransformer", "--log-level", "warning"),
    ]


def version(python: Path) -> str:
    """Asked of the other Python."""
    code = "import importlib.metadata; print(importlib.metadata.version('infinity-emb'))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def free_port() -> int:
    """That nobody has now."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port


def load(settings: Settings) -> Infinity:
    """The adapter."""
    return Infinity(settings)
