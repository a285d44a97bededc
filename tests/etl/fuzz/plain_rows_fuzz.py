"""Real company files, changed by chance, go to the native checker and to the row rules, which must agree.

    python -m tests.etl.fuzz.plain_rows_fuzz --seconds 300

The checker is compiled with the address and undefined-behaviour sanitizers, and given buffers of exactly the size that
it was promised. Prints a JSON object; exit code 1 when the two differed or a sanitizer spoke.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from etl.files import native
from etl.files.native import MOST_SUSPECTS, Checked
from hatch_build import SOURCE, compile_library
from tests.support.paths import ROOT
from tests.support.plain_files import COMPANY, Body, by_rules, changed_body

_SANITIZED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_NO_ROOM, _LOOK_CLOSER = -1, -2
_LONGEST_INPUT = 1 << 16


@dataclass
class Report:
    """How many bodies were checked by both, how many only by the rules; `findings`: what is wrong."""

    seed: int
    sanitizers: bool = True
    executions: int = 0
    accepted: int = 0
    declined: int = 0
    declined_though_plain: int = 0
    """Rows that the rules accept and the native checker leaves to them: unusual, and right."""
    findings: list[str] = field(default_factory=list)


def fuzz(source: Path, *, seconds: float, seed: int) -> Report:
    """Compile `source` with the sanitizers and fuzz it in a child, which a sanitizer ends."""
    with tempfile.TemporaryDirectory() as folder:
        library, last = Path(folder, "plain_rows.so"), Path(folder, "last_input")
        try:
            compile_library(source, library, flags=_SANITIZED)
            runtimes = _runtimes()
        except RuntimeError as error:
            return Report(seed, sanitizers=False, findings=[f"cannot be fuzzed here: {error}"])
        last.write_bytes(bytes(_LONGEST_INPUT))
        command = [sys.executable, "-m", "tests.etl.fuzz.plain_rows_fuzz", f"--seconds={seconds}", f"--seed={seed}"]
        environment = os.environ | {
            "LD_PRELOAD": " ".join(runtimes),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python ends with memory that it still holds
            "PYTHONMALLOC": "malloc",  # so that every buffer has a guarded rim
        }
        done = subprocess.run(
            [*command, f"--library={library}", f"--last-input={last}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            spoken = next((line for line in done.stderr.splitlines() if "error" in line.lower()), done.stderr[-500:])
            return Report(seed, findings=[f"{spoken.strip()} on {last.read_bytes().rstrip(bytes(1))!r}"])
        return Report(**json.loads(done.stdout))


def _runtimes() -> list[str]:
    """The libraries that the sanitizers of g++ need to be there first. Raises RuntimeError."""
    found = []
    for name in ("libasan.so", "libubsan.so", "libstdc++.so"):
        compiler = os.environ.get("CXX", "g++")
        asked = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
        if asked.returncode or not Path(asked.stdout.strip()).is_absolute():
            raise RuntimeError(f"{compiler} has no {name}; the sanitizers of g++ on Linux are needed")
        found.append(asked.stdout.strip())
    return found


def compare(library: ctypes.CDLL, *, seconds: float, seed: int, last_input: Path) -> Report:
    """Check changed bodies by the native checker and by the rules for so long."""
    report, chance, counted = Report(seed), random.Random(seed), Counter[tuple[bool, bool]]()
    end = time.monotonic() + seconds
    with last_input.open("r+b") as file, mmap.mmap(file.fileno(), _LONGEST_INPUT) as last:
        while time.monotonic() < end and not report.findings:
            body = changed_body(chance)
            noted = repr(body).encode()[: _LONGEST_INPUT - 1] + b"\0"
            last[: len(noted)] = noted
            fast, exact = call(library, body), by_rules(body)
            counted[isinstance(fast, Checked), exact is not None] += 1
            if isinstance(fast, Checked):
                if fast != exact:
                    report.findings.append(f"{fast} is not {exact} on {body}")
                elif (cut := call(library, body, room=chance.randrange(len(fast.content) + 1))) not in (fast, _NO_ROOM):
                    report.findings.append(f"{cut} in too little room on {body}")
            elif fast != _LOOK_CLOSER:
                report.findings.append(f"{fast} on {body}")
    report.executions, report.accepted = counted.total(), counted[True, True]
    report.declined, report.declined_though_plain = counted[False, False], counted[False, True]
    return report


def call(library: ctypes.CDLL, body: Body, *, room: int | None = None) -> Checked | int:
    """Call the function with buffers that end where they are said to end; of `room` bytes for the slice."""
    columns = bytes(body.positions.index(n) if n in body.positions else 0xFF for n in range(body.width))
    since = int(f"{body.since:%Y%m%d}") if body.since else 0
    name = COMPANY.encode()
    enough = len(body.content) + (body.content.count(b"\n") + 1) * (len(name) + 52)
    given = [(ctypes.c_char * len(text)).from_buffer_copy(text) for text in (body.content, columns, name)]
    out = (ctypes.c_char * (enough if room is None else room))()
    counts = (ctypes.c_int64 * (3 + MOST_SUSPECTS))()
    length: int = library.mbd_check_plain(
        given[0], len(given[0]), given[1], body.width, since, given[2], len(name), out, len(out), counts
    )
    return Checked.of(bytes(out.raw[:length]), counts) if length >= 0 else length


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.etl.fuzz.plain_rows_fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed changes in the same way")
    parser.add_argument("--library", type=Path, help=argparse.SUPPRESS)  # in the child
    parser.add_argument("--last-input", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library:
        library = native.load(options.library)
        report = compare(library, seconds=options.seconds, seed=options.seed, last_input=options.last_input)
        print(json.dumps(asdict(report)))
        return 0
    report = fuzz(ROOT / SOURCE, seconds=options.seconds, seed=options.seed)
    print(json.dumps(asdict(report), indent=1))
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
