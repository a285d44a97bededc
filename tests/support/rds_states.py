"""RDS and CloudFormation in front of moto, with the states that a real database goes through, and what they refuse."""

from __future__ import annotations

import re

import requests

from tests.support.aws_proxy import Answer, Call, refusal

_NOT_PASSED_ON = {"host", "content-length", "connection", "accept-encoding"}


class RdsStates:
    """A script for AwsProxy. The database is in the first of `states`; each look at it moves on to the next one.

    As RDS documents it, only an available database is changed, stopped or deleted, and only a stopped one is started.
    CloudFormation calls ModifyDBInstance when a change set is executed: `executed_in` has the database's state then.
    """

    def __init__(self, server_url: str, *states: str) -> None:
        self._server_url = server_url
        self.states = list(states)
        self.stack_state = ""
        """What CloudFormation says of the stack, where it is not what moto says."""
        self.events: list[tuple[str, str, str]] = []
        """Resource, state and reason of the stack's events, newest first; moto's own where there are none."""
        self.executed_in: list[str] = []
        self.after_execution = ""
        """The stack's state once a change set was executed."""

    @property
    def state(self) -> str:
        return self.states[0]

    def __call__(self, call: Call) -> Answer | None:
        match call.operation:
            case "DescribeDBInstances":
                answer = self._from_moto(
                    call, rf"<DBInstanceStatus>{self.state}</DBInstanceStatus>", "DBInstanceStatus"
                )
                if len(self.states) > 1 and b"DBInstanceStatus" in answer.body:
                    del self.states[0]
                return answer
            case "StartDBInstance":
                return self._moves(call, "stopped", "starting", "starting", "available") or _done(call)
            case "StopDBInstance":
                return self._moves(call, "available", "stopping", "stopped") or _done(call)
            case "ModifyDBInstance":
                return self._moves(call, "available", "modifying", "available")
            case "ExecuteChangeSet":
                self.executed_in.append(self.state)
                self.stack_state = self.after_execution
            case "ContinueUpdateRollback":
                self.stack_state = "" if self.state == "available" else "UPDATE_ROLLBACK_FAILED"
                return _done(call)
            case "DeleteStack" if self.state == "available":
                self.stack_state = ""
            case "DescribeStacks" if self.stack_state:
                return self._from_moto(call, f"<StackStatus>{self.stack_state}</StackStatus>", "StackStatus")
            case "DescribeStackEvents" if self.events:
                return Answer(200, self._events().encode(), {"Content-Type": "text/xml"})
        return None

    def _moves(self, call: Call, needed: str, *states: str) -> Answer | None:
        if self.state != needed:
            return refusal(call, "InvalidDBInstanceState", text=f"Instance is not currently {needed}.")
        self.states = list(states)
        return None

    def _from_moto(self, call: Call, element: str, name: str) -> Answer:
        headers = {key: value for key, value in call.headers.items() if key.lower() not in _NOT_PASSED_ON}
        got = requests.request(call.method, self._server_url + call.target, data=call.body, headers=headers, timeout=30)
        text = re.sub(rf"<{name}>[^<]*</{name}>", element, got.text)
        return Answer(got.status_code, text.encode(), {"Content-Type": got.headers.get("Content-Type", "text/xml")})

    def _events(self) -> str:
        members = "".join(
            f"<member><StackId>s</StackId><EventId>{resource}{state}</EventId><StackName>s</StackName>"
            f"<LogicalResourceId>{resource}</LogicalResourceId><ResourceStatus>{state}</ResourceStatus>"
            f"<ResourceStatusReason>{reason}</ResourceStatusReason><Timestamp>2026-11-26T10:00:00Z</Timestamp></member>"
            for resource, state, reason in self.events
        )
        return (
            f"<DescribeStackEventsResponse><DescribeStackEventsResult><StackEvents>{members}</StackEvents>"
            "</DescribeStackEventsResult></DescribeStackEventsResponse>"
        )


def _done(call: Call) -> Answer:
    name = call.operation
    return Answer(200, f"<{name}Response><{name}Result/></{name}Response>".encode(), {"Content-Type": "text/xml"})
