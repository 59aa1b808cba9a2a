"""The command `bertstream completion`: scripts by which shells complete commands, options and their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

from bertstream.cli._options import Commands, local_command
from bertstream.cli._server import parser_of
from bertstream.cli._shell.tree import CommandOptions, Option, commands_of

EXAMPLES = """\
examples:
  source <(bertstream completion bash)                      in ~/.bashrc
  source <(bertstream completion zsh)                       in ~/.zshrc, after compinit
  bertstream completion fish | source                       in ~/.config/fish/config.fish

Each start of a shell runs the command; to save that time, write its output to a file, and source the file."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = local_command(commands, "completion", run, "print a script that has a shell complete commands", EXAMPLES)
    parser.add_argument("shell", choices=sorted(SCRIPTS), help="the shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(SCRIPTS[arguments.shell](list(commands_of(arguments.root, parser_of))), end="")
    return 0


def bash(commands: Sequence[CommandOptions]) -> str:
    """Return the script for bash, which needs nothing else."""
    values, files, opaque, options = [], [], [], []
    for command in commands:
        options.append(f"{command.name}) words={_quoted(' '.join(_names(command.options)))} ;;")
        for option in command.options:
            pattern = "|".join(f'"{command.name} {name}"' for name in option.names)
            if option.choices:
                values.append(f"{pattern}) words={_quoted(' '.join(option.choices))} ;;")
            elif option.is_file:
                files.append(pattern)
            elif option.metavar:
                opaque.append(pattern)
        if chosen := [each.choices for each in command.arguments if each.choices]:
            values.append(f'"{command.name} {command.name}") words={_quoted(" ".join(chosen[0]))} ;;')
    names = _quoted(" ".join(command.name for command in commands))
    lines = [
        "# bash completion for bertstream",
        "_bertstream() {",
        '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" words=',
        "    COMPREPLY=()",
        f'    if (( COMP_CWORD == 1 )); then COMPREPLY=($(compgen -W {names} -- "$current")); return; fi',
        '    case "${COMP_WORDS[1]} $previous" in',
        *(f"        {line}" for line in values),
        *([f'        {"|".join(files)}) COMPREPLY=($(compgen -f -- "$current")); return ;;'] if files else []),
        *([f"        {'|'.join(opaque)}) return ;;"] if opaque else []),
        '        *) case "${COMP_WORDS[1]}" in',
        *(f"            {line}" for line in options),
        "        esac ;;",
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _bertstream bertstream",
    ]
    return "\n".join(lines) + "\n"


def zsh(commands: Sequence[CommandOptions]) -> str:
    """Return the script for zsh, to be sourced after compinit, or to be put into a folder of $fpath as _bertstream."""
    described = [f"        {_quoted(_escaped(each.name) + ':' + _escaped(each.summary))}" for each in commands]
    cases = []
    for each in commands:
        specs = [_zsh_option(option) for option in each.options]
        specs += [
            _quoted(f"{place}: :({' '.join(argument.choices)})" if argument.choices else "*: :_files")
            for place, argument in enumerate(each.arguments[:1], 1)
        ]
        cases += [
            f"        {each.name}) _arguments \\",
            " \\\n".join(f"            {spec}" for spec in specs),
            "        ;;",
        ]
    lines = [
        "#compdef bertstream",
        "_bertstream() {",
        "    local -a commands",
        "    commands=(",
        *described,
        "    )",
        "    if (( CURRENT == 2 )); then _describe -t commands command commands; return; fi",
        "    local command=$words[2]",
        "    shift words",
        "    (( CURRENT-- ))",
        "    case $command in",
        *cases,
        "    esac",
        "}",
        'if [[ "$funcstack[1]" == _bertstream ]]; then _bertstream "$@"; else compdef _bertstream bertstream; fi',
    ]
    return "\n".join(lines) + "\n"


def fish(commands: Sequence[CommandOptions]) -> str:
    """Return the script for fish."""
    lines = ["# fish completion for bertstream", "complete -c bertstream -f"]
    for command in commands:
        told = f"-a {command.name} -d {_fish_quoted(command.summary)}"
        lines.append(f"complete -c bertstream -n __fish_use_subcommand {told}")
        seen = _fish_quoted(f"__fish_seen_subcommand_from {command.name}")
        for option in command.options:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
            values = f" -a {_fish_quoted(' '.join(option.choices))}" if option.choices else ""
            takes = " -r -F" if option.is_file else f" -x{values}" if option.metavar else ""
            lines.append(f"complete -c bertstream -n {seen} {names}{takes} -d {_fish_quoted(option.help)}")
        for argument in command.arguments[:1]:
            taken = f"-a {_fish_quoted(' '.join(argument.choices))}" if argument.choices else "-F"
            lines.append(f"complete -c bertstream -n {seen} {taken}")
    return "\n".join(lines) + "\n"


SCRIPTS: dict[str, Callable[[Sequence[CommandOptions]], str]] = {"bash": bash, "fish": fish, "zsh": zsh}


def _names(options: Iterable[Option]) -> list[str]:
    return [name for option in options for name in option.names]


def _zsh_option(option: Option) -> str:
    told = _escaped(option.help)
    value = ""
    if option.metavar:
        action = f"({' '.join(option.choices)})" if option.choices else "_files" if option.is_file else " "
        value = f":{_escaped(option.metavar)}:{action}"
    names = option.names[0] if len(option.names) == 1 else f"{{{','.join(option.names)}}}"
    spec = _quoted(f"[{told}]{value}")
    return f"{_quoted(names) if len(option.names) == 1 else names}{spec}"


def _escaped(text: str) -> str:
    """Return words with what has a meaning in zsh's descriptions escaped."""
    return "".join(f"\\{character}" if character in "[]:\\" else character for character in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
