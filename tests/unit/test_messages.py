"""Messages from strangers: what the intake lets through and what it names."""

import pytest

from schemas.errors import ContractError
from schemas.jobs import ImproveJob
from schemas.messages import (
    CancelMessage,
    ControlMessage,
    QueryMessage,
    SubmitEnvelope,
    check_depth,
    parse_message,
    read_entry,
)

JOB = {"kind": "improve", "prompt": "p"}
REQUEST = "0123456789abcdef"


def test_a_bad_job_does_not_spoil_its_envelope():
    entries = [{"ordinal": 0, "job": JOB}, 7, {"ordinal": 1, "job": {"kind": "improve"}}]
    message = parse_message(SubmitEnvelope, {"run": "r", "jobs": entries})
    assert read_entry(message.jobs[0], where="jobs.0") == (0, ImproveJob(prompt="p"))
    with pytest.raises(ContractError, match=r"jobs\.1: an entry"):
        read_entry(message.jobs[1], where="jobs.1")
    with pytest.raises(ContractError, match=r"jobs\.2: prompt"):
        read_entry(message.jobs[2], where="jobs.2")


@pytest.mark.parametrize("ordinal", [-1, 2**63, 1.0, "0", True, None])
def test_an_ordinal_is_a_small_whole_number(ordinal):
    with pytest.raises(ContractError, match="ordinal"):
        read_entry({"ordinal": ordinal, "job": JOB}, where="jobs.0")


@pytest.mark.parametrize(
    ("model", "payload", "named"),
    [
        (SubmitEnvelope, {"jobs": []}, "run"),
        (SubmitEnvelope, {"run": "a b", "jobs": []}, "run"),
        (SubmitEnvelope, {"run": "r", "jobs": "all"}, "jobs"),
        (SubmitEnvelope, {"run": "r", "jobs": [JOB] * 501}, "jobs"),
        (SubmitEnvelope, {"run": "r", "jobs": [], "config": {"seed": 0}}, "config"),
        (SubmitEnvelope, {"run": "r", "jobs": [], "priority": 1}, "priority"),
        (SubmitEnvelope, {"run": "r", "jobs": [], "reply_to": "a\nb"}, "reply_to"),
        (QueryMessage, {"what": "job", "run": "r", "reply_to": REQUEST}, "job_id"),
        (QueryMessage, {"what": "all", "run": "r", "reply_to": REQUEST}, "what"),
        (QueryMessage, {"what": "run", "run": "r"}, "reply_to"),
        (QueryMessage, {"what": "failures", "run": "r", "reply_to": REQUEST, "job_id": JOB}, "job"),
        (CancelMessage, {"run": 7}, "run"),
        (ControlMessage, {"run": "r"}, "action"),
        (ControlMessage, {"run": "r", "action": "stop"}, "action"),
        (ControlMessage, {"run": "r", "action": "pause", "weight": 2}, "belongs to action='share'"),
        (ControlMessage, {"run": "r", "action": "cancel", "reasons": ["critic_failed"]}, "retry"),
        (ControlMessage, {"run": "r", "action": "share", "weight": 0}, "weight"),
        (ControlMessage, {"run": "r", "action": "share", "max_running": "all"}, "max_running"),
        (ControlMessage, {"run": "r", "action": "budget", "budgets": {"hours": 1}}, "hours"),
    ],
)
def test_a_bad_message_is_refused_by_the_name_of_its_field(model, payload, named):
    with pytest.raises(ContractError, match=f"^{model.__name__}: .*{named}"):
        parse_message(model, payload)


def test_depth_is_bounded_without_recursion():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="levels deep"):
        check_depth(deep)
    with pytest.raises(ContractError, match="levels deep"):
        read_entry({"ordinal": 0, "job": {**JOB, "metadata": {"x": deep}}}, where="jobs.0")
