"""### Moving Big Data: one batch of company CSV files from S3 into PostgreSQL

A `.SUCCESS` marker in the monitored bucket starts a run (or you do, with the form). **gate** waits until every file
that the company index names is in `Stocks/`, and plans the run; **process** checks the files and writes the combined
file, the rejected rows and the manifest to `Output/`; **load** brings the changed companies into
`historical_stocks_data` in one transaction. A large batch may be divided into shards, which several **process** tasks
check in parallel: `load` then combines them first, and the outputs are the same.
Whatever happens, one mail reports how it went, with the receipt.

A failed run leaves the table as it was. Fix what the mail names, then put the marker again (or clear the run).
"""
# Long because Airflow reads a DAG from one file, and this is the only one.

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk import Asset, AssetAlias, BaseOperatorLink, Connection, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

import etl

AWS_CONNECTION = "aws_default"  # without it: the instance role, as boto3 finds it
DATABASE_CONNECTION = "stocks_database"
TABLE = Asset("historical_stocks_data")
PLACES = AssetAlias("historical_stocks_data_places")  # the table and files under their URIs, which a run finds out

# What a task prints arrives late and in pieces, between Airflow's own lines; what it logs stays in order.
log = logging.getLogger("airflow.task")

PARAMS = {
    "source_bucket": Param(
        etl.source_bucket(os.environ),
        type="string",
        title="Source bucket",
        description_md="The bucket with `Stocks/`, `CompanyNames/` and `Output/`.",
    ),
    "index_key": Param(
        "CompanyNames/top_companies.txt",
        type="string",
        title="Company index",
        description_md="The object in the source bucket that names the company files of the batch.",
    ),
    "since": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Only rows since",
        description_md="Take only rows of this day or later. A load that would remove older ones is refused.",
    ),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description_md="Check the files and report what a load would do; outputs go to `Output/dry-run/`.",
    ),
    "reload": Param(
        False,
        type="boolean",
        title="Reload",
        description_md="Compare every company of the batch with the table, and replace rows that differ: after manual "
        "changes of the table.",
    ),
    "accept_shrunk": Param(
        None,
        type=["null", "string"],
        title="Accept shrunk companies",
        description_md="Companies, separated by blanks or commas, that are loaded although their new files lost days; "
        "or `all`.",
    ),
    "max_rejected": Param(
        None,
        type=["null", "string"],
        pattern=r"^\d+(\.\d+)?\s*%$|^\d+$",
        title="Most rejected rows",
        description_md="The run fails, with the table unchanged, where more rows are rejected: `100`, or `1%` of the "
        "rows read. Empty: as `MBD_MAX_REJECTED` says, or no limit.",
    ),
    "allow_missing": Param(
        None,
        type=["null", "string"],
        title="Missing files",
        description_md="Load the batch although so many company files are missing, or those that are named here, "
        "separated by blanks or commas. Their companies keep their rows. Empty: as `MBD_ALLOW_MISSING` says, or none.",
    ),
    "reread": Param(
        False,
        type="boolean",
        title="Reread",
        description_md="Read every company file, also those that have not changed since the last run.",
    ),
    "column_aliases": Param(
        os.environ.get("MBD_COLUMN_ALIASES") or None,
        type=["null", "string"],
        title="Column aliases",
        description_md="Other names of columns, such as `Close=Adj Close, Date=Datum`: as `MBD_COLUMN_ALIASES` says.",
    ),
    "shards": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=64,
        title="Shards",
        description_md="How many `process` tasks share the batch, where `MBD_SHARDS` is set to 2 or more. Empty: as "
        "`MBD_SHARDS` says. Otherwise one task does it all, with the same outputs.",
    ),
}


def job_of(params: Mapping[str, Any], *, aws: etl.Aws | None = None) -> etl.Job:
    """The job that a run's params describe, with the connection's login unless another one is given."""
    bucket = f"s3://{params['source_bucket']}"
    return etl.Job(
        source=f"{bucket}/Stocks/",
        company_index=f"{bucket}/{params['index_key']}",
        output=f"{bucket}/Output/dry-run/" if params["dry_run"] else f"{bucket}/Output/",
        since=date.fromisoformat(params["since"]) if params["since"] else None,
        reread=params["reread"],
        column_aliases=params["column_aliases"] or "",
        dry_run=params["dry_run"],
        aws=aws or aws_of_connection(),
    )


def aws_of_connection() -> etl.Aws:
    hook = AwsBaseHook(aws_conn_id=AWS_CONNECTION)
    return etl.Aws(session=hook.get_session(), endpoint_url=hook.conn_config.endpoint_url)


