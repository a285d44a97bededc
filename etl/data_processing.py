"""The processing script of the course: combines company files. It keeps the function names of the course's notebook.

Run it as `python -m etl.data_processing SOURCE INDEX OUTPUT`.
"""

import argparse
import sys
from collections.abc import Sequence

from etl.batch.company_index import CompanyIndex, parse_index
from etl.batch.storage import read_file
from etl.errors import BatchError, EtlError
from etl.outcome.mail import receipt_text
from etl.outcome.receipt import Receipt, Run
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
    job = Job(source=folders.pop() or ".", company_index="the list of paths", output=output_path)
    gate_index(index, job=job, run=run)
    try:
        return process(job, run=run)
    finally:
        forget_work(job, run=run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Process the index's companies; the exit code is that of `mbd process`."""
    parser = argparse.ArgumentParser(prog="python -m etl.data_processing", description=__doc__)
    parser.add_argument("source_path", help="folder or s3:// URL with the company files: .../Stocks")
    parser.add_argument("index_file_path", help="the company index: .../CompanyNames/top_companies.txt")
    parser.add_argument("output_path", help="folder or s3:// URL for the combined file: .../Output")
    options = parser.parse_args(arguments)
    try:
        companies = extract_companies_from_index(options.index_file_path)
        receipt = data_processing(get_path_to_company_data(companies, options.source_path), options.output_path)
    except EtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(receipt_text(receipt), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
