"""The identity of jobs, computable by every producer: same content, same id."""

import json

import pytest

from schemas.jobs import (
    CritiqueJob,
    GivenCritique,
    ImproveJob,
    LabelJob,
    ReviseJob,
    Turn,
    canonical_content,
    content_key,
    job_key,
    parse_job,
    payload_json,
)
from schemas.routing import job_id_of, run_id_of

DIGEST = "d" * 64
ODD = "line\nline\r\n\b\f\x01\x1f\x7f\x85\u2028é 😀"
#: Jobs with their content keys and, in the run called "run", their ids.
KNOWN = [
    (
        ImproveJob(id="job-1", prompt="How?", response="So.", metadata={"left": "out"}),
        "d338e339f2359f49713bbc34f832c92b2d57ad84065730f8cc92093dcbe3640d",
        "807187b9-c75b-572b-8a84-67d2f6dbdbae",
    ),
    (
        ImproveJob(id='quote " backslash \\ tab \t', prompt=ODD, response="</a>/"),
        "56be3e53655065549adb61fb6bea8446be3595858cda07aa67eedd3065e64bab",
        "90f104b1-393d-54a2-ba51-b348da88b151",
    ),
    (
        CritiqueJob(
            prompt=(Turn(role="system", content="s"), Turn(role="user", content="ü")),
            response="r",
        ),
        "5f77c9ff71c7f75460e5edca3a9a783c521821f1bbdf454140943ca6bbda69be",
        "097db2fb-92dc-5c55-bf3d-f0a434252fb2",
    ),
    (
        ReviseJob(
            prompt="p",
            response="r",
            critiques=(
                GivenCritique(principle="a", severity=1e-07, text="t", suggestions=("s", "z")),
                GivenCritique(principle="b", severity=1, text="t"),
                GivenCritique(principle="c", severity=0.1 + 0.2, text="t"),
            ),
        ),
        "f9d0eb4c60dc8fa77fe6ad914941b8a5d7e48f49db0d7402902e28862368c76e",
        "d7b78c13-7bb7-5981-859e-dead22919634",
    ),
    (
        LabelJob(prompt="p", response_a="", response_b="b", principle="honesty"),
        "afb8dfab0923fdf78c3c0d86fd831e6e8af8c7f671bd628e1913d1124ea264b4",
        "65d6b907-58e9-579c-bdf1-ee25032e0b7d",
    ),
]


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


@pytest.mark.parametrize(("job", "key", "job_id"), KNOWN)
def test_no_kind_of_content_ever_changes_its_id(job, key, job_id):
    assert content_key(job) == key
    assert str(job_id_of(run_id_of("run"), job_key(job, DIGEST))) == job_id


@pytest.mark.parametrize("job", [job for job, _, _ in KNOWN])
def test_the_stored_payload_is_the_whole_job(job):
    payload = json.loads(payload_json(job, canonical_content(job)))
    assert payload == job.model_dump(mode="json")
    assert parse_job(payload, where="") == job


def test_a_copy_with_another_id_is_another_job():
    job = ImproveJob(prompt="p", id="a")
    content_key(job)
    copied = job.model_copy(update={"id": "b"})
    assert content_key(copied) == content_key(ImproveJob(prompt="p", id="b"))
