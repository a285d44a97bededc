"""The real batch of 1000 companies in four shards: the bytes and the receipt of one pass over it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import etl
from tests.support.batch_files import process
from tests.support.real_batch import MISSING, archive, unpack

pytestmark = pytest.mark.skipif(archive() is None, reason=MISSING)
RUN = etl.Run.begin("test")
OUTPUTS = ("historical_stock_data.csv", "rejected_rows.csv", "rejected_rows.jsonl", "flagged_rows.csv")


def _outputs(job: etl.Job) -> dict[str, Any]:
    """Digests, and the manifest without the versions of these two files, which say when they were written."""
    output = Path(job.output)
    manifest = json.loads((output / "manifest.json").read_text())
    del manifest["combined_version"], manifest["list_versions"]
    return {name: hashlib.sha256((output / name).read_bytes()).hexdigest() for name in OUTPUTS} | manifest


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[etl.Job]:
    root = unpack(tmp_path_factory.mktemp("real"))
    yield etl.Job(str(root / "Stocks"), str(root / "CompanyNames" / "top_companies.txt"), str(root / "Output"))
    shutil.rmtree(root)


def test_real_batch_in_four_shards_gives_the_bytes_and_the_receipt_of_one_pass(job: etl.Job) -> None:
    alone = process(job, run=RUN)
    expected = _outputs(job)
    job = replace(job, reread=True)  # not taken over
    etl.gate(job, run=RUN, shards=4)
    shards = [etl.process(job, run=RUN, shard=number) for number in range(4)]
    combined = etl.combine(job, run=RUN)
    assert _outputs(job) == expected
    assert replace(combined, elapsed_seconds=0, steps={}) == replace(alone, elapsed_seconds=0, steps={})
    assert combined.rows.accepted == 2_054_899
    shares = [receipt.rows.accepted / combined.rows.accepted for receipt in shards]
    assert all(abs(share - 0.25) < 0.01 for share in shares)
