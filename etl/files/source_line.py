"""Finds the line of a company file that a row of the table came from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from etl.batch.company_index import CompanyIndex
from etl.batch.gate import find_company_files
from etl.batch.storage import Listed, Storage
from etl.errors import BatchError, EtlError, FileChangedError
from etl.files.company_file import UnusableFile, find_row
from etl.files.header import Aliases
from etl.files.manifest import read_manifest
from etl.files.rules import LARGEST_FILE_BYTES, QuarantineReason


@dataclass(frozen=True)
class SourceLine:
    """A row as its company file has it now: place and version of the file, line number (from 1) and raw line."""

    place: str
    version: str
    line: int
    raw: str
    is_loaded_version: bool | None
    """Whether the slice that is loaded was made of this version; None where the last manifest does not know."""


def find_source_line(
    company: str,
    row: Sequence[str | None],
    *,
    source: Storage,
    output: Storage | None,
    aliases: Aliases,
    loaded: str | None,
) -> SourceLine | None:
    """The line with these six fields, or else the first of that day; None where no row of that day keeps the rules.

    `row` may be the day alone. `loaded`: the SHA-256 of the slice that is loaded. Raises BatchError where the file
    cannot be used, and FileChangedError where it is not there.
    """
    file, listed = _find_file(source, company)
    version = listed.version
    if listed.size_bytes > LARGEST_FILE_BYTES:
        reason = QuarantineReason.TOO_LARGE.format(size_bytes=listed.size_bytes, limit_bytes=LARGEST_FILE_BYTES)
        raise BatchError(f"{source.url_of(file)} cannot be used now: {reason}.")
    found = find_row(source.read(file, version=version), row, aliases=aliases)
    if isinstance(found, UnusableFile):
        raise BatchError(f"{source.url_of(file)} cannot be used now: {found.reason}.")
    known = ""
    with suppress(EtlError):
        manifest = read_manifest(output) if output else None
        if manifest and any((one.company_name, one.sha256) == (company, loaded) for one in manifest.slices):
            known = manifest.files[company].version if company in manifest.files else ""
    is_loaded = known == version if known else None
    return SourceLine(source.url_of(file), version, *found, is_loaded) if found else None


def _find_file(storage: Storage, company: str) -> tuple[str, Listed]:
    """A company's file, which may be packed, or in another Unicode form than the company name: name, and as listed."""
    try:
        return company, storage.find(company)
    except FileChangedError:
        listed = find_company_files(CompanyIndex((company,)), storage.listing(), place=storage.url).get(company)
        if listed is None:
            raise
        return listed.stored_as, listed
