"""A manifest survives JSON; what is not one of ours is refused."""

import json
from datetime import date
from typing import Any

import pytest

from etl import BatchError, Receipt, Run
from etl.files.manifest import Manifest, QuarantinedFile, Slice
from etl.outcome.receipt import FileCounts, RowCounts

MANIFEST = Manifest(
    source="s3://source/Stocks/",
    company_index="s3://source/CompanyNames/top_companies.txt",
    since=date(2010, 1, 31),
    listed=3,
    rows_read=12,
    rows_rejected=2,
    rows_before_since=5,
    slices=(Slice("é.csv", 0, 40, "0" * 64, 4, 1), Slice("b.csv", 40, 60, "1" * 64, 6, 2)),
    quarantined=(QuarantinedFile("c.csv", "empty: 0 bytes"),),
    notes=("a note",),
)
FACTS: dict[str, Any] = json.loads(MANIFEST.to_json())
ADDED_SINCE = {
    *("files", "rules", "combined_version", "list_versions", "files_read", "files_taken_over"),
    *("repeated", "ignored", "notes", "missing", "consent", "column_aliases"),
}
OF_VERSION_0_1 = FACTS.keys() - ADDED_SINCE


@pytest.mark.parametrize("since", [date(2010, 1, 31), None])
def test_manifest_survives_json(since: date | None) -> None:
    manifest = Manifest(**{**vars(MANIFEST), "since": since})
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_same_facts_give_the_same_bytes() -> None:
    assert Manifest.from_json(MANIFEST.to_json()).to_json() == MANIFEST.to_json()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(MANIFEST.to_json()[:-20], id="cut off"),
        *(pytest.param(content, id=content.decode()) for content in (b"null", b"[]", b"1", b'"x"', b"{}", b"[[]]")),
        pytest.param(json.dumps({**FACTS, "version": 2}).encode(), id="another version"),
        pytest.param(json.dumps({**FACTS, "further": 1}).encode(), id="a further key"),
        pytest.param(json.dumps({**FACTS, "since": "yesterday"}).encode(), id="no day"),
        pytest.param(json.dumps({**FACTS, "slices": [{"offset": 0}]}).encode(), id="half a slice"),
        pytest.param(json.dumps({**FACTS, "slices": None}).encode(), id="no slices"),
        *(
            pytest.param(json.dumps({key: FACTS[key] for key in FACTS if key != left}).encode(), id=f"without {left}")
            for left in sorted(OF_VERSION_0_1)
        ),
    ],
)
def test_foreign_json_is_refused_with_what_to_do(content: bytes) -> None:
    with pytest.raises(BatchError, match=r"is not a manifest of this version .*Run process again"):
        Manifest.from_json(content)


def test_receipt_of_a_manifest_counts_its_slices() -> None:
    receipt = Receipt.of_manifest(MANIFEST, run=Run.begin("test"), output="s3://source/Output/", notes=("a note",))
    receipt.check_balance()
    assert receipt.files == FileCounts(listed=3, accepted=2, quarantined=1, missing=0)
    assert receipt.rows == RowCounts(read=12, accepted=10, rejected=2, flagged=3)
    assert (receipt.quarantined, receipt.notes) == (MANIFEST.quarantined, ("a note",))
