"""`make demo`: the whole job on this machine, from a marker in S3 to a table and a mail, shown step by step."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2

from etl import EtlError, Receipt, read_prices
from etl.batch.company_index import parse_index
from tests.support.paths import ROOT
from tests.support.process import StackError
from tests.support.system import SOURCE_BUCKET, LocalSystem, Mail

_SAMPLE = ROOT / "tests" / "data" / "sample"
_STATE = ROOT / ".demo"


class DemoFailed(Exception):
    """Something did not hold; the text says what."""


def main() -> int:
    """Exit code 0 only if the run succeeded, the receipt balances, table, combined file and mail agree with it."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    demo = Demo()
    try:
        index = options.index.read_bytes()
        files = {name: options.stocks / name for name in parse_index(index).names}
        files = {name: path for name, path in files.items() if path.is_file()}
        demo.run(files, index=index, keep=options.keep)
    except (DemoFailed, StackError, EtlError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    return 0


class Demo:
    """One showing; it remembers how long each step took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def run(self, files: dict[str, Path], *, index: bytes, keep: bool) -> None:
        _title("Starting the system on this machine, without AWS and without Docker")
        _STATE.mkdir(exist_ok=True)
        begun = time.monotonic()
        with LocalSystem(_STATE, announce=lambda part: print(f"  {part} ...", flush=True)) as system:
            self._seconds["start the system"] = time.monotonic() - begun
            with self._step(
                "upload", f"Uploading {len(files):,} company files and their index to s3://{SOURCE_BUCKET}"
            ):
                _show_upload(system, files, index=index)
            with self._step("trigger", "Putting the marker batch.SUCCESS; its S3 event goes to the trigger's handler"):
                [record] = system.trigger(system.put_marker())
                print(f"  {record['outcome']}: DagRun {record['dag_run_id']}")
            run_id = str(record["dag_run_id"])
            with self._step("run", "Following the run"):
                state = _show_run(system, run_id)
            with self._step("mail", "Waiting for the mail"):
                mail = system.receive_mail()
            _show_mail(mail)
            if state != "success":
                raise DemoFailed(f"the run ended as {state}; its logs are under {system.airflow.home}")
            receipt = Receipt.from_json(system.output(f"receipts/{run_id}.json"))
            _check(system, receipt, mail)
            _show_table(system)
            _show_outputs(system, run_id)
            name, path = max(files.items(), key=lambda item: item[1].stat().st_size)
            with self._step("restatement", f"A dividend: the vendor restates the history of {name}"):
                _show_restatement(system, name, path.read_text())
            self._show_times(receipt)
            print("\nAll of it held: receipt balanced; table, combined file and mail agree with it.")
            if keep:
                _stay_up(system)
        print("Everything is stopped again. To look around next time: make demo KEEP=1")

    @contextmanager
    def _step(self, name: str, title: str) -> Iterator[None]:
        _title(title)
        begun = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - begun

    def _show_times(self, receipt: Receipt) -> None:
        _title("Seconds")
        for name, seconds in self._seconds.items():
            print(f"  {name:<18} {seconds:6.1f}")
            if name == "run":
                for step, within in receipt.steps.items():
                    print(f"    of it {step:<10} {within:6.1f}")


def _show_upload(system: LocalSystem, files: dict[str, Path], *, index: bytes) -> None:
    for done in system.upload(files, index=index):
        if sys.stdout.isatty():
            print(f"\r  {done:,} of {len(files):,}", end="", flush=True)
    print(f"\r  {len(files):,} files, {sum(path.stat().st_size for path in files.values()) / 1e6:.1f} MB")


def _show_run(system: LocalSystem, run_id: str) -> str:
    state = ""
    for change in system.follow(run_id):
        state = str(change["state"])
        if "task_id" not in change:
            print(f"  run {state}")
        elif "line" in change:
            if not change["line"].startswith("company files"):
                continue  # the receipt, which is shown below
            print(f"  {change['task_id']:<8} {change['line']}", flush=True)
        elif state in ("running", "up_for_retry"):
            print(f"  {change['task_id']:<8} {state}", flush=True)
        elif state in ("success", "failed", "upstream_failed", "skipped"):
            print(f"  {change['task_id']:<8} {state}  {change['duration'] or 0:.1f} s", flush=True)
    return state


def _show_mail(mail: Mail) -> None:
    _title("The mail, as SNS sent it, with the receipt")
    print(f"  Subject: {mail.subject}\n")
    print("".join(f"  {line}\n" for line in mail.text.splitlines()), end="")


def _check(system: LocalSystem, receipt: Receipt, mail: Mail) -> None:
    receipt.check_balance()
    if mail.subject != "Ada_Lovelace_Pipeline_Success":
        raise DemoFailed(f"the mail's subject is {mail.subject!r}")
    with psycopg2.connect(system.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM historical_stocks_data")
        [in_table] = cursor.fetchone() or (0,)
    in_file = system.output("historical_stock_data.csv").count(b"\n")
    if not receipt.rows.accepted == in_table == in_file:
        raise DemoFailed(
            f"{receipt.rows.accepted} rows accepted, {in_table} in the table, {in_file} in the combined file"
        )


def _show_table(system: LocalSystem) -> None:
    prices = read_prices(database=system.database_url)
    _title("The first rows of historical_stocks_data, typed by etl.read_prices()")
    print(prices.head().to_string(index=False))
    _title(f"By company (the ten with most rows of {prices['company_name'].nunique():,})")
    by_company = prices.groupby("company_name").agg(
        rows=("stock_date", "size"),
        first=("stock_date", "min"),
        last=("stock_date", "max"),
        lowest_close=("close_value", "min"),
        highest_close=("close_value", "max"),
        best_day_percent=("daily_percent_change", "max"),
    )
    print(by_company.nlargest(10, "rows").to_string())


def _show_outputs(system: LocalSystem, run_id: str) -> None:
    _title("Outputs")
    folder = _STATE / "Output"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "receipts").mkdir(parents=True)
    for name in ("historical_stock_data.csv", "rejected_rows.csv", "manifest.json", f"receipts/{run_id}.json"):
        content = system.output(name)
        (folder / name).write_bytes(content)
        print(f"  {len(content):>12,} bytes  s3://{SOURCE_BUCKET}/Output/{name}")
    print(f"  copied to {folder.relative_to(ROOT)}/")


def _show_restatement(system: LocalSystem, name: str, content: str) -> None:
    """Put the file with all but its last ten rows multiplied, and a second marker; show what the mail says of it."""
    system.s3.put_object(Bucket=SOURCE_BUCKET, Key=f"Stocks/{name}", Body=_multiplied(content, 0.9975).encode())
    [record] = system.trigger(system.put_marker("batch-restated.SUCCESS"))
    for _ in system.follow(str(record["dag_run_id"])):
        pass
    lines = system.receive_mail().text.splitlines()
    if "Restated history:" not in lines:
        raise DemoFailed(f"the mail does not name the restatement of {name}")
    start = lines.index("Restated history:")
    print("  The second mail says:\n")
    print("".join(f"  {line}\n" for line in lines[start : lines.index("", start)]), end="")


def _multiplied(content: str, factor: float) -> str:
    """A company file as it comes after a dividend: all but its last ten rows times a factor, in five digits."""
    header, *rows = content.splitlines()
    names = [column.strip().lower() for column in header.split(",")]
    prices = [names.index(column) for column in ("open", "high", "low", "close")]
    for number, row in enumerate(rows[:-10]):
        fields = row.split(",")
        for position in prices:
            fields[position] = f"{float(fields[position]) * factor:.5g}"
        rows[number] = ",".join(fields)
    return "\n".join([header, *rows]) + "\n"


def _stay_up(system: LocalSystem) -> None:
    _title("Everything stays up until you press Ctrl-C")
    print(f"  Airflow     {system.airflow.url}  login {system.airflow.username} / {system.airflow.password}")
    print(f"  PostgreSQL  psql '{system.database_url}'")
    environment = " ".join(f"{name}={value}" for name, value in system.aws.environment.items())
    print(f"  S3 and SNS  {environment} aws s3 ls s3://{SOURCE_BUCKET}/ --recursive", flush=True)
    with suppress(KeyboardInterrupt):
        signal.pause()
    print()


def _title(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--stocks", type=Path, default=_SAMPLE / "Stocks", help="folder with company files")
    parser.add_argument("--index", type=Path, default=_SAMPLE / "CompanyNames" / "top_companies.txt")
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
