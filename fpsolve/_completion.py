"""Completion scripts for bash, zsh and fish, made of the parser itself, so that they know what it knows.

The scripts hold all words: pressing the tab key starts no Python.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["script"]


@dataclass(frozen=True)
class _Word:
    """An option (or, without names, what stands without one): its help, its words, or the endings of its files."""

    names: tuple[str, ...]
    help: str
    takes: bool  # a value
    words: tuple[str, ...]
    files: str | None


@dataclass(frozen=True)
class _Command:
    name: str
    help: str
    options: tuple[_Word, ...]
    plain: _Word | None


def script(
    shell: str, whole: argparse.ArgumentParser, commands: Mapping[str, tuple[argparse.ArgumentParser, str]], claims: Sequence[str]
) -> str:
    """The completion script of a shell.

    Parameters
    ----------
    shell : {"bash", "zsh", "fish"}
    whole : ArgumentParser
    commands : mapping
        Name -> parser and words of each subcommand.
    claims : sequence of str
        What `fpsolve validate` can be given.
    """
    found = [_command(name, one, words, claims) for name, (one, words) in commands.items()]
    top = _command("fpsolve", whole, "", ())
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](top, found)


def _command(name: str, one: argparse.ArgumentParser, words: str, claims: Sequence[str]) -> _Command:
    options, plain = [], None
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        known = getattr(action, "words", None) or action.choices or ()
        word = _Word(
            tuple(action.option_strings),
            re.sub(r"\s+", " ", (action.help or "") % {"default": action.default}),
            action.nargs != 0,
            tuple(map(str, claims if known == "claims" else known)),
            getattr(action, "files", None),
        )
        if word.names:
            options.append(word)
        else:
            plain = word
    return _Command(name, words, tuple(options), plain)


# ---- bash --------------------------------------------------------------------------------------------------------------


def _bash(top: _Command, commands: Sequence[_Command]) -> str:
    lines = [
        "# bash completion of fpsolve",
        "_fpsolve_files() {",
        "    local end",
        '    COMPREPLY=($(compgen -d -- "$cur"))',
        '    for end in "$@"; do',
        '        [[ $end == / ]] || COMPREPLY+=($(compgen -f -X "!*.$end" -- "$cur"))',
        "    done",
        "    compopt -o filenames 2>/dev/null",
        "}",
        "_fpsolve() {",
        "    local IFS=$'\\n' cur=${COMP_WORDS[COMP_CWORD]} prev= command= i",
        "    ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD - 1]}",
        "    for ((i = 1; i < COMP_CWORD; i++)); do",
        f"        case ${{COMP_WORDS[i]}} in {'|'.join(c.name for c in commands)}) command=${{COMP_WORDS[i]}}; break ;; esac",
        "    done",
        "    COMPREPLY=()",
        "    case $command,$prev in",
    ]
    for c in commands:
        for o in c.options:
            if o.takes:
                lines.append(f"        {'|'.join(f'{c.name},{name}' for name in o.names)}) {_bash_values(o)}; return ;;")
    lines += ["    esac", "    case $command in"]
    for c in [top, *commands]:
        options = [name for o in c.options for name in o.names]
        first = [x.name for x in commands] if c is top else []
        label = "''" if c is top else c.name
        values = _bash_values(c.plain) if c.plain else _bash_words(first) if first else ":"
        lines.append(f"        {label}) if [[ $cur == -* ]]; then {_bash_words(options)}; else {values}; fi ;;")
    return "\n".join([*lines, "    esac", "}", "complete -F _fpsolve fpsolve", ""])


def _bash_words(words: Sequence[str]) -> str:
    return "COMPREPLY=($(compgen -W $'" + "\\n".join(words) + '\' -- "$cur"))'


def _bash_values(word: _Word) -> str:
    if word.files is not None:
        return f"_fpsolve_files {word.files}"
    return _bash_words(word.words) if word.words else ":"


# ---- zsh ---------------------------------------------------------------------------------------------------------------


def _zsh(top: _Command, commands: Sequence[_Command]) -> str:
    lines = [
        "#compdef fpsolve",
        "# zsh completion of fpsolve",
        "_fpsolve() {",
        "    local context state state_descr line",
        "    typeset -A opt_args",
        "    _arguments -C \\",
        *(f"        {_zsh_option(o)} \\" for o in top.options),
        "        '1: :->command' '*:: :->arguments'",
        "    case $state in",
        "    command)",
        "        local -a commands=(" + " ".join(_zsh_quote(f"{c.name}:{c.help}") for c in commands) + ")",
        "        _describe command commands ;;",
        "    arguments)",
        "        case $line[1] in",
    ]
    for c in commands:
        words = [_zsh_option(o) for o in c.options]
        if c.plain is not None:
            words.append(_zsh_quote(f"{'*' if c.plain.words else '1'}: :{_zsh_values(c.plain)}"))
        lines += [f"        {c.name})", "            _arguments \\", *(f"                {w} \\" for w in words[:-1])]
        lines.append(f"                {words[-1]} ;;")
    end = [
        "        esac ;;",
        "    esac",
        "}",
        'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _fpsolve "$@"; else compdef _fpsolve fpsolve; fi',
    ]
    return "\n".join([*lines, *end, ""])


def _zsh_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_option(word: _Word) -> str:
    about = re.sub(r"([\[\]:\\])", r"\\\1", word.help)
    rest = f"[{about}]" + (f": :{_zsh_values(word)}" if word.takes else "")
    if len(word.names) == 1:
        return _zsh_quote(word.names[0] + rest)
    return f"{_zsh_quote('(' + ' '.join(word.names) + ')')}{{{','.join(word.names)}}}{_zsh_quote(rest)}"


def _zsh_values(word: _Word) -> str:
    if word.files is not None:
        ends = [end for end in word.files.split() if end != "/"]
        return f'_files -g "*.({"|".join(ends)})"' if ends else "_files -/"
    return f"({' '.join(word.words)})" if word.words else " "


# ---- fish --------------------------------------------------------------------------------------------------------------


def _fish(top: _Command, commands: Sequence[_Command]) -> str:
    lines = ["# fish completion of fpsolve", "complete -c fpsolve -f"]
    lines += [_fish_option("__fish_use_subcommand", o) for o in top.options]
    lines += [f"complete -c fpsolve -n __fish_use_subcommand -a {c.name} -d {_fish_quote(c.help)}" for c in commands]
    for c in commands:
        here = f"'__fish_seen_subcommand_from {c.name}'"
        lines += [_fish_option(here, o) for o in c.options]
        if c.plain is not None:
            lines.append(f"complete -c fpsolve -n {here} {_fish_values(c.plain)}")
    return "\n".join([*lines, ""])


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(here: str, word: _Word) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in word.names)
    values = f" -x {_fish_values(word)}" if word.takes else ""
    return f"complete -c fpsolve -n {here} {names}{values} -d {_fish_quote(word.help)}"


def _fish_values(word: _Word) -> str:
    if word.files is not None:
        ends = [end for end in word.files.split() if end != "/"]
        inner = "; ".join(f"__fish_complete_suffix .{end}" for end in ends) or "__fish_complete_directories"
        return f"-k -a '({inner})'" if ends else f"-a '({inner})'"
    return f"-a {_fish_quote(' '.join(word.words))}" if word.words else ""
