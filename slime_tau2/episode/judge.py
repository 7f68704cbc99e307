"""The judge of natural-language assertions: tau2's own question, put to any OpenAI-compatible server.

tau2 asks from inside its evaluator, blocking, and accepts an answer that leaves assertions out (none unmet is all met).
Here the question is taken from tau2 (`bench.judge_request`), awaited, checked to answer each assertion, and handed back
to tau2's parser. A judge that fails for good is infrastructure, never a reward of zero.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from slime_tau2 import bench
from slime_tau2.episode.endpoint import Garbage
from slime_tau2.episode.openai_chat import ChatClient, ChatReply, message_bytes


class Judge(Protocol):
    """Answers what tau2 asks its judge."""

    async def answer(self, request: bench.JudgeRequest) -> str:
        """JSON in the form that tau2's judge is asked for.

        Raises:
            JudgeError: there is no usable answer.
        """


@dataclass
class LLMJudge:
    """A judge model. The client's `failure` is JudgeError."""

    client: ChatClient

    async def answer(self, request: bench.JudgeRequest) -> str:
        messages = [message_bytes(m) for m in request.messages]

        def accept(reply: ChatReply) -> None:
            verdicts(reply.text or "", request.assertions)

        reply = await self.client.complete(messages, accept=accept)
        return json.dumps({"results": verdicts(reply.text or "", request.assertions)})


def verdicts(text: str, expected: int) -> list[dict[str, Any]]:
    """The verdicts in a judge's answer (a fence around the JSON is taken off).

    Raises:
        Garbage: it is not what tau2 asked for, or does not judge each of the `expected` assertions once.
    """
    try:
        results: list[dict[str, Any]] = json.loads(text[text.index("{") : text.rindex("}") + 1])["results"]
        good = all(
            isinstance(r["metExpectation"], bool) and r["expectedOutcome"] and isinstance(r["reasoning"], str)
            for r in results
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Garbage("malformed_verdict", f"a judge's answer that cannot be read: {text[:200]!r}") from error
    if not good or len(results) != expected:
        raise Garbage(
            "malformed_verdict",
            f"a judge's answer with {len(results)} verdicts on {expected} assertions: {text[:200]!r}",
        )
    return results