@contextmanager
def attempt(*, alone: bool = True) -> Iterator[tuple[etl.Job, etl.Run]]:
    """One try of a task: what stops it goes into the run's receipt; only what may pass by itself is tried again.

    A task that is not `alone` leaves the receipt as it is until then: it may say what has stopped another. The log says
    in one line what stopped it, before Airflow's traceback, which has no cause in addition.
    """
    context = get_current_context()
    job, run = job_of(context["params"]), run_of(context)
    ReceiptLink.url = url_of(f"{job.output}receipts/{run.run_id}.json", aws=job.aws)
    ReportLink.url = url_of(f"{job.output}reports/{run.run_id}.html", aws=job.aws)
    try:
        job = replace(job, policy=policy_of(context["params"]))
        if alone:
            etl.record_start(job, run=run)
        yield job, run
    except Exception as failure:
        error = etl.as_etl_error(failure)
        log.error("%s", error)
        target = None
        with suppress(etl.SettingsError):  # the connection itself is wrong: this is not the error to report then
            target = target_of(context["params"])
        etl.record_failure(error, job=job, target=target, run=run)
        kind = AirflowException if isinstance(error, etl.ServiceError) else AirflowFailException
        raise kind(str(error)) from None


class ReceiptLink(BaseOperatorLink):
    """The button on a task that opens its run's receipt."""

    name = "Receipt"
    url = ""
    """Of the run whose task this process is."""

    def get_link(self, operator: object, *, ti_key: object) -> str:  # noqa: ARG002  as Airflow calls it
        return self.url


class ReportLink(ReceiptLink):
    """The button that opens the run's page, which is written when the run has ended."""

    name = "Report page"


def url_of(output: str, *, aws: etl.Aws) -> str:
    """Where a browser shows an `s3://` object: in the AWS console, or at the server that is used instead of S3."""
    bucket, _, key = output.removeprefix("s3://").partition("/")
    if aws.endpoint_url:
        return f"{aws.endpoint_url.rstrip('/')}/{bucket}/{quote(key)}"
    region = aws.session.region_name if aws.session else None
    host = f"{region}.console.aws.amazon.com" if region else "console.aws.amazon.com"
    return f"https://{host}/s3/object/{bucket}?prefix={quote(key, safe='')}"


def is_divided() -> bool:
    """Whether this Airflow divides batches into shards. What is wrong with the settings, gate reports."""
    with suppress(etl.SettingsError):
        return etl.read_settings(os.environ).shards > 1
    return False


def policy_of(params: Mapping[str, Any]) -> etl.Policy:
    """What may be wrong with the batch of a run, by its params or else by the settings."""
    return etl.read_policy(
        os.environ,
        max_rejected=params["max_rejected"],
        allow_missing=params["allow_missing"],
        given_as=lambda name: f"the param {name} of the DAG",
    )


def run_of(context: Mapping[str, Any]) -> etl.Run:
    """The run, with the marker that the trigger's conf names."""
    run = context["dag_run"]
    return etl.Run(run_id=run.run_id, started_at=run.start_date, marker=etl.Marker.of_conf(run.conf))


def target_of(params: Mapping[str, Any]) -> etl.Target | None:
    """The database that the connection names, or None when Airflow has no such connection.

    Raises SettingsError when the connection's Extra is nothing that libpq could read.
    """
    try:
        found = Connection.get(DATABASE_CONNECTION)
        return etl.Target(
            etl.database_dsn(  # its URI is Airflow's own: numbers and booleans in Extra are not as libpq writes them
                host=found.host,
                port=found.port,
                login=found.login,
                password=found.password,
                schema=found.schema,
                extra=found.extra_dejson,
            ),
            dry_run=params["dry_run"],
            reload=params["reload"],
            accept_shrunk=etl.read_names(params["accept_shrunk"] or ""),
        )
    except AirflowNotFoundException:
        return None


def announce(receipt: etl.Receipt, *, job: etl.Job, target: etl.Target) -> None:
    """Name what a load read and wrote, for DAGs that wait for it and for OpenLineage. Fails no run."""
    rows = {"inserted": receipt.rows.inserted, "deleted": receipt.rows.deleted, "unchanged": receipt.rows.unchanged}
    events = get_current_context()["outlet_events"]
    events[TABLE].extra = {"run_id": receipt.run_id, **rows}
    with suppress(etl.EtlError):  # the load is committed; only the table's address is asked for
        datasets = etl.datasets(receipt, job=job, target=target)
        for one in datasets.outputs:
            events[PLACES].add(Asset(one.uri), extra={"run_id": receipt.run_id, "rows": one.rows})
        emit_lineage(datasets)


def emit_lineage(datasets: etl.Datasets) -> None:
    """Give the datasets, with columns and counts, to OpenLineage's provider, where it is installed and switched on."""
    try:
        from airflow.providers.openlineage.api import emit_dataset_lineage, is_openlineage_active  # noqa: PLC0415
        from openlineage.client.event_v2 import InputDataset, OutputDataset  # noqa: PLC0415
        from openlineage.client.facet_v2 import (  # noqa: PLC0415
            input_statistics_input_dataset,
            output_statistics_output_dataset,
            schema_dataset,
        )
    except ImportError:
        return
    if not is_openlineage_active():
        return

    def schema(one: etl.Dataset) -> dict[str, Any]:
        fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in one.columns.items()]
        return {"schema": schema_dataset.SchemaDatasetFacet(fields=fields)} if fields else {}

    def read(one: etl.Dataset) -> Any:  # noqa: ANN401
        facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet
        counts = facet(rowCount=one.rows, fileCount=one.files)
        return InputDataset(one.namespace, one.name, facets=schema(one), inputFacets={"inputStatistics": counts})

    def written(one: etl.Dataset) -> Any:  # noqa: ANN401
        facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
        counts = facet(rowCount=one.rows, fileCount=one.files)
        return OutputDataset(one.namespace, one.name, facets=schema(one), outputFacets={"outputStatistics": counts})

    emit_dataset_lineage(
        inputs=[read(one) for one in datasets.inputs], outputs=[written(one) for one in datasets.outputs]
    )


