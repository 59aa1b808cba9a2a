"""Answers show themselves in notebooks, and become tensors and frames."""

from __future__ import annotations

import sys
import types
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from bertstream.client import EncodedBatch, HeatMap, HeatMaps, Layer, Outputs, Timings, Tokens, Usage

NAMES = ["[CLS]", "<b>", "a&$b$", "x" * 20]
WEIGHTS = np.arange(3 * 4 * 4, dtype=np.float32).reshape(3, 4, 4) / 100


def texts_of(svg: str) -> list[str]:
    """Return the texts of a picture, which has to be well formed, without those that are shown by pointing."""
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def hints_of(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


@pytest.fixture
def outputs() -> Outputs:
    weights = WEIGHTS.copy()
    weights.flags.writeable = False  # as arrays of an answer may be
    return Outputs(
        token_count=4,
        token_ids=np.array([1, 2, 3, 4], np.int32),
        tokens=NAMES,
        offsets=np.array([[0, 0], [0, 3], [4, 9], [10, 30]], np.int32),
        pooled=np.ones(8, np.float16),
        hidden_states={2: np.ones((4, 8), np.float32)},
        attentions={1: weights, 5: weights * 2},
        heads=(0, 3, 7),
    )


def test_a_map_is_a_picture_with_labels_and_numbers() -> None:
    drawn = HeatMap(WEIGHTS[0], NAMES, NAMES, "a < title").svg()
    assert texts_of(drawn) == ["a < title", *[*NAMES[:3], "x" * 15 + "…"] * 2]
    assert hints_of(drawn)[1] == "[CLS] → <b>: 0.0100"
    assert len(hints_of(drawn)) == 16


def test_a_map_of_nothing_and_one_of_very_much() -> None:
    assert texts_of(HeatMap(np.empty((0, 0)), [], []).svg()) == [""]
    labels = list(map(str, range(200)))
    values = np.arange(40_000.0).reshape(200, 200)
    drawn = HeatMap(values, labels, labels, "t").svg()
    assert texts_of(drawn)[0] == "t (a square is the largest of 3 × 3)"
    assert hints_of(drawn)[0] == "0 → 0: 402.0000"  # row 2, column 2
    assert len(hints_of(drawn)) == 67 * 67


def test_negative_numbers_have_another_colour() -> None:
    drawn = HeatMap(np.array([[1.0, -0.5]]), ["a"], ["b", "c"]).svg()
    cells = list(ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}rect"))
    assert [each.get("fill-opacity") for each in cells] == ["1.000", "0.500"]
    assert cells[0].get("fill") != cells[1].get("fill")


def test_a_map_without_all_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"values are \[2, 3\], and there are labels of 2 rows and 2 columns"):
        HeatMap(np.zeros((2, 3)), ["a", "b"], ["a", "b"])


def test_similarities() -> None:
    vectors = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
    vectors[2] = 0
    unit = vectors[:2] / np.linalg.norm(vectors[:2], axis=1, keepdims=True)
    found = HeatMap.of_similarities(["a", "b", "c"], vectors)
    np.testing.assert_allclose(found.values[:2, :2], unit @ unit.T, atol=1e-6)
    assert (found.values[2] == 0).all()
    across = HeatMap.of_similarities(["a", "b", "c"], vectors, ["d"], 2 * vectors[:1])
    np.testing.assert_allclose(across.values, found.values[:, :1])
    assert (across.rows, across.columns) == (["a", "b", "c"], ["d"])
    with pytest.raises(ValueError, match="give both others and other_vectors, or neither"):
        HeatMap.of_similarities(["a"], vectors[:1], ["d"])


def test_attention(outputs: Outputs) -> None:
    mean, one = outputs.attention_map(), outputs.attention_map(1, head=3)
    np.testing.assert_allclose(mean.values, WEIGHTS.mean(axis=0) * 2, atol=1e-6)
    np.testing.assert_array_equal(one.values, WEIGHTS[1])
    assert (mean.title, one.title) == ("layer 5, mean of heads", "layer 1, head 3")
    np.testing.assert_array_equal(outputs.attention_map(-2, head=-1).values, WEIGHTS[2])
    maps = outputs.attention_maps(1)
    assert (len(maps), maps[2].title) == (3, "head 7")
    titles = texts_of(maps.svg())
    assert [titles[place] for place in (0, 1, 10, 19)] == ["layer 1", "head 0", "head 3", "head 7"]
    for wrong, message in (((2,), "no layer 2; those here are 1, 5"), ((1, 1), "no head 1; those here are 0, 3, 7")):
        with pytest.raises(ValueError, match=message):
            outputs.attention_map(*wrong)
    with pytest.raises(ValueError, match=r"those here are none: ask for outputs=\['attentions'\]"):
        Outputs(0).attention_maps()


