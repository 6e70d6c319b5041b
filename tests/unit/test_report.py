"""The report: every text stays text, nothing is loaded, nothing unmeasured has a number."""

import re
from collections.abc import Sequence

import pytest

from analysis.frames import frames_of
from analysis.records import RunRecords
from analysis.report import evenly, render_report
from analysis.story import changes, tell
from schemas.constitution import load_constitution
from schemas.errors import ContractError
from schemas.results import JobResult
from tests.unit.results_sample import config, critique, label, progress, result, revision, step

HOSTILE = "<script>alert(1)</script><img src='http://evil.example/x.png' onerror=x>\"' {{ 7*7 }}"


def page(*results: JobResult, jobs: Sequence[str] = (), **known: object) -> str:
    by_id = {str(r.job_id): r for r in results}
    records = RunRecords("sample", frames_of(results), {}, None, None, **known)
    return render_report(records, lambda ids: [by_id[i] for i in ids], jobs=jobs)


def hostile_result() -> JobResult:
    return result(
        HOSTILE[:60],
        prompt=[{"role": "user", "content": HOSTILE}, {"role": "user", "content": HOSTILE}],
        response=HOSTILE,
        final_response=f"{HOSTILE} revised",
        error_code=HOSTILE,
        error=HOSTILE,
        critiques=[critique(0.6, principle=HOSTILE, text=HOSTILE, suggestions=[HOSTILE])],
        revisions=[revision(text=f"{HOSTILE} revised", outcome=HOSTILE)],
        preferences=[label(0.2, reasoning=HOSTILE, response_a=HOSTILE)],
        steps=[step("critique")],
    )


def test_every_text_stays_text() -> None:
    html = page(hostile_result())
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "{{ 7*7 }}" in html
    assert not re.search(r"<[^>]*\sonerror=", html)


def test_the_page_loads_nothing() -> None:
    html = page(hostile_result())
    assert not re.search(r"<[a-z][^>]*\s(?:src|action|data|poster)\s*=", html)
    assert set(re.findall(r"\shref\s*=\s*(..)", html)) == {'"#'}
    assert not re.search(r"url\(|@import|<(?:script|link|iframe|object|embed|form|base)\b", html)
    assert "default-src 'none'" in html


def test_what_was_not_measured_has_no_number() -> None:
    bare = result(severity_first=None, severity_last=None, quality_first=None, quality_last=None)
    html = page(bare)
    assert "Not measured: no readable critique." in html
    assert "Not measured: no job has both severities." in html
    assert "Not measured: the results hold no steps." in html
    assert "nan" not in html.lower().replace("finance", "")
    assert ">None<" not in html


def test_a_run_without_ended_jobs_still_has_a_page() -> None:
    html = page(progress=progress(), config=config())
    assert "No job has ended yet." in html
    assert "10 submitted = 0 done + 0 failed + 0 cancelled + 10 open" in html


def test_a_ledger_page_shows_configuration_and_limits() -> None:
    small = {"small": {"engine": "transformers", "model": "smollm2-135m-instruct"}}
    html = page(
        result(preferences=[label()]),
        progress=progress(done=10, queued=0),
        config=config(models=small),
        constitution=load_constitution("default"),
    )
    assert "10 submitted = 10 done + 0 failed + 0 cancelled" in html
    assert "135-million-parameter" in html
    assert "In 100 % of the labels the judge is the model that wrote a response" in html
    assert html.count("privacy protection") >= 1


def test_the_limits_of_a_small_model_are_not_said_of_others() -> None:
    assert "135-million" not in page(result(), config=config())


def test_remarkable_jobs_are_told_once_with_every_reason() -> None:
    best = result("best", severity_last=0.1, preferences=[label(0.49)])
    worst = result("worst", severity_last=0.9)
    html = page(best, worst)
    assert "Largest gain, closest call, most rounds" in html
    assert "Largest regression" in html
    assert html.count('<details class="job"') == 2


def test_a_job_asked_for_is_told_or_named_missing() -> None:
    quiet = [result(name, severity_last=0.6) for name in ("first", "second")]
    assert "Asked for" in page(*quiet, jobs=["second"])
    with pytest.raises(ContractError, match="nobody"):
        page(*quiet, jobs=["nobody"])


def test_changes_rebuild_both_texts() -> None:
    before, after = (
        "Ask the owner of the disk first.\n\nThen copy.",
        "Ask your boss first. Then go.",
    )
    pieces = changes(before, after)
    assert "".join(text for kind, text in pieces if kind != "cut") == after
    cut_and_kept = "".join(text for kind, text in pieces if kind != "new")
    assert cut_and_kept.split() == before.split()


def test_a_long_common_run_is_kept_and_shreds_are_not() -> None:
    opening = "one two three four five six "
    kinds = [kind for kind, _ in changes(f"{opening}a of b of c", f"{opening}x of y of z")]
    assert kinds == ["same", "cut", "new"]


def test_texts_too_long_to_compare_are_shown_whole() -> None:
    before, after = "a " * 3_000, "b " * 3_000
    assert changes(before, after) == (("cut", before), ("new", after))


def test_a_revision_is_shown_against_what_stood_before_it() -> None:
    refused = revision(accepted=False, text="refused text")
    second = revision(revision_try=2, text="current text")
    told = tell(result(response="current", revisions=[refused, second]))
    assert ("same", "current") in told.rounds[0].revisions[1].changes


def test_many_jobs_are_drawn_evenly_with_both_ends() -> None:
    drawn = evenly([{"at": i} for i in range(101)], 5)
    assert [row["at"] for row in drawn] == [0, 25, 50, 75, 100]
