"""Fair shares as laws, and as what comes of them in a simulated queue."""

import heapq
import random
from collections import Counter, deque
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sharing import STEPS_PER_JOB, Claim, divide, settle, standing, step_time_s, turns

weights = st.floats(0.01, 100)
counts = st.integers(0, 60)
claim_lists = st.lists(
    st.builds(
        Claim,
        weight=weights,
        ready=counts,
        published=counts,
        running=counts,
        room=st.none() | st.integers(-20, 60),
        owed_s=st.floats(-500, 500),
    ),
    max_size=12,
)


@given(claim_lists, st.integers(0, 200))
def test_all_that_is_wanted_is_given_and_no_more_than_can_be_used(listed, wanted):
    claims = dict(enumerate(listed))
    given_out = Counter(turns(claims, wanted, 1.0))
    assert sum(given_out.values()) == min(wanted, sum(claim.most for claim in listed))
    for run, steps in given_out.items():
        assert 1 <= steps <= claims[run].ready
        assert claims[run].room is None or steps <= claims[run].room


@given(claim_lists, st.integers(1, 32), st.integers(0, 128))
def test_a_division_keeps_caps_and_overfills_a_queue_by_its_slots_at_most(listed, slots, target):
    claims = dict(enumerate(listed))
    divided = divide(claims, slots=slots, target=target, step_s=1.0)
    for run, steps in Counter(turn.run for turn in divided).items():
        assert 0 < steps <= claims[run].most
    published = sum(claim.published for claim in listed)
    ahead = sum(turn.ahead for turn in divided)
    behind = len(divided) - ahead
    assert ahead <= slots
    assert behind <= max(0, target - published)
    assert len(divided) >= min(target - published, sum(claim.most for claim in listed))
    assert [turn.ahead for turn in divided] == [True] * ahead + [False] * behind


@given(st.lists(weights, min_size=1, max_size=8), st.integers(1, 300))
def test_shares_are_proportional_to_weights(listed, wanted):
    claims = {run: Claim(weight, ready=wanted) for run, weight in enumerate(listed)}
    given_out = Counter(turns(claims, wanted, 1.0))
    ideal = {run: wanted * weight / sum(listed) for run, weight in enumerate(listed)}
    for run in claims:
        assert given_out.get(run, 0) == pytest.approx(ideal[run], abs=1 + len(listed) / 2)


def test_turns_alternate():
    claims = {"light": Claim(1, ready=50), "heavy": Claim(3, ready=50)}
    order = turns(claims, 40, 1.0)
    for start in range(36):
        assert order[start : start + 4].count("light") == 1, "one of any four"


@given(claim_lists, st.integers(1, 200))
def test_no_run_overtakes_one_that_wanted_more(listed, wanted):
    """The last step given to anyone was given to the one furthest behind."""
    claims = dict(enumerate(listed))
    given_out = Counter(turns(claims, wanted, 1.0))

    unsatisfied = [run for run in claims if given_out.get(run, 0) < claims[run].most]
    for winner, steps in given_out.items():
        for loser in unsatisfied:
            last = standing(claims[winner], steps - 1, 1.0)
            assert last <= standing(claims[loser], given_out.get(loser, 0), 1.0) + 1e-9


@given(claim_lists, st.floats(0, 5))
def test_what_one_run_is_owed_the_others_have_had(listed, elapsed_s):
    claims = {run: replace(claim, owed_s=0.0) for run, claim in enumerate(listed)}
    owed = settle(claims, elapsed_s=elapsed_s, most_s=1e9)
    assert sum(owed.values()) == pytest.approx(0, abs=1e-3)
    bounded = settle(claims, elapsed_s=elapsed_s, most_s=10)
    assert all(-10 <= seconds <= 10 for seconds in bounded.values())
    assert not any(run in owed for run, claim in claims.items() if claim.most == 0)


@dataclass(frozen=True)
class Work:
    """Jobs of one simulated run: all alike, as many as there is time for."""

    weight: float
    steps: int
    step_s: float = 1.0
    from_s: float = 0.0


