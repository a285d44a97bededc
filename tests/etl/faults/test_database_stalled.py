"""A database that keeps its connection open and says nothing more: a run ends when it is told to, or by itself."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import etl
from etl.table import connection
from tests.support.cli_process import start
from tests.support.database_proxy import DatabaseProxy, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.batch_files import Files
    from tests.support.database import Database
    from tests.support.figures import Figures

# Where the server falls silent. In the middle of the COPY, past what the sockets between take in, the client waits to
# send; elsewhere for an answer.
STALLS = {
    "login": Fault("stall", to_server=False, at_byte=30),
    "first queries": Fault("stall", to_server=False, at_byte=1_500),
    "copy": Fault("stall", to_server=True, at_byte=300_000),
    "commit": Fault("stall", to_server=True),
    "answer to commit": Fault("stall", to_server=False),
}


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("stall", STALLS)
def test_run_whose_database_is_silent_ends_when_it_is_told_to(
    sample: Files, database: Database, figures: Figures, stall: str, sent: signal.Signals, code: int
) -> None:
    with DatabaseProxy(database.server.port, STALLS[stall]) as proxy:
        child = start("run", files=sample, url=proxy.url(database.url, database.server.port))
        assert proxy.struck.wait(30)
        time.sleep(1)
        child.send_signal(sent)
        try:
            out, err = child.communicate(timeout=40)  # a login has 10 seconds; the server is silent for ever
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            pytest.fail(f"{sent.name} was not answered within 40 s")
    assert (child.returncode, out, err.count("\n")) == (code, "", 1), err
    assert "the table holds the old batch or the new one, whole" in err
    assert list(sample.output.rglob("*.partial")) == []
    assert database.states() == (["success"] if stall == "answer to commit" else [])
    sample.load(database)
    figures.check_truth(sample, database)
    figures.counts["faults_injected"] += 1


@pytest.mark.usefixtures("hurried")
def test_server_that_takes_no_more_of_a_copy_is_given_up_after_a_while_and_the_load_made_good(
    sample: Files,
    database: Database,
    days: Callable[..., list[str]],
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection._PARAMETERS, "tcp_user_timeout", 1500)
    with DatabaseProxy(database.server.port, STALLS["copy"]) as proxy:
        url = proxy.url(database.url, database.server.port)
        begun = time.monotonic()
        # The session that stalled still holds the lock, as one on a silent server would until its TCP gives up.
        target = etl.Target(url, lock_timeout_seconds=0.2)
        with pytest.raises(etl.ServiceError, match=r"Another load holds the table .*moving-big-data"):
            etl.run(sample.job(), target=target, run=etl.Run.begin("test"))
        assert time.monotonic() - begun < 30
    sample.load(database)
    figures.check_truth(sample, database)
    figures.counts["faults_injected"] += 1
