"""Fake models whose conversations are as long as a real policy's: 20 to 30 agent turns, 8,000 to 16,000 tokens.

Before the gold solution the policy looks things up, a pair of rows a turn, and talks: no two of its turns, and no two
answers of its tools, are the same in a run, so that nothing of them can be remembered. Retail and airline have rows
enough.
"""

from __future__ import annotations

import random

from model_servers import ModelServers

from slime_tau2 import bench
from slime_tau2.episode import scripts

READS = {
    "retail": (("get_order_details", "order_id", "orders"), ("get_user_details", "user_id", "users")),
    "airline": (
        ("get_reservation_details", "reservation_id", "reservations"),
        ("get_user_details", "user_id", "users"),
    ),
}
"""{domain: two reads, each with its argument and the table of its rows}."""
BEFORE = 21
"""Agent turns before the solution; every second speaks to the user."""
WORDS = (
    "order account item address payment refund exchange status pending delivered please check again before first "
    "second policy confirm available option total price shipping return window eligible because customer request"
).split()


class LongModelServers(ModelServers):
    """The replies of a conversation are its own, by its number."""

    def __init__(self, domain: str, tokenizer):
        super().__init__(domain, tokenizer)
        database = self.world.environments.base.tools.db
        self._rows = [(tool, argument, list(getattr(database, table))) for tool, argument, table in READS[domain]]

    def script(self, number: int) -> scripts.Script:
        """What the policy says in a conversation."""
        talk = random.Random(number)
        script = []
        for turn in range(BEFORE):
            place = number * BEFORE + turn
            words = " ".join(talk.choices(WORDS, k=30))
            calls = None
            if turn % 2:
                # neither row alone is new after some hundred looks, the two together are
                calls = [
                    bench.ToolCall(name=tool, arguments={argument: rows[(place + n * (place // 500)) % len(rows)]})
                    for n, (tool, argument, rows) in enumerate(self._rows)
                ]
            script.append(bench.AssistantMessage(role="assistant", content=words, tool_calls=calls))
        return [*script, *super().script(number)]

    def key(self, number: int) -> str | int:
        return number
