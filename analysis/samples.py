"""Verification samples as files: drawn, handed to people, read back.

One JSON line a drawn label, with the probability with which it was drawn. People fill in
``human_preference``; nothing else may change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from analysis.figures import with_ends
from analysis.output_file import output_file
from analysis.statistics.estimates import Estimate, share
from analysis.verification import (
    WeightedEstimate,
    doubt,
    draw,
    inclusion_probabilities,
    weighted_mean,
    with_ai_labels,
)
from schemas.errors import ContractError
from schemas.judged_pairs import HumanPair, lines_of
from schemas.verdicts import Verdict


class Drawn(BaseModel):
    """One drawn label.

    Attributes:
        probability: With which it was drawn, in (0, 1].
        population: Readable labels that there were to draw from.
        seed: Of the draw.
        human_preference: What people found; None until they did.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    pair_id: str
    ai: Verdict
    probability: float = Field(gt=0, le=1)
    population: int = Field(ge=1)
    seed: int
    human_preference: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a checked sample says of all labels.

    Attributes:
        drawn: Labels drawn; ``checked`` of them have a human side.
        agreement: Share of all labels that people would agree with.
        helped: The same with the AI's confidences as a prediction; None where they are not given.
        unweighted: Of the checked ones as they are: biased, since doubtful labels are drawn more.
    """

    drawn: int
    checked: int
    agreement: WeightedEstimate
    helped: WeightedEstimate | None
    unweighted: Estimate


def plan(labels: pl.DataFrame, budget: float, seed: int, floor: float) -> list[dict[str, Any]]:
    """The lines of a sample.

    Args:
        labels: As in ``label_sources``; unreadable ones are no labels and are not drawn. With a
            column is_harm, those where it is true are likelier to be drawn.
        budget: Labels to check; a share of them where it is below 1.
        seed: Of the draw.
        floor: Part of the budget that is spread evenly.

    Raises:
        ContractError: No readable label, or a budget above their number.
    """
    readable = labels.filter(pl.col("ai") != "-")
    n = readable.height
    if not n:
        raise ContractError("there is no readable label to draw from")
    wanted = budget * n if budget < 1 else budget
    scores = doubt(
        readable["p_a"].fill_null(float("nan")).to_numpy(),
        readable.select(_orders_agree()).to_series().to_numpy(),
        (readable["ai"] == "tie").to_numpy(),
        readable["is_harm"].to_numpy()
        if "is_harm" in readable.columns
        else np.zeros(n, dtype=bool),
    )
    try:
        probabilities = inclusion_probabilities(scores, wanted, floor)
    except ValueError as error:
        raise ContractError(str(error)) from error
    rows = readable.to_dicts()
    return [
        {
            "pair_id": rows[at]["pair_id"],
            "ai": rows[at]["ai"],
            "probability": float(probabilities[at]),
            "population": n,
            "seed": seed,
        }
        for at in draw(probabilities, seed)
    ]


def write(lines: list[dict[str, Any]], pairs: Path | None, out: Path) -> None:
    """Write a sample, with the texts where there are any; the AI's label stands last.

    Raises:
        ContractError: A drawn label's pair is not in the file of pairs.
    """
    texts = {pair.id: pair for _, pair in lines_of(pairs, HumanPair)} if pairs else {}
    with output_file(out) as writer:
        for line in lines:
            if pairs and line["pair_id"] not in texts:
                raise ContractError(f"{pairs}: has no pair {line['pair_id']!r}, which was drawn")
            writer.write(json.dumps(_with_texts(line, texts), ensure_ascii=False) + "\n")


def _with_texts(line: dict[str, Any], texts: dict[str, HumanPair]) -> dict[str, Any]:
    pair = texts.get(line["pair_id"])
    shown = (
        {"prompt": pair.prompt, "response_a": pair.response_a, "response_b": pair.response_b}
        if pair
        else {}
    )
    front = {"pair_id": line["pair_id"], **shown, "human_preference": None}
    return front | line


def estimate(sample: Path, labels: pl.DataFrame | None, people: Path | None) -> Verified:
    """What a checked sample says.

    Args:
        sample: As ``plan`` wrote it, filled in, or not where ``people`` says the rest.
        labels: All AI labels, for the estimate that they help.
        people: Pairs with ``human_preference`` by id, where the sample was left as it was.

    Raises:
        ContractError: A line is no drawn label, an id stands twice, nobody checked any, or the
            labels are not those that the sample was drawn from.
    """
    known = lines_of(people, HumanPair) if people else ()
    said = {pair.id: pair.human_preference for _, pair in known}
    drawn: dict[str, Drawn] = {}
    for number, line in lines_of(sample, Drawn):
        if line.pair_id in drawn:
            raise ContractError(f"{sample}:{number}: pair {line.pair_id!r} stands there twice")
        human = line.human_preference or said.get(line.pair_id)
        drawn[line.pair_id] = line.model_copy(update={"human_preference": human})
    checked = [line for line in drawn.values() if line.human_preference is not None]
    if not checked:
        raise ContractError(f"{sample}: no label has a human_preference yet")
    right = np.array([float(line.human_preference == line.ai) for line in checked])
    # Those that nobody got to are taken for missing by chance.
    probabilities = np.array([line.probability for line in checked]) * len(checked) / len(drawn)
    helped = None
    if labels is not None:
        predicted = predictions(labels)
        if stranger := next((x.pair_id for x in checked if x.pair_id not in predicted), None):
            raise ContractError(
                f"{sample}: pair {stranger!r} has no readable label among those given; name the "
                "labels that the sample was drawn from"
            )
        mine = np.array([predicted[line.pair_id] for line in checked])
        helped = with_ai_labels(right, probabilities, mine, np.array(list(predicted.values())))
    return Verified(
        drawn=len(drawn),
        checked=len(checked),
        agreement=weighted_mean(right, probabilities),
        helped=helped,
        unweighted=share(int(right.sum()), len(right)),
    )


def _orders_agree() -> pl.Expr:
    """Whether no order speaks against the label: of scores there are none, but a probability."""
    return pl.col("consistent").fill_null(pl.col("p_a").is_not_null())


def predictions(labels: pl.DataFrame) -> dict[str, float]:
    """How likely each readable label is right, as the judge itself tells.

    A label whose orders disagree is a coin; the others lie between that and their probability.
    """
    readable = labels.filter(pl.col("ai") != "-")
    sure = pl.when(_orders_agree()).then(0.5 + pl.col("confidence") / 2).otherwise(0.5)
    scored = readable.select("pair_id", sure.fill_null(0.5).alias("said"))
    return dict(scored.iter_rows())


def told(verified: Verified) -> list[str]:
    """The estimate in sentences."""
    lines = [
        f"{verified.checked} of {verified.drawn} drawn labels are checked",
        f"agreement of all labels with people: {_shown(verified.agreement)}",
    ]
    if verified.helped:
        worth = verified.helped.worth
        like = f"; as much as {worth:.0f} checked labels" if worth else ""
        lines.append(f"with the judge's own confidence: {_shown(verified.helped)}{like}")
    plain = _per_cent(Estimate(verified.unweighted.value))
    lines.append(f"unweighted, which is not of all labels: {plain}")
    return lines


def _shown(found: WeightedEstimate) -> str:
    return f"{_per_cent(found.estimate)}, effective sample size {found.effective_n:.0f}"


def _per_cent(estimate: Estimate) -> str:
    """``71.2 % [66.6-75.5]``, or "not measured"."""
    return with_ends(estimate, ".1f", "-", scale=100, unit=" %", missing="not measured")
