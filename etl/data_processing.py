"""The processing script of the course: combines company files. It keeps the function names of the course's notebook.

Run it as `python3 data_processing.py STOCKS INDEX OUTPUT` in Scripts/, where the library is etl.zip next to it, or as
`python -m etl.data_processing STOCKS INDEX OUTPUT`. It needs Python 3.11 and, for folders, nothing else.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # it runs as a file
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"error: Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
    _library = Path(__file__).resolve().with_name("etl.zip")
    if not _library.exists():
        sys.exit(f"error: {_library} is missing. Download all of Scripts/ (or, in a clone: -m etl.data_processing)")
    sys.path.insert(0, str(_library))

from etl.batch.company_index import CompanyIndex, parse_index
from etl.batch.storage import read_file
from etl.console import complain, open_streams, show
from etl.errors import BatchError, SettingsError, as_etl_error
from etl.outcome.receipt import Receipt, Run
from etl.outcome.wording import receipt_text
from etl.pipeline import Job, forget_work, gate_index, process


def extract_companies_from_index(index_file_path: str) -> list[str]:
    """The company names in the index file, each once, in its order. Raises BatchError or SettingsError."""
    return list(parse_index(read_file(index_file_path)).names)


def get_path_to_company_data(list_of_companies: Sequence[str], source_data_path: str) -> list[str]:
    """The path or `s3://` URL of each company file, which need not be there yet."""
    return [f"{source_data_path.rstrip('/')}/{name}" for name in list_of_companies]


def data_processing(file_paths: Sequence[str], output_path: str) -> Receipt:
    """Combine company files of one folder into `output_path`: combined file, rejected rows, manifest.

    Raises BatchError when files are missing or none is usable, SettingsError or ServiceError as the library does.
    """
    run = Run.begin("script")
    folders = {path.rpartition("/")[0] for path in file_paths}
    if len(folders) != 1:
        raise BatchError(f"Company files of one batch lie in one folder; these lie in {len(folders)}.")
    index = CompanyIndex.of(path.rpartition("/")[2] for path in file_paths)
    folder = folders.pop() or ("/" if file_paths[0].startswith("/") else ".")
    job = Job(source=folder, company_index="the list of paths", output=output_path)
    gate_index(index, job=job, run=run)
    try:
        return process(job, run=run)
    finally:
        forget_work(job, run=run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Process the index's companies; the exit code is that of `mbd process`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source_path", help="folder or s3:// URL with the company files: .../Stocks")
    parser.add_argument("index_file_path", help="the company index: .../CompanyNames/top_companies.txt")
    parser.add_argument("output_path", help="folder or s3:// URL for the combined file: .../Output")
    open_streams()
    options = parser.parse_args(arguments)
    try:
        companies = extract_companies_from_index(options.index_file_path)
        receipt = data_processing(get_path_to_company_data(companies, options.source_path), options.output_path)
    except KeyboardInterrupt:
        complain("interrupted: run it again when you like")
        return 130
    except ModuleNotFoundError as error:
        complain(f"error: {error.name} is missing, which s3:// places need. Install it, or name folders.")
        return SettingsError.exit_code
    except Exception as failure:
        found = as_etl_error(failure)
        complain(f"error: {found}")
        return found.exit_code
    show(receipt_text(receipt))
    return 0


if __name__ == "__main__":
    sys.exit(main())
