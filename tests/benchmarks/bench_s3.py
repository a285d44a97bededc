"""`make bench-s3`: the client's processor time for each company file by etl and by boto3 alone, from nginx on loopback.

nginx serves the files path-style, faster than moto can; it takes Debian's nginx-light and starts and stops it itself.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config

from etl.batch.aws import CONCURRENT_REQUESTS, Aws
from etl.batch.s3 import open_s3_prefix
from tests.support import real_batch
from tests.support.paths import SAMPLE
from tests.support.process import HOST, free_port

_ROUNDS = 5
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
    nginx = shutil.which("nginx")
    if nginx is None:
        print("nginx is needed: apt install nginx-light, or your system's package", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        batch = real_batch.unpack(folder / "batch") if real_batch.archive() else SAMPLE
        (folder / "buckets").mkdir()
        (folder / "buckets" / "batch").symlink_to(batch)
        user = "user root;" if folder.owner() == "root" else ""
        (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, host=HOST, port=port, user=user))
        server = subprocess.Popen([nginx, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            _measure(f"http://{HOST}:{port}", names=sorted(path.name for path in (batch / "Stocks").iterdir()))
        finally:
            server.terminate()
            server.wait()
    return 0


def _measure(url: str, *, names: list[str]) -> None:
    session = boto3.Session(aws_access_key_id="any", aws_secret_access_key="any", region_name="eu-west-1")
    config = Config(max_pool_connections=CONCURRENT_REQUESTS)
    client = session.client("s3", endpoint_url=url, config=config)
    # No list: nginx is no S3 but for its objects, so the place is opened on a client that finds every bucket.
    aws = Aws(session=session, endpoint_url=url)
    aws.s3.meta.events.register("before-call.s3.HeadBucket", lambda **_: (_Found(), {}))  # type: ignore[arg-type]
    place = open_s3_prefix("batch", prefix="Stocks", aws=aws)
    readers: dict[str, Callable[[str], bytes]] = {
        "boto3": lambda name: client.get_object(Bucket="batch", Key=f"Stocks/{name}")["Body"].read(),
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
    medians = {reader: statistics.median(runs) for reader, runs in seconds.items()}
    print(f"{len(names):,} objects, {read.pop():,} bytes, {CONCURRENT_REQUESTS} at once, medians of {_ROUNDS} rounds")
    for reader, median in medians.items():
        print(f"{reader:<6} {median:6.2f} s of client CPU  {median / medians['boto3']:.2f} x boto3")


class _Found:
    status_code = 200


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
