"""`make demo-platform`: the way to AWS and back, rehearsed on this machine with the real commands and without costs.

Each command of README's "On AWS" is shown and run as a person types it, against a moto server. Nothing is asked: what
a person answers or adds is an option here. What AWS would do by itself is played: PostgreSQL for RDS, Airflow for the
instance.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg2
from psycopg2 import sql

from tests.support import deployment
from tests.support.airflow_server import AirflowServer
from tests.support.moto import AwsServer
from tests.support.paths import DAGS, ROOT, SAMPLE
from tests.support.person import LOGIN, REGION
from tests.support.postgres import PostgresServer
from tests.support.process import HOST, StackError, clean_environment
from tests.support.showing import DemoError, end_in_order, indented, only_one, title
from tests.support.system import DAG_ID
from tests.support.tls_front import tls_front

PREFIX = "de-mbd-predict-ada-lovelace"
IMAGE = "ami-12c6146b"  # moto knows no image of Canonical's
ADDRESS = "192.31.196.7"  # of the internet, but nobody's (RFC 7535)
_STATE = ROOT / ".demo-platform"


def main() -> int:
    """Exit code 0 only if every command did what it is for, and nothing is left at the end."""
    end_in_order()
    try:
        if lacking := deployment.missing():
            raise DemoError(lacking, code=2)
        with only_one(_STATE):
            rehearse()
    except (DemoError, StackError, OSError) as error:
        print(f"\nThe rehearsal failed: {error}", file=sys.stderr)
        return error.code if isinstance(error, DemoError) else 1
    except KeyboardInterrupt:
        print("\nStopped; nothing runs any more.")
        return 130
    return 0


def rehearse() -> None:
    begun = time.monotonic()
    title("Starting what stands in for AWS (nothing here reaches the internet)")
    _remove_files()
    (_STATE / "home").mkdir()
    with ExitStack() as stack:
        print("  an AWS account (moto), empty ...", flush=True)
        aws = stack.enter_context(AwsServer(_STATE / "moto"))
        student = Student(aws)
        print("  PostgreSQL, which will be the database ...", flush=True)
        postgres = stack.enter_context(PostgresServer(_STATE / "postgres"))
        tls_port = stack.enter_context(tls_front(postgres.port, directory=_STATE))

        student.types(
            "init --first-name Ada --last-name Lovelace --region eu-west-1 --email ada@example.org"
            f" --my-address {ADDRESS} --image-id {IMAGE}"
        )
        student.types("plan")
        student.types("apply --yes", says="AWS has just sent a mail to ada@example.org")
        student.subscribes_a_queue()
        student.types(f"upload {SAMPLE.relative_to(ROOT)}")
        make_database(postgres, login=json.loads(student.secret(f"{PREFIX}-database")))
        student.types(f"init-db --host {HOST} --port {tls_port}", says="The table exists")

        title("The instance starts Airflow, as at its boot; here this machine is the instance ...")
        airflow = stack.enter_context(airflow_of(student, postgres=postgres, tls_port=tls_port))
        print(f"  {airflow.url}", flush=True)
        student.deploys(airflow)
        student.types("trigger --wait --timeout 5", says="success: run marker_")
        title("The mail, as SNS sent it")
        mail = student.next_mail()
        indented(f"Subject: {mail['Subject']}\n\n{mail['Message']}")
        student.types("status", says="trigger       UPDATE_COMPLETE")
        student.undeploys()
        student.types("teardown --yes --delete-data --delete-snapshots", says="[x] platform's stack")
        if forgotten := student.left():
            raise DemoError(f"teardown has left {forgotten}")
    _remove_files()
    print(f"\nAll of it worked, in {time.monotonic() - begun:.0f} s, and nothing is left. On AWS: docs/aws.md")


def _remove_files() -> None:
    """All but the lock; a rehearsal that failed keeps its files, with the servers' logs."""
    for left in ("moto", "airflow", "home", "postgres"):
        shutil.rmtree(_STATE / left, ignore_errors=True)
    for file in (".env", "server.pem"):
        (_STATE / file).unlink(missing_ok=True)


