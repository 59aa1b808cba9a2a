"""The commands for layers and attentions, and for loading models, against a fake server."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from bertstream.cli import main
from bertstream.cli._map import draw, pooled
from bertstream.cli._palette import colours, terminal_colours
from bertstream.cli._png import enlarged, png, tiled
from bertstream.cli._table import width
from bertstream.v1 import types_pb2
from tests.client.fake_encodings import attentions, states, vector
from tests.client.fake_server import Code, FakeServer, status

Capture = pytest.CaptureFixture[str]


def cosine(one: Any, other: Any) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_layers(server: FakeServer, capsys: Capture) -> None:
    assert main(["layers", "hi", "--layers", "0,-1"]) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert (title, header.split()[:2]) == ("hi  (7 tokens)", ["LAYER", "SHAPE"])
    assert [row.split()[:3] for row in rows] == [["0", "[7,", "8]"], ["2", "[7,", "8]"]]
    assert float(rows[1].split()[3]) == pytest.approx(np.linalg.norm(states("text:hi"), axis=1).mean(), abs=1e-3)
    assert rows[0].split()[4] == "-"


def test_layers_to_a_file(server: FakeServer, tmp_path: Path, capsys: Capture) -> None:
    server.does.split_rows = 2
    path = tmp_path / "out.npz"
    assert main(["layers", "hi", "--layers", "0,2", "-o", str(path)]) == 0
    assert capsys.readouterr() == ("", f"{path}: layers 0, 2\n")
    arrays = np.load(path)
    assert list(arrays) == ["token_ids", "tokens", "offsets", "layer_0", "layer_2"]
    for layer in (0, 2):
        np.testing.assert_array_equal(arrays[f"layer_{layer}"], states("text:hi", layer))
    assert arrays["tokens"].tolist() == list("text:hi")
    assert (arrays["token_ids"].dtype, arrays["offsets"].shape) == (np.int32, (7, 2))
    assert list(tmp_path.iterdir()) == [path]


def test_attentions_to_a_file(server: FakeServer, tmp_path: Path, capsys: Capture) -> None:
    server.does.split_rows = 2
    path = tmp_path / "out.npz"
    assert main(["layers", "hi", "--layers", "0,2", "--attentions", "-o", str(path)]) == 0
    assert capsys.readouterr() == ("", f"{path}: layers 0, 2; attentions 2\n")
    arrays = np.load(path)
    assert list(arrays) == ["token_ids", "tokens", "offsets", "layer_0", "layer_2", "attention_2"]
    np.testing.assert_array_equal(arrays["attention_2"], attentions("text:hi", 2))
    assert main(["layers", "hi", "--layers", "2", "--attentions"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.split() == ["2", "[3,", "7,", "7]", "attentions"]
    assert main(["layers", "hi", "--layers", "2", "--attentions", "--json"]) == 0
    states_row, row = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (states_row["tokens"], "tokens" in row, row["layer"]) == (list("text:hi"), False, 2)
    np.testing.assert_array_equal(row["attention"], attentions("text:hi", 2))


def test_layers_that_fail_leave_no_file(server: FakeServer, tmp_path: Path, fails: Any) -> None:
    server.does.breaks.append((3, status(Code.UNAVAILABLE, "gone", "WORKER_LOST")))
    code, error = fails("layers", "hi", "-o", str(tmp_path / "out.npz"))
    assert (code, "interrupted: gone" in error) == (3, True)
    assert fails("layers", "hi", "-o", str(tmp_path / "out.npy"))[0] == 2
    assert fails("layers", "hi", "-o", str(tmp_path / "no" / "out.npz"))[0] == 1
    assert fails("layers", "hi", "--layers", "a")[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_layers_as_json(server: FakeServer, capsys: Capture) -> None:
    assert main(["layers", "é", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["layer"] for row in rows] == [0, 1, 2]
    assert rows[0]["tokens"] == list("text:é")
    assert "tokens" not in rows[1]
    np.testing.assert_array_equal(rows[1]["hidden_state"], states("text:é", 1))


def test_attention(server: FakeServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["attention", "hi", "--layer", "1", "--head", "2"]) == 0
    title, labels, *rows = capsys.readouterr().out.splitlines()
    assert title == "hi  (layer 1, head 2)"
    assert labels == "  t e x t : h i"
    weights = attentions("text:hi", 1, [2])[0]
    shades = [" ░▒▓█"[round(4 * value / weights.max())] * 2 for value in weights[0]]
    assert rows[0] == "t " + "".join(shades).rstrip()
    assert main(["attention", "hi"]) == 0
    assert "(layer 2, the mean of all heads)" in capsys.readouterr().out


def test_attention_as_json(server: FakeServer, capsys: Capture) -> None:
    assert main(["attention", "hi", "--json", "--head", "-1"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["layer"], answer["head"], answer["tokens"]) == (2, 2, list("text:hi"))
    np.testing.assert_array_equal(answer["weights"], attentions("text:hi", 2, [2])[0])


def test_attention_as_a_picture(server: FakeServer, tmp_path: Path, capsys: Capture, fails: Any) -> None:
    path = tmp_path / "map.png"
    assert main(["attention", "hi", "--layer", "1", "--head", "0", "-o", str(path)]) == 0
    assert capsys.readouterr() == ("", f"{path}: 7 × 7 weights, each 32 × 32 pixels\n")
    pixels = read_png(path.read_bytes())
    weights = attentions("text:hi", 1, [0])[0]
    np.testing.assert_array_equal(pixels[16::32, 16::32], colours(weights / weights.max()))
    assert pixels.shape == (7 * 32, 7 * 32, 3)
    assert fails("attention", "hi", "-o", str(tmp_path / "map.jpg"))[0] == 2
    assert fails("attention", "hi", "--layer", "0")[0] == 2


def test_attention_as_a_picture_with_labels(server: FakeServer, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "map.svg"
    assert main(["attention", "hi", "--layer", "1", "-o", str(path)]) == 0
    assert capsys.readouterr() == ("", f"{path}: 7 × 7 weights\n")
    texts = [each.text for each in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["layer 1, the mean of all heads", *"text:hi", *"text:hi"]


def test_attention_of_all_heads(server: FakeServer, tmp_path: Path, capsys: Capture, fails: Any) -> None:
    weights = attentions("text:hi", 2)
    path = tmp_path / "heads.svg"
    assert main(["attention", "hi", "--all-heads", "-o", str(path)]) == 0
    assert capsys.readouterr().err == f"{path}: {len(weights)} maps of 7 × 7 weights\n"
    texts = [each.text for each in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[::15] == [f"layer 2, head {head}" for head in range(len(weights))]
    assert main(["attention", "hi", "--all-heads", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["heads"] == list(range(len(weights)))
    np.testing.assert_array_equal(answer["weights"], weights)
    assert main(["attention", "hi", "--all-heads"]) == 0
    assert "(layer 2, head 1)" in capsys.readouterr().out
    assert fails("attention", "hi", "--all-heads", "--head", "1")[0] == 2


def test_pixels_of_all_heads(server: FakeServer, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "heads.png"
    assert main(["attention", "hi", "--all-heads", "-o", str(path)]) == 0
    weights, pixels = attentions("text:hi", 2), read_png(path.read_bytes())
    size = 32
    assert pixels.shape == (7 * size, len(weights) * (7 * size + 8) - 8, 3)
    for head, each in enumerate(weights):
        left = head * (7 * size + 8)
        np.testing.assert_array_equal(pixels[16::size, left + 16 : left + 7 * size : size], colours(each / each.max()))
    assert (pixels[:, 7 * size : 7 * size + 8] == 255).all()


def test_pictures_in_several_rows() -> None:
    pictures = [np.full((2, 3, 3), place, np.uint8) for place in range(3)]
    whole = tiled(pictures, 2, 1)
    assert whole[:, :, 0].tolist() == [
        [0, 0, 0, 255, 1, 1, 1],
        [0, 0, 0, 255, 1, 1, 1],
        [255] * 7,
        [2, 2, 2, 255, 255, 255, 255],
        [2, 2, 2, 255, 255, 255, 255],
    ]


def read_png(data: bytes) -> Any:
    """Return the pixels of a file of `png`, after checking every checksum."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    columns, lines, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(lines, 1 + 3 * columns)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(lines, columns, 3)


