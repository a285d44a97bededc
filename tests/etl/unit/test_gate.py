"""Which listed file is meant by a name of the company index, and a folder that changes while it is listed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

import etl
from etl.batch.company_index import CompanyIndex
from etl.batch.gate import find_company_files, make_plan
from etl.batch.storage import Listed, open_storage
from etl.errors import MissingFilesError
from etl.options import build_parser
from etl.table.journal import Consent
from tests.support.batch_files import Files, process

Form = Literal["NFC", "NFD"]
FORMS: tuple[Form, Form] = ("NFC", "NFD")
ONE = Listed("1", 1)
Days = Callable[..., list[str]]


@pytest.mark.parametrize("name", ["öl.csv", "Ελλάς.csv", "हिन्दी.csv", "한국.csv", "ngữ.csv", "क़.csv", "שָׁלוֹם.csv"])
def test_index_and_files_may_be_of_different_unicode_forms(
    make_files: Callable[[str], Files], days: Days, name: str
) -> None:
    files = make_files("forms")
    for number, (of_index, of_file) in enumerate((one, other) for one in FORMS for other in FORMS):
        for path in files.source.iterdir():
            path.unlink()
        files.put(normalize(of_file, name), days(3 + number))
        files.name(normalize(of_index, name))
        plan = etl.gate(files.job(), run=etl.Run.begin("test"))
        assert (plan.names, plan.ignored) == ((normalize("NFC", name),), 0)
        assert process(files.job()).rows.accepted == 3 + number
        assert process(files.job(), shards=2).files.taken_over == 1
        assert files.combined.decode().splitlines()[0].endswith("," + normalize("NFC", name))


def found(index: str, *files: str) -> list[str]:
    """The files that are taken for the names of an index."""
    listed = dict.fromkeys(files, ONE)
    names = CompanyIndex.of(index.split())
    return [one.stored_as or name for name, one in find_company_files(names, listed, place="Stocks").items()]


def test_file_that_the_index_names_is_meant_where_another_is_the_same_company() -> None:
    assert found("a.csv b.csv", "a.csv", "b.csv.gz") == ["a.csv", "b.csv.gz"]
    assert found("a.csv.gz", "a.csv", "a.csv.gz", "a.csv.zst") == ["a.csv.gz"]
    assert found("a.csv", "a.csv", "a.csv.gz") == ["a.csv"]
    assert found("a.csv.gz", "a.csv") == ["a.csv"]
    assert found("a.csv.zst", "a.csv.gz") == ["a.csv.gz"]
    assert found("a.csv b.csv", "b.csv") == ["b.csv"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("a.csv.gz", "a.csv.zst"), r"is in Stocks more than once \(a\.csv\.gz, a\.csv\.zst\)\. Remove all but one"),
        (("a.csv.GZ", "a.csv.gz"), r"more than once"),
    ],
)
def test_file_that_cannot_be_known_is_not_guessed(files: tuple[str, ...], told: str) -> None:
    with pytest.raises(etl.BatchError, match=told):
        found("a.csv", *files)


@pytest.mark.parametrize("form", FORMS)
def test_two_files_that_differ_only_in_their_unicode_form_are_named_so_that_one_sees_it(form: Form) -> None:
    with pytest.raises(etl.BatchError) as raised:
        found(normalize(form, "é.csv"), "é.csv", "e\u0301.csv")
    assert r"differ only in their Unicode form ('e\u0301.csv' and '\xe9.csv')" in str(raised.value)


def test_consent_and_trace_take_a_company_name_in_any_form() -> None:
    assert "é.csv" in Consent.of(["e\u0301.csv"])
    assert build_parser().parse_args(["trace", "e\u0301.csv.gz", "2020-01-02"]).company == "é.csv"


def test_files_that_come_and_go_while_a_folder_is_listed_are_skipped(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"stays{number}.csv").write_bytes(b"x")
    done = threading.Event()

    def come_and_go() -> None:
        number = 0
        while not done.is_set():
            path = tmp_path / f"passing{number % 50}.csv.tmp"
            path.write_bytes(b"x")
            path.rename(tmp_path / "renamed.csv")
            (tmp_path / "renamed.csv").unlink()
            number += 1

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(100):
            listed = open_storage(str(tmp_path)).listing()
            assert sum(name.startswith("stays") for name in listed) == 300
    finally:
        done.set()
        thread.join()


def test_file_that_goes_between_its_listing_and_a_look_at_it_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).write_bytes(b"x")
    found_by_scandir = os.scandir

    class Goes:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.is_file = entry.name, entry.is_file
            self._entry = entry

        def stat(self) -> os.stat_result:
            if self.name == "b.csv":
                (tmp_path / self.name).unlink()
                return os.stat(tmp_path / self.name)
            return self._entry.stat()

    class Listing:
        def __init__(self, folder: Path) -> None:
            self._entries = found_by_scandir(folder)

        def __enter__(self) -> list[Goes]:
            return [Goes(entry) for entry in self._entries]

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    monkeypatch.setattr("etl.batch.storage.os.scandir", Listing)
    assert sorted(open_storage(str(tmp_path)).listing()) == ["a.csv", "c.csv"]


def test_links_that_lead_nowhere_or_round_in_a_folder_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x")
    (tmp_path / "gone.csv").symlink_to("nowhere")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "link.csv").symlink_to("a.csv")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    assert sorted(open_storage(str(tmp_path)).listing()) == ["a.csv", "link.csv"]


def test_folder_that_is_gone_is_still_no_such_folder(tmp_path: Path) -> None:
    (tmp_path / "Stocks").mkdir()
    place = open_storage(str(tmp_path / "Stocks"))
    (tmp_path / "Stocks").rmdir()
    with pytest.raises(etl.SettingsError, match="No such folder"):
        place.listing()


def test_files_that_are_gone_are_named_as_missing(three: Files) -> None:
    (three.source / "bb.us.csv").unlink()
    with pytest.raises(MissingFilesError, match=r"1 of 3 company files"):
        etl.gate(three.job(), run=etl.Run.begin("test"))


class Clock:
    """A clock that only a sleep moves; `then` is called after each one with what was slept so far."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.then: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self.then()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("etl.batch.gate.time", made)
    return made


