"""What each call of the agent did to the strict score, and whether a check proves it wrong.

tau2 makes the calls of one message in one step. Here the environment's `get_response` is watched, so that the score is
read behind each call. Nothing is copied or played twice: the scorer counts calls as they come, and env assertions are
asked of the live environment. A call costs some 20 µs, one that is doubted up to 0.5 ms (tests/bench/call_watch.py).

A call is proven wrong, in these words, if it is

* **unreadable**: no call could be read from what was sampled;
* **refused**: a write, or a call of a tool that the agent does not have, with an error for its result. A read that errs
  is a question;
* **repeated write**: the same write was made before, and now it changes nothing, or what the solution never does;
* **wrong argument** or **forbidden write**: a write that changes the database as no state of the solution does
  (`rewards.effects`), with the tool of a gold action that is still open, or with another.

Gold actions that are still open are never wrong, and reads are not: nobody can prove that a look was needless. What a
write may change is proven only where the reward asks for the database (`DB` in the basis): telecom's does not, and
there are other ways to its end than the solution's. Calls of the user are counted in the score and not watched: they
are credited to the words that they answer.
"""

from __future__ import annotations

import json

from slime_tau2 import bench
from slime_tau2.episode.environments import TableState
from slime_tau2.episode.grading import Grader
from slime_tau2.episode.toolcalls import MALFORMED
from slime_tau2.rewards.partial import Call, StrictScorer
from slime_tau2.types import CallGain

UNREADABLE = "unreadable"
REFUSED = "refused"
REPEATED = "repeated write"
WRONG_ARGUMENT = "wrong argument"
FORBIDDEN = "forbidden write"


class CallWatch:
    """Watches the calls of one episode, from `begin` on, and feeds them to its scorer.

    Args:
        scorer: the episode's; env assertions are counted in it as of the last thing that happened.
    """

    def __init__(self, grader: Grader, task: bench.Task, environment: bench.Environment, scorer: StrictScorer):
        self.grader = grader
        self.task = task
        self.environment = environment
        self.scorer = scorer
        self._proves = grader.counts_database(task)
        self._answer = grader.environments.answers(environment)
        self._calls: list[CallGain] = []
        self._written: set[str] = set()

    def begin(self) -> None:
        """Watch from now on: what tau2 has played of the task's history earns nothing."""
        self.environment.get_response = self._respond  # type: ignore[method-assign]
        bench.bind_tools(self.environment)

    def end(self) -> None:
        """Leave the environment as it was, and no circle of references behind."""
        self.environment.__dict__.pop("get_response", None)
        bench.release_tools(self.environment)

    def take(self) -> list[CallGain]:
        """The agent's calls since the last `take`, in order, without tokens."""
        calls, self._calls = self._calls, []
        return calls

    def _respond(self, message: bench.ToolCall) -> bench.ToolMessage:
        if message.requestor != "assistant":
            result = self._answer(message)
            self.scorer.add_call(_made(message, error=bool(result.error)))
            return result
        environments, score = self.grader.environments, self._score()
        writes = message.name in environments.writes
        judged = writes and self._proves and not self.scorer.wants(_made(message))
        before = environments.rows(self.environment) if judged else None
        result = self._answer(message)
        call = _made(message, error=bool(result.error))
        wrong = "" if self.scorer.add_call(call) else self._wrong(call, before)
        if writes and not call.error:
            self._written.add(_key(call))
        if self.scorer.assertions:
            self.scorer.set_assertions_met(self.grader.assertions_met(self.task, self.environment))
        self._calls.append(CallGain(0, 0, round(self._score() - score, 6), wrong))
        return result

    def _score(self) -> float:
        return round(self.scorer.value(), 6)  # as in a turn's record, whose gain these sum to

    def _wrong(self, call: Call, before: TableState | None) -> str:
        """What is wrong with a call that no open gold action wants; empty if nothing is proven.

        Args:
            before: the database before the call; None where nothing is to be proven by it.
        """
        environments = self.grader.environments
        if call.name == MALFORMED:
            return UNREADABLE
        if call.error:
            reads = call.name in environments.agent_tools and call.name not in environments.writes
            return "" if reads else REFUSED
        if before is None:
            return ""
        changes = environments.changes(before, environments.rows(self.environment))
        strange = self.grader.strange(self.task, changes)
        if _key(call) in self._written and (strange or not changes):
            return REPEATED
        if not strange:
            return ""
        return WRONG_ARGUMENT if self.scorer.wants_tool(call.name, call.requestor) else FORBIDDEN


def _made(call: bench.ToolCall, error: bool = False) -> Call:
    return Call(call.name, call.requestor, call.arguments, error)


def _key(call: Call) -> str:
    """What is the same for two calls of one tool with equal arguments."""
    return json.dumps([call.name, call.arguments], sort_keys=True, default=str)
