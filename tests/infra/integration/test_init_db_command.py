"""`init-db` creates the table and stores the connection, only over TLS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import boto3
import psycopg2
import pytest

from tests.support.account import Account, RunCommand
from tests.support.paths import ROOT, SAMPLE
from tests.support.postgres import PostgresServer
from tests.support.stub_database import refusal, stub_database
from tests.support.tls_front import tls_front

PASSWORD = "a'b:c/d@e%f g?"
PARAMETER = "/de-mbd-predict-ada-lovelace/airflow/stocks-database"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    directory = Path(tempfile.mkdtemp(prefix="infra-data-db-"))
    with PostgresServer(directory / "postgres", databases=("stocks",)) as server:
        connection = psycopg2.connect(server.url("stocks"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE stocks SUPERUSER LOGIN PASSWORD %s", (PASSWORD,))
        connection.close()
        yield server
    shutil.rmtree(directory, ignore_errors=True)


Platform = Callable[..., None]


@pytest.fixture
def platform(account: Account) -> Platform:
    """A stack of the platform's name with the outputs that init-db reads, and the secret."""

    def make(*, port: int, password: str = PASSWORD, host: str = "127.0.0.1") -> None:
        outputs = {
            "DatabaseHost": host,
            "DatabasePort": str(port),
            "DatabaseName": "stocks",
            "DatabaseSecret": "de-mbd-predict-ada-lovelace-database",
        }
        template = {
            "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
        cloudformation = boto3.client(
            "cloudformation", endpoint_url=account.url, region_name="eu-west-1",
            aws_access_key_id="testing", aws_secret_access_key="testing",
        )  # fmt: skip
        name = "de-mbd-predict-ada-lovelace-platform"
        cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
        secret = json.dumps({"username": "stocks", "password": password})
        account.secrets.create_secret(Name=outputs["DatabaseSecret"], SecretString=secret)

    return make


def tables(postgres: PostgresServer) -> int:
    connection = psycopg2.connect(postgres.url("stocks"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname IN ('historical_stocks_data', 'loaded_companies')")
        row = cursor.fetchone()
    connection.close()
    return int(row[0]) if row else 0


def test_twice_gives_the_same_table_and_connection(
    command: RunCommand, platform: Platform, postgres: PostgresServer, account: Account, tmp_path: Path
) -> None:
    with tls_front(postgres.port, directory=tmp_path) as port:
        platform(port=port)
        dry = command("init-db", "--dry-run")
        assert (dry.returncode, tables(postgres)) == (0, 0), dry.stderr
        assert "ParameterNotFound" in parameter_error(account)
        done = command("init-db", "--json")
        assert done.returncode == 0, done.stderr
        again = command("init-db", "--json")
    assert tables(postgres) == 2
    kept = account.ssm.get_parameter(Name=PARAMETER, WithDecryption=True)["Parameter"]
    stored = urlsplit(kept["Value"])
    assert (stored.username, stored.port, stored.query) == ("stocks_loader", port, "sslmode=require")
    assert len(stored.password or "") == 48
    assert (kept["Type"], kept["Version"]) == ("SecureString", 1)
    assert [json.loads(one.stdout)["parameter_changed"] for one in (done, again)] == [True, False]
    printed = dry.stdout + done.stdout + done.stderr + again.stdout + again.stderr
    assert PASSWORD not in printed
    assert quote(PASSWORD, safe="") not in printed
    assert str(stored.password) not in printed


def test_airflow_loads_as_a_role_that_may_change_rows_and_nothing_else(
    command: RunCommand, platform: Platform, postgres: PostgresServer, account: Account, tmp_path: Path
) -> None:
    with tls_front(postgres.port, directory=tmp_path) as port:
        platform(port=port)
        assert command("init-db").returncode == 0
    stored = urlsplit(account.ssm.get_parameter(Name=PARAMETER, WithDecryption=True)["Parameter"]["Value"])
    url = f"postgres://{stored.username}:{stored.password}@127.0.0.1:{postgres.port}/stocks"
    batch = [f"--source={SAMPLE}/Stocks", f"--company-index={SAMPLE}/CompanyNames/top_companies.txt"]
    inserted = []
    for _ in range(2):  # the second one compares its rows with those of the first one
        done = subprocess.run(
            [sys.executable, "-m", "etl", "run", *batch, f"--output={tmp_path}/out", "--reload", "--quiet", "--json"],
            env={**os.environ, "MBD_DATABASE_URL": url}, cwd=ROOT, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        inserted.append(json.loads(done.stdout)["rows"]["inserted"])
    assert inserted[0] > inserted[1] == 0
    connection = psycopg2.connect(url)
    connection.autocommit = True
    for forbidden in (
        "DROP TABLE historical_stocks_data", "ALTER TABLE historical_stocks_data DISABLE TRIGGER ALL",
        "TRUNCATE pipeline_runs", "CREATE TABLE mine ()", "CREATE ROLE friend", "SELECT pg_read_file('/etc/passwd')",
    ):  # fmt: skip
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(forbidden)
    connection.close()


def test_a_tunnel_is_used_here_and_not_stored_for_the_instance(
    command: RunCommand, platform: Platform, postgres: PostgresServer, account: Account, tmp_path: Path
) -> None:
    platform(host="db.invalid", port=5432)
    with tls_front(postgres.port, directory=tmp_path) as port:
        # libpq would go to the address of this shell's, whatever the host
        done = command("init-db", "--host", "127.0.0.1", "--port", port, changes={"PGHOSTADDR": "127.0.0.99"})
    assert done.returncode == 0, done.stderr
    kept = account.ssm.get_parameter(Name=PARAMETER, WithDecryption=True)["Parameter"]["Value"]
    assert kept.endswith("@db.invalid:5432/stocks?sslmode=require")


def test_a_stored_login_of_somebody_else_is_not_the_loaders_password(
    command: RunCommand, platform: Platform, postgres: PostgresServer, account: Account, tmp_path: Path
) -> None:
    account.ssm.put_parameter(
        Name=PARAMETER, Value="postgres://stocks:of-the-master@h:5432/stocks", Type="SecureString"
    )
    with tls_front(postgres.port, directory=tmp_path) as port:
        platform(port=port)
        assert command("init-db").returncode == 0
    stored = urlsplit(account.ssm.get_parameter(Name=PARAMETER, WithDecryption=True)["Parameter"]["Value"])
    assert stored.username == "stocks_loader"
    assert stored.password != "of-the-master"


def parameter_error(account: Account) -> str:
    with pytest.raises(account.ssm.exceptions.ParameterNotFound) as caught:
        account.ssm.get_parameter(Name=PARAMETER)
    return str(caught.value)


def test_a_server_without_tls_gets_no_password(
    command: RunCommand, platform: Platform, postgres: PostgresServer, account: Account
) -> None:
    platform(port=postgres.port)
    done = command("init-db", changes={"PGSSLMODE": "disable"})
    assert done.returncode == 2
    assert "does not speak TLS" in done.stderr
    assert "ParameterNotFound" in parameter_error(account)


def test_a_wrong_password_and_a_silent_server_have_messages_of_their_own(
    command: RunCommand, platform: Platform, postgres: PostgresServer, tmp_path: Path
) -> None:
    with tls_front(postgres.port, directory=tmp_path) as port:
        platform(port=port, password="wrong")
        refused = command("init-db")
    assert refused.returncode == 2
    assert "refuses the user name or the password" in refused.stderr
    silent = command("init-db")
    assert silent.returncode == 3
    assert "ssh -L" in silent.stderr
    assert "wrong" not in refused.stderr + silent.stderr


def test_a_server_that_answers_is_not_called_out_of_reach(
    command: RunCommand, platform: Platform, tmp_path: Path
) -> None:
    answer = refusal("de rien ne va plus", sqlstate="53300")
    with stub_database(answer) as stub, tls_front(stub, directory=tmp_path) as port:
        platform(port=port)
        done = command("init-db")
    assert done.returncode == 3
    assert "The server says: de rien ne va plus." in done.stderr
    assert "ssh -L" not in done.stderr


def test_before_apply_it_says_so(command: RunCommand, account: Account) -> None:
    done = command("init-db")
    assert done.returncode == 1
    assert "python -m infra_scripts apply" in done.stderr


def test_a_secret_that_is_no_login_is_refused_unquoted(
    command: RunCommand, platform: Platform, account: Account
) -> None:
    platform(port=1)
    account.secrets.put_secret_value(SecretId="de-mbd-predict-ada-lovelace-database", SecretString="hunter2")
    done = command("init-db")
    assert done.returncode == 1
    assert "is not JSON" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
