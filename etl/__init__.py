"""Moves a batch of company CSV files into one combined file and one PostgreSQL table. This is the whole public face."""

from etl.aws import Aws
from etl.errors import BatchError, EtlError, ServiceError, SettingsError
from etl.load import Target
from etl.notify import Mailbox
from etl.pipeline import Job, conclude, gate, load, process, read_receipt, record_failure, record_start, run
from etl.prices import read_prices
from etl.progress import CompanyFileProgress
from etl.receipt import Receipt, Run
from etl.settings import Settings, read_settings, source_bucket

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
    "Target",
    "conclude",
    "gate",
    "load",
    "process",
    "read_prices",
    "read_receipt",
    "read_settings",
    "record_failure",
    "record_start",
    "run",
    "source_bucket",
]
