"""Time-outs that share one timer end as `asyncio.timeout` would have ended each."""

import asyncio
import contextvars
import gc
import weakref

import pytest

from slime_tau2.episode.deadlines import Deadlines


async def late(deadlines, seconds, *, after=0.0, ended=None, name=None):
    await asyncio.sleep(after)
    started = asyncio.get_running_loop().time()
    try:
        async with deadlines.next():
            await asyncio.sleep(seconds)
    except TimeoutError:
        assert asyncio.get_running_loop().time() - started >= deadlines.seconds
        if ended is not None:
            ended.append(name)
        return False
    return True


async def test_each_ends_at_its_own_time_and_who_is_done_is_left_alone():
    deadlines, ended = Deadlines(0.1), []
    jobs = [late(deadlines, 5.0 if n % 2 else 0.0, after=0.02 * n, ended=ended, name=n) for n in range(8)]
    started = asyncio.get_running_loop().time()
    assert await asyncio.gather(*jobs) == [n % 2 == 0 for n in range(8)]
    assert ended == [1, 3, 5, 7] and asyncio.get_running_loop().time() - started < 3.0
    assert not deadlines._waiting


async def test_a_new_one_has_all_its_time_after_a_pause():
    """No timer is left behind by the last one."""
    deadlines = Deadlines(0.3)
    assert await late(deadlines, 0.0)
    assert await late(deadlines, 0.2, after=0.2)  # from 0.2 to 0.4, beyond the end that the first one would have had
    assert not await late(deadlines, 5.0)
    await asyncio.sleep(0.35)
    assert deadlines._timer is None and await late(deadlines, 0.0)


def test_no_loop_is_kept_by_the_timer_of_one_who_is_done():
    deadlines, loops = Deadlines(60.0), []

    async def once():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        assert await late(deadlines, 0.0)

    for _ in range(3):
        asyncio.run(once())
    gc.collect()
    assert not any(loop() for loop in loops)


async def test_the_timer_keeps_the_context_of_nobody():
    spoken = contextvars.ContextVar("spoken")

    class Said:
        pass

    async def first():
        said = Said()
        spoken.set(said)
        refs.append(weakref.ref(said))
        assert await late(deadlines, 0.05)

    deadlines, refs = Deadlines(60.0), []
    others = [asyncio.create_task(late(deadlines, 0.3, after=0.02)) for _ in range(3)]
    await asyncio.create_task(first())
    await asyncio.sleep(0.01)  # the loop itself holds the task that has just ended
    gc.collect()
    assert deadlines._timer is not None and refs[0]() is None
    assert all(await asyncio.gather(*others))


async def test_errors_and_cancellation_pass_and_a_time_out_of_its_own_is_no_deadline():
    deadlines = Deadlines(30.0)
    for error in (OSError("gone"), TimeoutError("its own")):
        with pytest.raises(type(error)) as raised:
            async with deadlines.next():
                raise error
        assert raised.value is error
    waiting = asyncio.create_task(late(deadlines, 5.0))
    await asyncio.sleep(0.01)
    assert len(deadlines._waiting) == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not deadlines._waiting


async def test_a_hundred_wait_and_the_loop_has_one_timer():
    deadlines, loop = Deadlines(60.0), asyncio.get_running_loop()
    tasks = [asyncio.create_task(late(deadlines, 0.05)) for _ in range(100)]
    await asyncio.sleep(0.01)
    far = [handle for handle in loop._scheduled if handle.when() > loop.time() + 30 and not handle.cancelled()]
    assert len(deadlines._waiting) == 100 and len(far) == 1
    assert all(await asyncio.gather(*tasks))