def test_gate_waits_in_pauses_to_the_end_of_its_grace_and_says_once_what_is_missing(three: Files, clock: Clock) -> None:
    late = three.source / "cc.us.csv"
    content = late.read_bytes()
    for name in ("bb.us.csv", "cc.us.csv"):
        (three.source / name).unlink()
    clock.then = lambda: len(clock.slept) == 2 and late.write_bytes(content)
    lines: list[str] = []
    index, source = CompanyIndex.of(["aa.us.csv", "bb.us.csv", "cc.us.csv"]), open_storage(str(three.source))
    with pytest.raises(MissingFilesError) as raised:
        make_plan(index, company_index="index.txt", source=source, grace_seconds=25, waiting=lines.append)
    assert clock.slept == [10, 10, 5]
    assert lines == [
        "Waiting up to 25 s for 2 of 3 company files: bb.us.csv, cc.us.csv",
        "Waiting up to 5 s for 1 of 3 company files: bb.us.csv",
    ]
    assert (raised.value.listed, raised.value.missing) == (3, ("bb.us.csv",))


@pytest.mark.parametrize(("grace", "slept"), [(0, []), (0.2, [0.5]), (10.2, [10, 0.5])])
def test_gate_asks_no_more_than_twice_a_second_and_not_again_after_its_grace(
    three: Files, clock: Clock, grace: float, slept: list[float]
) -> None:
    (three.source / "bb.us.csv").unlink()
    with pytest.raises(MissingFilesError):
        etl.gate(three.job(grace_seconds=grace), run=etl.Run.begin("test"))
    assert clock.slept == slept


def test_plan_is_of_one_shard_and_waits_for_nothing_unless_asked(three: Files, clock: Clock) -> None:
    index, source = CompanyIndex.of(["aa.us.csv", "bb.us.csv"]), open_storage(str(three.source))
    assert [list(shard) for shard in make_plan(index, company_index="", source=source).shards] == [list(index.names)]
    (three.source / "bb.us.csv").unlink()
    with pytest.raises(MissingFilesError):
        make_plan(index, company_index="", source=source)
    assert clock.slept == []
