"""Batch: a company index and a source go in, the company files that one run moves come out, and may be divided."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from etl.batch.company_index import CompanyIndex
from etl.batch.storage import Listed, Storage
from etl.errors import BatchError


@dataclass(frozen=True)
class Batch:
    """What one run moves: the named company files, as they were listed in the source."""

    index_url: str
    index: CompanyIndex
    source: Storage
    files: dict[str, Listed]
    ignored: int

    def shards(self, count: int) -> tuple[Batch, ...]:
        """The batch divided into so many consecutive ranges of the index, alike in bytes; one may be empty."""
        total = sum(listed.size_bytes + 1 for listed in self.files.values())
        shards: list[dict[str, Listed]] = [{} for _ in range(count)]
        before = 0
        for name, listed in self.files.items():
            weight = listed.size_bytes + 1
            shards[(2 * before + weight) * count // (2 * total)][name] = listed  # where the middle of the file lies
            before += weight
        return tuple(
            Batch(self.index_url, CompanyIndex(tuple(files)), self.source, files, ignored=0) for files in shards
        )

    def to_json(self) -> bytes:
        facts = {
            "index_url": self.index_url,
            "repeated": self.index.repeated,
            "files": {name: [listed.version, listed.size_bytes] for name, listed in self.files.items()},
            "ignored": self.ignored,
        }
        return json.dumps(facts).encode()

    @classmethod
    def from_json(cls, content: bytes, *, source: Storage) -> Batch:
        facts = json.loads(content)
        files = {name: Listed(*listed) for name, listed in facts["files"].items()}
        index = CompanyIndex(tuple(files), repeated=tuple(facts["repeated"]))
        return cls(facts["index_url"], index, source, files, facts["ignored"])


class MissingFiles(BatchError):
    """The index names company files that are not in the source."""

    def __init__(self, message: str, *, listed: int, missing: tuple[str, ...]) -> None:
        super().__init__(message)
        self.listed, self.missing = listed, missing


def gate(index: CompanyIndex, *, index_url: str, source: Storage, grace_seconds: float = 0) -> Batch:
    """Wait until every file that the index names is listed in the source, at most `grace_seconds`.

    Lists names only, reads no file. Raises MissingFiles, naming them, when the grace is over.
    """
    deadline = time.monotonic() + grace_seconds
    while True:
        files = source.listing()
        missing = tuple(name for name in index.names if name not in files)
        left = deadline - time.monotonic()
        if not missing or left <= 0:
            break
        time.sleep(min(10.0, max(0.5, left)))
    if missing:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise MissingFiles(
            f"{len(missing)} of {len(index.names)} company files named by {index_url} are not in {source.url} "
            f"({named}). Upload them, then put the marker again.",
            listed=len(index.names),
            missing=missing,
        )
    ignored = sum(name.endswith(".csv") for name in files) - sum(name.endswith(".csv") for name in index.names)
    return Batch(index_url, index, source, {name: files[name] for name in index.names}, ignored)
