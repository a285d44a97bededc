"""`make bench-s3`: the requests of whole runs from S3 (moto, counted by a proxy), and the processor time of reading.

Reading is measured from nginx on loopback, by etl and by boto3 alone: it serves the files path-style, faster than moto
can. Without nginx (Debian: nginx-light) only the requests are counted.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from etl.batch.aws import CONCURRENT_REQUESTS, Aws
from etl.batch.s3 import open_s3_prefix
from tests.benchmarks import batches, report
from tests.benchmarks.batches import Batch
from tests.benchmarks.bench_run import measured_batch
from tests.benchmarks.database import Database
from tests.benchmarks.measurement import measure
from tests.support.moto import MotoServer
from tests.support.process import HOST, free_port
from tests.support.s3_proxy import Request, S3Proxy

_ROUNDS = 5
_BUCKET = "batch"
_CONFIG = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; {user}
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 100000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen {host}:{port}; root {folder}/buckets; }}
}}
"""


def main() -> int:
    with measured_batch() as (batch, root, database):
        print(report.s3(measure_s3(batch, root=root, database=database)))
    return 0


def measure_s3(batch: Batch, *, root: Path, database: Database) -> dict[str, Any]:
    """Requests and client CPU of whole runs; and of reading alone, where nginx is installed."""
    facts: dict[str, Any] = {"runs": _measure_runs(batch, root=root, database=database)}
    if nginx := shutil.which("nginx"):
        with _served(batch, nginx=nginx) as url:
            facts["reading"] = _measure_reading(url, names=[path.name for path in batch.files()])
    else:
        print("nginx is missing: reading is not measured (apt install nginx-light)", file=sys.stderr)
    return facts


def _measure_runs(batch: Batch, *, root: Path, database: Database) -> dict[str, Any]:
    database.make_our_tables()
    measured: dict[str, Any] = {}
    with MotoServer(root / "moto") as server, S3Proxy(server.url) as proxy:
        session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-west-1")
        client = session.client("s3", endpoint_url=server.url, config=Config(max_pool_connections=CONCURRENT_REQUESTS))
        client.create_bucket(Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

        def put(file: Path) -> None:
            client.put_object(Bucket=_BUCKET, Key=f"Stocks/{file.name}", Body=file.read_bytes())

        with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
            list(pool.map(put, batch.files()))
        client.put_object(Bucket=_BUCKET, Key="CompanyNames/top_companies.txt", Body=batch.index.read_bytes())
        environment = {**database.environment, **server.environment, "AWS_ENDPOINT_URL": proxy.url}
        place = f"s3://{_BUCKET}"
        places = ["--source", f"{place}/Stocks", "--company-index", f"{place}/CompanyNames/top_companies.txt"]
        command = [
            sys.executable,
            "-m",
            "etl",
            "run",
            "--quiet",
            "--json",
            "--no-report",
            *places,
            "--output",
            f"{place}/Output",
        ]
        changed = batches.restated(batch, root / "restated-in-s3", companies=10)
        for name in ("first load", "nothing changed", "ten companies restated"):
            if name == "ten companies restated":
                for before, file in zip(batch.files(), changed.files(), strict=True):
                    if not before.samefile(file):
                        put(file)
            proxy.requests.clear()
            print(f"S3: {name}", file=sys.stderr, flush=True)
            figures = measure(command, environment=environment, postmaster=database.postmaster)
            measured[name] = {**_counts(proxy.requests), "client_cpu": figures.client_cpu, "peak_mb": figures.peak_mb}
    return measured


def _counts(requests: list[Request]) -> dict[str, int]:
    gets = [one for one in requests if one.operation == "GetObject" and one.key.startswith("Stocks/")]
    pages = [one for one in requests if one.operation == "ListObjectsV2" and "prefix=Stocks" in one.target]
    writes = [one for one in requests if one.key and one.method in ("PUT", "POST")]
    outputs = [one for one in writes if not one.key.startswith(("Output/work/", "Output/receipts/"))]
    other = len(requests) - len(gets) - len(pages) - len(writes)
    return {
        "gets": len(gets), "pages": len(pages), "writes": len(writes), "outputs": len(outputs), "other": other
    }  # fmt: skip


@contextmanager
def _served(batch: Batch, *, nginx: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "buckets").mkdir()
        (folder / "buckets" / _BUCKET).symlink_to(batch.folder)
        user = "user root;" if folder.owner() == "root" else ""
        (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, host=HOST, port=port, user=user))
        server = subprocess.Popen([nginx, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            yield f"http://{HOST}:{port}"
        finally:
            server.terminate()
            server.wait()


def _measure_reading(url: str, *, names: list[str]) -> dict[str, Any]:
    session = boto3.Session(aws_access_key_id="any", aws_secret_access_key="any", region_name="eu-west-1")
    config = Config(max_pool_connections=CONCURRENT_REQUESTS)
    client = session.client("s3", endpoint_url=url, config=config)
    place = open_s3_prefix(_BUCKET, prefix="Stocks", aws=Aws(session=session, endpoint_url=url))
    readers: dict[str, Callable[[str], bytes]] = {
        "boto3": lambda name: client.get_object(Bucket=_BUCKET, Key=f"Stocks/{name}")["Body"].read(),
        "etl": place.read,
    }
    seconds: dict[str, list[float]] = {reader: [] for reader in readers}
    for _ in range(_ROUNDS):
        read: set[int] = set()
        for reader, get in readers.items():
            begun = _cpu()
            with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
                read.add(sum(map(len, pool.map(get, names))))
            seconds[reader].append(_cpu() - begun)
        if len(read) != 1:
            raise SystemExit(f"not the same bytes were read: {read}")
    medians = {reader: round(statistics.median(runs), 3) for reader, runs in seconds.items()}
    return {"objects": len(names), "at_once": CONCURRENT_REQUESTS, "seconds": medians}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