def test_pictures_of_any_shape() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 3, 3), np.uint8)
    np.testing.assert_array_equal(read_png(png(pixels)), pixels)
    np.testing.assert_array_equal(read_png(png(enlarged(pixels, 4)))[::4, ::4], pixels)


@pytest.mark.parametrize("count", [1, 2, 33, 70, 512])
@pytest.mark.parametrize("columns", [20, 80, 200])
def test_maps_fit_the_terminal(count: int, columns: int) -> None:
    weights = np.random.default_rng(count).random((count, count), np.float32)
    tokens = ["[CLS]", "世界", "e\u0301", "\x1b", "😀", "a" * 40] * count
    lines = draw(weights, tokens[:count], columns, colour=False).splitlines()
    drawing = lines[: lines.index("")]
    assert max(map(width, drawing)) <= columns
    assert "\x1b" not in "".join(lines)


def test_colours_of_a_map() -> None:
    lines = draw(np.eye(3, dtype=np.float32), ["a", "b", "c"], 80, colour=True).splitlines()
    dark, light = terminal_colours(np.array([0.0, 1.0]))
    assert re.findall(r"48;5;(\d+)m", lines[1]) == [str(light), str(dark), str(dark)]
    assert lines[1].endswith("\x1b[0m")


def test_large_maps_show_the_largest_weights() -> None:
    weights = np.zeros((5, 5), np.float32)
    weights[4, 1] = 1
    np.testing.assert_array_equal(pooled(weights, 2), [[0, 0, 0], [0, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(pooled(weights, 1), weights)


def test_colour_is_for_terminals(server: FakeServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["attention", "hi"]) == 0
    assert "\x1b[48;5;" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["attention", "hi"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_similarity(server: FakeServer, capsys: Capture) -> None:
    assert main(["similarity", "a", "a", "世", "--pooling", "cls"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "SIMILARITY  TEXT"
    wanted = cosine(vector("text:a"), vector("text:世"))
    assert rows == ["    1.0000  a", f"{wanted:10.4f}  世"]


def test_similarity_of_lines_as_json(server: FakeServer, capsys: Capture, stdin: Any) -> None:
    stdin(b"".join(b"t%d\n" % i for i in range(300)))
    assert main(["similarity", "a", "-", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == [f"t{i}" for i in range(300)]
    wanted = [cosine(vector("text:a"), vector(f"text:t{i}")) for i in range(300)]
    np.testing.assert_allclose([row["similarity"] for row in rows], wanted, atol=1e-6)


def test_load_and_unload(server: FakeServer, capsys: Capture, fails: Any) -> None:
    assert main(["load", "mine", "my-bert", "--dtype", "float16", "--workers", "2"]) == 0
    header, row, _, words = capsys.readouterr().out.splitlines()
    assert (header.split()[0], row.split()[0], "float16" in row) == ("NAME", "mine", True)
    assert words.startswith("mine in float16: least cosine")
    assert server.seen.requests[-1].workers == 2
    for dtype, value in (("int8", types_pb2.DATA_TYPE_INT8), ("fp8", types_pb2.DATA_TYPE_FP8)):
        assert main(["load", "mine", "my-bert", "--dtype", dtype]) == 0
        assert server.seen.requests[-1].compute_type == value
        assert f"mine in {dtype}: least cosine" in capsys.readouterr().out
    assert main(["load", "mine", "my-bert", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "mine"
    assert main(["unload", "mine"]) == 0
    assert capsys.readouterr().out == "mine is unloaded\n"
    server.does.failures.append(status(Code.FAILED_PRECONDITION, "this server loads none", "LOADING_NOT_ALLOWED"))
    assert fails("load", "a", "b") == (1, "bertstream: error: this server loads none\n")
    assert fails("unload", "other")[0] == 1
