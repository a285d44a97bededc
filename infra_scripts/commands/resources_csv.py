"""`resources-csv`: prints the table of resources that the course asks for: its header and one row."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping

from infra_scripts.aws import open_session
from infra_scripts.console import result
from infra_scripts.platform.stack import platform_outputs
from infra_scripts.settings import read_settings

HELP = "print the table of resources that the course asks for"
EXAMPLES = ["resources-csv"]
HEADER = ("Name", "Surname", "Source_bucket", "Monitored_bucket", "SNS_topic", "Static_IP")


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    outputs = platform_outputs(open_session(settings), settings=settings)
    names = settings.names
    row = (names.first, names.last, outputs["SourceBucket"], names.monitored_bucket, names.topic, outputs["StaticIp"])
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([HEADER, row])
    result(table.getvalue().rstrip("\n"), facts=dict(zip(HEADER, row, strict=True)), options=options)
    return 0
