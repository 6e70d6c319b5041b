"""The adaptive limit: bounds, growth, one cut an epoch; the gate keeps to it."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.adaptive_limit import AdaptiveLimit, Gate


@given(st.integers(1, 64), st.integers(1, 64), st.lists(st.booleans(), max_size=200))
def test_it_stays_within_its_bounds(most: int, start: int, outcomes: list[bool]) -> None:
    limit = AdaptiveLimit(most, start)
    for is_good in outcomes:
        limit.succeeded() if is_good else limit.overloaded(limit.epoch)
        assert 1 <= limit.value <= most


def test_it_doubles_a_round_until_the_first_trouble_and_then_adds_one() -> None:
    limit = AdaptiveLimit(64, start=8)
    for _ in range(8):
        limit.succeeded()
    assert limit.value == 16
    limit.overloaded(limit.epoch)
    assert limit.value == 8
    for _ in range(9):
        limit.succeeded()
    assert limit.value == 9


def test_troubles_of_requests_sent_before_a_cut_do_not_cut_again() -> None:
    limit = AdaptiveLimit(64, start=32)
    sent_in = limit.epoch
    for _ in range(32):
        limit.overloaded(sent_in)
    assert limit.value == 16
    limit.overloaded(limit.epoch)
    assert limit.value == 8


@given(st.integers(1, 6), st.lists(st.booleans(), min_size=1, max_size=40))
def test_the_gate_never_lets_more_in_than_the_limit_and_lets_everybody_in(
    most: int, outcomes: list[bool]
) -> None:
    limit = AdaptiveLimit(most, start=2)
    inside, served = 0, 0

    async def one(gate: Gate, is_good: bool) -> None:
        nonlocal inside, served
        async with gate.entered() as epoch:
            # Whoever is in when the limit falls stays in, so that entering is what is bounded.
            assert inside < limit.value
            inside += 1
            await asyncio.sleep(0)
            limit.succeeded() if is_good else limit.overloaded(epoch)
            inside -= 1
            served += 1

    async def everybody() -> None:
        gate = Gate(limit)
        await asyncio.gather(*(one(gate, is_good) for is_good in outcomes))
        assert gate.waiting == 0

    asyncio.run(asyncio.wait_for(everybody(), 10))
    assert served == len(outcomes)


def test_a_cancelled_waiter_gives_its_turn_to_the_next() -> None:
    async def scene() -> None:
        gate = Gate(AdaptiveLimit(1))
        async with gate.entered():
            first = asyncio.create_task(_pass(gate))
            second = asyncio.create_task(_pass(gate))
            await asyncio.sleep(0)
            assert gate.waiting == 2
            first.cancel()
            await asyncio.sleep(0)
        await asyncio.wait_for(second, 5)
        assert first.cancelled()

    asyncio.run(scene())


async def _pass(gate: Gate) -> None:
    async with gate.entered():
        pass
