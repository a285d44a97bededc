"""Models what Airflow does with runs and tasks, as far as the tests on a real Airflow saw it (test_airflow_rules.py).

- A DagRun's id is unique: who asks again gets 409.
- One run at a time; the others wait in the order in which they were asked for.
- A task that fails is tried again after a pause that grows, as often as `retries` says, unless it says that this would
  not help. A task that was killed counts as one that failed. One whose scheduler was killed too is either orphaned: it
  begins again when the scheduler is back, and its tries count from there. Or its heartbeats are missed first, and it
  counts as one that failed. Which of both depends on how long the scheduler was away; here they take turns.
- A run that takes too long fails, and what it is doing is ended.
- A callback of the DAG is called once when a run has ended, however it ended, in the dag-processor. It waits while that
  is down. Nobody calls it again where it fails or is killed.
- A cleared run begins again, with new tries and, at its end, another callback.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from tests.proof.simulator.clock import Clock

_STEP_SECONDS = 2.0  # from one task to the next
_NOTICED_SECONDS = 130.0  # a task whose supervisor was killed too


class TaskFailedError(Exception):
    """A task ended with an error. `may_retry`: Airflow may try it again."""

    def __init__(self, message: str, *, may_retry: bool) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class KilledError(BaseException):
    """The process was killed: nothing that it would have done after this moment happens."""


class Stoppable(Protocol):
    """What is under way; `stop` lets it do nothing more."""

    def stop(self, why: str) -> None: ...


@dataclass
class DagRun:
    """One run, and how far it has come."""

    run_id: str
    conf: dict[str, Any]
    state: str = "queued"
    start_date: datetime | None = None
    reason: str = ""
    tries: Counter[str] = field(default_factory=Counter)
    made: dict[str, Any] = field(default_factory=dict)
    """What each task that is done has returned."""
    begun: int = 0
    """How often the run began: once, and after each time that it was cleared."""
    callbacks: int = 0
    under_way: Stoppable | None = None
    planned_since: datetime | None = None
    """When its gate began the last time."""
    error: str = ""
    """What its last task failed with, where nothing was in the way of telling it."""


class Work(Protocol):
    """What runs are made of."""

    def do_task(self, run: DagRun, task: str, given: Any) -> Any:  # noqa: ANN401  whatever tasks return
        """Raises TaskFailedError or KilledError."""

    def call_back(self, run: DagRun) -> None:
        """`run` as it was when it ended."""


class AirflowRules:
    """One DAG, its runs, and the scheduler that moves them."""

    def __init__(
        self,
        clock: Clock,
        work: Work,
        *,
        tasks: Sequence[str],
        retries: int,
        pauses: Callable[[int], float],
        timeout: timedelta,
    ) -> None:
        self._clock, self._work, self._tasks, self._retries, self._pauses = clock, work, tasks, retries, pauses
        self._timeout = timeout
        self.runs: dict[str, DagRun] = {}
        self._waiting: deque[DagRun] = deque()
        self._held: list[Callable[[], object]] = []
        """What waits until the scheduler is back."""
        self.active: DagRun | None = None
        self.is_paused = False
        self.is_up = True
        self._orphaned = False
        self._idle_since = clock.now

    def ask(self, run_id: str, conf: dict[str, Any]) -> bool:
        """Ask for a run; returns False where there is one of this id."""
        if run_id in self.runs:
            return False
        run = DagRun(run_id, conf)
        self.runs[run_id] = run
        self._waiting.append(run)
        self._clock.after(1, self._schedule, alone=True)
        return True

    def unpause(self) -> None:
        self.is_paused = False
        self._clock.after(1, self._schedule, alone=True)

    def clear(self, run: DagRun, *, whole: bool) -> None:
        """Let a run that has ended begin again: the whole of it, or from the task that failed."""
        if whole:
            run.made.clear()
        run.tries.clear()
        run.state, run.reason = "queued", ""
        self._waiting.append(run)
        self._clock.after(1, self._schedule, alone=True)

    def is_idle_for(self, seconds: float) -> bool:
        """Whether nothing has been under way for so long."""
        is_busy = self.active or self._waiting or self._held
        return not is_busy and self._clock.now >= self._idle_since + timedelta(seconds=seconds)

    def go_down(self) -> None:
        """Kill scheduler and dag-processor, with what they do."""
        self.is_up = False
        if self.active and self.active.under_way:
            self._orphaned = True
            self.active.under_way.stop("the scheduler was killed")

    def come_up(self) -> None:
        self.is_up, self._idle_since = True, self._clock.now
        held, self._held = self._held, []
        for act in held:
            self._clock.after(_STEP_SECONDS, act, alone=True)
        self._clock.after(1, self._schedule, alone=True)

    def _when_up(self, act: Callable[[], object]) -> bool:
        """Whether the scheduler is up; otherwise `act` waits for it."""
        if not self.is_up:
            self._held.append(act)
        return self.is_up

    def _schedule(self) -> None:
        if self.active or not self._waiting or self.is_paused or not self.is_up:
            return
        run = self._waiting.popleft()
        self.active = run
        run.state, run.start_date = "running", self._clock.now
        run.begun += 1
        begun = run.begun
        self._clock.after(self._timeout.total_seconds(), lambda: self._time_out(run, begun))
        self._clock.after(_STEP_SECONDS, lambda: self._do(run, begun), alone=True)

    def _do(self, run: DagRun, begun: int) -> None:
        """The next task of a run."""
        if run.state != "running" or run.begun != begun or not self._when_up(lambda: self._do(run, begun)):
            return
        done = [task for task in self._tasks if task in run.made]
        task = self._tasks[len(done)]
        run.tries[task] += 1
        try:
            run.made[task] = self._work.do_task(run, task, run.made[done[-1]] if done else None)
        except TaskFailedError as failure:
            self._failed(run, begun, task, may_retry=failure.may_retry, pause=0)
        except KilledError:
            if self._orphaned:
                self._orphaned, is_missed = False, len(self.runs) % 2 == 1
                if not is_missed:
                    run.tries[task] = 0
                    self._clock.after(_STEP_SECONDS, lambda: self._do(run, begun), alone=True)
                    return
                if not self._when_up(lambda: self._failed(run, begun, task, may_retry=True, pause=_NOTICED_SECONDS)):
                    return
            self._failed(run, begun, task, may_retry=True, pause=_NOTICED_SECONDS)
        else:
            if run.state != "running":
                return
            if len(done) + 1 == len(self._tasks):
                self._end(run, "success", "success")
            else:
                self._clock.after(_STEP_SECONDS, lambda: self._do(run, begun), alone=True)

    def _failed(self, run: DagRun, begun: int, task: str, *, may_retry: bool, pause: float) -> None:
        if run.state != "running":  # it was ended meanwhile
            return
        if may_retry and run.tries[task] <= self._retries:
            pause += self._pauses(run.tries[task])
            self._clock.after(pause, lambda: self._do(run, begun), alone=True)
        else:
            self._end(run, "failed", "task_failure")

    def _time_out(self, run: DagRun, begun: int) -> None:
        if run.state != "running" or run.begun != begun or not self._when_up(lambda: self._time_out(run, begun)):
            return
        if run.under_way:
            run.under_way.stop("the run timed out")
        self._end(run, "failed", "timed_out")

    def _end(self, run: DagRun, state: str, reason: str) -> None:
        run.state, run.reason = state, reason
        self.active, self._idle_since = None, self._clock.now
        ended = replace(run)  # it may be cleared before the callback is called
        self._clock.after(_STEP_SECONDS, lambda: self._call_back(run, ended), alone=True)
        self._clock.after(1, self._schedule, alone=True)

    def _call_back(self, run: DagRun, ended: DagRun) -> None:
        if self._when_up(lambda: self._call_back(run, ended)):
            run.callbacks += 1
            self._idle_since = self._clock.now
            self._work.call_back(ended)
