"""Temporal's `Replayer`, on histories as its server would have written them, made by hand.

A step is an activity. Between two of them stands a workflow task of its own, as in every history of a workflow
that awaits one activity after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import ActivityType, Payloads, WorkflowType
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.sdk.v1 import WorkflowTaskCompletedMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadConverter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from benchmarks.functions import add_one, check
from benchmarks.replayer import Replay

QUEUE = TaskQueue(name="benchmark")
START = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = timedelta(minutes=1)
CHECKED = WorkflowTaskCompletedMetadata(core_used_flags=[1])
"""As today's SDK writes into a first task: ids and types of activities are compared on replay."""


@workflow.defn(name="chain")
class Chain:
    """So many steps, one after the other."""

    @workflow.run
    async def run(self, steps: int) -> int:
        n = 0
        for _ in range(steps):
            n = await workflow.execute_activity(
                add_one.__name__, n, result_type=int, start_to_close_timeout=LIMIT
            )
        check(n, steps)
        return n


class Writer:
    """Writes the events of a history."""

    def __init__(self) -> None:
        self.history = History()
        self._completed_task = 0

    def add(self, kind: str, **attributes: Any) -> HistoryEvent:
        """An event, a millisecond after the one before."""
        event = self.history.events.add()
        event.event_id = len(self.history.events)
        event.event_time.FromDatetime(START + timedelta(milliseconds=event.event_id))
        event.event_type = EventType.Value(f"EVENT_TYPE_{kind}")
        place = getattr(event, f"{kind.lower()}_event_attributes")
        place.SetInParent()
        place.MergeFrom(type(place)(**attributes))
        return event

    def task(self) -> None:
        """A workflow task, in which the workflow asks for what comes next."""
        scheduled = self.add("WORKFLOW_TASK_SCHEDULED", task_queue=QUEUE).event_id
        started = self.add("WORKFLOW_TASK_STARTED", scheduled_event_id=scheduled).event_id
        completed = self.add(
            "WORKFLOW_TASK_COMPLETED",
            scheduled_event_id=scheduled,
            started_event_id=started,
            sdk_metadata=None if self._completed_task else CHECKED,
        )
        self._completed_task = completed.event_id

    def activity(self, number: int) -> None:
        """A step that was done."""
        scheduled = self.add(
            "ACTIVITY_TASK_SCHEDULED",
            activity_id=str(number + 1),
            activity_type=ActivityType(name=add_one.__name__),
            task_queue=QUEUE,
            input=payloads(number),
            start_to_close_timeout=LIMIT,
            workflow_task_completed_event_id=self._completed_task,
        ).event_id
        started = self.add("ACTIVITY_TASK_STARTED", scheduled_event_id=scheduled).event_id
        self.add(
            "ACTIVITY_TASK_COMPLETED",
            scheduled_event_id=scheduled,
            started_event_id=started,
            result=payloads(number + 1),
        )

    def start(self, steps: int) -> None:
        self.add(
            "WORKFLOW_EXECUTION_STARTED",
            workflow_type=WorkflowType(name="chain"),
            task_queue=QUEUE,
            input=payloads(steps),
            original_execution_run_id=f"run-{steps}",
            first_execution_run_id=f"run-{steps}",
        )

    def end(self, steps: int) -> None:
        self.add(
            "WORKFLOW_EXECUTION_COMPLETED",
            result=payloads(steps),
            workflow_task_completed_event_id=self._completed_task,
        )


def payloads(value: object) -> Payloads:
    return Payloads(payloads=PayloadConverter.default.to_payloads([value]))


def chain_history(steps: int) -> History:
    """The history of a run of so many steps."""
    writer = Writer()
    writer.start(steps)
    writer.task()
    for number in range(steps):
        writer.activity(number)
        writer.task()
    writer.end(steps)
    return writer.history


async def prepare(_url: str, steps: int) -> dict[str, Replay]:
    """The forms in which a history may be kept, and its replay from each."""
    history = chain_history(steps)
    await _must_notice_another_way(steps)
    as_bytes = history.SerializeToString()
    as_json = WorkflowHistory("chain", history.events).to_json()

    def from_bytes() -> Sequence[HistoryEvent]:
        return History.FromString(as_bytes).events

    return {
        "decoded": partial(_replay, lambda: history.events),
        "bytes": partial(_replay, from_bytes),
        "undetected": partial(_replay, from_bytes, debug_mode=True),
        "json": partial(_replay, lambda: WorkflowHistory.from_json("chain", as_json).events),
    }


async def _replay(read: Any, **options: Any) -> None:
    await _replayer(**options).replay_workflow(WorkflowHistory("chain", read()))


def _replayer(**options: Any) -> Replayer:
    """Without the sandbox, which would be slower; with `debug_mode` nobody watches for deadlocks."""
    return Replayer(workflows=[Chain], workflow_runner=UnsandboxedWorkflowRunner(), **options)


async def _must_notice_another_way(steps: int) -> None:
    """A replay that lets everything pass would be fast."""
    history = chain_history(steps)
    for event in history.events[-20:]:
        attributes = event.activity_task_scheduled_event_attributes
        if attributes.activity_id:
            attributes.activity_type.name = "something_else"
    events: Sequence[HistoryEvent] = history.events
    found = await _replayer().replay_workflow(
        WorkflowHistory("chain", events), raise_on_replay_failure=False
    )
    if found.replay_failure is None:
        message = "the Replayer took a history of other activities for its own"
        raise AssertionError(message)
