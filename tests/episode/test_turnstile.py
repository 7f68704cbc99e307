"""One passes in each turn of the loop, in order, and none is lost."""

import asyncio
import gc
import weakref

from slime_tau2.episode.turnstile import turnstile


class Turns:
    """Counts the turns of the loop."""

    def __init__(self):
        self.count, self._on = 0, True

    def start(self):
        self._turn()
        return self

    def _turn(self):
        self.count += 1
        if self._on:
            asyncio.get_running_loop().call_soon(self._turn)

    def stop(self):
        self._on = False


async def test_who_comes_alone_goes_on_at_once():
    turns = Turns().start()
    await turnstile()
    assert turns.count == 1, "no turn of the loop was spent"
    await turnstile()
    assert turns.count > 1, "but two passes in one turn are not to be had"
    turns.stop()


async def test_one_a_turn_and_in_order():
    turns, came, seen = Turns().start(), [], []

    async def episode(number):
        for _ in range(3):
            came.append(number)
            await turnstile()
            seen.append((turns.count, number))

    await asyncio.gather(*map(episode, range(5)))
    turns.stop()
    at = [turn for turn, _ in seen]
    assert len(set(at)) == 15, "no two in one turn"
    assert at[1:] == list(range(at[1], at[1] + 14)), "and no turn is left out while somebody waits"
    assert [number for _, number in seen] == came and sorted(came) == sorted([*range(5)] * 3)


async def test_one_that_is_cancelled_holds_up_nobody():
    async def episode(number):
        await turnstile()
        passed.append(number)

    passed = []
    tasks = [asyncio.create_task(episode(n)) for n in range(6)]
    await asyncio.sleep(0)
    for n in (1, 2, 5):
        tasks[n].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert passed == [0, 3, 4] and [isinstance(d, asyncio.CancelledError) for d in done] == [
        n in (1, 2, 5) for n in range(6)
    ]
    await asyncio.wait_for(episode(6), 1)
    assert passed[-1] == 6, "nor anybody who comes later"


def test_a_loop_that_is_over_is_forgotten():
    async def run():
        await asyncio.gather(*(turnstile() for _ in range(3)))
        return weakref.ref(asyncio.get_running_loop())

    first, second = asyncio.run(run()), asyncio.run(run())
    gc.collect()
    assert first() is None and second() is None
