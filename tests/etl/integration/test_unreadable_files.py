"""Company files that are there and cannot be read: each is quarantined with its reason; all of them stop the batch."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import etl
from etl.batch.policy import Choice
from tests.support.batch_files import process
from tests.support.commands import counts
from tests.support.paths import ROOT
from tests.support.s3_proxy import Refusal, Request, S3Proxy

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket
    from tests.support.batch_files import Files
    from tests.support.database import Database

DENIED = (
    "User: arn:aws:iam::1:user/u is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/k"
)
REFUSALS = {
    "in Glacier": (
        Refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class"),
        "cannot be read: it is archived and has to be restored first (InvalidObjectState: The operation is not valid "
        "for the object's storage class)",
    ),
    "SSE-C": (
        Refusal(400, "InvalidRequest", "The object was stored using a form of Server Side Encryption."),
        "cannot be read: AWS refuses it (InvalidRequest: The object was stored using a form of Server Side Encryption)",
    ),
    "dead key": (
        Refusal(400, "KMS.DisabledException", "k is disabled."),
        "cannot be read: AWS refuses it (KMS.DisabledException: k is disabled)",
    ),
    "key of others": (
        Refusal(403, "AccessDenied", DENIED),
        f"cannot be read: AWS denies kms:Decrypt (AccessDenied: {DENIED})",
    ),
    "denied": (
        Refusal(403, "AccessDenied", "Access Denied"),
        "cannot be read: AWS denies s3:GetObject (AccessDenied: Access Denied)",
    ),
}


@pytest.fixture
def proxied(three: Files, bucket: Bucket, proxy: S3Proxy) -> Bucket:
    """Three companies in S3, seen through the proxy."""
    bucket.upload(three)
    return replace(bucket, endpoint_url=proxy.url)


def refuse(proxy: S3Proxy, refusal: Refusal, *names: str) -> None:
    def hook(request: Request) -> Refusal | None:
        return refusal if request.operation == "GetObject" and request.key.startswith(names) else None

    proxy.hook = hook


@pytest.mark.parametrize(("refusal", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_object_that_s3_refuses_is_quarantined_and_read_again_by_the_next_run(
    proxied: Bucket, proxy: S3Proxy, database: Database, refusal: Refusal, reason: str
) -> None:
    def run() -> etl.Receipt:
        return etl.run(proxied.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))

    refuse(proxy, refusal, "Stocks/bb")
    for _ in range(2):
        receipt = run()
        assert [(entry.file, entry.reason) for entry in receipt.quarantined] == [("bb.us.csv", reason)]
        assert (receipt.files.accepted, receipt.rows.accepted, database.count()) == (2, 25, 25)
        assert f"bb.us.csv: {reason}" in etl.receipt_text(receipt)
    refuse(proxy, refusal, "nothing")
    receipt = run()
    assert (receipt.files.read, receipt.files.taken_over) == (1, 2), "its ETag is the same, and it is read all the same"
    assert (receipt.quarantined, database.count()) == ((), 35)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(("refusal", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_batch_whose_files_are_all_refused_fails_with_the_cause(
    proxied: Bucket, proxy: S3Proxy, refusal: Refusal, reason: str, shards: int
) -> None:
    refuse(proxy, refusal, "Stocks/")
    with pytest.raises(etl.SettingsError) as raised:
        process(proxied.job(), shards=shards)
    said = str(raised.value)
    assert said.startswith(f"No company file of s3://{proxied.name}/Stocks/ can be read (3 x {reason}).")
    assert said.endswith("The table is unchanged. Correct that, then run it again.")
    receipt = etl.record_failure(raised.value, job=proxied.job(), target=None, run=etl.Run.begin("test"))
    receipt.check_balance()
    assert (receipt.files.listed, receipt.files.quarantined) == (3, 3)


@pytest.mark.parametrize("shards", [1, 2])
def test_files_that_are_all_refused_are_the_cause_also_where_another_may_be_missing(
    proxied: Bucket, proxy: S3Proxy, three: Files, shards: int
) -> None:
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "gone.us.csv")
    proxied.put("CompanyNames/top_companies.txt", three.index.read_bytes())
    refuse(proxy, REFUSALS["in Glacier"][0], "Stocks/")
    job = proxied.job(policy=etl.Policy(allow_missing=Choice("1", "a test")))
    with pytest.raises(etl.SettingsError, match=r"can be read \(3 x cannot be read: it is archived") as raised:
        process(job, shards=shards)
    receipt = etl.record_failure(raised.value, job=job, target=None, run=etl.Run.begin("test"))
    assert (counts(receipt), receipt.missing) == ((4, 0, 3, 1), ("gone.us.csv",))


@pytest.mark.parametrize(
    "code", ["ExpiredToken", "InvalidAccessKeyId", "RequestTimeTooSkewed", "SignatureDoesNotMatch"]
)
def test_refusal_that_would_meet_every_file_stops_at_once(proxied: Bucket, proxy: S3Proxy, code: str) -> None:
    refuse(proxy, Refusal(403, code, "Said by AWS"), "Stocks/bb")
    with pytest.raises(etl.SettingsError, match=rf"{code}: Said by AWS"):
        process(proxied.job())


def test_policy_of_prefixes_alone_is_enough_where_s3_says_403_of_what_is_not_there(
    three: Files, proxied: Bucket, proxy: S3Proxy, bucket: Bucket, database: Database
) -> None:
    """Who may list only under prefixes gets 403 instead of 404 for a missing object, and may look for it by a LIST."""

    def hook(request: Request) -> Refusal | None:
        if request.operation == "HeadBucket" or request.method == "HEAD":
            return Refusal(403, "AccessDenied", "Access Denied")
        if request.operation == "ListObjectsV2" and "prefix=" not in request.target:
            return Refusal(403, "AccessDenied", "Access Denied")
        if request.operation == "GetObject" and not bucket.keys(request.key):
            return Refusal(403, "AccessDenied", "User: u is not authorized to perform: s3:ListBucket on resource: b")
        return None

    proxy.hook = hook
    for inserted in (35, 0):
        receipt = etl.run(proxied.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
        assert receipt.rows.inserted == inserted
    bucket.s3.delete_object(Bucket=bucket.name, Key="CompanyNames/top_companies.txt")
    with pytest.raises(etl.SettingsError, match=r"No such file: .*top_companies\.txt"):
        process(proxied.job())


def _refuse_to_open(monkeypatch: pytest.MonkeyPatch, number: int, *names: str) -> None:
    opened = Path.open

    def refusing(self: Path, *arguments: object, **options: object) -> object:
        if self.name in names and self.parent.name == "Stocks":
            raise OSError(number, os.strerror(number), str(self))
        return opened(self, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refusing)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP], ids=errno.errorcode.get)
def test_file_that_the_system_refuses_is_quarantined_and_all_of_them_are_the_cause(
    three: Files, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as one:
        _refuse_to_open(one, number, "bb.us.csv")
        receipt = process(three.job())
    assert [(entry.file, entry.reason) for entry in receipt.quarantined] == [
        ("bb.us.csv", f"cannot be read: {os.strerror(number)}")
    ]
    assert process(three.job()).files == etl.Receipt.of_run(etl.Run.begin("x"), state=receipt.state).files.__class__(
        listed=3, accepted=3, read=1, taken_over=2
    )
    _refuse_to_open(monkeypatch, number, "aa.us.csv", "bb.us.csv", "cc.us.csv")
    with pytest.raises(etl.SettingsError, match=rf"can be read \(3 x cannot be read: {os.strerror(number)}\)"):
        process(three.job(reread=True))


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN])
def test_shortage_of_memory_is_no_fault_of_a_file(three: Files, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    _refuse_to_open(monkeypatch, number, "bb.us.csv")
    with pytest.raises(etl.ServiceError, match="Memory ran out"):
        process(three.job())


@pytest.mark.parametrize("what", ["source", "company_index"])
def test_folder_that_cannot_be_looked_for_is_named_with_the_cause(three: Files, what: str) -> None:
    beyond = f"{three.root}/{'a' * 300}"
    with pytest.raises(etl.SettingsError, match=r"Cannot find the folder .*: File name too long"):
        process(three.job(**{what: beyond if what == "source" else f"{beyond}/index.txt"}))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_file_without_the_right_to_read_it_is_quarantined(three: Files) -> None:
    script = (  # once as root, so that all that is needed of Python is loaded
        "import os, sys, etl; source, index, output = sys.argv[1:]; job = etl.Job(source, index, output, reread=True)\n"
        "from tests.support.batch_files import process\n"
        "process(job); os.chmod(f'{source}/bb.us.csv', 0); os.chmod(output, 0o777); os.seteuid(65534)\n"
        "print(process(job).quarantined)"
    )
    for folder in (three.root, *three.root.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
        if folder.parent == Path(tempfile.gettempdir()):
            break
    done = subprocess.run(
        [sys.executable, "-c", script, str(three.source), str(three.index), str(three.output)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "cannot be read: Permission denied" in done.stdout, done.stderr
