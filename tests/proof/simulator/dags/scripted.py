"""A DAG of the deployed one's form whose tasks do what the conf of their run says: see test_airflow_rules.py."""

import os
import signal
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

LOG = Path(os.environ["SCRIPTED_LOG"])


def say(*words: str) -> None:
    with LOG.open("a") as log:
        log.write(" ".join(words) + "\n")


def act(name: str) -> None:
    """The next step of the script; without one, all is well."""
    run = get_current_context()["dag_run"]
    done = LOG.read_text().count(f"{run.run_id} {name} ") if LOG.exists() else 0
    step = [*(run.conf or {}).get(name, []), *["ok"] * 10][done]
    say(run.run_id, name, step)
    match step:
        case "fail":
            raise AirflowException("it may pass")
        case "refuse":
            raise AirflowFailException("it will not pass")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(600)


def called_back(context: Mapping[str, Any]) -> None:
    say(context["dag_run"].run_id, "callback", context["reason"])


@dag(
    dag_id="scripted",
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=1), "retry_exponential_backoff": 1.5},
    on_success_callback=called_back,
    on_failure_callback=called_back,
)
def scripted() -> None:
    previous: Any = None
    for name in ("gate", "process", "load"):
        made = task(task_id=name)(lambda name=name: act(name))()
        if previous is not None:
            previous >> made
        previous = made


scripted()
