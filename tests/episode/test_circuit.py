"""A server that is gone: it is not asked by every episode with all its time-outs, it is named, and it is found again
when it is back.
"""

import asyncio

import pytest

from slime_tau2.episode.circuit import OPENS_AFTER, PROBE_EVERY_S, Circuit
from slime_tau2.episode.endpoint import Endpoint
from slime_tau2.episode.transport import Response
from slime_tau2.errors import UserSimulatorError
from slime_tau2.limits import Retries


class Server:
    """A transport that hangs, refuses or answers, and counts who asked."""

    def __init__(self, mode):
        self.mode, self.asked = mode, 0

    async def __call__(self, url, body, headers):
        self.asked += 1
        if self.mode == "hangs":
            await asyncio.sleep(3600)
        if self.mode == "refuses":
            raise ConnectionRefusedError("refused")
        return Response(500 if self.mode == "errs" else 200, b'{"said": 1}')


def endpoint(server, clock, concurrency=64, **more):
    return Endpoint(
        url="http://user/v1",
        failure=UserSimulatorError,
        transport=server,
        circuit=Circuit(lambda: clock["now"]),
        concurrency=concurrency,
        retries=Retries(**{"count": 3, "timeout_s": 0.02, "backoff_s": 0.0} | more),
    )


async def ask(e):
    return await e.post(lambda attempt: b"{}", lambda answer: answer["said"], {})


@pytest.mark.parametrize(
    "mode, last", [("hangs", "no answer within 0.02 s"), ("refuses", "ConnectionRefusedError: refused")]
)
async def test_of_a_hundred_episodes_a_few_ask_a_dead_server_and_all_name_it(mode, last):
    server, clock = Server(mode), {"now": 0.0}
    e = endpoint(server, clock)
    ended = await asyncio.gather(*(ask(e) for _ in range(64)), return_exceptions=True)
    assert all(isinstance(x, UserSimulatorError) and "http://user/v1" in str(x) for x in ended)
    assert last in str(ended[0]) and "has answered none of the last" in str(ended[-1])
    first_wave = server.asked
    assert first_wave <= 64 + OPENS_AFTER, "no retries once it is known that nobody is there"
    ended = await asyncio.gather(*(ask(e) for _ in range(200)), return_exceptions=True)
    assert server.asked == first_wave and all(isinstance(x, UserSimulatorError) for x in ended), "not one more"
    assert sum(e.faults.values()) == first_wave, "what was not tried is no fault"


async def test_it_is_found_again_when_it_is_back():
    server, clock = Server("refuses"), {"now": 0.0}
    e = endpoint(server, clock)
    await asyncio.gather(*(ask(e) for _ in range(16)), return_exceptions=True)
    assert e.circuit.open
    server.mode, before = "answers", server.asked
    with pytest.raises(UserSimulatorError):
        await ask(e)
    assert server.asked == before, "it does not know yet"
    clock["now"] += PROBE_EVERY_S
    assert await ask(e) == 1 and not e.circuit.open
    assert await asyncio.gather(*(ask(e) for _ in range(16))) == [1] * 16


async def test_while_it_is_gone_one_request_at_a_time_asks():
    server, clock = Server("refuses"), {"now": 0.0}
    e = endpoint(server, clock)
    await asyncio.gather(*(ask(e) for _ in range(16)), return_exceptions=True)
    before = server.asked
    for _ in range(3):
        clock["now"] += PROBE_EVERY_S
        await asyncio.gather(*(ask(e) for _ in range(16)), return_exceptions=True)
    assert server.asked == before + 3


async def test_those_who_wait_for_their_turn_hear_of_it_too():
    server, clock = Server("hangs"), {"now": 0.0}
    e = endpoint(server, clock, concurrency=OPENS_AFTER)
    await asyncio.gather(*(ask(e) for _ in range(100)), return_exceptions=True)
    assert server.asked <= 2 * OPENS_AFTER


async def test_a_server_that_errs_is_there():
    server, clock = Server("errs"), {"now": 0.0}
    e = endpoint(server, clock)
    ended = await asyncio.gather(*(ask(e) for _ in range(16)), return_exceptions=True)
    assert server.asked == 64 and not e.circuit.open and all("failed 4 times" in str(x) for x in ended)
