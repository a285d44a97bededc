"""The processing script keeps the course notebook's functions; each does what its name says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etl import BatchError, SettingsError
from etl.data_processing import data_processing, extract_companies_from_index, get_path_to_company_data, main
from etl.errors import MissingFilesError
from infra_scripts.platform.source_archive import library
from tests.support.company_files import FIRST, LAST, company_file
from tests.support.paths import ROOT, SAMPLE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "Stocks"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_bytes(company_file(FIRST, LAST))
    return folder


def test_companies_are_extracted_from_the_index_in_its_order() -> None:
    companies = extract_companies_from_index(str(SAMPLE / "CompanyNames" / "top_companies.txt"))
    assert companies[:3] == ["tmusp.us.csv", "tlk.us.csv", "pso.us.csv"]
    assert len(companies) == 40


@pytest.mark.parametrize("place", ["/data/Stocks", "/data/Stocks/", "s3://bucket/Stocks", "s3://bucket/Stocks/"])
def test_path_of_a_company_is_its_place_and_name(place: str) -> None:
    assert get_path_to_company_data(["a.csv", "b.csv"], place) == [f"{place.rstrip('/')}/{n}.csv" for n in "ab"]


def test_company_files_are_combined(source: Path, tmp_path: Path) -> None:
    receipt = data_processing(get_path_to_company_data(["b.csv", "a.csv"], str(source)), str(tmp_path / "Output"))
    lines = (tmp_path / "Output" / "historical_stock_data.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in lines] == ["b.csv", "b.csv", "a.csv", "a.csv"]
    assert receipt.rows.accepted == 4


def test_company_file_that_is_not_there_stops_it_by_name(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"1 of 2 .*c\.csv"):
        data_processing([f"{source}/a.csv", f"{source}/c.csv"], str(tmp_path / "Output"))


@pytest.mark.parametrize("paths", [[], ["x/a.csv", "y/a.csv"]])
def test_files_of_no_or_several_folders_are_refused(paths: list[str], tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="lie in one folder"):
        data_processing(paths, str(tmp_path / "Output"))


@pytest.mark.parametrize("name", ["a,b.csv", 'a"b.csv', "a\nb.csv", f"{'x' * 57}"])
def test_name_that_an_index_would_refuse_is_refused_here_too(source: Path, tmp_path: Path, name: str) -> None:
    (source / name).write_bytes(company_file(FIRST, LAST))
    with pytest.raises((BatchError, SettingsError), match="cannot be a company file"):
        data_processing([f"{source}/{name}"], str(tmp_path / "Output"))


def test_script_that_is_interrupted_ends_with_one_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "index.txt").write_text("a.csv")
    monkeypatch.setattr("etl.data_processing.process", interrupt)
    assert main([str(source), str(tmp_path / "index.txt"), str(tmp_path / "Output")]) == 130
    assert capsys.readouterr().err == "interrupted: run it again when you like\n"
    assert not [*(tmp_path / "Output").rglob("plan.json")]


def test_script_with_its_library_starts_where_python_has_no_packages(tmp_path: Path) -> None:
    """As in Scripts/ of the source bucket; tests/infra/integration/test_scripts_folder.py lets it work there."""
    shutil.copy(ROOT / "etl" / "data_processing.py", tmp_path)
    (tmp_path / "etl.zip").write_bytes(library())
    python = [sys._base_executable, "-I", "-S"]  # type: ignore[attr-defined]
    done = subprocess.run(
        [*python, tmp_path / "data_processing.py", "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_files_at_the_root_are_looked_for_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only-here.csv").write_text("Date,Open,High,Low,Close,Volume\n2001-01-02,1,1,1,1,1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFilesError, match=r"not in / "):
        data_processing(get_path_to_company_data(["only-here.csv"], "/"), str(tmp_path / "Output"))
