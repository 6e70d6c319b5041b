"""The identity of jobs, computable by every producer: same content, same id."""

import pytest

from schemas.jobs import ImproveJob, LabelJob, job_key, parse_job
from schemas.routing import job_id_of, run_id_of

DIGEST = "d" * 64


def test_the_same_content_is_the_same_job_however_it_was_written():
    written = {"response": None, "prompt": "p", "kind": "improve"}
    assert job_key(parse_job(written, where=""), DIGEST) == job_key(ImproveJob(prompt="p"), DIGEST)


@pytest.mark.parametrize(
    "other",
    [
        ImproveJob(prompt="q"),
        ImproveJob(prompt="p", id="a"),
        ImproveJob(prompt="p", response="r"),
        LabelJob(prompt="p", response_a="a", response_b="b"),
    ],
)
def test_other_content_is_another_job(other):
    assert job_key(other, DIGEST) != job_key(ImproveJob(prompt="p"), DIGEST)


def test_metadata_is_no_part_of_the_identity_and_the_configuration_is():
    job = ImproveJob(prompt="p")
    noted = ImproveJob(prompt="p", metadata={"note": 1})
    assert job_key(noted, DIGEST) == job_key(job, DIGEST)
    assert job_key(job, "e" * 64) != job_key(job, DIGEST)


def test_ids_never_change_between_versions():
    key = job_key(ImproveJob(prompt="p"), DIGEST)
    found = job_id_of(run_id_of("run"), key)
    assert str(run_id_of("run")) == "b6aff2c5-7b8d-5dc9-a506-85134a6284ab"
    assert str(found) == "eb693b8d-bb49-57d2-a668-5e326d100e66"
