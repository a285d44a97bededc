"""A folder as storage: a file appears only when it is whole, and a change after the listing is noticed."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from etl import ServiceError, SettingsError
from etl.batch.storage import open_storage, read_file
from etl.errors import EtlError, FileChangedError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("old", [None, b"the old file"])
def test_file_appears_only_when_it_is_whole(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "out.csv"
    if old is not None:
        path.write_bytes(old)
    with open_storage(str(tmp_path)).write("out.csv") as file:
        file.write(b"the new ")
        assert (path.read_bytes() if path.exists() else None) == old
        file.write(b"file")
    assert path.read_bytes() == b"the new file"
    assert names(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("old", [None, b"the old file"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_error_inside_the_block_leaves_the_old_file_and_no_partial(
    tmp_path: Path, error: type[BaseException], old: bytes | None
) -> None:
    path = tmp_path / "out.csv"
    if old is not None:
        path.write_bytes(old)
    writing = open_storage(str(tmp_path)).write("out.csv")
    writing.__enter__().write(b"the new ")
    assert not writing.__exit__(error, error(), None), "the error goes on"
    assert (path.read_bytes() if path.exists() else None) == old
    assert names(tmp_path) == ([] if old is None else ["out.csv"])


def test_partial_that_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.csv.partial").write_bytes(b"much longer than what is written next")
    with open_storage(str(tmp_path)).write("out.csv") as file:
        file.write(b"new")
    assert (tmp_path / "out.csv").read_bytes() == b"new"
    assert names(tmp_path) == ["out.csv"]


def test_file_of_a_subfolder_makes_the_subfolder(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    with storage.write("receipts/a.json") as file:
        file.write(b"{}")
    assert storage.read("receipts/a.json") == b"{}"
    assert storage.url_of("receipts/a.json") == str(tmp_path / "receipts" / "a.json")


def test_listing_holds_the_files_of_the_folder_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"12345")
    (tmp_path / "é b.csv").write_bytes(b"")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    listing = open_storage(str(tmp_path)).listing()
    assert {name: listed.size_bytes for name, listed in listing.items()} == {"a.csv": 5, "é b.csv": 0}


def change_bytes(path: Path) -> None:
    path.write_bytes(b"23456")
    os.utime(path, ns=(1, 1))


def change_size(path: Path) -> None:
    time = path.stat().st_mtime_ns
    path.write_bytes(b"1234567")
    os.utime(path, ns=(time, time))


def replace_it(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"23456")
    os.utime(other, ns=(1, 1))
    other.rename(path)


@pytest.mark.parametrize("change", [change_bytes, change_size, replace_it, Path.unlink])
def test_file_that_changed_after_the_listing_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"12345")
    storage = open_storage(str(tmp_path))
    version = storage.listing()["a.csv"].version
    assert storage.read("a.csv", version=version) == b"12345"
    change(path)
    with pytest.raises(FileChangedError):
        storage.read("a.csv", version=version)


def test_file_that_is_written_to_while_it_is_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"12345")
    storage = open_storage(str(tmp_path))
    version = storage.find("a.csv").version

    class Opened(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            os.truncate(path, 3)
            return super().read(size) or b""

    monkeypatch.setattr(Path, "open", lambda opened, _: Opened(opened))
    with pytest.raises(FileChangedError):
        storage.read("a.csv", version=version)


@pytest.mark.parametrize(("start", "length"), [(0, 10), (0, 1), (3, 4), (9, 1), (4, 0)])
def test_range_is_read_exactly(tmp_path: Path, start: int, length: int) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    blocks = open_storage(str(tmp_path)).read_range("a", start=start, length=length)
    assert b"".join(blocks) == b"0123456789"[start : start + length]


def test_version_is_that_of_the_write_whoever_replaces_the_file(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    with storage.write("a") as file:
        file.write(b"12345")
    assert file.version == storage.find("a").version
    assert list(storage.read_range("a", start=1, length=3, version=file.version)) == [b"234"]
    (tmp_path / "a").write_bytes(b"654321")
    with pytest.raises(FileChangedError):
        list(storage.read_range("a", start=1, length=3, version=file.version))


def test_file_of_another_version_is_not_read_first(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    storage = open_storage(str(tmp_path))
    version = storage.find("a").version
    os.truncate(tmp_path / "a", 1 << 36)  # more than fits into memory
    with pytest.raises(FileChangedError):
        storage.read("a", version=version)


def test_long_range_comes_in_blocks(tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 20
    (tmp_path / "a").write_bytes(content)
    blocks = list(open_storage(str(tmp_path)).read_range("a", start=5, length=len(content) - 5))
    assert b"".join(blocks) == content[5:]
    assert max(map(len, blocks)) <= 8 << 20


@pytest.mark.parametrize(("start", "length"), [(0, 11), (5, 6), (10, 1), (99, 1)])
def test_range_beyond_the_end_is_noticed(tmp_path: Path, start: int, length: int) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    with pytest.raises(FileChangedError):
        list(open_storage(str(tmp_path)).read_range("a", start=start, length=length))


def test_range_of_a_file_that_is_gone_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(FileChangedError):
        list(open_storage(str(tmp_path)).read_range("a", start=0, length=1))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nowhere", "No such folder"),
        ("file.txt", "No such folder"),
        ("ftp://host/folder", "neither a folder nor s3://"),
        ("s3://", "names no bucket"),
        ("s3://Not_A_Bucket/x", "names no bucket"),
        ("", "folder"),
    ],
)
def test_place_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, told: str) -> None:
    # "" is what `--output "$OUT"` passes when OUT is unset: it must not mean the current folder
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    with pytest.raises(SettingsError, match=told):
        open_storage(url)


def test_folder_is_made_where_that_is_asked_for(tmp_path: Path) -> None:
    open_storage(str(tmp_path / "a" / "b"), create=True)
    assert (tmp_path / "a" / "b").is_dir()


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(SettingsError, match="Cannot make the folder"):
        open_storage(str(tmp_path / "a" / "b"), create=True)


def test_one_file_is_read_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index.txt").write_bytes(b"x")
    assert read_file(str(tmp_path / "index.txt")) == read_file("index.txt") == read_file("./index.txt") == b"x"


@pytest.mark.parametrize(
    ("url", "told"),
    [("absent.txt", "No such file: absent.txt"), ("a/absent.txt", "No such folder: a"), ("a/", "names a folder")],
)
def test_one_file_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=told):
        read_file(url)


def test_folder_where_a_file_was_expected_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Is a directory"):
        read_file(str(tmp_path))


@pytest.mark.parametrize("call", ["fcntl.flock", "is_at"])
def test_writer_that_could_not_begin_leaves_the_file_to_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(28, "No space left on device")

    storage = open_storage(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(f"etl.batch.storage.{call}", refused)
        with pytest.raises(EtlError, match="No space left") as kept, storage.write("out.csv"):
            pass
    with storage.write("out.csv") as file:
        file.write(b"whole")
    assert kept.value, "the error, which holds the first writer, is still there"
    assert (tmp_path / "out.csv").read_bytes() == b"whole"


@pytest.mark.parametrize("gone", [True, False])
def test_writer_that_opened_what_another_run_just_finished_leaves_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    partial = tmp_path / "out.csv.partial"
    partial.write_bytes(b"whole")

    def finished_before(file: object, how: int) -> None:
        partial.replace(tmp_path / "out.csv")
        if not gone:
            partial.touch()  # and a third run has begun

    monkeypatch.setattr("etl.batch.storage.fcntl.flock", finished_before)
    with pytest.raises(ServiceError, match="Another run is writing"), open_storage(str(tmp_path)).write("out.csv"):
        pass
    assert (tmp_path / "out.csv").read_bytes() == b"whole"


def test_what_killed_writers_left_in_a_folder_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.remove_unfinished("receipts/*")
    with storage.write("receipts/whole.json") as file:
        file.write(b"{}")
    (tmp_path / "receipts" / "killed.json.partial").write_bytes(b"{")
    with storage.write("receipts/other.json") as file:
        file.write(b"{}")
        storage.remove_unfinished("receipts/*")
        assert [path.name for path in tmp_path.rglob("*.partial")] == ["other.json.partial"]
    assert {path.name for path in (tmp_path / "receipts").iterdir()} == {"whole.json", "other.json"}
