"""`make demo`: the whole job on this machine, from a marker in S3 to a table and a mail, for two days, step by step."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import webbrowser
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg2
from botocore.exceptions import BotoCoreError, ClientError

from etl import EtlError, Receipt, read_prices
from etl.batch.company_index import parse_index
from tests.support.layer import layer_path
from tests.support.paths import ROOT, SAMPLE
from tests.support.postgres import postgres_binaries
from tests.support.process import HOST, StackError
from tests.support.showing import DemoError, end_in_order, indented, only_one, title, write_tool
from tests.support.system import MONITORED_BUCKET, SOURCE_BUCKET, LocalSystem, Mail
from trigger.errors import TriggerError

_STATE = ROOT / ".demo"
_OUTPUT, _TOOLS = _STATE / "Output", _STATE / "bin"
_PAGE = "reports/latest.html"
_FACTOR, _DAYS_AS_BEFORE = 0.9975, 10  # of the restated company
_COLUMNS = ("date", "open", "high", "low", "close", "volume")


def main() -> int:
    """Exit code 0 only if both runs succeeded, their receipts balance, and table, outputs and mails agree with them."""
    options = _options()
    end_in_order()
    try:
        batch = read_batch(options.stocks, options.index)
        with only_one(_STATE):
            Demo().run(batch, keep=options.keep)
    except (DemoError, StackError, EtlError, TriggerError, BotoCoreError, ClientError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return error.code if isinstance(error, DemoError) else 1
    except OSError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; nothing runs any more.")
        return 130
    return 0


@dataclass(frozen=True)
class Batch:
    """Company files by name, and the content of the company index that names them all."""

    files: Mapping[str, Path]
    index: bytes


def read_batch(stocks: Path | None, index: Path | None) -> Batch:
    """The sample, or the reader's own batch. Raises DemoError, before anything is started, where a part is missing."""
    folder = stocks or SAMPLE / "Stocks"
    if not folder.is_dir():
        raise DemoError(f"There is no folder {folder}. Name one: make demo STOCKS=folder INDEX=file", code=2)
    if stocks and not index:
        names = sorted(path.name for path in stocks.glob("*.csv") if path.is_file())
        if not names:
            inside = f" Did you mean {stocks / 'Stocks'}?" if (stocks / "Stocks").is_dir() else ""
            raise DemoError(f"There are no CSV files in {stocks}.{inside}", code=2)
        print(f"No INDEX is given, so all {len(names):,} CSV files of {stocks} are the batch.")
        return Batch({name: stocks / name for name in names}, "\n".join(names).encode())
    index = index or SAMPLE / "CompanyNames" / "top_companies.txt"
    if not index.is_file():
        raise DemoError(f"There is no company index {index}. Without INDEX, all CSV files of STOCKS are taken.", code=2)
    content = index.read_bytes()
    files = {name: folder / name for name in parse_index(content).names}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise DemoError(
            f"{len(missing):,} of the {len(files):,} company files that {index} names are not in {folder} "
            f"(first: {missing[0]}).",
            code=2,
        )
    return Batch(files, content)


