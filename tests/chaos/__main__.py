"""``python -m tests.chaos`` plays fault drills; exits with 1 if anything was lost or doubled."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import report
from tests.chaos.drill import Outcome
from tests.chaos.stage import Pace
from tests.chaos.theatre import CALM_DRILL, DRILLS, Theatre, open_theatre


def main(argv: Sequence[str] | None = None) -> int:
    """Play the chosen drills.

    Returns:
        0 where nothing was lost, doubled or different from the undisturbed run.
    """
    chosen = _parse(argv)
    pace = Pace(
        chosen.jobs, chosen.step_s, chosen.outage_s, every_s=4.0, faults=8, logs=chosen.logs
    )
    with open_theatre(pace, chosen.seed) as theatre:
        outcomes = [_play(theatre, name) for name in dict.fromkeys(chosen.drill or DRILLS)]
        assert theatre.calm
        print("", report.paragraph(theatre.calm, CALM_DRILL.what), "", sep="\n")
        everything = [theatre.calm, *outcomes]
    print(report.table(outcomes), end="\n\n")
    killed = next((each for each in outcomes if each.drill == "worker-kill"), None)
    if killed is None:
        wasted = sum(each.wasted_share for each in outcomes) / len(outcomes)
    else:
        words, wasted = report.kill_arithmetic(killed)
        print(words)
    print(report.last_line(outcomes, wasted))
    return int(any(each.problems for each in everything))


def _play(theatre: Theatre, name: str) -> Outcome:
    outcome = theatre.play(DRILLS[name])
    print(report.paragraph(outcome, DRILLS[name].what), flush=True)
    return outcome


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    listed = "\n".join(f"  {drill.name:20}{drill.what}" for drill in DRILLS.values())
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Fault drills on servers of their own.\n\n" + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--drill", action="append", choices=DRILLS, metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2_000, help="improve jobs of each drill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step-s", type=float, default=0.15, help="simulated seconds of a step")
    parser.add_argument("--outage-s", type=float, default=30.0, help="the long Postgres outage")
    parser.add_argument("--logs", type=Path, help="existing folder that keeps all logs")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
