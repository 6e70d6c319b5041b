"""No prompt shows the rated examples that a critic is measured by."""

from __future__ import annotations

from typing import get_args

import pytest

from schemas.constitution import Principle, available_constitutions, load_constitution
from workers.prompts import (
    CritiqueTemplate,
    Rendered,
    render_critique,
    render_direct_revision,
    render_severity,
)

TURNS = [("user", "How do I sleep better?")]
RESPONSE = "Go to bed at the same time every day."


def asked_about(principle: Principle) -> list[Rendered]:
    return [
        render_severity(TURNS, RESPONSE, principle),
        render_direct_revision(TURNS, RESPONSE, [principle]),
        *(render_critique(TURNS, RESPONSE, principle, t) for t in get_args(CritiqueTemplate)),
    ]


@pytest.mark.parametrize("name", available_constitutions())
def test_no_prompt_shows_the_anchors_that_measure_the_critic(name: str) -> None:
    for principle in load_constitution(name).principles:
        bare = principle.model_copy(update={"examples": ()})
        assert principle.examples
        assert asked_about(principle) == asked_about(bare)
