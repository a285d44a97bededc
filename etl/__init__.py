"""Moves a batch of company CSV files into one combined file and one PostgreSQL table. This is the whole public face."""

from etl.batch.aws import Aws
from etl.batch.company_index import read_names
from etl.batch.policy import Policy
from etl.errors import BatchError, EtlError, ServiceError, SettingsError, as_etl_error
from etl.outcome.channels import Channels
from etl.outcome.datasets import Dataset, Datasets
from etl.outcome.mail import Mailbox
from etl.outcome.receipt import Marker, Receipt, Run
from etl.outcome.wording import receipt_text
from etl.pipeline import (
    Job,
    combine,
    datasets,
    forget_work,
    gate,
    load,
    process,
    read_history,
    record_failure,
    record_start,
    report_to_channels,
    run,
    send_mail,
    send_mail_of_run,
)
from etl.progress import CompanyFileProgress
from etl.revision import code_version
from etl.settings import Settings, read_channels, read_mailbox, read_policy, read_settings, source_bucket
from etl.table.companies import companies
from etl.table.dsn import database_dsn
from etl.table.load import Target
from etl.table.prices import read_prices
from etl.table.schema import make_tables

__all__ = [
    "Aws",
    "BatchError",
    "Channels",
    "CompanyFileProgress",
    "Dataset",
    "Datasets",
    "EtlError",
    "Job",
    "Mailbox",
    "Marker",
    "Policy",
    "Receipt",
    "Run",
    "ServiceError",
    "Settings",
    "SettingsError",
    "Target",
    "as_etl_error",
    "code_version",
    "combine",
    "companies",
    "database_dsn",
    "datasets",
    "forget_work",
    "gate",
    "load",
    "make_tables",
    "process",
    "read_channels",
    "read_history",
    "read_mailbox",
    "read_names",
    "read_policy",
    "read_prices",
    "read_settings",
    "receipt_text",
    "record_failure",
    "record_start",
    "report_to_channels",
    "run",
    "send_mail",
    "send_mail_of_run",
    "source_bucket",
]
