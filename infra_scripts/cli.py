"""Runs one command: `python -m infra_scripts COMMAND`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 refused or something is wrong, 2 usage or settings, 3 AWS failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from infra_scripts.commands import (
    apply,
    check,
    init,
    init_db,
    plan,
    policy,
    resources_csv,
    start,
    status,
    stop,
    teardown,
    trigger,
    upload,
)
from infra_scripts.environment import DEFAULT_FILE, read_environment
from infra_scripts.errors import InfraError, SettingsError


class Command(Protocol):
    """What each command's module has. One with options of its own also has `configure(parser)`."""

    HELP: str
    EXAMPLES: list[str]
    """Arguments that follow `python -m infra_scripts`."""

    def run(self, options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
        """Do it; returns the exit code. Raises InfraError."""


COMMANDS: dict[str, Command] = {
    "init": init,
    "plan": plan,
    "policy": policy,
    "apply": apply,
    "upload": upload,
    "init-db": init_db,
    "trigger": trigger,
    "status": status,
    "resources-csv": resources_csv,
    "stop": stop,
    "start": start,
    "teardown": teardown,
    "check": check,
}
_PROGRAM = "python -m infra_scripts"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An InfraError becomes one line on stderr."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return SettingsError.exit_code
    try:
        environment = read_environment(options.env_file, process=os.environ)
        for name, value in environment.items():
            if name.startswith("AWS_"):  # boto3 looks for its login and endpoint in the process's environment
                os.environ.setdefault(name, value)
        return COMMANDS[options.command].run(options, environment=environment)
    except InfraError as error:
        is_mistyped = isinstance(error, SettingsError) and not options.env_file.exists()
        hint = f"{options.env_file} is not there. " if is_mistyped and options.env_file != DEFAULT_FILE else ""
        print(f"error: {hint}{error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("interrupted: run the same command again, and it continues where it stopped", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line; --help has the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(SettingsError.exit_code, f"error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_PROGRAM,
        description="Build the pipeline's AWS platform in an empty account, run it, and remove it again.",
        epilog="The usual order: init, plan, apply, upload, init-db, make deploy, trigger, status; at the end make "
        "undeploy, teardown. `make demo-platform` rehearses it without AWS. "
        "Exit codes: 0 done, 1 refused or something is wrong, 2 usage or settings, 3 AWS failed.",
    )
    shared = _Parser(add_help=False)
    shared.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    shared.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    shared.add_argument("--json", action="store_true", help="print the result as JSON")
    shared.add_argument(
        "--env-file",
        type=Path,
        default=DEFAULT_FILE,
        metavar="FILE",
        help="the settings (default: .env at the repository's root)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name,
            parents=[shared],
            help=command.HELP,
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            epilog="\n".join(["examples:", *(f"  {_PROGRAM} {example}" for example in command.EXAMPLES)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if configure := getattr(command, "configure", None):
            configure(one)
    return parser