def test_what_a_notebook_shows(outputs: Outputs) -> None:
    def html(shown: Any) -> str:
        return str(ElementTree.canonicalize(f"<all>{shown._repr_html_()}</all>"))

    for part in ("&lt;b&gt;", "0: id 1, 0 to 0", "float16 [8]", "hidden_states[2]", "layer 5, mean of heads"):
        assert part in html(outputs)
    assert "<svg" not in html(Outputs(1, np.array([7], np.int32)))
    layer = Layer(0, 1, "attentions", WEIGHTS, (0, 3, 7), outputs.token_ids, NAMES)
    assert "layer 1, mean of heads" in html(layer)
    assert html(Layer(0, 0, "hidden_states", WEIGHTS[0])).count("<svg") == 0
    maps = outputs.attention_maps()
    assert html(maps) == f"<all>{ElementTree.canonicalize(maps.svg())}</all>"


@pytest.fixture
def tokens() -> Tokens:
    ids = np.array([1, 2], np.int32)
    return Tokens(ids, ["[CLS]", "<i>"], np.array([[0, 0], [0, 3]]), ids * 0, ids == 1, ids - 2, ids[:0], 0)


def test_tokens_in_a_notebook(tokens: Tokens) -> None:
    shown = list(ElementTree.fromstring(tokens._repr_html_()).iter("span"))
    assert [(each.text, each.get("title")) for each in shown] == [
        ("[CLS]", "0: id 1, 0 to 0"),
        ("<i>", "1: id 2, 0 to 3"),
    ]
    assert shown[0].get("style") != shown[1].get("style")


def test_tensors(outputs: Outputs) -> None:
    torch = pytest.importorskip("torch")  # the client is also tested without it
    found = outputs.to_torch()
    assert sorted(found) == ["attentions", "hidden_states", "pooled", "token_ids"]
    assert (found["pooled"].dtype, found["attentions"][5].dtype) == (torch.float16, torch.float32)
    np.testing.assert_array_equal(found["attentions"][1].numpy(), WEIGHTS)
    found["attentions"][1][0, 0, 0] = 9
    assert outputs.attentions[1][0, 0, 0] == 0  # a copy
    np.testing.assert_array_equal(Layer(0, 1, "attentions", WEIGHTS).to_torch(), WEIGHTS)
    np.testing.assert_array_equal(batch().to_torch(), np.ones((2, 3)))
    np.testing.assert_array_equal(outputs.attention_map(1, 0).to_torch(), WEIGHTS[0])


def batch() -> EncodedBatch:
    return EncodedBatch(
        np.array([7, 9]), np.ones((2, 3), np.float32), [], Usage(0, 0, 0), Timings(None, None, None, None)
    )


def test_frames(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pandas makes of it is for tests/clients, which have pandas."""
    made: list[tuple[Any, dict[str, Any]]] = []
    pandas = types.ModuleType("pandas")
    vars(pandas)["DataFrame"] = lambda values, **labels: made.append((values, labels))
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    tokens.to_pandas()
    batch().to_pandas()
    HeatMap(WEIGHTS[0], NAMES, NAMES).to_pandas()
    columns = made[0][0]
    assert list(columns) == ["token_id", "token", "start", "end", "type_id", "special", "word_id"]
    assert (columns["end"].tolist(), columns["special"].tolist()) == ([0, 3], [True, False])
    assert made[1][1]["index"].tolist() == [7, 9]
    assert made[2][1] == {"index": NAMES, "columns": NAMES}


@pytest.mark.parametrize(
    ("package", "method"), [("torch", "to_torch"), ("pandas", "to_pandas"), ("matplotlib", "plot")]
)
def test_a_package_that_is_missing_is_named(package: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (package, f"{package}.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    message = rf"{method}\(\) needs {package}, which is not installed: pip install {package}"
    with pytest.raises(ModuleNotFoundError, match=message):
        getattr(HeatMap(WEIGHTS[0], NAMES, NAMES), method)()
    with pytest.raises(ModuleNotFoundError, match=message):
        getattr(HeatMaps([HeatMap(WEIGHTS[0], NAMES, NAMES)])[0], method)()


def test_maps_are_as_wide_as_their_titles() -> None:
    title = "a title that is far longer than a map of one square"
    drawn = HeatMaps([HeatMap(np.ones((1, 1)), ["a"], ["b"], title)] * 2, across=2).svg()
    assert float(ElementTree.fromstring(drawn).get("width", "0")) > 2 * 7 * len(title)
