"""One whole loop on the real small model: real text in, real text out, everything accounted for."""

import tempfile
from pathlib import Path

import pytest

SMALL = {
    "models": {"small": {"engine": "transformers", "model": "smollm2-135m-instruct"}},
    "sampling": {
        "critique": {"max_tokens": 24, "stop": ["\n\n"]},
        "revise": {"max_tokens": 48, "temperature": 0.5, "stop": ["\n\n"]},
    },
    "policy": {"max_rounds": 1, "max_critique_texts": 1},
}


@pytest.mark.model
def test_loop_on_the_real_model(open_system):
    cache = Path(tempfile.gettempdir()) / "preceptor-test-models"
    system = open_system(SMALL, PRECEPTOR_CACHE=str(cache), PRECEPTOR_LEASE_S="60")
    system.start_all()
    job = {"kind": "improve", "id": "b", "prompt": "What is two plus two?", "response": "Five."}
    system.submit([job])
    for result in system.finish(within_s=150).values():
        assert result.state == "done"
        assert result.models["critic"] == "smollm2-135m-instruct"
        first = [c for c in result.critiques if c.round == 1]
        assert len(first) == 11
        for critique in first:
            assert critique.outcome == "ok"
            assert 0 <= critique.severity <= 0.9
            assert critique.outside_mass <= 0.5, "the question leads to the offered answers"
            assert sum(critique.distribution.values()) == pytest.approx(1, abs=1e-4)
        assert any(c.text for c in first)
        assert "[[response]]" not in (result.final_response or ""), "completion only"
        assert result.cached_tokens > 0, "the shared prefix is computed once"
        for label in result.preferences:
            assert 0 <= label.p_a <= 1
