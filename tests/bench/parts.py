"""CPU of an agent's turn by part (`python tests/bench/throughput.py --cpu`): where the processor is each millisecond of
CPU time, while a row is played.

A sample belongs to the innermost function of the table that is running; what is in none (asyncio, the driver between
two steps) is the loop. Collections of the garbage collector, and what C does without Python, belong to where they
strike.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_S = 0.001
PARTS = {
    "agent tokens": {"token_agent.py": ["act"]},
    "client": {"endpoint.py": ["post"]},
    "tau2's step": {"orchestrator.py": ["step"], "environment.py": ["get_response"]},
    "user": {"users.py": ["respond", "start"]},
    "scoring": {"conversation.py": ["score", "_close_turn"], "call_watch.py": ["_respond"]},
    "begin, close": {"conversation.py": ["__init__", "begin", "close"]},
    "fake models": {"model_servers.py": ["policy_transport", "user_transport"]},
}
"""{part: {file: its functions}}."""
LOOP = "loop"
_PART_OF = {(file, name): part for part, files in PARTS.items() for file, names in files.items() for name in names}


@contextmanager
def sampled() -> Iterator[Counter[str]]:
    """Count samples by part while this is open."""
    found: Counter[str] = Counter()

    def strike(_signal, frame) -> None:
        while frame is not None:
            code = frame.f_code
            part = _PART_OF.get((code.co_filename.rpartition("/")[2], code.co_name))
            if part is not None:
                found[part] += 1
                return
            frame = frame.f_back
        found[LOOP] += 1

    before = signal.signal(signal.SIGPROF, strike)
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    try:
        yield found
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def milliseconds(found: Counter[str], cpu_s: float, turns: int) -> dict[str, float]:
    """{part: ms of CPU a turn}: the measured CPU, divided as the samples are."""
    total = sum(found.values())
    return {part: 1e3 * cpu_s * found[part] / total / turns for part in (*PARTS, LOOP)}
