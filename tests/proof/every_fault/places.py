"""What is outside of a process: a batch in a folder or in S3 (moto), a topic, a database. Kept, looked at, restored."""

from __future__ import annotations

import io
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import boto3
import moto.s3.models
import psycopg2
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from tests.support.batch_files import Files
from tests.support.process import HOST

BUCKET = "de-mbd-every-fault"
_REGION = "eu-west-1"


class Place(Protocol):
    """Source, company index and output of a batch."""

    source: str
    company_index: str
    output: str

    def publish(self, files: Files) -> None:
        """Make the source that of these files."""

    def keep(self) -> None:
        """Remember the output as it is."""

    def restore(self) -> None:
        """Make the output what was kept, to the version of each file."""

    def look(self) -> dict[str, bytes]:
        """Every file of the output, those that are not finished left out."""

    def rest(self) -> list[str]:
        """What a writer has begun and not finished."""

    def versions(self) -> dict[str, str]:
        """The version of each file directly in the output, as the product lists it."""


class Folder:
    """The batch where it was written."""

    def __init__(self, files: Files, kept: Path) -> None:
        self._files, self._kept = files, kept
        self.source, self.company_index, self.output = str(files.source), str(files.index), str(files.output)

    def publish(self, files: Files) -> None:
        assert files == self._files

    def keep(self) -> None:
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self._files.output, self._kept)

    def restore(self) -> None:
        shutil.rmtree(self._files.output, ignore_errors=True)
        shutil.copytree(self._kept, self._files.output)  # the times too, of which a version is made

    def look(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in self._all() if not name.endswith(".partial")}

    def rest(self) -> list[str]:
        return [name for name, _ in self._all() if name.endswith(".partial")]

    def versions(self) -> dict[str, str]:
        found = {path.name: path.stat() for path in self._files.output.iterdir() if path.is_file()}
        return {name: f"{one.st_mtime_ns}-{one.st_size}" for name, one in found.items()}

    def _all(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self._files.output.rglob("*")):
            if path.is_file():
                yield str(path.relative_to(self._files.output)), path


class Bucket:
    """The batch in a bucket of a moto server in this process, which is looked at without requests."""

    def __init__(self, url: str) -> None:
        place = f"s3://{BUCKET}"
        self.source, self.output = f"{place}/Stocks", f"{place}/Output"
        self.company_index = f"{place}/CompanyNames/top_companies.txt"
        self._s3 = boto3.client("s3", endpoint_url=url, region_name=_REGION)
        self._s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self._kept: dict[str, tuple[bytes, str]] = {}

    @property
    def _bucket(self) -> Any:  # noqa: ANN401  moto's
        return get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].buckets[BUCKET]

    def publish(self, files: Files) -> None:
        for path in files.source.iterdir():
            self._put(f"Stocks/{path.name}", path.read_bytes())
        self._put("CompanyNames/top_companies.txt", files.index.read_bytes())

    def _put(self, key: str, content: bytes, etag: str | None = None) -> None:
        get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, key, content, etag=etag)

    def _objects(self) -> dict[str, tuple[bytes, str]]:
        return {
            key: (found.value, found.etag.strip('"'))
            for key, found in self._bucket.keys.items()
            if key.startswith("Output/")
        }

    def keep(self) -> None:
        self._kept = self._objects()

    def restore(self) -> None:
        found = self._objects()
        for key in found.keys() - self._kept.keys():
            self._bucket.keys.pop(key)
        for key, (content, etag) in self._kept.items():
            if found.get(key) != (content, etag):
                self._put(key, content, etag)
        self._bucket.multiparts.clear()

    def look(self) -> dict[str, bytes]:
        return {key.removeprefix("Output/"): content for key, (content, _) in sorted(self._objects().items())}

    def versions(self) -> dict[str, str]:
        found = {key.removeprefix("Output/"): etag for key, (_, etag) in self._objects().items()}
        return {name: f'"{etag}"' for name, etag in found.items() if "/" not in name}

    def rest(self) -> list[str]:
        return sorted(upload.key_name for upload in self._bucket.multiparts.values())


