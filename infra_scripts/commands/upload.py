"""`upload`: puts a batch and the scripts into the source bucket, and verifies that the batch is complete."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from infra_scripts.aws import aws_errors, open_session
from infra_scripts.console import progress, result
from infra_scripts.errors import RefusedError, SettingsError
from infra_scripts.platform.archive_digest import keep_digest
from infra_scripts.platform.objects import Sent, Upload, listing, send
from infra_scripts.platform.source_archive import KEY as ARCHIVE_KEY
from infra_scripts.platform.source_archive import LIBRARY_KEY, ROOT, library, source_archive
from infra_scripts.settings import Settings, read_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HELP = "put the company files, the company index and the scripts into the source bucket"
EXAMPLES = ["upload BATCH", "upload --stocks Stocks --company-index top_companies.txt", "upload"]

INDEX_KEY = "CompanyNames/top_companies.txt"
FOLDERS = ("CompanyNames/", "Output/", "Scripts/", "Stocks/")
COURSE_FILES = 7192  # company files of the course's dataset
_SCRIPTS = ("etl/data_processing.py", "etl/table/sql/insert_query.sql", "infra_scripts/course/course_environment.sh")
_MOUNT = "infra_scripts/course/mount_source.sh"
_SECONDS_BETWEEN_LINES = 5


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "batch", nargs="?", type=Path, metavar="BATCH",
        help="a folder with Stocks/ and CompanyNames/top_companies.txt; without it, only the scripts are put",
    )  # fmt: skip
    parser.add_argument(
        "--stocks", type=Path, metavar="DIR", help="the company files, where they are in another folder"
    )
    parser.add_argument(
        "--company-index", "--index", type=Path, metavar="FILE", help="the company index, where it is another file"
    )


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    """Send what differs, then verify that the bucket holds it all."""
    settings = read_settings(environment)
    bucket = settings.source_bucket
    index, uploads = _batch(options)
    uploads += [*(Upload(folder, b"") for folder in FOLDERS), *_scripts(settings)]
    session = open_session(settings)
    s3 = session.client("s3")
    there = _listing(s3, bucket=bucket)
    sent = list(_shown(send(uploads, s3=s3, bucket=bucket, there=there, dry_run=options.dry_run), total=len(uploads)))
    planned = there | {one.upload.key: one.etag for one in sent}  # already so where nothing was to be sent
    if not options.dry_run:
        keep_digest(session, settings=settings, archive=_archive(uploads))
    is_as_planned = options.dry_run or all(one.was_there for one in sent)
    after = planned if is_as_planned else _listing(s3, bucket=bucket)
    _verify(sent, after=after, index=index, bucket=bucket)
    facts = {
        "bucket": bucket,
        "files": len(uploads),
        "sent": sum(not one.was_there for one in sent),
        "already_there": sum(one.was_there for one in sent),
        "sent_bytes": sum(one.size_bytes for one in sent if not one.was_there),
        "named_by_index": len(index),
        "company_files_in_bucket": sum(key.startswith("Stocks/") and not key.endswith("/") for key in after),
        "dry_run": options.dry_run,
    }
    result(_counts_text(facts, settings=settings), facts=facts, options=options)
    return 0


def index_names(content: bytes) -> list[str]:
    """The company files that a company index names, between commas or one a line. The pipeline checks more strictly."""
    cells = re.split(r"[,\r\n]+", content.decode("utf-8-sig", errors="replace"))
    return [name for cell in cells if (name := cell.strip().strip("'\"").strip())]


def _batch(options: argparse.Namespace) -> tuple[list[str], list[Upload]]:
    """The names in the company index, and the company files with the index last; both empty without a batch."""
    stocks = options.stocks or (options.batch and options.batch / "Stocks")
    index = options.company_index or (options.batch and options.batch / INDEX_KEY)
    if not stocks and not index:
        return [], []
    if not stocks or not stocks.is_dir():
        raise SettingsError(f"There is no folder {stocks or 'of company files'}. Name BATCH, or --stocks DIR.")
    if not index or not index.is_file():
        raise SettingsError(f"There is no company index {index or ''}. Name BATCH, or --company-index FILE.")
    files = sorted(path for path in stocks.iterdir() if path.is_file() and not path.name.startswith("."))
    uploads = [Upload(f"Stocks/{path.name}", path) for path in files]
    return index_names(index.read_bytes()), [*uploads, Upload(INDEX_KEY, index)]


def _scripts(settings: Settings) -> list[Upload]:
    """What Scripts/ holds: it runs there, and wherever the folder is downloaded to."""
    mount = (ROOT / _MOUNT).read_text("utf-8")
    mine = f"my_bucket={settings.source_bucket} my_region={settings.region}"
    filled, number = re.subn(r"^my_bucket='' my_region=\S+", mine, mount, flags=re.MULTILINE)
    if number != 1:
        raise RefusedError(f"{_MOUNT} has no line for bucket and region. Get the repository again.")
    return [
        *(Upload(f"Scripts/{Path(name).name}", ROOT / name) for name in _SCRIPTS),
        Upload(f"Scripts/{Path(_MOUNT).name}", filled.encode()),
        Upload(LIBRARY_KEY, library()),
        Upload(ARCHIVE_KEY, source_archive()),
    ]


def _archive(uploads: Sequence[Upload]) -> bytes:
    return next(one.read() for one in uploads if one.key == ARCHIVE_KEY)


def _listing(s3: S3Client, *, bucket: str) -> dict[str, str]:
    """The objects in the folders, but of the ever-growing Output/ only that of the folder itself."""
    written = [folder for folder in FOLDERS if folder != "Output/"]
    there = {key: etag for folder in written for key, etag in listing(s3, bucket=bucket, prefix=folder).items()}
    with aws_errors(f"list s3://{bucket}/Output/"):
        first = s3.list_objects_v2(Bucket=bucket, Prefix="Output/", MaxKeys=1).get("Contents", [])
    return there | {one["Key"]: one["ETag"].strip('"') for one in first}


def _verify(sent: Iterable[Sent], *, after: Mapping[str, str], index: Sequence[str], bucket: str) -> None:
    other = sorted(one.upload.key for one in sent if after.get(one.upload.key) != one.etag)
    if other:
        raise RefusedError(
            f"{len(other):,} objects in {bucket} are not what was sent (first: {other[0]}). "
            "Somebody else is writing there. Run upload again."
        )
    missing = [name for name in dict.fromkeys(index) if f"Stocks/{name}" not in after]
    if missing:
        raise RefusedError(
            f"{len(missing):,} company files named by the index are neither in the batch nor in {bucket} "
            f"(first: {missing[0]}). The rest was sent. Add them and run upload again before you put a marker."
        )


def _shown(sent: Iterator[Sent], *, total: int) -> Iterator[Sent]:
    """Pass on the same, with a progress bar at a terminal and a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(sent, total=total, unit="file", desc="upload")
        return
    printed = time.monotonic()
    for done, one in enumerate(sent, start=1):
        if time.monotonic() - printed > _SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            progress(f"{done:,} of {total:,} files")
        yield one


def _counts_text(facts: Mapping[str, object], *, settings: Settings) -> str:
    would = "would be sent (dry run)" if facts["dry_run"] else "sent"
    lines = [
        f"{facts['sent']:,} of {facts['files']:,} files {would} to {facts['bucket']}: {facts['sent_bytes']:,} bytes; "
        f"{facts['already_there']:,} were already there with the same content."
    ]
    if facts["named_by_index"]:
        lines.append(
            f"The company index names {facts['named_by_index']:,} company files; all of them are among the "
            f"{facts['company_files_in_bucket']:,} in the bucket."
        )
        if settings.profile == "course" and facts["company_files_in_bucket"] != COURSE_FILES:
            lines.append(f"Note: the course's dataset has {COURSE_FILES:,} company files.")
        lines.append(
            "Next: python -m infra_scripts init-db and make deploy (once), then python -m infra_scripts trigger --wait"
        )
    else:
        lines.append("Only the scripts were sent, as no batch was named. Next: python -m infra_scripts upload BATCH")
    return "\n".join(lines)
