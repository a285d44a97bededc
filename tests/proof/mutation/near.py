"""Runs tests before many changes of one function each, without importing anything again.

One session of pytest collects the tests; then a child of its process takes each change: it puts the changed function's
code in the place of the old one and runs the tests that are wanted. So a change costs what its tests cost. The servers
run already. What runs when a module is imported (constants, defaults, decorators) needs a session of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from inspect import getattr_static, unwrap
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from tests.proof.mutation.quick_cli import QuickCli
from tests.support.moto import MotoServer
from tests.support.postgres import PostgresServer

_OURS = {"etl", "trigger", "tests", "infra_scripts"}
_NOT_RUN = 3  # the exit code of a child whose tests could not be run


@dataclass
class Outcome:
    """What the tests in a child came to, and each that was run."""

    exit_code: int
    """0: all passed; 1: one failed, or none could be imported; negative: the signal that ended the child; else: they
    could not be run."""
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    entered: dict[str, list[str]] = field(default_factory=dict)
    """Of each test the functions of the watched modules that it entered, as `file:qualified name`."""


@dataclass(frozen=True)
class Servers:
    """Servers that the tests of one child at a time use."""

    postgres: PostgresServer
    moto: MotoServer
    cli: QuickCli


@contextmanager
def servers(directory: Path) -> Iterator[Servers]:
    with (
        PostgresServer(directory / "postgres", databases=("stocks", "empty")) as postgres,
        MotoServer(directory / "moto") as moto,
    ):
        yield Servers(postgres, moto, QuickCli())


class Session:
    """A session of pytest in `tree`: `work` is called when the tests are collected, and calls `run` for each change."""

    def __init__(self, tree: Path, files: Sequence[str], *, work: Callable[[Session], object]) -> None:
        self.tree, self._files, self._work = tree, files, work
        self._items: dict[str, pytest.Item] = {}
        self._notes = _Notes()

    def start(self, folder: Path) -> int:
        """Import our code and the tests from the tree, and do the work. Returns pytest's exit code."""
        os.chdir(self.tree)
        for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
            del sys.modules[name]
        sys.path[:] = [str(self.tree), *(place for place in sys.path if place and not (Path(place) / "etl").is_dir())]
        os.environ["PYTHONPATH"] = str(self.tree)
        options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:faulthandler", f"--basetemp={folder / 'tests'}"]
        return int(pytest.main([*options, f"--rootdir={self.tree}", *self._files], plugins=[self, self._notes]))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        self._work(self)
        return True

    def run(
        self,
        order: Sequence[str] = (),
        *,
        found: Servers,
        folder: Path,
        usual: Mapping[str, float] | None = None,
        change: tuple[str, str, str] | None = None,
        watched: Sequence[str] = (),
    ) -> Outcome:
        """Run these tests, or all, in a child, up to the first that fails where there is a `change`.

        `usual`: the seconds of each test on the code as it is; one that takes far longer stops the child.
        `change`: module (its file), qualified name of the function, and the changed source of the module.
        """
        report = folder / "report.jsonl"
        report.unlink(missing_ok=True)
        pid = os.fork()
        if not pid:
            code = _NOT_RUN
            try:
                _leave(folder)
                _share(found)
                if change:
                    _replace_function(*change)
                self._notes.begin(report, {str(self.tree / file): file for file in watched})
                names = order or list(self._items)
                code = self._run_here(names, usual=usual, stop=bool(change))
            except BaseException:
                _print_traceback()
            finally:
                os._exit(code)
        return _outcome(pid, report)

    def _run_here(self, names: Sequence[str], *, usual: Mapping[str, float] | None, stop: bool) -> int:
        items = [self._items[name] for name in names if name in self._items]
        for item, following in zip(items, [*items[1:], None], strict=True):
            if usual is not None:
                signal.setitimer(signal.ITIMER_REAL, 10 + 10 * usual.get(item.nodeid, 1.0))  # ends the process
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if stop and self._notes.failed:
                return 1
        return int(self._notes.failed)