class Topic:
    """A topic of the moto server; what was published is looked at without requests."""

    def __init__(self, url: str) -> None:
        sns = boto3.client("sns", endpoint_url=url, region_name=_REGION)
        self.arn = sns.create_topic(Name="every-fault")["TopicArn"]

    @property
    def _sent(self) -> list[Any]:
        sent: list[Any] = get_backend("sns")[DEFAULT_ACCOUNT_ID][_REGION].topics[self.arn].sent_notifications
        return sent

    def taken(self) -> list[tuple[str, str]]:
        """Subject and text of what was published since this was last asked."""
        found = [(subject, message) for _, message, subject, *_ in self._sent]
        self._sent.clear()
        return found


def start_moto(port: int) -> str:
    """Start a moto server in a thread of this process, which takes parts of any size; its URL."""
    setattr(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1)  # noqa: B010  mypy would refuse it
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ThreadedMotoServer(HOST, port, verbose=False).start()
    return f"http://{HOST}:{port}"


# --- the database ------------------------------------------------------------------------------------------------

_PLAIN = {  # what of each table says what was loaded, without when and by which run
    "historical_stocks_data": "*",
    "loaded_companies": "company_name, sha256, length, rows, last_day, sha256_by_day",
    "price_changes": "*",
    "ledger_changes": "load, company_name, sha256, length, rows, last_day, sha256_by_day",
    "restatements": "*",
    "flagged_rows": "*",
    "flag_changes": "*",
    "changes_by_hand": "*",
}
_TABLES = (*_PLAIN, "loads", "pipeline_runs", "rejected_rows", "quarantined_files")


@dataclass(frozen=True)
class Stored:
    """What the database holds."""

    plain: dict[str, list[str]]
    """Each table that says what was loaded: its rows as text, sorted."""
    table: list[tuple[str | None, ...]]
    loads: list[str]
    """Runs that were loaded, in their order."""
    runs: list[tuple[str, str, dict[str, Any]]]
    """Run, state and receipt of each that was recorded, in their order."""
    lists: dict[str, tuple[int, int]]
    """Rejected rows and quarantined files of each run."""


class Database:
    """A database that only this process and its children use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg2.connect(url, application_name="the judge")
        self._connection.autocommit = True
        self._kept: dict[str, bytes] = {}
        self._sequences: list[tuple[str, int]] = []

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall()

    def wait_for_sessions(self) -> None:
        """Wait until the server has noticed that the children's sessions are gone."""
        deadline = time.monotonic() + 20
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while self.rows(query) != [(0,)]:
            if time.monotonic() > deadline:
                raise TimeoutError("a session of a process that is gone stays")
            time.sleep(0.001)

    def keep(self) -> None:
        """Remember every table as it is."""
        with self._connection.cursor() as cursor:
            for table in _TABLES:
                content = io.BytesIO()
                cursor.copy_expert(f"COPY {table} TO STDOUT", content)
                self._kept[table] = content.getvalue()
        found = self.rows("SELECT schemaname || '.' || sequencename, last_value FROM pg_sequences")
        self._sequences = [(name, value or 1) for name, value in found]

    def restore(self) -> None:
        """Make every table what was kept."""
        self._connection.autocommit = False
        with self._connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")  # the table's triggers note nothing
            cursor.execute(f"TRUNCATE {', '.join(_TABLES)}")
            for table, content in self._kept.items():
                if content:
                    cursor.copy_expert(f"COPY {table} FROM STDIN", io.BytesIO(content))
            for name, value in self._sequences:
                cursor.execute("SELECT setval(%s, %s)", [name, value])
        self._connection.commit()
        self._connection.autocommit = True

    def look(self) -> Stored:
        """What it holds now."""
        plain = {
            table: sorted(row[0] for row in self.rows(f"SELECT t::text FROM (SELECT {columns} FROM {table}) t"))
            for table, columns in _PLAIN.items()
        }
        lists = self.rows(
            "SELECT run_id, coalesce(r.n, 0), coalesce(q.n, 0) "
            "FROM (SELECT run_id, count(*) AS n FROM rejected_rows GROUP BY 1) r "
            "FULL JOIN (SELECT run_id, count(*) AS n FROM quarantined_files GROUP BY 1) q USING (run_id)"
        )
        return Stored(
            plain,
            sorted(self.rows("SELECT * FROM historical_stocks_data"), key=str),
            [row[0] for row in self.rows("SELECT run_id FROM loads ORDER BY load")],
            [tuple(row) for row in self.rows("SELECT run_id, state, receipt FROM pipeline_runs ORDER BY number")],
            {run: (rejected, quarantined) for run, rejected, quarantined in lists},
        )
