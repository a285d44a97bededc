"""Reads the .env at the repository's root, and sets or removes single values without touching the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from infra_scripts.errors import SettingsError

DEFAULT_FILE = Path(__file__).resolve().parent.parent / ".env"

_LINE = re.compile(r"""\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*('[^']*'|"[^"]*"|.*?)(?:\s+\#.*)?\s*""")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")


def read_file(path: Path) -> dict[str, str]:
    """The variables of a .env file, read as docker compose does (tests/data/contracts); none without a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from error
    variables = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise SettingsError(f"{path}, line {number} is not NAME=value. Fix it, or put a # in front.")
        variables[match[1]] = _unquoted(match[2])
    return variables


def read_environment(path: Path, *, process: Mapping[str, str]) -> dict[str, str]:
    """The variables of the file and of the process. The process wins, as it does for docker compose."""
    return {**read_file(path), **process}


def write_values(path: Path, values: Mapping[str, str]) -> list[str]:
    """Set these variables in the file, each on the line that it has or at the end; returns those that changed.

    A reader sees the old file or the new one. Only its owner may read it, as it also holds secrets.
    """
    before = read_file(path)
    changed = {name: value for name, value in values.items() if before.get(name) != value}
    if not changed:
        return []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    left = dict(changed)
    for position, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if match and match[1] in changed and not line.lstrip().startswith("#"):
            lines[position] = f"{match[1]}={_quoted(changed[match[1]])}"
            left.pop(match[1], None)
    lines += [f"{name}={_quoted(value)}" for name, value in left.items()]
    _write(path, lines)
    return list(changed)


def remove_values(path: Path, names: Collection[str]) -> list[str]:
    """Take the lines of these variables out of the file, where it has them; returns the names of those."""
    gone = [name for name in names if name in read_file(path)]
    if gone:
        lines = path.read_text(encoding="utf-8").splitlines()
        _write(path, [line for line in lines if not ((match := _LINE.fullmatch(line)) and match[1] in gone)])
    return gone


def _write(path: Path, lines: Sequence[str]) -> None:
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)  # also where an earlier attempt left the file behind
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    fresh.replace(path)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def _quoted(value: str) -> str:
    if "\n" in value or "'" in value:
        raise SettingsError("A value with a line break or a single quote cannot be written into .env.")
    return value if _PLAIN.fullmatch(value) else f"'{value}'"