class Demo:
    """One showing; it remembers how long each step took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def run(self, batch: Batch, *, keep: bool) -> None:
        title("Starting the system on this machine, without AWS and without Docker")
        for left in ("airflow", "moto", "Output", "bin"):
            shutil.rmtree(_STATE / left, ignore_errors=True)
        begun = time.monotonic()
        with LocalSystem(_STATE, announce=lambda part: print(f"  {part} ...", flush=True)) as system:
            self._seconds["start the system"] = time.monotonic() - begun
            with self._step(
                "upload", f"Uploading {len(batch.files):,} company files and their index to s3://{SOURCE_BUCKET}"
            ):
                _show_upload(system, batch)
            with self._step("trigger", "Putting the marker batch.SUCCESS; its S3 event goes to the trigger's handler"):
                [record] = system.trigger(system.put_marker())
                print(f"  {record['outcome']}: DagRun {record['dag_run_id']}")
            run_id = str(record["dag_run_id"])
            with self._step("run", "Following the run"):
                state = _show_run(system, run_id)
            with self._step("mail", "Waiting for the mail"):
                mail = system.receive_mail()
            title("The mail, as SNS sent it, with the receipt")
            _show_mail(mail)
            if state != "success":
                raise DemoError(f"the run ended as {state}; its logs are under {system.airflow.home}")
            receipt = _receipt_of(system, run_id)
            _check(system, receipt, mail)
            _show_table(system)
            with self._step("the next day", "The next day: the vendor sends everything again"):
                _show_next_day(system, batch, before=receipt)
            _copy_outputs(system)
            _show_outputs()
            self._show_times(receipt)
            print("\nAll of it held: receipts balanced; table, combined file and mails agree with them.", flush=True)
            print(f"The page of the second day, for a browser: {(_OUTPUT / _PAGE).relative_to(ROOT)}")
            if keep:
                _stay_up(system)
        print("Everything is stopped again. To look around next time: make demo KEEP=1")

    @contextmanager
    def _step(self, name: str, text: str) -> Iterator[None]:
        title(text)
        begun = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - begun

    def _show_times(self, receipt: Receipt) -> None:
        title("Seconds")
        for name, seconds in self._seconds.items():
            print(f"  {name:<18} {seconds:6.1f}")
            if name == "run":
                for step, within in receipt.steps.items():
                    print(f"    of it {step:<10} {within:6.1f}")


def _show_upload(system: LocalSystem, batch: Batch) -> None:
    for done in system.upload(batch.files, index=batch.index):
        if sys.stdout.isatty():
            print(f"\r  {done:,} of {len(batch.files):,}", end="", flush=True)
    size = sum(path.stat().st_size for path in batch.files.values())
    print(f"\r  {len(batch.files):,} files, {size / 1e6:.1f} MB")


def _show_run(system: LocalSystem, run_id: str) -> str:
    state = ""
    for change in system.follow(run_id):
        state = str(change["state"])
        if "task_id" not in change:
            print(f"  run {state}")
        elif "line" in change:
            if change["task_id"] == "gate" or change["line"].startswith("company files"):
                print(f"  {change['task_id']:<8} {change['line']}", flush=True)  # the receipt is shown below
        elif state in ("running", "up_for_retry"):
            print(f"  {change['task_id']:<8} {state}", flush=True)
        elif state in ("success", "failed", "upstream_failed", "skipped"):
            print(f"  {change['task_id']:<8} {state}  {change['duration'] or 0:.1f} s", flush=True)
    return state


def _show_mail(mail: Mail) -> None:
    indented(f"Subject: {mail.subject}\n\n{mail.text}")


def _receipt_of(system: LocalSystem, run_id: str) -> Receipt:
    receipt = Receipt.from_json(system.output(f"receipts/{run_id}.json"))
    receipt.check_balance()
    return receipt


def _check(system: LocalSystem, receipt: Receipt, mail: Mail, *, kept: int = 0) -> None:
    """`kept`: rows of companies whose file of today is quarantined."""
    if mail.subject != "Ada_Lovelace_Pipeline_Success":
        raise DemoError(f"the mail's subject is {mail.subject!r}")
    in_table = _count(system, "SELECT count(*) FROM historical_stocks_data")
    in_file = system.output("historical_stock_data.csv").count(b"\n")
    if not receipt.rows.accepted == in_table - kept == in_file:
        raise DemoError(
            f"{receipt.rows.accepted} rows accepted, {in_table} in the table, {kept} of them of quarantined files, "
            f"{in_file} in the combined file"
        )


def _count(system: LocalSystem, query: str, *values: str) -> int:
    with psycopg2.connect(system.database_url) as connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        [count] = cursor.fetchone() or (0,)
    return int(count)


def _show_table(system: LocalSystem) -> None:
    prices = read_prices(database=system.database_url)
    title("The first rows of historical_stocks_data, typed by etl.read_prices()")
    print(prices.head().to_string(index=False))
    title(f"By company (the ten with most rows of {prices['company_name'].nunique():,})")
    by_company = prices.groupby("company_name").agg(
        rows=("stock_date", "size"),
        first=("stock_date", "min"),
        last=("stock_date", "max"),
        lowest_close=("close_value", "min"),
        highest_close=("close_value", "max"),
        best_day_percent=("daily_percent_change", "max"),
    )
    print(by_company.nlargest(10, "rows").to_string())


def _show_next_day(system: LocalSystem, batch: Batch, *, before: Receipt) -> None:
    """Every company has one more day; one has a restated history, and the file of another is broken."""
    bad = {one.file for one in before.quarantined}
    files = {name: path.read_bytes() for name, path in batch.files.items() if name not in bad}
    *_, broken, restated = ["", *sorted(files, key=lambda name: len(files[name]))]
    for name, content in files.items():
        if name == broken:
            files[name] = content.replace(b"Open", b"Opening", 1)
        else:
            files[name] = next_edition(content, factor=_FACTOR if name == restated else 1)
    print("  Each company has a row for one more day.")
    print(
        f"  A dividend: the history of {restated} is multiplied by {_FACTOR}, all but its last {_DAYS_AS_BEFORE} rows."
    )
    if broken:
        print(f"  A mistake: the column Open of {broken} has another name.")
    for name, content in files.items():
        system.s3.put_object(Bucket=SOURCE_BUCKET, Key=f"Stocks/{name}", Body=content)
    [record] = system.trigger(system.put_marker("next-day.SUCCESS"))
    run_id = str(record["dag_run_id"])
    system.finish(run_id)
    mail = system.receive_mail()
    print()
    _show_mail(mail)
    receipt = _receipt_of(system, run_id)
    query = "SELECT count(*) FROM historical_stocks_data WHERE company_name = %s"
    _check(system, receipt, mail, kept=_count(system, query, broken))
    if batch.files.keys() >= {"ge.us.csv"}:  # of one's own batch it is not known what can be restated
        if restated not in mail.text or restated not in [one.company_name for one in receipt.restatements]:
            raise DemoError(f"the mail does not name the restatement of {restated}")
        if broken not in mail.text or broken not in [one.file for one in receipt.quarantined]:
            raise DemoError(f"the mail does not name the quarantined file {broken}")


def next_edition(content: bytes, *, factor: float) -> bytes:
    """A company file a day later: all but its last rows times the factor, in five digits, and a row for the next day.

    One that is not plain (quotes, other columns) stays as it is.
    """
    try:
        header, *rows = content.decode("utf-8-sig").splitlines()
        names = [column.strip().lower() for column in header.split(",")]
        at = [names.index(column) for column in _COLUMNS]
        days = [date.fromisoformat(row.split(",")[at[0]]) for row in rows]
        if factor != 1:
            older = rows[:-_DAYS_AS_BEFORE]
            rows[: len(older)] = [_multiplied(row, at[1:5], factor) for row in older]
        fields = rows[-1].split(",")
        fields[at[0]] = _next_weekday(max(days)).isoformat()
    except (ValueError, IndexError):
        return content
    return "\n".join([header, *rows, ",".join(fields), ""]).encode()


def _multiplied(row: str, positions: Iterable[int], factor: float) -> str:
    fields = row.split(",")
    for position in positions:
        fields[position] = f"{float(fields[position]) * factor:.5g}"
    return ",".join(fields)


def _next_weekday(day: date) -> date:
    return next(later for later in (day + timedelta(days=n) for n in (1, 2, 3)) if later.weekday() < 5)


def _copy_outputs(system: LocalSystem) -> None:
    """Everything that is under Output/ now, to where a reader finds it."""
    for page in system.s3.get_paginator("list_objects_v2").paginate(Bucket=SOURCE_BUCKET, Prefix="Output/"):
        for one in page.get("Contents", []):
            name = one["Key"].removeprefix("Output/")
            if name and not name.endswith("/") and not name.startswith("work/"):
                (_OUTPUT / name).parent.mkdir(parents=True, exist_ok=True)
                (_OUTPUT / name).write_bytes(system.output(name))


def _show_outputs() -> None:
    title(f"Outputs, copied from s3://{SOURCE_BUCKET}/Output/ to {_OUTPUT.relative_to(ROOT)}/")
    for path in sorted(path for path in _OUTPUT.rglob("*") if path.is_file()):
        print(f"  {path.stat().st_size:>12,} bytes  {path.relative_to(_OUTPUT)}")


def _stay_up(system: LocalSystem) -> None:
    """Show markers, runs and mails as they come, until Ctrl-C."""
    _make_tools(system)
    aws, psql = (str((_TOOLS / name).relative_to(ROOT)) for name in ("aws", "psql"))
    title("Everything stays up until you press Ctrl-C")
    print(f"  Airflow   {system.airflow.url}  login {system.airflow.username} / {system.airflow.password}")
    print(f"  Table     {psql} -c 'SELECT * FROM stock_prices LIMIT 5'")
    print(f"  S3        {aws} s3 ls s3://{SOURCE_BUCKET}/ --recursive")
    print(f"  Page      {(_OUTPUT / _PAGE).as_uri()}")
    _open_page()
    print("  Change a company file if you like, then put a marker. It starts a run, whose mail appears here:")
    print(f"    {aws} s3 cp FILE s3://{SOURCE_BUCKET}/Stocks/")
    print(f"    {aws} s3api put-object --bucket {MONITORED_BUCKET} --key again.SUCCESS", flush=True)
    try:
        with suppress(KeyboardInterrupt):
            while True:
                _show_what_comes(system)
        print("\nStopping everything (a few seconds) ...", flush=True)
    finally:
        shutil.rmtree(_TOOLS, ignore_errors=True)


def _show_what_comes(system: LocalSystem) -> None:
    for event in system.new_events():
        try:
            for record in system.trigger(event):
                title(f"Marker {record['key']}: {record['outcome']}, run {record['dag_run_id']}")
        except TriggerError as error:
            title(f"A marker started no run: {error}")
    for mail in system.new_mails():
        title("A mail")
        _show_mail(mail)
        _copy_outputs(system)
        print(f"\n  Page: {(_OUTPUT / _PAGE).as_uri()}", flush=True)


def _make_tools(system: LocalSystem) -> None:
    """`psql` and `aws` that need no option: neither has to be installed."""
    database = system.postgres
    login = {"PGHOST": HOST, "PGPORT": str(database.port), "PGUSER": database.user, "PGPASSWORD": database.password}
    psql = f"'{postgres_binaries() / 'psql'}'"
    write_tool(_TOOLS / "psql", environment={**login, "PGDATABASE": "stocks"}, command=psql)
    environment = {**system.aws.environment, "PYTHONPATH": str(layer_path()), "PYTHONWARNINGS": "ignore"}
    write_tool(_TOOLS / "aws", environment=environment, command=f"'{sys.executable}' -m awscli")


def _open_page() -> None:
    """In a browser with windows: one that draws in a terminal would take this one."""
    if sys.stdout.isatty() and (sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        webbrowser.open((_OUTPUT / _PAGE).as_uri())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--stocks", type=Path, help="folder with company files (the sample's)")
    parser.add_argument("--index", type=Path, help="company index; without it, all CSV files of --stocks")
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