def mail(context: Mapping[str, Any]) -> None:
    """Runs in the dag-processor, once, when the run has ended, however it ended."""
    try:
        job = job_of(context["params"])
    except (
        Exception
    ):  # a connection that cannot be used has failed the run: the login that boto3 finds may send the mail
        log.exception("The connection %s cannot be used.", AWS_CONNECTION)
        job = job_of(context["params"], aws=etl.Aws())
    etl.send_mail_of_run(
        job,
        run=run_of(context),
        succeeded=context["reason"] == "success",
        reason=context["reason"],
        mailbox=etl.read_mailbox(os.environ),
        channels=etl.read_channels(os.environ),
    )


@dag(
    dag_id="moving_big_data",
    description="One batch of company CSV files from S3 into PostgreSQL",
    doc_md=__doc__,
    schedule=None,  # the marker starts it
    max_active_runs=1,
    max_active_tasks=64,  # as many as there may be shards; how many run is the executor's to say
    dagrun_timeout=timedelta(hours=1),
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=20),
        "retry_exponential_backoff": 3.0,
        "execution_timeout": timedelta(seconds=etl.Settings.most_grace_seconds, minutes=1),
    },
    params=PARAMS,
    on_success_callback=mail,
    on_failure_callback=mail,
    tags=["s3", "postgres"],
)
def moving_big_data() -> None:
    divided = is_divided()

    @task(doc_md="Is every file that the index names in `Stocks/`? Waits for latecomers, reads nothing.")
    def gate() -> list[dict[str, Any]]:
        begun = time.monotonic()
        with attempt() as (job, run):
            settings = etl.read_settings(os.environ)
            wanted = get_current_context()["params"]["shards"]
            count = (wanted or settings.shards) if divided else 1
            if wanted and wanted != count:
                log.warning("One task processes the batch: set MBD_SHARDS to 2 or more, and %s can share it.", wanted)
            waits = replace(job, grace_seconds=settings.grace_seconds)
            log.info("%s", etl.gate(waits, run=run, shards=count, waiting=log.info).describe())
        steps = {"gate": time.monotonic() - begun}
        return [{"number": number, "of": count, "steps": steps} for number in range(count)]

    def process_shard(shard: dict[str, Any]) -> dict[str, float]:
        number, count = shard["number"], shard["of"]
        with attempt(alone=count == 1) as (job, run), etl.CompanyFileProgress(say=log.info) as progress:
            timed = replace(run, steps=shard["steps"])
            receipt = etl.process(job, run=timed, shard=number, progress=progress)
            log_receipt(receipt)
        return dict(receipt.steps)

    @task(doc_md="Company files to combined file, rejected rows and manifest, in `Output/`.")
    def process(shards: list[dict[str, Any]]) -> list[dict[str, float]]:
        return [process_shard(shard) for shard in shards]

    @task(
        doc_md="Changed companies into the table, in one transaction; several shards are combined first.",
        outlets=[TABLE, PLACES],
    )
    def load(shards: Iterable[dict[str, float]]) -> dict[str, int | None]:
        with attempt() as (job, run):
            target = target_of(get_current_context()["params"])
            if target is None:
                raise etl.SettingsError(f"Airflow has no connection {DATABASE_CONNECTION!r}. Add it: a Postgres URL.")
            done = list(shards)
            timed = replace(run, steps=max(done, key=lambda steps: steps["process"]))  # they ran in parallel
            if len(done) > 1:
                timed = replace(timed, steps=etl.combine(job, run=timed).steps)
            target = replace(target, journal_days=etl.read_settings(os.environ).journal_days)
            receipt = etl.load(job, target=target, run=timed)
            log_receipt(receipt)
            if not target.dry_run:
                announce(receipt, job=job, target=target)
        return {"inserted": receipt.rows.inserted, "deleted": receipt.rows.deleted, "unchanged": receipt.rows.unchanged}

    planned: Any = gate()  # an XComArg now, its value when the task runs
    processed: Any
    if divided:  # Airflow shows a mapped task as process [ ], also where it is one
        doc = "One shard's company files to slices, in `Output/`; `load` combines them."
        processed = task(task_id="process", doc_md=doc)(process_shard).expand(shard=planned)
    else:
        processed = process(planned)
    loaded: Any = load(processed)
    for one in (planned, loaded) if divided else (planned, processed, loaded):
        one.operator.operator_extra_links = (ReceiptLink(), ReportLink())


def log_receipt(receipt: etl.Receipt) -> None:
    for line in etl.receipt_text(receipt).splitlines():
        log.info("%s", line)


moving_big_data()
