"""What `upload` sends: nothing too large for memory, nothing after an error, nothing that it could not compare."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra_scripts.commands.upload import _verify
from infra_scripts.errors import RefusedError
from infra_scripts.platform.objects import LARGEST_BYTES, Sent, Upload, send


def etag_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_a_file_that_memory_should_not_hold_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "wex.us.csv"
    with file.open("wb") as opened:
        opened.truncate(LARGEST_BYTES + 1)
    with pytest.raises(RefusedError, match=r"wex\.us\.csv has 67,108,865 bytes"):
        Upload("Stocks/wex.us.csv", file).read()


def test_after_an_error_what_is_not_under_way_is_not_sent() -> None:
    asked: list[str] = []

    def put_object(*, Key: str, **_: Any) -> Any:  # noqa: ANN401
        asked.append(Key)
        if Key == "Stocks/0":
            raise RefusedError("no more room")
        threading.Event().wait(0.1)  # the others are under way then
        return {"ETag": etag_of(b"x")}

    s3: Any = SimpleNamespace(put_object=put_object)
    with pytest.raises(RefusedError, match="no more room"):
        list(send([Upload(f"Stocks/{number}", b"x") for number in range(500)], s3=s3, bucket="b", there={}))
    assert len(asked) < 250


def test_a_bucket_whose_etags_are_no_md5_is_reported() -> None:
    s3: Any = SimpleNamespace(put_object=lambda **_: {"ETag": '"of KMS"'})
    with pytest.raises(RefusedError, match="it encrypts with KMS"):
        list(send([Upload("Stocks/a", b"x")], s3=s3, bucket="b", there={}))


def test_what_is_there_afterwards_is_compared_with_what_was_sent() -> None:
    sent = [Sent(Upload("Stocks/a", b"x"), etag=etag_of(b"x"), size_bytes=1, was_there=False)]
    _verify(sent, after={"Stocks/a": etag_of(b"x")}, index=["a"], bucket="b")
    with pytest.raises(RefusedError, match=r"1 objects in b are not what was sent \(first: Stocks/a\)"):
        _verify(sent, after={"Stocks/a": etag_of(b"y")}, index=["a"], bucket="b")