def run_anew(tree: Path, order: Sequence[str], *, found: Servers, folder: Path, usual: Mapping[str, float]) -> Outcome:
    """Run tests, up to the first that fails, in a child that imports our code as it is in `tree` now."""
    report = folder / "report.jsonl"
    report.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        code = _NOT_RUN

        def work(session: Session) -> None:
            nonlocal code
            _share(found)
            session._notes.begin(report, {})
            is_imported = all(name in session._items for name in order)
            code = session._run_here(order, usual=usual, stop=True) if is_imported else 1

        try:
            _leave(folder)
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            files = dict.fromkeys(name.partition("::")[0] for name in order)
            ended = Session(tree, list(files), work=work).start(folder)
            if code == _NOT_RUN and ended in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR):
                code = 1  # a file of tests cannot be imported
        except BaseException:
            _print_traceback()
        finally:
            os._exit(code)
    return _outcome(pid, report)


def _outcome(pid: int, report: Path) -> Outcome:
    """What the child did, when it has ended."""
    _, status = os.waitpid(pid, 0)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it left behind
    outcome = Outcome(os.waitstatus_to_exitcode(status))
    for line in report.read_text().splitlines() if report.exists() else ():
        one = json.loads(line)
        outcome.seconds[one["test"]] = outcome.seconds.get(one["test"], 0.0) + one["seconds"]
        if one["failed"]:
            outcome.failed.append(one["test"])
        if one["entered"]:
            outcome.entered[one["test"]] = one["entered"]
    return outcome


def _print_traceback() -> None:
    traceback.print_exc()
    sys.stderr.flush()  # nothing else does, in a child that ends by os._exit


def _leave(folder: Path) -> None:
    """Be a process of its own, which prints into a file, and which a timer ends."""
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _share(found: Servers) -> None:
    """Let the tests take servers that run already, and the trigger call AWS without a process for each call."""
    from tests.support import moto, postgres  # noqa: PLC0415  those of the tree
    from trigger import aws_cli  # noqa: PLC0415

    def of_postgres(server: PostgresServer) -> PostgresServer:
        server.port, server.password = found.postgres.port, found.postgres.password
        return server

    def of_moto(server: MotoServer) -> MotoServer:
        server.url = found.moto.url
        return server

    classes: tuple[tuple[Any, Any], ...] = ((postgres.PostgresServer, of_postgres), (moto.MotoServer, of_moto))
    for kind, enter in classes:
        kind.__enter__, kind.__exit__ = enter, lambda *_: None
    aws_cli.subprocess = found.cli  # type: ignore[assignment,attr-defined]


def _replace_function(file: str, name: str, source: str) -> None:
    """Put the code of the changed module's function in the place of the old code; functions inside come with it."""
    outer = name.partition(".<locals>")[0]
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    found: Any = sys.modules[module.__name__]
    for part in outer.split("."):
        found = getattr_static(found, part)
    while not isinstance(found, FunctionType):  # a property, a class method
        found = found.fget if isinstance(found, property) else found.__func__
    found = unwrap(found)
    found.__code__ = _code_of(compile(source, found.__code__.co_filename, "exec"), outer)


def _code_of(code: CodeType, name: str) -> CodeType:
    inside = [one for one in code.co_consts if isinstance(one, CodeType)]
    for one in inside:
        if one.co_qualname == name:
            return one
    [of_class] = [one for one in inside if one.co_qualname == name.partition(".")[0]]
    return _code_of(of_class, name)


class _Notes:
    """Notes of each test how long it took, whether it failed, and which functions of the watched files it entered."""

    def __init__(self) -> None:
        self.failed = False
        self._report = Path()
        self._files: Mapping[str, str] = {}
        self._entered: set[str] = set()

    def begin(self, report: Path, files: Mapping[str, str]) -> None:
        self._report, self._files = report, files

    def pytest_runtest_logstart(self) -> None:
        self._entered = set()
        if self._files:
            threading.settrace(self._trace)
            sys.settrace(self._trace)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed
        entered = sorted(self._entered) if report.when == "teardown" else []
        facts = {"test": report.nodeid, "seconds": report.duration, "failed": report.failed, "entered": entered}
        if report.failed:
            print(report.longreprtext, flush=True)
        with self._report.open("a") as file:
            file.write(json.dumps(facts) + "\n")

    def _trace(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and (file := self._files.get(code.co_filename)):
            self._entered.add(f"{file}:{code.co_qualname}")
