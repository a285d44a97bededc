"""Moves a batch of company CSV files into one combined file and one PostgreSQL table. This is the whole public face."""

from etl.batch.aws import Aws
from etl.errors import BatchError, EtlError, ServiceError, SettingsError
from etl.files.shards import Shard
from etl.outcome.mail import Mailbox
from etl.outcome.receipt import Receipt, Run
from etl.pipeline import (
    Job,
    combine,
    conclude,
    gate,
    load,
    process,
    read_receipt,
    record_failure,
    record_start,
    run,
    split,
)
from etl.progress import CompanyFileProgress
from etl.settings import Settings, read_mailbox, read_settings, source_bucket
from etl.table.load import Target
from etl.table.prices import read_prices

__all__ = [
    "Aws",
    "BatchError",
    "CompanyFileProgress",
    "EtlError",
    "Job",
    "Mailbox",
    "Receipt",
    "Run",
    "ServiceError",
    "Settings",
    "SettingsError",
    "Shard",
    "Target",
    "combine",
    "conclude",
    "gate",
    "load",
    "process",
    "read_mailbox",
    "read_prices",
    "read_receipt",
    "read_settings",
    "record_failure",
    "record_start",
    "run",
    "source_bucket",
    "split",
]
