"""Waits until every company file that the company index names is in the source, and plans the run. Reads no file."""

from __future__ import annotations

import time
from collections.abc import Callable

from etl.batch.company_index import CompanyIndex
from etl.batch.plan import Plan, divide, first
from etl.batch.policy import Policy
from etl.batch.storage import Storage
from etl.errors import MissingFilesError

_LONGEST_PAUSE_SECONDS, _SHORTEST_PAUSE_SECONDS = 10.0, 0.5  # between two listings


def make_plan(
    index: CompanyIndex,
    *,
    company_index: str,
    source: Storage,
    grace_seconds: float = 0,
    shards: int = 1,
    policy: Policy | None = None,
    waiting: Callable[[str], object] = lambda _: None,
) -> Plan:
    """List the source until every named file is there, at most `grace_seconds`, and divide the files into shards.

    `company_index`: where the index was read from. `waiting` gets a line whenever other files are missing than before.
    Raises MissingFilesError, naming the files, when the grace is over, unless the policy allows them to be missing and
    at least one is there.
    """
    deadline = time.monotonic() + grace_seconds
    reported: tuple[str, ...] = ()
    while True:
        files = source.listing()
        missing = tuple(name for name in index.names if name not in files)
        left = deadline - time.monotonic()
        if not missing or left <= 0:
            break
        if missing != reported:
            waiting(
                f"Waiting up to {left:.0f} s for {len(missing)} of {len(index.names)} company files: {first(missing)}"
            )
            reported = missing
        time.sleep(min(_LONGEST_PAUSE_SECONDS, max(_SHORTEST_PAUSE_SECONDS, left)))
    policy = policy or Policy()
    if missing and (not policy.allows(missing) or len(missing) == len(index.names)):
        raise MissingFilesError(
            f"{len(missing)} of {len(index.names)} company files named by {company_index} are not in {source.url} "
            f"({first(missing)}). Upload them, then put the marker again. Or consent to their absence, and their "
            f"companies keep the rows that they have: --allow-missing {len(missing)}, or allow_missing in the DAG's "
            "form.",
            listed=len(index.names),
            missing=missing,
        )
    named_files = {name: files[name] for name in index.names if name in files}
    ignored = sum(name.endswith(".csv") for name in files) - sum(name.endswith(".csv") for name in named_files)
    consent = policy.allow_missing if missing else None
    return Plan(company_index, divide(named_files, shards=shards), index.repeated, ignored, missing, consent)
