from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from bertstream.server import config
from bertstream.server.config import FIELDS, ConfigError, ModelTable, ServeConfig


def load(*argv: str, **environment: str) -> ServeConfig:
    parser = argparse.ArgumentParser()
    config.add_arguments(parser)
    return config.load(parser.parse_args(argv), environment)


def sample(name: str) -> Any:
    """Return a value of this option that is allowed and not the default."""
    default: Any = FIELDS[name].default
    metadata = FIELDS[name].metadata
    if name == "models":
        return ("mine=/models/a", "org/b")
    if name == "task":
        return ("question_answering", "mine=token_classification")
    if name == "model_roots":
        return ("/models/a b", "/c")
    if isinstance(default, bool):
        return not default
    if metadata["choices"]:
        return next(choice for choice in metadata["choices"] if choice != default)
    if isinstance(default, str):
        return f"{default}x"
    return type(default)(default + 1 if default + 1 <= metadata["most"] else default / 2)


def text_of(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return {"models": " ", "model_roots": ":", "task": ","}[name].join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def flags_of(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if name == "models":
        return list(value)
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, text_of(name, value)]


def in_toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("name", FIELDS)
def test_every_option_has_a_flag_a_variable_and_a_place_in_the_file(name: str, tmp_path: Path) -> None:
    value = sample(name)
    file = tmp_path / "bertstream.toml"
    file.write_text(f"{name} = {in_toml(value)}")
    for made in (
        load(*flags_of(name, value)),
        load(**{f"BERTSTREAM_{name.upper()}": text_of(name, value)}),
        load("--config", str(file)),
        load(BERTSTREAM_CONFIG=str(file)),
    ):
        assert getattr(made, name) == value
        assert type(getattr(made, name)) is type(value)
        for other in FIELDS.keys() - {name}:
            assert getattr(made, other) == FIELDS[other].default


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bertstream.toml"
    file.write_text('port = 1\nhost = "file"\nthreads = 3\nmodels = ["file"]')
    made = load("--port", "3", "--config", str(file), BERTSTREAM_PORT="2", BERTSTREAM_HOST="variable")
    assert (made.port, made.host, made.threads, made.models) == (3, "variable", 3, ("file",))
    assert load("flag", "--config", str(file), BERTSTREAM_MODELS="a b").models == ("flag",)


def test_a_named_file_wins_over_the_variable(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text(f'host = "{name}"')
    assert load("--config", str(tmp_path / "one"), BERTSTREAM_CONFIG=str(tmp_path / "other")).host == "one"


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    file = tmp_path / "bertstream.toml"
    file.write_text('keys_file = "keys.toml"')
    empty = {f"BERTSTREAM_{name.upper()}": "" for name in FIELDS}
    assert load(**empty, BERTSTREAM_CONFIG="") == ServeConfig()
    assert load("--config", str(file), **empty) == ServeConfig(keys_file="keys.toml")
    assert load("--port", "5", **empty) == ServeConfig(port=5)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "bertstream.toml"
    file.write_bytes(b'host = "\xff"')
    with pytest.raises(ConfigError) as raised:
        load("--config", str(file))
    assert str(raised.value) == f"{file} is no text in UTF-8"


def test_nothing_said_is_the_defaults() -> None:
    assert load() == ServeConfig()


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (["--port", "abc"], {}, "--port must be a whole number, not 'abc'"),
        (["--port", "70000"], {}, "--port must be at least 0 and at most 65535, not 70000"),
        (["--drain-seconds", "nan"], {}, "--drain-seconds must be at least 0"),
        (["--drain-seconds", "inf"], {}, "--drain-seconds must be at least 0"),
        (["--max-texts", "0"], {}, "--max-texts must be at least 1"),
        (["--max-texts", "9999999999"], {}, "--max-texts must be at least 1 and at most 2147483647"),
        (["--port", ""], {}, "--port must be a whole number, not ''"),
        ([], {"BERTSTREAM_PORT": " "}, "BERTSTREAM_PORT must be a whole number, not ' '"),
        (["--workers", "1000000"], {}, "--workers must be at least 0 and at most 1024, not 1000000"),
        (["--threads", "1025"], {}, "--threads must be at least 0 and at most 1024, not 1025"),
        (["--tokenizer-threads", "1025"], {}, "--tokenizer-threads must be at least 0 and at most 1024"),
        (["--frontends", "257"], {}, "--frontends must be at least 0 and at most 256, not 257"),
        ([], {"BERTSTREAM_DEVICE": "tpu"}, "BERTSTREAM_DEVICE must be one of auto, cpu, cuda, not 'tpu'"),
        ([], {"BERTSTREAM_BATCH_SECONDS": "1s"}, "BERTSTREAM_BATCH_SECONDS must be a number, not '1s'"),
    ],
)
def test_errors_name_the_option_and_where_it_came_from(
    flags: list[str], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(*flags, **environment)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "there is no option 'prot'"),
        ("port = 1.5", "port must be a whole number, not 1.5"),
        ("port = true", "port must be a whole number, not True"),
        ("port = [1]", "port must be a whole number, not [1]"),
        ("drain_seconds = true", "drain_seconds must be a number"),
        ("host = 5", "host must be text, not 5"),
        ('cache = ["a"]', "cache must be text, not ['a']"),
        ("model_roots = [5]", "model_roots must be a list of texts, not [5]"),
        ("load_from_hub = 1", "load_from_hub must be true or false, not 1"),
        ('load_from_hub = "yes"', "load_from_hub must be true or false, not 'yes'"),
        ("model = 5", "model must be tables, as [model.NAME]"),
        ("[model]\nsource = 5", "model must be tables, as [model.NAME]"),
        ('[model."a=b"]', "model: 'a=b' is not a name for a model"),
        ("[model.x]\nworker = 1", "model.x: there is no option 'worker'; those of a model are source, device"),
        ("[model.x]\nsource = 5", "model.x.source must be text, not 5"),
        ('[model.x]\nsource = ""', "model.x.source must be a hub name or a checkpoint's directory"),
        ('[model.x]\ndevice = "cuda:x"', "model.x.device must be one of auto, cpu, cuda, not 'cuda:x'"),
        (
            '[model.x]\ndtype = "int3"',
            "model.x.dtype must be one of auto, float32, float16, bfloat16, int8, fp8, not 'int3'",
        ),
        ('[model.x]\noptimize = "speed"', "model.x.optimize must be one of auto, throughput, latency"),
        ("[model.x]\nworkers = -1", "model.x.workers must be at least 0"),
        ("[model.x]\nmax_length = 0", "model.x.max_length must be at least 1"),
        ("[model.x]\nqueue_tokens = true", "model.x.queue_tokens must be a whole number, not True"),
        ('task = "ner"', "task must be one of sequence_classification, token_classification, question_answering"),
        ('task = ["a=ner"]', "task must be one of sequence_classification, token_classification, question_answering"),
        ("task = 5", "task must be a list of texts, not 5"),
        ('[model.x]\ntask = "a=token_classification"', "model.x.task must be one of sequence_classification"),
        ("[model.x]\nallow_unsupported_modules = 1", "model.x.allow_unsupported_modules must be true or false"),
        ("models = 5", "models must be a list of texts, not 5"),
        ("models = [5]", "models must be a list of texts, not [5]"),
        ('device = "tpu"', "device must be one of auto, cpu, cuda"),
        ("port = = 1", "Invalid value"),
    ],
)
def test_errors_of_the_file_name_it(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bertstream.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load("--config", str(file))
    assert str(raised.value).startswith(str(file))
    assert message in str(raised.value)


def test_tables_of_models(tmp_path: Path) -> None:
    file = tmp_path / "bertstream.toml"
    file.write_text(
        'workers = 4\n[model.a]\nsource = "org/a"\ndevice = "cuda:1"\nmax_length = 64\n[model."org/b"]\nworkers = 0\n'
    )
    made = load("--config", str(file))
    assert made.tables == {"a": ModelTable("org/a", "cuda:1", max_length=64), "org/b": ModelTable(workers=0)}
    assert made.workers == 4


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
def test_a_coarser_precision_can_be_chosen_for_one_model_or_for_all(dtype: str, tmp_path: Path) -> None:
    file = tmp_path / "bertstream.toml"
    file.write_text(f'[model.a]\nsource = "org/a"\ndtype = "{dtype}"\n')
    made = load("--config", str(file))
    assert (made.dtype, made.tables["a"].dtype) == ("auto", dtype)
    assert load("--dtype", dtype).dtype == load(BERTSTREAM_DTYPE=dtype).dtype == dtype


def test_tasks_of_all_models_and_of_one(tmp_path: Path) -> None:
    file = tmp_path / "bertstream.toml"
    file.write_text('task = "multiple_choice"\n[model.a]\ntask = "token_classification"\n')
    made = load("--config", str(file))
    assert (made.tasks, made.tables["a"].task) == ((("", "multiple_choice"),), "token_classification")
    made = load("--task", "question_answering, a=b=sequence_classification")
    assert made.tasks == (("", "question_answering"), ("a=b", "sequence_classification"))


def test_a_flag_can_take_back_what_the_file_allows(tmp_path: Path) -> None:
    file = tmp_path / "bertstream.toml"
    file.write_text("load_from_hub = true")
    assert load("--config", str(file)).may_load
    assert not load("--config", str(file), "--no-load-from-hub").may_load
    assert not load("--config", str(file), BERTSTREAM_LOAD_FROM_HUB="0").may_load
    assert load("--model-roots", "/a").may_load


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes(b'host = "\xfc"')
    for name in ("none", "", "latin1"):
        with pytest.raises(ConfigError, match=str(tmp_path)):
            load("--config", str(tmp_path / name))


def test_a_wrong_choice_on_the_command_line_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        load("--device", "tpu")
    assert raised.value.code == 2
    assert "invalid choice: 'tpu'" in capsys.readouterr().err


def test_help_shows_every_option_with_its_default() -> None:
    parser = argparse.ArgumentParser()
    config.add_arguments(parser)
    shown = " ".join(parser.format_help().split())
    assert "(default 50051)" in shown
    assert all("--" + name.replace("_", "-") in shown for name in FIELDS if name != "models")
