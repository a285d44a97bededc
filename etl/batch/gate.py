"""Waits until every company file that the company index names is in the source, and plans the run. Reads no file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from etl.batch.company_index import CompanyIndex, company_name, composed
from etl.batch.plan import Plan, divide, first
from etl.batch.policy import Policy
from etl.batch.storage import Listed, Storage
from etl.errors import BatchError, MissingFilesError

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
        found = find_company_files(index, files, place=source.url)
        missing = tuple(name for name in index.names if name not in found)
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
    taken = {listed.stored_as or name for name, listed in found.items()}
    ignored = sum(company_name(file).endswith(".csv") for file in files if file not in taken)
    consent = policy.allow_missing if missing else None
    return Plan(company_index, divide(found, shards=shards), index.repeated, ignored, missing, consent)


def find_company_files(index: CompanyIndex, files: Mapping[str, Listed], *, place: str) -> dict[str, Listed]:
    """The listed file of each company name that has one: under the name itself, in another Unicode form, or packed.

    Raises BatchError where it cannot be known which file is meant.
    """
    by_company: dict[str, list[str]] = {}
    for file in files:
        by_company.setdefault(company_name(file), []).append(file)
    found: dict[str, Listed] = {}
    for name in index.names:
        candidates = by_company.get(name, [])
        written = index.packed.get(name, name)
        exact = [file for file in candidates if composed(file) == written] or candidates
        if len(exact) > 1:
            raise _ambiguous(name, exact, place)
        if exact:
            [file] = exact
            found[name] = files[file] if file == name else replace(files[file], stored_as=file)
    return found


def _ambiguous(name: str, files: list[str], place: str) -> BatchError:
    if len({composed(file) for file in files}) == 1:
        shown = " and ".join(ascii(file) for file in sorted(files))
        why = f"under names that look the same and differ only in their Unicode form ({shown})"
    else:
        why = f"more than once ({', '.join(sorted(files))})"
    return BatchError(f"Company file {name!r} is in {place} {why}. Remove all but one, then put the marker again.")
