"""What the task's own solution is at fault for: the order of a list that nothing fixes, a write against the policy."""

from __future__ import annotations

from collections.abc import Iterator

from slime_tau2.evaluation import failures
from slime_tau2.evaluation.failures import MadeCall
from slime_tau2.evaluation.fault.conversation import Conversation, broken, made
from slime_tau2.evaluation.fault.kinds import AGAINST_POLICY, ORDER, Finding
from slime_tau2.record import CallRecord
from slime_tau2.terminations import Termination
from slime_tau2.verification import orders


def only_the_order(talk: Conversation, writes: frozenset[str]) -> Iterator[Finding]:
    """The end state is the solution's but for the order of lists, and all else that the reward counts is met."""
    evidence = failures.Evidence.of(talk.record, writes)
    other = evidence.undone or evidence.unmet or evidence.unsaid or evidence.judged
    if not evidence.changed or other or talk.record["termination"] != Termination.USER_STOP:
        return
    turned = list(_turned(talk))
    if not turned:
        return
    played = talk.scene.play([made(call.call) for call in talk.made])
    if played.errs != [call.error for call in talk.made]:
        return  # another database than the attempt's
    environments = talk.world.stage(talk.task).environments
    one, other_state = environments.state(talk.gold_play.environment), environments.state(played.environment)
    if environments.same(one, other_state) or not orders.alike(environments, talk.gold_play, played):
        return
    for _, gold, names in turned:
        said = talk.said_in_order(gold)
        if all(name in said or orders.fixed_by(gold["arguments"][name], talk.story_text) for name in names):
            return  # the scenario, or dates, want it as the solution has it
        if any(f'"{name}":' in result for name in names for result in talk.agents_results() if _names(gold, result)):
            return  # the record that is changed has an order already
    for call, gold, names in turned:
        yield Finding(
            kind=ORDER,
            message=call.message,
            words=f"the agent calls {failures.called(call.call)}",
            held=f"the solution has {', '.join(names)} in another order: {failures.called(gold)}",
        )


def _names(gold: CallRecord, result: str) -> bool:
    """Whether a result is about the record that a call changes."""
    ids = [value for name, value in gold["arguments"].items() if name.endswith("_id") and isinstance(value, str)]
    return any(f'"{name}"' in result for name in ids if name.isupper() or name.startswith("#"))


def against_policy(talk: Conversation) -> Iterator[Finding]:
    """A write of the solution breaks a rule, evaluated anew. Of tasks that say whom they are about: the factory's."""
    if talk.declared is None:
        return
    for number, rules in sorted(talk.gold_rulings.items()):
        if against := broken(rules):
            yield Finding(
                kind=AGAINST_POLICY,
                message=None,
                words=f"the solution calls {failures.called(talk.gold[number])}",
                held=f"which breaks {', '.join(against)}",
            )
            return


def _turned(talk: Conversation) -> Iterator[tuple[MadeCall, CallRecord, list[str]]]:
    """(write, the solution's, lists that are in another order) of calls that are otherwise the same."""
    for call in talk.strange:
        for gold in talk.missed:
            if gold["name"] != call.call["name"] or orders.unordered(call.call["arguments"]) != orders.unordered(
                gold["arguments"]
            ):
                continue
            names = [k for k, value in gold["arguments"].items() if call.call["arguments"].get(k) != value]
            yield call, gold, names
