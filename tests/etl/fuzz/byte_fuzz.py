"""Bytes near real ones go through the readers for so many seconds; a JSON object tells how many, and what broke.

    python -m tests.etl.fuzz.byte_fuzz --seconds 300

Where atheris (PyPI) can be imported, it looks for inputs by the branches that they reach; else a loop changes the
inputs that came out in a way that was new.
Exit code 1 when a promise of checks.py was broken, an input took too long or memory grew.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import importlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.paths import DATA

HANG_SECONDS = 5  # an input of 64 KB takes milliseconds
MOST_GROWTH_MB = 48  # after a warm-up; the interpreter keeps some of what it was given
_SHARES = {"company_file": 0.85, "index": 0.15}  # an index takes a hundredth of the time
_WARM_UP = 500
_LONGEST = 1 << 16
_MOST_FINDINGS = 5
_TOKENS = [
    *(b"Date,Open,High,Low,Close,Volume,OpenInt\n", b"2020-01-02,10,12,9,11,1000,0\n", b"2020-02-30", b"0000-01-01"),
    *(b",", b"\n", b"\r", b"\r\n", b'"', b'""', b"'", b" ", b"\t", b";", b"-", b"+", b"=", b"@", b".", b"e", b"%s"),
    *(b"0", b"1e400", b"1e-400", b"0e99999", b"9223372036854775808", b"1" * 57, b"NaN", b"inf", b"-0", b"1_0"),
    *(b"\x00", b"\x0b", b"\x1a", b"\x1c", b"\x1b[2J", b"\x7f", b"\xff", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8"),
    *(b"\xed\xa0\x80", b"\xef\xbc\x91", b"\xd9\xa1", b"\xe2\x80\xae", b"\x1f\x8b\x08", b"PK\x03\x04", b"../", b"/etc"),
]


class Hang(Exception):
    """One input took too long."""


@dataclass
class Report:
    """What one target went through. `findings`: inputs that broke it.

    `outcomes`: pairs of facts that were seen in a result, or atheris' count of what was reached in the code. atheris
    tells the slowest input in whole seconds.
    """

    target: str
    engine: str
    executions: int = 0
    seconds: float = 0.0
    outcomes: int = 0
    slowest_ms: float = 0.0
    rss_growth_mb: float = 0.0
    findings: list[dict[str, str]] = field(default_factory=list)


def seeds(target: str) -> list[bytes]:
    """Small real inputs and the cases: what the changes begin with."""
    if target == "index":
        return [path.read_bytes() for path in sorted((DATA / "cases").glob("*/index.txt"))]
    real = sorted((DATA / "sample" / "Stocks").iterdir())
    heads = [b"".join(path.read_bytes().splitlines(keepends=True)[:6]) for path in real]
    cases = [path.read_bytes() for path in sorted((DATA / "cases").glob("*/Stocks/*.csv"))]
    return [content for content in [*heads, *cases] if len(content) <= 4096]


def fuzz(check: Callable[[bytes], object], *, target: str, seconds: float, seed: int) -> Report:
    """Change inputs by chance for so long, keeping those in whose outcome two facts stand together for the first time.

    Pairs, because whole outcomes are without number: an hour would keep them all, and its memory would grow by them.
    """
    report = Report(target, "changes by chance")
    chance = random.Random(seed)
    corpus = seeds(target)
    seen: set[tuple[str, ...]] = set()
    waiting = list(reversed(corpus))
    begun, rss = time.monotonic(), 0
    while time.monotonic() - begun < seconds and len(report.findings) < _MOST_FINDINGS:
        content = waiting.pop() if waiting else _changed(corpus, chance)
        started = time.perf_counter()
        try:
            with _limited_to(HANG_SECONDS):
                outcome = check(content)
        except Exception as error:
            report.findings.append(_finding(error, content))
            continue
        finally:
            report.executions += 1
            report.slowest_ms = max(report.slowest_ms, round((time.perf_counter() - started) * 1000, 1))
        pairs = set(product(map(repr, outcome if isinstance(outcome, tuple) else (outcome,)), repeat=2))
        if not pairs <= seen:
            seen |= pairs
            corpus.append(content)
        if report.executions == _WARM_UP:
            rss = _rss_bytes()
    report.seconds, report.outcomes = round(time.monotonic() - begun, 1), len(seen)
    if rss:
        report.rss_growth_mb = round((_rss_bytes() - rss) / 2**20, 1)
        if report.rss_growth_mb > MOST_GROWTH_MB:
            report.findings.append({"error": f"memory grew by {report.rss_growth_mb} MB", "input": ""})
    return report


def _changed(corpus: list[bytes], chance: random.Random) -> bytes:
    content = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randint(0, len(content))
        end = min(len(content), at + chance.choice((1, 1, 2, 8, 64)))
        match chance.randrange(7):
            case 0:
                content[at:at] = chance.choice(_TOKENS)
            case 1:
                content[at:end] = chance.choice(_TOKENS)
            case 2:
                del content[at:end]
            case 3:
                content[at:at] = content[at:end] * chance.choice((1, 2, 50))
            case 4:
                content[at:end] = chance.randbytes(end - at)
            case 5:
                other = chance.choice(corpus)
                content[at:] = other[chance.randint(0, len(other)) :]
            case 6:
                del content[at:]
    return bytes(content[:_LONGEST])


def _finding(error: Exception, content: bytes) -> dict[str, str]:
    return {"error": f"{type(error).__name__}: {error}"[:500], "input": repr(content[:2000])}


@contextmanager
def _limited_to(seconds: float) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Hang(f"over {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _rss_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- atheris -------------------------------------------------------------------------------------------------------


def fuzz_by_branches(target: str, *, seconds: float, seed: int) -> Report:
    """The same with atheris, in a child, because libFuzzer ends its process."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words.dict")
        corpus.mkdir()
        for number, content in enumerate(seeds(target)):
            (corpus / f"seed-{number:03}").write_bytes(content)
        escaped = ("".join(rf"\x{byte:02x}" for byte in token) for token in _TOKENS)
        words.write_text("".join(f'"{word}"\n' for word in escaped))
        command = [sys.executable, "-m", "tests.etl.fuzz.byte_fuzz", "--atheris", target, str(corpus), f"-seed={seed}"]
        limits = [f"-max_total_time={seconds:.0f}", f"-timeout={HANG_SECONDS}", "-rss_limit_mb=1024", "-max_len=4096"]
        told = [f"-dict={words}", f"-artifact_prefix={folder}/broken-", "-print_final_stats=1", "-verbosity=1"]
        begun = time.monotonic()
        child = subprocess.run(
            [*command, *limits, *told], capture_output=True, text=True, errors="replace", check=False
        )
        report = Report(target, "atheris", seconds=round(time.monotonic() - begun, 1))
        facts = dict(re.findall(r"^stat::(\w+): +(\d+)$", child.stderr, flags=re.MULTILINE))
        reached = re.findall(r"ft: (\d+) .* rss: (\d+)Mb", child.stderr)
        report.executions = int(facts.get("number_of_executed_units", 0))
        report.slowest_ms = 1000.0 * int(facts.get("slowest_unit_time_sec", 0))
        if reached:
            report.outcomes = int(reached[-1][0])
            report.rss_growth_mb = float(facts.get("peak_rss_mb", 0)) - float(reached[0][1])
        for broken in sorted(Path(folder).glob("broken-*")):
            report.findings.append({"error": child.stderr[-1500:], "input": repr(broken.read_bytes()[:2000])})
        if report.rss_growth_mb > MOST_GROWTH_MB:
            report.findings.append({"error": f"memory grew by {report.rss_growth_mb} MB", "input": ""})
        if child.returncode and not report.findings:
            report.findings.append({"error": child.stderr[-1500:], "input": ""})
    return report


