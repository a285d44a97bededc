"""Compressed company files: whatever was packed comes out as it was, or it is a reason to quarantine the file."""

from __future__ import annotations

import gzip
import random
import sys
import tomllib
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from packaging.requirements import Requirement

import etl
from etl.files.company_file import CompanyFile, UnusableFile, check_company_file
from etl.files.packed import UnpackingError, unpack
from etl.files.rules import LARGEST_FILE_BYTES
from tests.support.company_files import FIRST, LAST, company_file
from tests.support.paths import ROOT, SAMPLE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "fast gzip": lambda content: gzip.compress(content, 1),
    "stored gzip": lambda content: gzip.compress(content, 0),
    "Zstandard": zstd.compress,
    "ultra Zstandard": lambda content: zstd.compress(content, 22),
}
PLAIN = (SAMPLE / "Stocks" / "blj.us.csv").read_bytes()


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_packed_file_gives_what_the_plain_one_gives(pack: Callable[[bytes], bytes]) -> None:
    for content in (PLAIN, company_file(FIRST, LAST), company_file(FIRST), b"x"):
        assert unpack(pack(content)) == content
        assert unpack(pack(content[:20]) + pack(content[20:])) == content
        plain = check_company_file(content, company_name="x.csv")
        assert check_company_file(pack(content), company_name="x.csv") == plain


@pytest.mark.parametrize("content", [PLAIN, b"", b"\x1f", b"\x28\xb5\x2f", b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\x00"])
def test_what_is_neither_is_left_as_it_is(content: bytes) -> None:
    assert unpack(content) is content


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_file_cut_off_or_changed_anywhere_is_never_taken_for_another(pack: Callable[[bytes], bytes]) -> None:
    content = company_file(*(f"2020-01-{day:02},10.5,12,9.75,11,{day * 37 % 1000},0" for day in range(1, 28)))
    packed = pack(content)
    for length in range(5, len(packed)):
        with pytest.raises(UnpackingError, match="cannot be unpacked: not a whole"):
            unpack(packed[:length])
    chance = random.Random(1)
    for at in range(4, len(packed)):
        changed = bytearray(packed)
        changed[at] ^= 1 << chance.randrange(8)
        checked = check_company_file(bytes(changed), company_name="x.csv")  # raises nothing, whatever it is
        if "gzip" in str(pack) and isinstance(checked, CompanyFile):
            assert unpack(bytes(changed)) == content


def test_gzip_whose_sum_is_wrong_is_refused() -> None:
    packed = gzip.compress(PLAIN)
    wrong = packed[:-8] + (zlib.crc32(PLAIN) ^ 1).to_bytes(4, "little") + packed[-4:]
    with pytest.raises(UnpackingError, match="CRC check failed"):
        unpack(wrong)


@pytest.mark.parametrize("pack", [PACKERS["gzip"], PACKERS["Zstandard"]], ids=["gzip", "Zstandard"])
def test_bomb_is_given_up_at_the_limit(pack: Callable[[bytes], bytes]) -> None:
    largest = PLAIN[:100].ljust(LARGEST_FILE_BYTES, b"\n")
    assert unpack(pack(largest)) == largest
    bomb = pack(bytes(16 * LARGEST_FILE_BYTES))
    tracemalloc.start()
    with pytest.raises(UnpackingError, match="too large: unpacked, over the limit of 16,777,216 bytes"):
        unpack(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * LARGEST_FILE_BYTES
    with pytest.raises(UnpackingError, match="too large"):
        unpack(pack(largest) + pack(b"\n"))


def test_window_that_would_take_more_memory_than_a_file_may_have_is_refused() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(PLAIN) + compressor.flush()
    checked = check_company_file(packed, company_name="x.csv")
    assert isinstance(checked, UnusableFile)
    assert "cannot be unpacked: not a whole Zstandard file" in checked.reason


def test_zstandard_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compression" if sys.version_info >= (3, 14) else "backports", None)
    with pytest.raises(etl.SettingsError, match=r"pip install backports\.zstd"):
        unpack(PACKERS["Zstandard"](PLAIN))


def test_the_package_brings_zstandard_to_every_python_that_has_none() -> None:
    """Python has it since 3.14 (PEP 784)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = [name.rpartition(" ")[2] for name in project["classifiers"]]
    [library] = [Requirement(text) for text in project["dependencies"] if text.startswith("backports.zstd")]
    assert library.marker
    brought = [python for python in pythons if library.marker.evaluate({"python_version": python})]
    assert brought == ["3.11", "3.12", "3.13"]
