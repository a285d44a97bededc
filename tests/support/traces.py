"""Traces: a system that has run goes in; all that it has written for people and for later comes out, by its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg2

from tests.support.system import SOURCE_BUCKET

if TYPE_CHECKING:
    from tests.support.system import LocalSystem


def traces(system: LocalSystem) -> dict[str, bytes]:
    """Logs of Airflow and its tasks, confs, XComs, serialised DAGs, receipts, kept notices, the run history, mails."""
    found = {f"log {path.name} of {path.parent}": path.read_bytes() for path in system.airflow.home.rglob("*.log")}
    for kind in ("dagRuns", "dagRuns/~/taskInstances/~/xcomEntries"):
        found[kind] = system.airflow.request("GET", f"dags/~/{kind}?limit=100").content
    for folder in ("receipts", "notices"):
        answer = system.s3.list_objects_v2(Bucket=SOURCE_BUCKET, Prefix=f"Output/{folder}/")
        for entry in answer.get("Contents", []):
            found[entry["Key"]] = system.s3.get_object(Bucket=SOURCE_BUCKET, Key=entry["Key"])["Body"].read()
    history = "SELECT coalesce(json_agg(one), '[]')::text FROM pipeline_runs AS one"
    dags = "SELECT json_agg(one)::text FROM serialized_dag AS one"
    for place, database, query in (("pipeline_runs", "stocks", history), ("serialised DAGs", "airflow", dags)):
        with psycopg2.connect(system.postgres.url(database)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            found[place] = "".join(text for [text] in cursor.fetchall()).encode()
    for number, mail in enumerate(system.mails, start=1):
        found[f"mail {number}"] = json.dumps([mail.subject, mail.text]).encode()
    return found


def places_of(words: dict[str, str], *, among: dict[str, bytes]) -> list[str]:
    """Which of the words stand where: told by what they are, never by themselves."""
    return [f"{what} in {place}" for what, word in words.items() for place in among if word.encode() in among[place]]
