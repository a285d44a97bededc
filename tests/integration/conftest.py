"""PostgreSQL and AWS stand-ins, started once; for each test a database as new, a bucket of its own, a small batch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import psycopg2
import pytest

import etl
from etl.cli import main
from etl.table.database import make_tables
from tests.local_stack import MotoServer, PostgresServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from psycopg2.extensions import connection as Connection

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
_HEADER = "Date,Open,High,Low,Close,Volume,OpenInt"
_GATE = 4242  # key of the advisory lock that a COPY stops at


# --- servers, once a session -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def stack_directory() -> Iterator[Path]:
    """Not pytest's own: another session of pytest takes the way into that from the account that PostgreSQL runs as."""
    directory = Path(tempfile.mkdtemp(prefix="etl-integration-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(stack_directory: Path) -> Iterator[PostgresServer]:
    with PostgresServer(stack_directory / "postgres", databases=("stocks", "empty")) as server:
        with _autocommit(server.url("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET fsync = off")
            cursor.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="session")
def moto_server(stack_directory: Path) -> Iterator[MotoServer]:
    with MotoServer(stack_directory / "moto") as server:
        yield server


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of this machine's settings reaches a test, and no handler of a test outlives it."""
    for name in list(os.environ):
        if name.startswith(("MBD_", "AWS_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


# --- the database ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Database:
    """One test's database, and a look into it that shares nothing with etl."""

    url: str = field(repr=False)
    server: PostgresServer = field(repr=False)
    name: str = ""

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The answer of one query, in a session of its own."""
        with _autocommit(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall()

    def execute(self, statement: str, *values: object) -> int:
        """Do one statement, committed; the number of rows that it touched."""
        with _autocommit(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.rowcount

    def session(self) -> Connection:
        """A session that the test itself closes."""
        return psycopg2.connect(self.url)

    def count(self) -> int:
        return int(self.rows("SELECT count(*) FROM historical_stocks_data")[0][0])

    def companies(self) -> dict[str, int]:
        """Rows of each company in the table."""
        return dict(self.rows("SELECT company_name, count(*) FROM historical_stocks_data GROUP BY 1"))

    def table(self) -> list[tuple[str | None, ...]]:
        """The nine columns of every row, as text, sorted: what the table says, wherever its rows lie."""
        return self.rows("SELECT * FROM historical_stocks_data ORDER BY company_name, stock_date, 2, 3, 4, 5, 6")

    def places(self) -> dict[str, set[tuple[str, str]]]:
        """Where each company's rows lie and which transaction put them there: the same while nobody touches them."""
        places: dict[str, set[tuple[str, str]]] = {}
        for name, *place in self.rows("SELECT company_name, ctid::text, xmin::text FROM historical_stocks_data"):
            places.setdefault(name, set()).add((place[0], place[1]))
        return places

    def ledger(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT company_name, sha256, length, rows, run_id, loaded_at FROM loaded_companies ORDER BY 1"
        )

    def states(self) -> list[str]:
        """States of the recorded runs, in their order."""
        return [row[0] for row in self.rows("SELECT state FROM pipeline_runs ORDER BY started_at, attempt_id")]

    def without_password(self, **changes: str) -> str:
        """This database as a DSN of key=value, some keys changed."""
        facts = {
            "host": "127.0.0.1",
            "port": str(self.server.port),
            "user": self.server.user,
            "dbname": self.name,
            **changes,
        }
        return " ".join(f"{key}={value}" for key, value in facts.items())

    @contextmanager
    def copy_stopped_at(self, stock_date: str, *, company: str | None = None) -> Iterator[Callable[[], int]]:
        """Until the block ends, a COPY stops in the middle: before the first row of `stock_date` (and of `company`).

        Yields a function that waits until one has stopped there, and returns the pid of its session.
        """
        self.execute(
            "CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_advisory_lock({_GATE}), pg_advisory_unlock({_GATE}); RETURN NEW; END $$"
        )
        self.execute(
            "CREATE TRIGGER stop_here BEFORE INSERT ON historical_stocks_data FOR EACH ROW "
            "WHEN (NEW.stock_date = %s AND NEW.company_name = coalesce(%s, NEW.company_name)) "
            "EXECUTE FUNCTION stop_here()",
            stock_date,
            company,
        )
        holder = self.session()
        try:
            with holder.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_lock({_GATE})")
            yield self._wait_for_stopped_copy
        finally:
            holder.close()

    def _wait_for_stopped_copy(self) -> int:
        return self.wait_for_session("query LIKE '%%COPY historical_stocks_data%%' AND wait_event = 'advisory'")

    def wait_for_session(self, condition: str) -> int:
        """The pid of the load's session, as soon as `condition` on pg_stat_activity holds for it."""
        query = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            f"AND application_name = 'moving-big-data' AND {condition}"
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = self.rows(query.replace("%%", "%"))
            if found:
                return int(found[0][0])
            time.sleep(0.01)
        raise AssertionError(f"no session of a load with {condition}")

    def kill(self, pid: int) -> None:
        """End a session as an administrator would, and wait until it is gone."""
        assert self.rows("SELECT pg_terminate_backend(%s, 5000)", pid) == [(True,)]


@pytest.fixture
def empty_database(postgres_server: PostgresServer) -> Database:
    """A database without our tables."""
    return _empty(Database(postgres_server.url("empty"), postgres_server, "empty"))


@pytest.fixture
def database(postgres_server: PostgresServer) -> Database:
    """A database after init-db."""
    fresh = _empty(Database(postgres_server.url("stocks"), postgres_server, "stocks"))
    make_tables(fresh.url)
    return fresh


def _empty(database: Database) -> Database:
    """Undo whatever the last test did; making a new one costs ten times as much."""
    with _autocommit(database.server.url("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = %s", [database.name]
        )
        cursor.execute(f"ALTER DATABASE {database.name} RESET ALL")
        cursor.execute(f"GRANT CONNECT ON DATABASE {database.name} TO public")
    database.execute("DROP SCHEMA public CASCADE")
    database.execute("CREATE SCHEMA public")
    database.execute("GRANT USAGE ON SCHEMA public TO public")
    return database


@contextmanager
def _autocommit(url: str) -> Iterator[Connection]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


# --- a batch in folders ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """A batch in folders that a test may change as the exporting application would."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "Stocks"

    @property
    def index(self) -> Path:
        return self.root / "CompanyNames" / "top_companies.txt"

    @property
    def output(self) -> Path:
        return self.root / "Output"

    def put(self, name: str, rows: Sequence[str] | None) -> None:
        """Write a company file of these rows; None writes one of 0 bytes."""
        text = "" if rows is None else "\n".join([_HEADER, *rows]) + "\n"
        (self.source / name).write_text(text)

    def name(self, *names: str) -> None:
        """Write the company index."""
        self.index.write_text(", ".join(f"'{name}'" for name in names))

    def put_copies(self, original: Path, *, count: int) -> None:
        """Write a batch of `count` companies, ge0.us.csv and on, that all have the content of one file."""
        names = [f"ge{number}.us.csv" for number in range(count)]
        for name in names:
            shutil.copy(original, self.source / name)
        self.name(*names)

    def job(self, **changes: Any) -> etl.Job:  # noqa: ANN401  whatever a Job takes
        facts = {"source": str(self.source), "index": str(self.index), "output": str(self.output)}
        return etl.Job(**{**facts, **changes})

    def load(self, database: Database, *, job: etl.Job | None = None, **target: Any) -> etl.Receipt:  # noqa: ANN401
        """Move the batch as `python -m etl run` does."""
        return etl.run(job or self.job(), target=etl.Target(database.url, **target), run=etl.Run.begin("test"))

    @property
    def combined(self) -> bytes:
        return (self.output / "historical_stock_data.csv").read_bytes()

    @property
    def manifest(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.output / "manifest.json").read_bytes())
        return facts

    def write_manifest(self, facts: Mapping[str, Any]) -> None:
        (self.output / "manifest.json").write_text(json.dumps(facts))

    def receipts(self) -> dict[str, dict[str, Any]]:
        """The receipts in the output, by run id."""
        return {path.stem: json.loads(path.read_bytes()) for path in (self.output / "receipts").glob("*.json")}

    def outputs(self) -> dict[str, bytes]:
        """Every file of the output with its bytes, receipts and dry runs left out."""
        return {path.name: path.read_bytes() for path in self.output.iterdir() if path.is_file()}


@pytest.fixture
def make_files(tmp_path: Path) -> Callable[[str], Files]:
    """Makes empty folders for a batch."""

    def make(name: str) -> Files:
        files = Files(tmp_path / name)
        files.source.mkdir(parents=True)
        files.index.parent.mkdir()
        return files

    return make


@pytest.fixture
def days() -> Callable[..., list[str]]:
    """Makes rows: `count` days in a row from 2001-01-01 on, the same for the same arguments."""

    def make(count: int, *, price: float = 10.0, first: int = 0) -> list[str]:
        rows = []
        for number in range(first, first + count):
            opened = price + number % 7 / 8
            closed = opened + (number % 5 - 2) / 10
            high, low = max(opened, closed) + 0.25, min(opened, closed) - 0.25
            day = date(2001, 1, 1) + timedelta(days=number)
            rows.append(f"{day},{opened:.4g},{high:.4g},{low:.4g},{closed:.4g},{1000 + number},0")
        return rows

    return make


@pytest.fixture
def three(make_files: Callable[[str], Files], days: Callable[..., list[str]]) -> Files:
    """Three companies, of 5, 10 and 20 rows."""
    files = make_files("three")
    files.put("aa.us.csv", days(5, price=10))
    files.put("bb.us.csv", days(10, price=20))
    files.put("cc.us.csv", days(20, price=30))
    files.name("aa.us.csv", "bb.us.csv", "cc.us.csv")
    return files


@pytest.fixture
def sample(make_files: Callable[[str], Files]) -> Files:
    """A copy of tests/data/sample: 40 companies, 5 of them of 0 bytes, 76,653 rows less the headers."""
    files = make_files("sample")
    shutil.copytree(SAMPLE / "Stocks", files.source, dirs_exist_ok=True)
    shutil.copytree(SAMPLE / "CompanyNames", files.index.parent, dirs_exist_ok=True)
    return files


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses before another attempt, cut short; how many there are stays."""
    # The module, which the function of the same name hides in the package.
    monkeypatch.setattr(sys.modules["etl.table.load"], "_PAUSES_SECONDS", (0.05, 0.1, 0.1))


# --- the command line --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m etl ...` in this process."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call


# --- AWS ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bucket:
    """One test's bucket on the moto server, looked at with a client of the test's own."""

    name: str
    s3: S3Client = field(repr=False)
    session: boto3.Session = field(repr=False)
    endpoint_url: str

    @property
    def aws(self) -> etl.Aws:
        """What etl is given: clients made now, which know the hooks that `on` was told of before."""
        return etl.Aws(session=self.session, endpoint_url=self.endpoint_url)

    def job(self, **changes: Any) -> etl.Job:  # noqa: ANN401  whatever a Job takes
        place = f"s3://{self.name}"
        facts = {
            "source": f"{place}/Stocks",
            "index": f"{place}/CompanyNames/top_companies.txt",
            "output": f"{place}/Output",
            "aws": self.aws,
        }
        return etl.Job(**{**facts, **changes})

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> set[str]:
        answer = self.s3.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return {entry["Key"] for entry in answer.get("Contents", [])}

    def unfinished_uploads(self) -> list[str]:
        return [upload["Key"] for upload in self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]

    def upload(self, files: Files) -> None:
        for path in files.source.iterdir():
            self.put(f"Stocks/{path.name}", path.read_bytes())
        self.put("CompanyNames/top_companies.txt", files.index.read_bytes())

    def on(self, event: str, hook: Callable[..., Any]) -> None:
        """Call `hook` on an event of botocore, in etl's clients only."""
        self.session.events.register(event, hook)


@pytest.fixture(scope="session")
def new_session() -> Callable[[], boto3.Session]:
    """Makes sessions that share nothing but the descriptions of AWS, which take long to read."""
    loader = botocore.session.get_session().get_component("data_loader")

    def make() -> boto3.Session:
        core = botocore.session.get_session()
        core.register_component("data_loader", loader)
        core.set_credentials("testing", "testing")
        return boto3.Session(botocore_session=core, region_name="eu-west-1")

    return make


@dataclass(frozen=True)
class _Clients:
    """Clients of the tests' own."""

    s3: S3Client
    sns: SNSClient
    sqs: SQSClient


@pytest.fixture(scope="session")
def clients(moto_server: MotoServer, new_session: Callable[[], boto3.Session]) -> _Clients:
    session, url = new_session(), moto_server.url
    return _Clients(
        session.client("s3", endpoint_url=url),
        session.client("sns", endpoint_url=url),
        session.client("sqs", endpoint_url=url),
    )


@pytest.fixture
def aws(moto_server: MotoServer, new_session: Callable[[], boto3.Session]) -> etl.Aws:
    """The moto server, as etl is given it."""
    return etl.Aws(session=new_session(), endpoint_url=moto_server.url)


@pytest.fixture
def bucket(moto_server: MotoServer, clients: _Clients, new_session: Callable[[], boto3.Session]) -> Bucket:
    name = f"de-mbd-test-{uuid.uuid4().hex[:12]}"
    clients.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return Bucket(name, clients.s3, new_session(), moto_server.url)


@dataclass(frozen=True)
class Mail:
    """One message as SNS delivered it."""

    subject: str
    text: str


@dataclass(frozen=True)
class Topic:
    """One test's SNS topic, with a queue that everything published comes to."""

    arn: str
    queue: str
    clients: _Clients = field(repr=False)

    @property
    def mailbox(self) -> etl.Mailbox:
        return etl.Mailbox(self.arn, "ada", "lovelace")

    def mails(self) -> list[Mail]:
        """All that came and was not read yet; moto delivers before `publish` returns, so nothing is on its way."""
        sqs = self.clients.sqs
        mails: list[Mail] = []
        while messages := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                notice = json.loads(message["Body"])
                mails.append(Mail(notice["Subject"], notice["Message"]))
        return mails

    def remove(self) -> None:
        self.clients.sns.delete_topic(TopicArn=self.arn)


@pytest.fixture
def topic(clients: _Clients) -> Topic:
    name = f"test-{uuid.uuid4().hex[:12]}"
    arn = clients.sns.create_topic(Name=name)["TopicArn"]
    queue = clients.sqs.create_queue(QueueName=name)["QueueUrl"]
    queue_arn = clients.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clients.sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
    return Topic(arn, queue, clients)


@pytest.fixture
def aws_environment(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that points etl's commands at the moto server."""
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def closed_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