def _run_atheris(target: str, arguments: list[str]) -> None:
    atheris: Any = importlib.import_module("atheris")  # only where it is installed; it ships no types
    with atheris.instrument_imports(include=["etl"]):
        from tests.etl.fuzz.checks import CHECKS  # noqa: PLC0415  imported here to be instrumented
    check = CHECKS[target]

    def one_input(content: bytes) -> None:
        check(content)

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def main() -> int:
    if sys.argv[1:2] == ["--atheris"]:
        _run_atheris(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.etl.fuzz.byte_fuzz", description="Fuzz the readers of etl.")
    parser.add_argument("--seconds", type=float, default=60, help="in all (60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed changes in the same way")
    options = parser.parse_args()
    from tests.etl.fuzz.checks import CHECKS  # noqa: PLC0415  in atheris' child it must be imported later

    faulthandler.enable()
    has_atheris = importlib.util.find_spec("atheris") is not None
    reports: list[dict[str, Any]] = []
    for target, check in CHECKS.items():
        share = options.seconds * _SHARES[target]
        if has_atheris:
            report = fuzz_by_branches(target, seconds=share, seed=options.seed)
        else:
            report = fuzz(check, target=target, seconds=share, seed=options.seed)
        reports.append(asdict(report))
    print(
        json.dumps(
            {"seed": options.seed, "executions": sum(one["executions"] for one in reports), "targets": reports},
            indent=1,
        )
    )
    return 1 if any(one["findings"] for one in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
