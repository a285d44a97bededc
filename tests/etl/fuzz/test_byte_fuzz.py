"""The fuzzer for a few seconds, and that it would notice a reader that raises, hangs or eats memory."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.etl.fuzz import byte_fuzz
from tests.etl.fuzz.byte_fuzz import fuzz, seeds
from tests.etl.fuzz.checks import CHECKS, check_index
from tests.support.paths import ROOT


@pytest.mark.parametrize("target", list(CHECKS))
def test_bytes_near_real_ones_break_no_promise_of_a_reader(target: str) -> None:
    report = fuzz(CHECKS[target], target=target, seconds=3, seed=7)
    assert report.findings == []
    assert report.executions > len(seeds(target)) // 2
    assert report.outcomes > 5


names = st.sampled_from(["a.us.csv", "b.csv", "株.csv", "é" * 57, "../x", "-rf", "=1", "%s", "x\x00", "x\u202e"])
signs = st.sampled_from(["'", '"', "''", ",", ", ", "\n", "\r\n", "\r", " ", "\t", "\ufeff", ";", "\u2028", "\x0b"])


@given(st.binary(max_size=50) | st.lists(names | signs, max_size=15).map(lambda parts: "".join(parts).encode()))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_index_of_any_bytes_gives_safe_names_or_is_refused(content: bytes) -> None:
    check_index(content)


def test_fuzzer_keeps_the_inputs_that_a_broken_reader_raises_on() -> None:
    def broken(content: bytes) -> int:
        if b"2020-02-30" in content:
            raise ValueError("day is out of range for month")
        return len(content) % 7

    report = fuzz(broken, target="company_file", seconds=20, seed=1)
    assert {finding["error"] for finding in report.findings} == {"ValueError: day is out of range for month"}
    assert all("2020-02-30" in finding["input"] for finding in report.findings)


def test_fuzzer_ends_an_input_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_fuzz, "HANG_SECONDS", 0.05)
    report = fuzz(lambda content: time.sleep(30), target="index", seconds=20, seed=1)
    assert {finding["error"] for finding in report.findings} == {"Hang: over 0.05 s"}


def test_fuzzer_notices_memory_that_only_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_fuzz, "_WARM_UP", 10)
    monkeypatch.setattr(byte_fuzz, "MOST_GROWTH_MB", 4)
    monkeypatch.setattr(byte_fuzz, "_MOST_FINDINGS", 1)
    kept: list[mmap.mmap] = []  # pages of its own: the heap may hold some that were freed before

    def hoard(content: bytes) -> int:
        if len(kept) == 40:
            raise ValueError("enough")
        kept.append(mmap.mmap(-1, 1 << 20))
        kept[-1].write(b"x" * (1 << 20))
        return 0

    report = fuzz(hoard, target="index", seconds=60, seed=1)
    assert [finding["error"].split(" by ")[0] for finding in report.findings] == ["ValueError: enough", "memory grew"]


def test_program_prints_its_counts_as_json() -> None:
    command = [sys.executable, "-m", "tests.etl.fuzz.byte_fuzz", "--seconds", "2", "--seed", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [one["target"] for one in told["targets"]] == list(CHECKS)
    assert told["executions"] == sum(one["executions"] for one in told["targets"]) > 0
