"""What shells and manuals tell of the commands, and the examples of their help."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bertstream.cli import main
from bertstream.cli._main import build_parser
from bertstream.cli._server import COMMANDS, parser_of
from bertstream.cli._shell.tree import CommandOptions, commands_of

TREE = {command.name: command for command in commands_of(build_parser(), parser_of)}


def examples(command: CommandOptions) -> list[str]:
    """Return the commands that a help shows, without what is said about them."""
    below = command.epilog.partition("examples:\n")[2].partition("\n\n")[0]
    return [re.split(r" {3,}", line.strip())[0] for line in below.splitlines()]


@pytest.mark.parametrize("name", TREE)
def test_the_help_of_each_command_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "examples:\n" in capsys.readouterr().out
    found = [line for line in examples(TREE[name]) if f"bertstream {name}" in line]
    assert found


@pytest.mark.parametrize("name", [name for name in TREE if name not in COMMANDS])
def test_the_examples_are_right_usage(name: str) -> None:
    for line in examples(TREE[name]):
        told = re.search(rf"bertstream {name}\b([^|<>)]*)", line)
        if told is not None:
            parsed = build_parser().parse_args([name, *shlex.split(told[1])])
            assert callable(parsed.run)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_server_are_right_usage(name: str) -> None:
    parser = parser_of(name)
    assert parser is not None
    lines = [line for line in examples(TREE[name]) if line.startswith(f"bertstream {name}")]
    assert lines
    for line in lines:
        parser.parse_args(shlex.split(line)[2:])


def test_the_tree_has_options_and_their_values() -> None:
    options = {name: option for option in TREE["encode"].options for name in option.names}
    assert options["-o"] is options["--output"]
    assert (options["-o"].is_file, options["-o"].metavar) == (True, "FILE")
    assert options["--pooling"].choices[:2] == ("cls", "mean")
    assert (options["--normalize"].metavar, options["--no-normalize"].choices) == ("", ())
    assert "(default: 64)" in options["--batch-size"].help
    assert [each.metavar for each in TREE["encode"].arguments] == ["TEXT"]
    assert "--keys-file" in {name for option in TREE["serve"].options for name in option.names}


def test_commands_of_the_server_have_no_options_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertstream.cli._server.REQUIRED", ("nothing_of_this_name",))
    found = {command.name: command for command in commands_of(build_parser(), parser_of)}
    assert (found["serve"].summary, found["serve"].options) == ("serve models", ())
    assert found["encode"].options


def script(shell: str, capsys: pytest.CaptureFixture[str], folder: Path) -> Path:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert main(["completion", shell]) == 0
    path = folder / f"completion.{shell}"
    path.write_text(capsys.readouterr().out, "utf-8")
    return path


def output(*command: str | Path, folder: Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


CASES = {
    "bertstream toke": ["tokenize"],
    "bertstream encode --poo": ["--pooling"],
    "bertstream encode --pooling me": ["mean", "mean_sqrt_len"],
    "bertstream completion ": ["bash", "fish", "zsh"],
    "bertstream encode --output completion.": ["completion"],  # the script itself, which is a file here
    "bertstream serve --log-level w": ["warning"],
}


def test_bash_completes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = script("bash", capsys, tmp_path)
    tries = [f"try {each if not each.endswith(' ') else each + repr('')}" for each in CASES]
    lines = [
        f"source {path}",
        'try() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _bertstream; echo "${COMPREPLY[*]}"; }',
        *tries,
    ]
    found = output("bash", "-c", "\n".join(lines), folder=tmp_path)
    for line, wanted in zip(found, CASES.values(), strict=True):
        assert [each.partition(".")[0] for each in line.split()] == wanted


def test_fish_completes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = script("fish", capsys, tmp_path)
    for line, wanted in CASES.items():
        found = output("fish", "-c", f"source {path}; complete -C {shlex.quote(line)}", folder=tmp_path)
        assert [each.partition("\t")[0].partition(".")[0] for each in found] == wanted


def test_zsh_reads_its_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = script("zsh", capsys, tmp_path)
    load = f"autoload -Uz compinit; compinit -u -d {tmp_path}/dump; source {path}; print $_comps[bertstream]"
    assert output("zsh", "-f", "-c", load, folder=tmp_path) == ["_bertstream"]


def test_the_manual_has_all_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["man"]) == 0
    page = capsys.readouterr().out
    assert [line.removeprefix(".SS ").replace("\\-", "-") for line in page.splitlines() if line.startswith(".SS ")] == [
        *TREE
    ]
    assert "\\fB\\-o\\fR, \\fB\\-\\-output\\fR \\fIFILE\\fR" in page
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("no man here to read it")
    (tmp_path / "bertstream.1").write_text(page, "utf-8")
    shown = output("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "bertstream.1", folder=tmp_path)
    assert any("bertstream man | man -l -" in line for line in shown)
