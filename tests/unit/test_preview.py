"""A preview's jobs: drawn by content and seed, never by place."""

import io
import json
from collections import Counter

from producer.preview import Preview
from producer.sources import Rejection, read_stream, shape
from schemas.config import DataConfig

PROMPTS = [f"prompt {n}" for n in range(200)]


def source(prompts, **data):
    raw = "".join(json.dumps({"prompt": p}) + "\n" if p else "nonsense\n" for p in prompts)
    return shape(read_stream(io.BytesIO(raw.encode()), ".jsonl"), DataConfig(**data))


def drawn(prompts, count=20, seed=0, **data):
    return [job.prompt for _, job in Preview(count, seed).draw(source(prompts, **data))]


def test_the_order_of_the_source_changes_nothing_but_the_order():
    first = drawn(PROMPTS)
    assert len(set(first)) == 20
    assert set(drawn(PROMPTS[::-1])) == set(first)
    assert first == sorted(first, key=PROMPTS.index)
    assert set(first) != set(PROMPTS[:20])


def test_another_seed_draws_others_and_all_are_drawn_alike():
    assert set(drawn(PROMPTS, seed=1)) != set(drawn(PROMPTS, seed=2))
    times = Counter(p for seed in range(100) for p in drawn(PROMPTS[:40], 20, seed))
    # 100 draws with one chance in two: 50 times each, give or take 5.
    assert len(times) == 40
    assert all(25 <= times[p] <= 75 for p in times)


def test_a_repeated_job_has_one_chance_and_a_short_source_is_taken_whole():
    assert sorted(drawn(["a", "b", "a", "a", "b"], 20)) == ["a", "b"]
    # Forty copies of one prompt may not push the others out.
    assert set(drawn(["x"] * 40 + ["y", "z"], 3)) == {"x", "y", "z"}


def test_the_limit_of_the_run_and_its_copies_are_those_of_the_preview():
    assert set(drawn(PROMPTS, comparisons=10)) == set(PROMPTS[:10])
    lines = list(Preview(500, 0).draw(source(PROMPTS[:3], responses_per_prompt=4)))
    assert [job.id for _, job in lines][:5] == ["#1", "#2", "#3", "#4", "#1"]


def test_bad_lines_are_told_and_jobs_counted():
    preview = Preview(2, 0)
    lines = list(preview.draw(source(["a", None, "b", "c"])))
    assert [line.line_number for line in lines if isinstance(line, Rejection)] == [2]
    assert (len(lines), preview.jobs) == (3, 3)
    assert preview.told("r-preview") == (
        "run r-preview: 2 of 3 jobs drawn; once they have ended, "
        "'preceptor cost --preview r-preview --jobs 3' estimates the whole"
    )