class Student:
    """Somebody at a shell, whose settings are in a .env of their own and whose account is `aws`."""

    def __init__(self, aws: AwsServer) -> None:
        self._env_file = _STATE / ".env"
        self._url = aws.url
        mine = {name: value for name, value in clean_environment().items() if not name.startswith(("MBD_", "PG"))}
        self._environment = {**mine, **LOGIN, "AWS_ENDPOINT_URL": aws.url, "AWS_DEFAULT_REGION": REGION}
        self._mails = ""

    def types(self, words: str, *, says: str = "") -> None:
        """Show and run `python -m infra_scripts ...`. Raises DemoError where it fails or does not say `says`."""
        title(f"$ python -m infra_scripts {words}")
        command = [sys.executable, "-m", "infra_scripts", *words.split(), "--env-file", str(self._env_file)]
        said = _run(command, environment=self._environment)
        if says not in said:
            raise DemoError(f"{words.split(maxsplit=1)[0]} did not say {says!r}")

    def deploys(self, airflow: AirflowServer) -> None:
        """`make deploy`; the function reaches Airflow by HTTP, as there is no instance that Systems Manager knows."""
        self._environment |= {"AIRFLOW_URL": airflow.url, "MBD_TRANSPORT": "http"}
        self._serverless("make deploy", "deploy")

    def undeploys(self) -> None:
        self._serverless("make undeploy", "remove")

    def _serverless(self, shown: str, command: str) -> None:
        title(f"$ {shown}")
        settings = {name: value for name, value in _read(self._env_file).items() if name not in self._environment}
        environment = deployment.environment({**settings, **self._environment}, home=_STATE / "home")
        _run(["npx", "serverless", command], environment=environment)

    def client(self, service: Any) -> Any:  # noqa: ANN401
        return boto3.Session("testing", "testing", region_name=REGION).client(service, endpoint_url=self._url)

    def secret(self, name: str) -> str:
        return str(self.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])

    def parameter(self, name: str) -> str:
        answer = self.client("ssm").get_parameter(Name=f"/{PREFIX}/airflow/{name}", WithDecryption=True)
        return str(answer["Parameter"]["Value"])

    def setting(self, name: str) -> str:
        return _read(self._env_file)[name]

    def subscribes_a_queue(self) -> None:
        """Mails do not leave the emulator, so they also go to a queue, where they can be read."""
        sqs = self.client("sqs")
        self._mails = sqs.create_queue(QueueName="mails")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self._mails, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.client("sns").subscribe(TopicArn=self.setting("MBD_TOPIC_ARN"), Protocol="sqs", Endpoint=arn)

    def next_mail(self, *, seconds: float = 60) -> dict[str, str]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in (
                self.client("sqs").receive_message(QueueUrl=self._mails, WaitTimeSeconds=1).get("Messages", [])
            ):
                return dict(json.loads(message["Body"]))
        raise DemoError(f"No mail came within {seconds:.0f} s")

    def left(self) -> list[str]:
        """What is still in the account, apart from the queue of mails and what AWS itself has."""
        return [
            *(one["Name"] for one in self.client("s3").list_buckets()["Buckets"]),
            *(one["FunctionName"] for one in self.client("lambda").list_functions()["Functions"]),
            *(one["RoleName"] for one in self.client("iam").list_roles()["Roles"]),
            *(one["TopicArn"] for one in self.client("sns").list_topics()["Topics"]),
            *(one["StackName"] for one in self.client("cloudformation").describe_stacks()["Stacks"]),
            *(one["DBInstanceIdentifier"] for one in self.client("rds").describe_db_instances()["DBInstances"]),
        ]


def make_database(postgres: PostgresServer, *, login: Mapping[str, str]) -> None:
    """What RDS does: an empty database, and the user whose password is in Secrets Manager."""
    connection = psycopg2.connect(postgres.url("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD %s").format(sql.Identifier(login["username"])),
            (login["password"],),
        )
        cursor.execute(sql.SQL("ALTER DATABASE stocks OWNER TO {}").format(sql.Identifier(login["username"])))
    connection.close()


@contextmanager
def airflow_of(student: Student, *, postgres: PostgresServer, tls_port: int) -> Iterator[AirflowServer]:
    """Airflow with what the instance reads from Parameter Store: connection, password, names."""
    stored = urlsplit(student.parameter("stocks-database"))
    database = f"{stored.scheme}://{stored.username}:{stored.password}@{HOST}:{tls_port}{stored.path}?{stored.query}"
    extra = {"endpoint_url": student.client("s3").meta.endpoint_url, "region_name": REGION}
    environment = {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(
            {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        ),
        "AIRFLOW_CONN_STOCKS_DATABASE": database,
        "MBD_FIRST_NAME": "Ada",
        "MBD_LAST_NAME": "Lovelace",
        "MBD_TOPIC_ARN": student.setting("MBD_TOPIC_ARN"),
    }
    server = AirflowServer(
        _STATE / "airflow", dags=DAGS, database_url=postgres.url("airflow"), environment=environment, dag_ids=(DAG_ID,)
    )
    server.trigger_password = student.parameter("trigger-password")
    with server:
        yield server


def _run(command: list[str], *, environment: Mapping[str, str]) -> str:
    """Run it and print what it says, indented, as it comes; returns that. Raises DemoError where it fails."""
    said = []
    child = subprocess.Popen(
        command, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert child.stdout
        for line in child.stdout:
            said.append(line)
            print(f"  {line.rstrip()}", flush=True)
        code = child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, 15)
            child.wait()
    if code:
        raise DemoError(f"{' '.join(command[:3])} ended with {code}")
    return "".join(said)


def _read(env_file: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in env_file.read_text().splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


if __name__ == "__main__":
    sys.exit(main())