class SimulatedQueue:
    """Slots that serve three lists in order, as Redis priorities do, and a dispatcher."""

    def __init__(self, works: dict[str, Work], slots: int, target: int) -> None:
        self.works, self.slots, self.target = works, slots, target
        self.next_steps, self.ahead, self.behind = deque(), deque(), deque()
        self.running: list[tuple[float, float, int, str, int]] = []
        self.owed_s: dict[str, float] = {}
        self.held_s: list[tuple[str, float, float]] = []
        self.step_s: float | None = None
        self._random = random.Random(1)

    def start(self, now: float) -> None:
        for waiting in (self.next_steps, self.ahead, self.behind):
            while waiting and len(self.running) < self.slots:
                run, left = waiting.popleft()
                end = now + self.works[run].step_s * self._random.uniform(0.5, 1.5)
                heapq.heappush(self.running, (end, now, len(self.held_s), run, left))
                self.held_s.append((run, now, end))

    def advance(self, until: float) -> None:
        while self.running and self.running[0][0] <= until:
            end, _, _, run, left = heapq.heappop(self.running)
            if left > 1:
                self.next_steps.append((run, left - 1))
            self.start(end)

    def claims(self, now: float) -> dict[str, Claim]:
        waiting = [run for run, _ in (*self.next_steps, *self.ahead, *self.behind)]
        held = [entry[3] for entry in self.running]
        return {
            name: Claim(
                work.weight,
                ready=1_000 if now >= work.from_s else 0,
                published=waiting.count(name),
                running=held.count(name),
                owed_s=self.owed_s.get(name, 0.0),
            )
            for name, work in self.works.items()
        }

    def dispatch(self, now: float, tick_s: float) -> None:
        claims = self.claims(now)
        ages_s = sum(now - entry[1] for entry in self.running)
        self.step_s = step_time_s(self.step_s, len(self.running), ages_s)
        step_s = self.step_s or 1.0
        most_s = STEPS_PER_JOB * self.target * step_s
        self.owed_s = settle(claims, elapsed_s=tick_s, most_s=most_s)
        claims = {run: replace(c, owed_s=self.owed_s.get(run, 0.0)) for run, c in claims.items()}
        divided = divide(claims, slots=self.slots, target=self.target, step_s=step_s)
        for turn in divided:
            waiting = self.ahead if turn.ahead else self.behind
            waiting.append((turn.run, self.works[turn.run].steps))
        self.start(now)

    def simulate(self, seconds: float, tick_s: float = 0.5) -> None:
        for tick in range(int(seconds / tick_s)):
            self.advance(tick * tick_s)
            self.dispatch(tick * tick_s, tick_s)

    def share(self, run: str, from_s: float, to_s: float) -> float:
        """Share of all slot time between two moments."""
        held = dict.fromkeys(self.works, 0.0)
        for name, start, end in self.held_s:
            held[name] += max(0.0, min(end, to_s) - max(start, from_s))
        return held[run] / sum(held.values())


@pytest.mark.parametrize(
    ("light", "heavy"),
    [
        (Work(1, steps=12), Work(3, steps=12)),
        (Work(1, steps=1), Work(3, steps=12)),
        (Work(1, steps=12), Work(3, steps=1)),
        (Work(1, steps=1), Work(3, steps=30)),
        (Work(1, steps=6, step_s=0.2), Work(3, steps=6, step_s=2)),
        (Work(1, steps=1, step_s=6), Work(3, steps=6, step_s=1)),
    ],
)
def test_slot_time_follows_the_weights_whatever_the_jobs_are_like(light, heavy):
    queue = SimulatedQueue({"light": light, "heavy": heavy}, slots=8, target=24)
    queue.simulate(1_500)
    assert queue.share("light", 300, 1_500) == pytest.approx(0.25, abs=0.025)


def test_a_late_run_has_its_slots_after_one_job_and_not_after_the_whole_queue():
    works = {"early": Work(1, steps=12), "late": Work(3, steps=12, from_s=100)}
    queue = SimulatedQueue(works, slots=8, target=24)
    queue.simulate(140)
    assert queue.share("late", 112, 124) > 0.5


def test_many_runs_on_few_slots_all_get_their_turn():
    works = {f"run{i}": Work(1, steps=4) for i in range(30)}
    queue = SimulatedQueue(works, slots=4, target=12)
    queue.simulate(600)
    assert {name for name, _, _ in queue.held_s} == set(works), "nobody starves"
    finished = [queue.share(name, 100, 600) for name in works]
    assert max(finished) < 3 * min(finished)
