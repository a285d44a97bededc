"""The one mail of a run, read from a queue behind the topic: by command line and as an orchestrator concludes a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import etl
from etl.outcome.receipt import MailState
from tests.support.batch_files import process

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket, Topic
    from tests.support.batch_files import Files
    from tests.support.commands import Answer, Command
from tests.support.database import Database

SUCCESS, FAILURE = "Ada_Lovelace_Pipeline_Success", "Ada_Lovelace_Pipeline_Failure"
Days = Callable[..., list[str]]


def _arguments(files: Files, topic: Topic, database: Database) -> list[object]:
    return [
        *("--source", files.source, "--index", files.index, "--output", files.output, "--database-url", database.url),
        *("--topic-arn", topic.arn, "--first-name", "ada", "--last-name", "lovelace", "--quiet"),
    ]


def _move(files: Files, topic: Topic, database: Database, command: Command, *options: object) -> Answer:
    return command("run", *_arguments(files, topic, database), *options)


@pytest.mark.usefixtures("aws_environment")
def test_success_is_one_mail_with_the_whole_receipt(
    three: Files, topic: Topic, database: Database, command: Command
) -> None:
    three.put("dd.us.csv", None)
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")
    assert _move(three, topic, database, command).code == 0
    (mail,) = topic.mails()
    ((run_id, receipt),) = three.receipts().items()
    assert mail.subject == SUCCESS
    for line in (
        *etl.receipt_text(etl.Receipt.from_facts(receipt)).splitlines(),
        "To do:",
        "Ask the exporter for usable files of dd.us.csv.",
        "Loaded 35 rows; 3 companies are up to date.",
        run_id,
        "4 listed = 3 accepted + 1 quarantined + 0 missing",
        "35 read = 35 accepted + 0 rejected",
        "35 accepted = 35 inserted + 0 unchanged; 0 old rows deleted",
        "dd.us.csv: empty: 0 bytes",
        str(three.output / "receipts" / f"{run_id}.json"),
    ):
        assert line in mail.text


@pytest.mark.usefixtures("aws_environment")
def test_failure_is_one_mail_that_says_what_to_do(
    three: Files, topic: Topic, database: Database, command: Command
) -> None:
    three.name("aa.us.csv", "gone.us.csv")
    answer = _move(three, topic, database, command)
    assert answer.code == 1
    (mail,) = topic.mails()
    assert mail.subject == FAILURE
    assert mail.text.startswith("FAILED: 1 of 2 company files named by ")
    assert "gone.us.csv" in mail.text
    assert "Upload them, then put the marker again." in mail.text
    assert "2 listed = 1 accepted + 0 quarantined + 1 missing" in mail.text


@pytest.mark.usefixtures("aws_environment")
def test_failure_of_the_database_is_one_mail_without_the_password(
    three: Files, topic: Topic, database: Database, command: Command
) -> None:
    url = database.without_password(password="hunter2-do-not-print")
    assert command("run", *_arguments(three, topic, database), "--database-url", url).code == 2
    (mail,) = topic.mails()
    assert mail.subject == FAILURE
    assert "the server refuses the user name or the password" in mail.text
    assert "hunter2" not in mail.text


@pytest.mark.usefixtures("aws_environment")
def test_run_that_moved_nothing_says_so_in_its_mail(
    three: Files, topic: Topic, database: Database, command: Command
) -> None:
    first = three.load(database)
    assert _move(three, topic, database, command).code == 0
    (mail,) = topic.mails()
    assert mail.text.startswith("0 changes")
    assert f"Same content as run {first.run_id}." in mail.text


def _notices(files: Files) -> dict[str, dict[str, str]]:
    return {path.stem: json.loads(path.read_bytes()) for path in (files.output / "notices").glob("*.json")}


@pytest.mark.parametrize("fault", ["topic removed", "endpoint down"])
@pytest.mark.usefixtures("aws_environment")
def test_mail_that_is_refused_is_kept_as_a_notice_and_the_load_stands(
    three: Files,
    topic: Topic,
    database: Database,
    command: Command,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    if fault == "topic removed":
        topic.remove()
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", f"http://127.0.0.1:{closed_port}")
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    answer = _move(three, topic, database, command)
    assert answer.code == 0
    assert answer.err.startswith("warning: The mail was not sent: Cannot publish to ")
    assert answer.err.count("\n") == 1
    assert database.count() == 35
    ((run_id, receipt),) = three.receipts().items()
    assert (receipt["state"], receipt["mail"]) == ("success", "kept")  # the watchdog sends it, and reports nothing
    notice = _notices(three)[run_id]
    assert (notice["TopicArn"], notice["Subject"]) == (topic.arn, SUCCESS)
    assert notice["Message"].startswith("Loaded 35 rows")
    assert topic.mails() == []


@pytest.mark.usefixtures("aws_environment")
def test_mail_that_can_be_neither_sent_nor_kept_does_not_turn_a_load_into_a_failure(
    three: Files, topic: Topic, database: Database, command: Command
) -> None:
    topic.remove()
    three.output.mkdir()
    (three.output / "notices").write_text("a file where the folder should be")
    answer = _move(three, topic, database, command)
    assert database.states() == ["success"]
    assert answer.code == 0
    assert "The mail was not sent" in answer.err
    [receipt] = three.receipts().values()
    assert receipt["mail"] is None  # so the watchdog reports the run


@pytest.mark.usefixtures("aws_environment")
def test_topic_without_names_is_refused_before_anything_is_done(
    three: Files, topic: Topic, database: Database, command: Command
) -> None:
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places, "--database-url", database.url, "--topic-arn", topic.arn)
    assert answer.code == 2
    assert "MBD_FIRST_NAME and MBD_LAST_NAME" in answer.err
    assert (database.count(), three.output.exists()) == (0, False)


@pytest.mark.usefixtures("aws_environment")
def test_check_tells_who_gets_the_mail(topic: Topic, command: Command, closed_port: int) -> None:
    names = ("--first-name", "ada", "--last-name", "lovelace")
    answer = command("check", "--topic-arn", topic.arn, *names)
    assert (answer.code, SUCCESS in answer.out) == (0, True)
    answer = command("check", "--topic-arn", topic.arn + "-not", *names)
    assert answer.code == 2
    assert "\nerror  mail" in answer.out


# --- an orchestrator's word ----------------------------------------------------------------------------------------


@pytest.fixture
def run() -> etl.Run:
    return etl.Run.begin("airflow")


Conclude = Callable[..., etl.Receipt]


@pytest.fixture
def conclude(three: Files, aws: etl.Aws, topic: Topic, run: etl.Run) -> Conclude:
    def call(*, succeeded: bool, reason: str = "all well", output: str | None = None) -> etl.Receipt:
        job = three.job(aws=aws, **({"output": output} if output else {}))
        return etl.send_mail_of_run(job, run=run, succeeded=succeeded, reason=reason, mailbox=topic.mailbox)

    return call


def _state_on_disk(files: Files, run: etl.Run) -> str:
    return str(files.receipts()[run.run_id]["state"])


def test_run_that_succeeded_is_concluded_with_its_own_receipt(
    three: Files, database: Database, topic: Topic, run: etl.Run, conclude: Conclude
) -> None:
    etl.record_start(three.job(), run=run)
    process(three.job(), run=run)
    loaded = etl.load(three.job(), target=etl.Target(database.url), run=run)
    concluded = conclude(succeeded=True)
    (mail,) = topic.mails()
    assert mail.subject == SUCCESS
    assert mail.text.startswith("Loaded 35 rows")
    assert concluded.to_json() == replace(loaded, mail=MailState.SENT).to_json()
    assert three.receipts() == {run.run_id: json.loads(concluded.to_json())}


@pytest.mark.parametrize("content", ["{", "[]", '{"run_id": 1}', '{"rows": 5}'])
def test_success_whose_receipt_is_none_is_told_as_one_and_leaves_it(
    three: Files, topic: Topic, run: etl.Run, conclude: Conclude, content: str
) -> None:
    path = three.output / "receipts" / f"{run.run_id}.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    conclude(succeeded=True)
    (mail,) = topic.mails()
    assert mail.text.startswith("FAILED: The run succeeded, but its receipt cannot be read: ")
    assert path.read_text() == content


def test_success_whose_receipt_cannot_be_read_is_told_as_one(
    three: Files, database: Database, topic: Topic, run: etl.Run, conclude: Conclude, tmp_path: Path
) -> None:
    etl.run(three.job(), target=etl.Target(database.url), run=run)
    (tmp_path / "file").touch()
    conclude(succeeded=True, output=str(tmp_path / "file"))
    (mail,) = topic.mails()
    assert mail.text.startswith("FAILED: The run succeeded, but its receipt cannot be read: ")
    assert three.receipts()[run.run_id]["mail"] is None


def test_run_that_failed_is_concluded_with_the_reason_in_its_own_receipt(
    three: Files, database: Database, topic: Topic, run: etl.Run, conclude: Conclude
) -> None:
    etl.record_start(three.job(), run=run)
    error = etl.BatchError("No company file of the batch is usable.")
    etl.record_failure(error, job=three.job(), target=etl.Target(database.url), run=run)
    conclude(succeeded=False, reason="task_failure")
    (mail,) = topic.mails()
    assert mail.subject == FAILURE
    assert mail.text.startswith("FAILED: No company file of the batch is usable.")
    assert "task_failure" not in mail.text
    assert database.states() == ["failed"]


def test_run_that_says_it_failed_is_a_failure_even_if_the_orchestrator_calls_it_a_success(
    three: Files, database: Database, topic: Topic, run: etl.Run, conclude: Conclude
) -> None:
    etl.record_failure(etl.BatchError("no"), job=three.job(), target=None, run=run)
    assert conclude(succeeded=True).state == "failed"
    assert [mail.subject for mail in topic.mails()] == [FAILURE]


@pytest.mark.parametrize("left", ["nothing", "running"])
@pytest.mark.parametrize("reason", ["timed_out", "task_failure"])
def test_run_that_was_killed_is_concluded_as_a_failure_that_names_the_reason(
    three: Files, topic: Topic, run: etl.Run, conclude: Conclude, left: str, reason: str
) -> None:
    if left == "running":
        etl.record_start(three.job(), run=run)
        assert _state_on_disk(three, run) == "running"
    receipt = conclude(succeeded=False, reason=reason)
    (mail,) = topic.mails()
    assert mail.subject == FAILURE
    assert f"The run ended as '{reason}' and could not say why: it was killed or timed out." in mail.text
    assert "put the marker again" in mail.text
    assert run.run_id in mail.text
    assert (receipt.state, _state_on_disk(three, run)) == ("failed", "failed")


@pytest.mark.parametrize("left", ["nothing", "running"])
def test_success_without_a_receipt_is_no_success(
    three: Files, topic: Topic, run: etl.Run, conclude: Conclude, left: str
) -> None:
    if left == "running":
        etl.record_start(three.job(), run=run)
    conclude(succeeded=True, reason="success")
    assert [mail.subject for mail in topic.mails()] == [FAILURE]


def test_load_that_was_committed_before_its_run_was_killed_says_so(
    three: Files, database: Database, topic: Topic, run: etl.Run, conclude: Conclude
) -> None:
    process(three.job(), run=run)
    etl.load(three.job(), target=etl.Target(database.url), run=run)
    receipt = conclude(succeeded=False, reason="timed_out")
    (mail,) = topic.mails()
    assert mail.subject == FAILURE
    assert "committed all the same." in mail.text
    assert "35 accepted = 35 inserted + 0 unchanged" in mail.text
    assert receipt.rows.inserted == 35


def test_conclusion_whose_mail_is_refused_raises_and_keeps_the_notice(
    three: Files, topic: Topic, run: etl.Run, conclude: Conclude
) -> None:
    topic.remove()
    with pytest.raises(etl.ServiceError, match="The mail was not sent"):
        conclude(succeeded=False, reason="timed_out")
    assert _notices(three)[run.run_id]["Subject"] == FAILURE


@pytest.mark.parametrize("place", ["s3://de-mbd-nowhere/Output", "a file"])
def test_run_whose_output_cannot_be_reached_is_still_told_by_mail(
    topic: Topic, conclude: Conclude, tmp_path: Path, place: str
) -> None:
    if place == "a file":
        (tmp_path / "blocked").write_text("")
        place = str(tmp_path / "blocked" / "Output")
    conclude(succeeded=False, reason="task_failure", output=place)
    (mail,) = topic.mails()
    assert mail.subject == FAILURE


def test_huge_receipt_is_cut_and_points_to_the_whole(three: Files, topic: Topic, run: etl.Run, aws: etl.Aws) -> None:
    error = etl.BatchError("long \x00\x1b and\nwith lines " + "ü" * 300_000)
    job = three.job(aws=aws)
    etl.record_failure(error, job=job, target=None, run=run)
    etl.send_mail_of_run(job, run=run, succeeded=False, reason="failed", mailbox=topic.mailbox)
    (mail,) = topic.mails()
    assert mail.subject == FAILURE
    assert len(mail.text.encode()) < 256 * 1024
    assert mail.text.rstrip().endswith(f"the whole receipt: {three.output}/receipts/{run.run_id}.json")
    assert not {"\x00", "\x1b"} & set(mail.text)


def test_receipt_in_s3_is_named_in_the_mail(
    three: Files, bucket: Bucket, database: Database, topic: Topic, run: etl.Run
) -> None:
    bucket.upload(three)
    etl.run(bucket.job(), target=etl.Target(database.url), run=run)
    etl.send_mail_of_run(bucket.job(), run=run, succeeded=True, reason="success", mailbox=topic.mailbox)
    (mail,) = topic.mails()
    assert f"s3://{bucket.name}/Output/receipts/{run.run_id}.json" in mail.text
