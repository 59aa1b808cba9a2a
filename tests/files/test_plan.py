"""Which files are read and written, by names, folders and patterns, here and in other stores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.files.asked import Asked
from bertstream.files.formats import Encoded, input_format, output_format, stem
from bertstream.files.operations import OPERATIONS
from bertstream.files.plan import planned
from bertstream.files.rows import Failure, Inputs, inputs_for, items_of
from bertstream.files.vectors import VectorFormat, quantized
from tests.files.conftest import answer, lines_of, run, texts_of, vector, write_input


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("lang=de/part-0.jsonl", "lang=fr/part-0.jsonl", "lang=fr/part-1.jsonl.gz", "a.txt"):
        write_input(tmp_path / "corpus" / name, ["a", "b"])
    for name in ("_SUCCESS", ".hidden.txt", "_old/b.txt", "README.md"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("not rows")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(*sources: str, to: str, **options: Any) -> list[tuple[str, str]]:
    return [(pair.source, pair.output) for pair in planned(sources, to, **options).pairs]


def test_an_output_folder_mirrors_the_input(corpus: Path) -> None:
    plan = planned(["corpus"], "vectors")
    assert [pair.name for pair in plan.pairs] == [
        "a.parquet",
        "lang=de/part-0.parquet",
        "lang=fr/part-0.parquet",
        "lang=fr/part-1.parquet",
    ]
    assert plan.pairs[1].output == "vectors/lang=de/part-0.parquet"
    assert (plan.work_folder, plan.failed_file) == ("vectors/.unfinished", "vectors.failed.jsonl")
    assert plan.skipped == ("corpus/README.md",)
    assert planned(["corpus/"], "vectors/", "jsonl").pairs[0].output == "vectors/a.jsonl"


def test_patterns(corpus: Path) -> None:
    expected = [(f"corpus/lang={name}.jsonl", f"v/lang={name}.parquet") for name in ("de/part-0", "fr/part-0")]
    assert outputs("corpus/**/*.jsonl", to="v/") == expected
    assert outputs("corpus/lang=*/part-0.jsonl", to="v/") == expected
    assert outputs("corpus/*.txt", to="v.npy") == [("corpus/a.txt", "v.npy")]
    absolute = f"{corpus}/corpus/lang=d*/*"
    assert outputs(absolute, to="v/") == [(f"{corpus}/corpus/lang=de/part-0.jsonl", "v/lang=de/part-0.parquet")]


def test_a_file_beside_its_output(corpus: Path) -> None:
    plan = planned(["corpus/a.txt"], "x/v.parquet")
    assert (plan.work_folder, plan.failed_file) == ("x/.v.parquet.unfinished", "x/v.parquet.failed.jsonl")
    assert planned(["corpus/a.txt"], ".").failed_file == "./failed.jsonl"
    assert planned(["corpus/a.txt"], "/v.npy").work_folder == "/.v.npy.unfinished"
    assert planned(["corpus/a.txt"], "v", "jsonl").pairs[0].output == "v/a.jsonl"
    assert planned(["corpus/a.txt"], "v.out", "jsonl").pairs[0].output == "v.out"


@pytest.mark.parametrize(
    ("sources", "output", "error", "told"),
    [
        (["nothing.txt"], "v.npy", FileNotFoundError, "nothing.txt: no such file"),
        (["corpus/*.csv"], "v.npy", FileNotFoundError, "no files to read"),
        (["corpus"], "v.npy", ValueError, "4 files go into a folder: -o v/"),
        (["file:///corpus/a.txt"], "v.npy", ValueError, "without file://"),
        (["corpus/a.txt"], "v.xyz", ValueError, "of what format"),
        (["corpus/README.md"], "v.npy", ValueError, "corpus/README.md: of what format"),
        (["corpus/a.txt", "corpus/*.txt"], "v/", ValueError, "would both become v/a.parquet"),
        (["corpus"], "corpus/", ValueError, "give another name or folder"),
        (["corpus/lang=de/part-0.jsonl"], "corpus/lang=de/part-0.jsonl", ValueError, "give another name"),
    ],
)
def test_what_cannot_be_is_refused(corpus: Path, sources: list[str], output: str, error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        planned(sources, output)


def test_parquet_from_standard_input_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read from standard input"):
        planned(["-"], "v.npy", input_type="parquet")


@pytest.mark.parametrize(
    ("name", "encoded", "base"),
    [
        ("a.txt", Encoded("txt"), "a"),
        ("A.B.JSONL.GZ", Encoded("jsonl", "gz"), "A.B"),
        ("a.csv.zst", Encoded("csv", "zst"), "a"),
        ("a.pq", Encoded("parquet"), "a"),
        ("a.feather", Encoded("arrow"), "a"),
        ("a.parquet.gz", None, "a"),
        ("a.gz", None, "a"),
        ("a.md", None, "a.md"),
    ],
)
def test_formats_by_name(name: str, encoded: Encoded | None, base: str) -> None:
    assert (input_format(name), stem(name)) == (encoded, base)
    assert output_format(name) in (None, "parquet", "arrow")


def test_hive_folders(corpus: Path) -> None:
    report = run(["corpus"], "vectors", format="jsonl", keep="all")
    names = [path.relative_to(corpus / "vectors").as_posix() for path in (corpus / "vectors").rglob("*.jsonl")]
    assert sorted(names) == ["a.jsonl", "lang=de/part-0.jsonl", "lang=fr/part-0.jsonl", "lang=fr/part-1.jsonl"]
    assert (report.rows, len(report.outputs)) == (8, 4)
    rows = lines_of(corpus / "vectors" / "lang=fr" / "part-1.jsonl")
    assert rows == [{"id": n, "text": text, "vector": vector(text).tolist()} for n, text in enumerate("ab")]
    assert [path for path in (corpus / "vectors").iterdir() if path.name.startswith(".")] == []


def test_a_link_that_leads_back_is_followed_once(corpus: Path) -> None:
    (corpus / "corpus" / "lang=de" / "back").symlink_to(corpus / "corpus")
    assert len(planned(["corpus"], "vectors").pairs) == 4


def test_other_stores() -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/files/in/lang=de/a.txt", "\n".join(texts_of(60)).encode())
    memory.pipe("/files/in/b.txt", b"x\ny7\n")
    report = run(["memory://files/in"], "memory://files/out/", format="npy")
    assert (report.rows, report.failed) == (62, 7)
    assert sorted(memory.find("/files/out")) == ["/files/out/b.npy", "/files/out/lang=de/a.npy"]
    assert memory.cat("/files/out.failed.jsonl").count(b"\n") == 7
    assert report.outputs == ("memory://files/out/b.npy", "memory://files/out/lang=de/a.npy")
    with pytest.raises(FileExistsError):
        run(["memory://files/in/*.txt"], "memory://files/out/", format="npy")


def test_other_stores_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 10)
    memory = fsspec.filesystem("memory")
    memory.pipe("/stop/a.txt", "\n".join(texts_of(60)).encode())

    def give(item: Any) -> Any:
        if item == texts_of(60)[41]:
            raise ConnectionError
        return answer(item)

    with pytest.raises(ConnectionError):
        run(["memory://stop/a.txt"], "memory://stop/v.jsonl", give)
    assert not memory.exists("/stop/v.jsonl")
    assert run(["memory://stop/a.txt"], "memory://stop/v.jsonl").resumed == 32
    assert memory.cat("/stop/v.jsonl").count(b"\n") == 60


def test_a_store_that_is_not_known_says_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(ValueError, match=r"nonsense://: .*nonsense"):
        run(["nonsense://bucket/a.txt"], tmp_path / "v.npy")


@pytest.mark.parametrize(
    ("task", "columns", "constants", "expected"),
    [
        ("encode", (), {}, Inputs(("text",))),
        ("encode", ("a", "b"), {}, Inputs(("a", "b"))),
        ("answer", (), {}, Inputs(("question", "context"))),
        ("answer", (), {"first": "q"}, Inputs(("context",), first="q")),
        ("answer", ("body",), {"first": "q"}, Inputs(("body",), first="q")),
        ("rerank", (), {}, Inputs(("query", "document"))),
        ("classify", (), {"second": "s"}, Inputs(("text",), second="s")),
    ],
)
def test_columns_of_a_task(task: str, columns: Any, constants: Any, expected: Inputs) -> None:
    assert inputs_for(OPERATIONS[task], columns, **constants) == replace(expected, named=bool(columns))


@pytest.mark.parametrize(
    ("task", "columns", "constants"),
    [
        ("encode", ("a", "b", "c"), {}),
        ("answer", ("a",), {}),
        ("entities", ("a", "b"), {}),
        ("answer", ("a", "b"), {"first": "q"}),
    ],
)
def test_too_many_or_few_columns(task: str, columns: Any, constants: Any) -> None:
    with pytest.raises(ValueError, match=f"{task} reads .* column"):
        inputs_for(OPERATIONS[task], columns, **constants)


def test_items_of_a_row() -> None:
    rerank, choose, encode = (OPERATIONS[name] for name in ("rerank", "choose", "encode"))
    assert items_of(rerank, ("q", ["a", "b"])) == [("q", "a"), ("q", "b")]
    assert items_of(rerank, ("q", [])) == []
    assert items_of(choose, ("q", ["a", "b"])) == [("q", ["a", "b"])]
    assert items_of(encode, ("q", "a")) == [("q", "a")]
    wrong: tuple[tuple[Any, ...], ...] = (
        ("q", ["a"]),
        (["q"], "a"),
        (None,),
        (float("nan"),),
        ([-1],),
        ([True],),
        ({},),
        ("q", None),
    )
    for values in wrong:
        assert isinstance(items_of(encode, values), Failure)


def test_int8_is_within_half_a_step() -> None:
    import numpy as np

    rows = np.array([[1.0, -2.0, 0.3], [0, 0, 0], [np.nan, 1, 2], [1e-30, 2e-30, 0]], np.float32)
    numbers, scales = quantized(rows)
    assert numbers[0].tolist() == [64, -127, 19]
    assert (scales[1], scales[2]) == (0, 0)
    assert not numbers[1:3].any()
    np.testing.assert_allclose(numbers[3] * scales[3], rows[3], atol=float(scales[3]) / 2)


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("v.npy", {"keep": ("text",)}),
        ("v.npy", {"stored": VectorFormat("int8")}),
        ("v.npy", {"task": "classify"}),
        ("v.jsonl", {"stored": VectorFormat(layout="binary")}),
    ],
)
def test_what_a_format_cannot_hold_is_refused_at_once(tmp_path: Path, output: str, options: Any) -> None:
    source = write_input(tmp_path / "t.jsonl", ["a"])
    with pytest.raises(ValueError, match=r"write \.parquet|are for \.parquet"):
        run([source], tmp_path / output, **options)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("name", "columns", "keep"), [("t.jsonl", ("body",), ()), ("t.csv", (), ("x",)), ("t.parquet", ("x",), ())]
)
def test_a_column_that_is_not_there_is_named(tmp_path: Path, name: str, columns: Any, keep: Any) -> None:
    source = write_input(tmp_path / name, ["a"])
    with pytest.raises(ValueError, match=rf"{name}: it has no column '\w+' to (read|keep), but id, text"):
        run([source], tmp_path / "v.jsonl", columns=columns, keep=keep)


def test_a_column_that_is_no_text_is_named(tmp_path: Path) -> None:
    source = write_input(tmp_path / "t.parquet", ["a"])
    with pytest.raises(ValueError, match="column 'id' is int64, not text"):
        run([source], tmp_path / "v.jsonl", columns=("id",))


def test_a_carried_column_with_the_name_of_an_answer(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a", "vector": 1}\n')
    with pytest.raises(ValueError, match=r"a column 'vector', as the output does: leave it out of `keep`"):
        run([tmp_path / "t.jsonl"], tmp_path / "v.jsonl", keep="all")


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl.gz", "t.arrow"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    source = write_input(tmp_path / name, texts_of(200))
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises((ValueError, OSError), match=name):
        run([source], tmp_path / "v.jsonl")


@pytest.mark.parametrize("layers", [[0, 1], (0, 1), range(2), {1, 0}, np.array([0, 1])], ids=repr)
def test_the_same_options_are_the_same_run(tmp_path: Path, layers: Any) -> None:
    (tmp_path / "in.txt").write_text("a")
    plan = planned([str(tmp_path / "in.txt")], str(tmp_path / "v.jsonl"))
    asked = Asked(OPERATIONS["encode"], Inputs(("text",)), {"layers": layers, "dimensions": np.int64(2)})
    identity = json.loads(json.dumps(asked.identity(plan)))
    assert (identity["layers"], identity["dimensions"]) == ([0, 1], 2)
