"""Conversations with one fault planted, and conversations without any: what `evaluation.fault` is measured on.

The expert and its user play a task of the factory. The same moves are played once more with one thing changed: what the
user says, withholds or does, where it stops, what the agent writes. tau2 answers every call and grades the end.
"""

import asyncio
import copy
import json
import random
import re
from dataclasses import dataclass

import expert_played

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import AgentAction
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.protocols import Native
from slime_tau2.errors import FactoryError
from slime_tau2.evaluation.fault import kinds, testimony
from slime_tau2.evaluation.fault.of_user_said import differences, things_in
from slime_tau2.factory import build, traces
from slime_tau2.factory.dialogue import Answer, Say, Stage, StageAgent, StageUser, Use
from slime_tau2.factory.draft import Call
from slime_tau2.limits import Limits
from slime_tau2.terminations import Termination
from slime_tau2.types import is_success
from slime_tau2.verification import declared, orders, valueflow
from slime_tau2.verification.plays import Scene
from slime_tau2.verification.variations import by_shape, leaves, replaced, shape

BYE = f"No, that's all. {bench.STOP}"
CLOSING = "Is there anything else I can do for you?"
WITHHOLDS = (
    "I'm afraid I don't have that at hand.",
    "I'd rather not say.",
    "Can't you look that up yourself?",
    "Sorry, I don't know that.",
    "Why do you need that?",
)
STOPS = ("Thanks, bye. {stop}", "{stop}", "Thank you! {stop}", "{answer} {stop}")
"""The last one gives the answer and stops with it."""
GREETING = 1


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One conversation.

    Attributes:
        kind: the planted fault's kind, as in `kinds.KINDS`; "" for a conversation whose user and reference are
            blameless.
        how: what was done.
        record: the attempt's record; its reward is not 1.
        value: what was said, withheld or written, where that is one value.
        agent: whether the agent is at fault, by whatever kind.
        world: where the task is, if it was changed too.
    """

    kind: str
    how: str
    record: dict
    value: str = ""
    agent: bool = False
    world: object = None


class Played:
    """Tasks of a domain's factory with the expert's episodes, to be played again otherwise."""

    def __init__(self, domain, count, seed=0):
        self.domain = domain
        self.played = expert_played.play(domain, count, seed)
        self.made = {m.task["id"]: m for m in build.make(domain, round(count * traces.SPARE) + 10, seed)}
        self.world = self.played.world
        self.episodes = self.played.episodes
        self.rng = random.Random(f"planted/{domain}/{seed}")
        self.values = by_shape([m["content"] or "" for e in self.episodes for m in e.messages if m["role"] == "tool"])

    def moves(self, episode):
        """What was said and done, in order; the agent's greeting is tau2's own."""
        out = []
        for message in episode.messages[GREETING:]:
            if message["role"] == "tool":
                continue
            if calls := message.get("tool_calls"):
                out += [Use(Call(name=c["name"], arguments=c["arguments"], requestor=c["requestor"])) for c in calls]
            else:
                kind = Say if message["role"] == "assistant" else Answer
                out.append(kind(message["content"]))
        return out

    def play(self, episode, moves, *, bail_at=None, world=None, garbled=None):
        """The record of the moves; None where they earn the whole reward.

        Args:
            bail_at: from this move on, the agent gives up when a call of its own fails.
            world: where the task is, if not the one that the expert played.
            garbled: (the agent's turn from which on nothing of it can be read, whether it is empty).
        """

        def script():
            for n, move in enumerate(moves):
                result = yield move
                failed = result is not None and result.error
                if bail_at is not None and n >= bail_at and failed and move.call.requestor == "assistant":
                    yield Say(f"I'm sorry, I can't find that. {CLOSING}")
                    yield Answer(BYE)
                    return

        stage = Stage(script())
        again = asyncio.run(
            run_episode(
                world or self.world,
                episode.task.task_id,
                StageAgent(stage) if garbled is None else Garbled(stage, *garbled),
                StageUser(stage),
                seed=0,
                limits=Limits(max_steps=400),
            )
        )
        record = {**again.record(), "attempt": 0}
        return None if record["reward"] is None or is_success(record["reward"]) else json.loads(json.dumps(record))

    def judged_lost(self, episode):
        """The expert's own episode, as if it had been lost."""
        record = {**json.loads(json.dumps(episode.record())), "attempt": 0}
        record["reward"] = record["reward_info"]["reward"] = 0.0
        record["reward_info"]["db_check"] = {"db_match": False}
        return record

    # The user

    def said_otherwise(self, episode):
        """The user says another value, and both go on from there."""
        moves, task = self.moves(episode), self.world.task(episode.task.task_id)
        story = valueflow.told(task)
        places = []
        for n, move in enumerate(moves):
            if not isinstance(move, Answer):
                continue
            for later in range(n + 1, len(moves)):
                call = moves[later]
                if not isinstance(call, Use) or call.call.requestor == "user":
                    continue
                for _, value in leaves(call.call.arguments):
                    if isinstance(value, bool) or value is None or len(str(value)) < 2:
                        continue
                    if testimony.says(move.text, value) and testimony.says(story, value):
                        places.append((n, value))
        self.rng.shuffle(places)
        for n, value in places:
            other = self.another(value)
            changed = [*moves[:n], *(swapped(move, value, other) for move in moves[n:])]
            if changed[n] == moves[n]:
                continue
            record = self.attempt(episode, changed, bail_at=n)
            if record:
                return Planted(kind=kinds.SAID, how=f"{value} → {other}", record=record, value=str(other))
        return None

    def said_another_kind(self, episode):
        """The user names another property of what it wants, and gets another thing."""
        moves = self.moves(episode)
        results = [m["content"] for m in episode.messages if m["role"] == "tool"]
        things = things_in([r for r in results if r])
        for n, move in enumerate(moves):
            if not isinstance(move, Use) or move.call.name not in self.world.writes:
                continue
            for path, value in leaves(move.call.arguments):
                if path[0] not in ("new_item_ids",) or value not in things:
                    continue
                for other, words in things.items():
                    differ = list(differences(things[value], words))
                    if other == value or len(differ) != 1 or words.get("available") is False:
                        continue
                    wanted, instead = differ[0]
                    said = [
                        m for m in range(n) if isinstance(moves[m], Answer) and testimony.says(moves[m].text, wanted)
                    ]
                    if not said or not testimony.says(valueflow.told(self.world.task(episode.task.task_id)), wanted):
                        continue
                    first = said[0]
                    changed = [*moves[:first], *(reworded(m, wanted, instead) for m in moves[first:])]
                    changed = [swapped_call(m, value, other) for m in changed]
                    record = self.attempt(episode, changed, bail_at=first)
                    if record:
                        how = f"{wanted} → {instead}"
                        return Planted(kind=kinds.SAID, how=how, record=record, value=instead)
        return None

    def withheld(self, episode):
        """The user is asked for a fact and does not tell it."""
        moves, made = self.moves(episode), self.made[episode.task.task_id]
        facts = [f for f in made.draft.facts() if f.told.value == "when asked"]
        places = []
        for n, move in enumerate(moves[1:], 1):
            if not (isinstance(move, Answer) and isinstance(moves[n - 1], Say)) or bench.STOP in move.text:
                continue
            before = " ".join(m.text for m in moves[:n] if isinstance(m, Answer))
            for fact in facts:
                values = [v for v in gold_values(made) if testimony.says(fact.words, v)]
                told = [v for v in values if testimony.says(move.text, v) and not testimony.says(before, v)]
                told = [v for v in told if testimony.is_hard(v)]
                soft = not told and answers_with(move.text, fact.words)
                if told or soft:
                    places.append((n, str(told[0]) if told else fact.name, bool(told)))
        if not places:
            return None
        n, value, hard = self.rng.choice(places)
        tail = [Answer(self.rng.choice(WITHHOLDS)), Say(f"I'm sorry, without it I can't go on. {CLOSING}"), Answer(BYE)]
        record = self.attempt(episode, [*moves[:n], *tail])
        if not record:
            return None
        results = " ".join(m["content"] or "" for m in record["messages"] if m["role"] == "tool")
        how = "no code" if not hard else "read elsewhere" if value in results else "a code"
        return Planted(kind=kinds.LEFT_OUT, how=how, record=record, value=value if hard else "")

    def one_wish_untold(self, episode):
        """Asked for anything else, the user says no, with a wish still to come."""
        moves = self.moves(episode)
        for n, move in enumerate(moves[1:], 1):
            before = moves[n - 1]
            if isinstance(move, Answer) and isinstance(before, Say) and testimony.closes(before.text):
                if bench.STOP in move.text or n > len(moves) - 4:
                    return None
                record = self.attempt(episode, [*moves[:n], Answer(BYE)])
                return record and Planted(kind=kinds.LEFT_OUT, how="a wish never told", record=record)
        return None

    def stopped(self, episode):
        """The user ends the conversation where the agent waits for a fact, or for a yes."""
        moves = self.moves(episode)
        writes = [n for n, m in enumerate(moves) if isinstance(m, Use) and m.call.name in self.world.writes]
        if not writes:
            return None
        places = [
            n
            for n, move in enumerate(moves)
            if 0 < n < writes[0]
            and isinstance(move, Answer)
            and isinstance(moves[n - 1], Say)
            and testimony.open_requests(moves[n - 1].text)
        ]
        if not places:
            return None
        n = self.rng.choice(places)
        how = self.rng.choice(STOPS)
        record = self.attempt(episode, [*moves[:n], Answer(how.format(stop=bench.STOP, answer=moves[n].text).strip())])
        return record and Planted(kind=kinds.STOPPED, how=how, record=record)

    def act_left_undone(self, episode):
        """Asked for an act of its own, the user says that it is done, and does nothing."""
        moves = self.moves(episode)
        places = [
            n
            for n, m in enumerate(moves)
            if isinstance(m, Use)
            and m.call.requestor == "user"
            and m.call.name in self.world.writes
            and isinstance(moves[n - 1], Say)
        ]
        self.rng.shuffle(places)
        for n in places:
            tail = [Answer(self.rng.choice(("Done.", "OK, I did that.", "Yes, done."))), Say(CLOSING), Answer(BYE)]
            record = self.attempt(episode, [*moves[:n], *tail])
            if record:
                return Planted(kind=kinds.NOT_DONE, how=moves[n].call.name, record=record)
        return None

    # The reference

    def list_turned_in_gold(self, episode):
        """The solution has a list in another order than the scenario and dates have it."""
        task = self.world.task(episode.task.task_id)
        if self.domain == "retail":
            return None  # tau2's tool mixes up items there: another order is another state
        for n, action in enumerate(task.evaluation_criteria.actions):
            if action.name not in self.world.writes:
                continue
            lengths = [len(v) for v in action.arguments.values() if isinstance(v, list)]
            for names, other in orders.reordered(action):
                if "flights" in names:
                    continue  # no order but that of their dates makes sense
                if len(names) != lengths.count(len(action.arguments[names[0]])):
                    continue  # lists of one length belong together
                turned = {**action.model_dump(mode="json"), "arguments": dict(other.arguments)}
                world = self.with_gold(task, n, turned)
                record = self.attempt(episode, self.moves(episode), world=world)
                if record and not record["reward_info"]["db_check"]["db_match"]:
                    how = f"{', '.join(names)} of {action.name} turned in the solution"
                    return Planted(kind=kinds.ORDER, how=how, record=record, world=world)
        return None

    def forbidden_in_gold(self, episode):
        """The solution has a write that the policy forbids, and the agent does not make it."""
        task = self.world.task(episode.task.task_id)
        extra = self.forbidden(episode)
        if extra is None:
            return None
        add = {"action_id": "planted", "name": extra.call.name, "arguments": dict(extra.call.arguments)}
        world = self.with_gold(task, len(task.evaluation_criteria.actions), add)
        moves = self.moves(episode)
        record = self.attempt(episode, moves, world=world)
        if record is None:  # the reward does not ask for the databases
            places = [n for n, m in enumerate(moves) if isinstance(m, Say)]
            no = [Say("I'm sorry, I can't do that for you."), Answer(f"OK, I understand. {bench.STOP}")]
            record = self.attempt(episode, [*moves[: self.rng.choice(places)], *no], world=world)
        how = f"{extra.call.name} of somebody else, or not allowed, in the solution"
        return record and Planted(kind=kinds.AGAINST_POLICY, how=how, record=record, world=world)

    def with_gold(self, task, number, action):
        """A world in which a task has another call as one of its solution's, or one more."""
        changed = task.model_dump(mode="json")
        changed["evaluation_criteria"]["actions"][number : number + 1] = [action]
        notes = json.loads(changed["description"]["notes"])
        notes[declared.KEY]["in_order"] = {}  # whoever writes such a solution does not declare it
        changed["description"]["notes"] = json.dumps(notes)
        return worlds.build(self.world.spec, name=self.domain, tasks=[bench.Task.model_validate(changed)])

    def forbidden(self, episode):
        """A write that tau2's tools allow and the policy does not: on what is somebody else's; in airline also the
        cancellation of a trip of one's own that nothing entitles to.
        """
        if self.domain == "airline" and self.rng.random() < 0.5:
            owner = self.made[episode.task.task_id].draft.owner
            database = self.world.environments.base.tools.db
            for reservation_id in database.users[owner].reservations:
                r = database.reservations[reservation_id]
                statuses = [database.flights[f.flight_number].dates[f.date].status for f in r.flights]
                entitled = r.cabin == "business" or r.insurance == "yes" or "cancelled" in statuses
                named = reservation_id in json.dumps(episode.record()["messages"])
                if not entitled and not named and r.status != "cancelled" and r.created_at < "2024-05-14":
                    return Use(Call(name="cancel_reservation", arguments={"reservation_id": reservation_id}))
        if self.domain == "telecom":
            lines = re.findall(r"\bL\d{5}\b", json.dumps(episode.record()["messages"]))
            owner = self.made[episode.task.task_id].draft.owner
            return Use(refuel(owner, lines[0], self.rng.choice((3.0, 4.5, 5.0)))) if lines else None
        here = self.made[episode.task.task_id].draft.entities()
        for other in self.rng.sample(self.episodes, min(20, len(self.episodes))):
            if here & self.made[other.task.task_id].draft.entities():
                continue
            writes = [
                m
                for m in self.moves(other)
                if isinstance(m, Use) and m.call.name in self.world.writes and m.call.requestor == "assistant"
            ]
            playable = [m for m in writes if not self.fails(episode, m)]
            if playable:
                return self.rng.choice(playable)
        return None

    def fails(self, episode, move):
        """Whether a call fails where a task begins."""
        task = self.world.task(episode.task.task_id)
        return Scene(self.world.stage(task), task).play([move.call]).errs[0]

    # The agent

    def wrong_write(self, episode, *, existing):
        """The agent writes another value than it had: one that nobody said, or one that it has read."""
        moves = self.moves(episode)
        writes = [
            n
            for n, m in enumerate(moves)
            if isinstance(m, Use) and m.call.name in self.world.writes and m.call.requestor == "assistant"
        ]
        self.rng.shuffle(writes)
        results = [m["content"] or "" for m in episode.messages if m["role"] == "tool"]
        for n in writes:
            call = moves[n].call
            places = [(p, v) for p, v in leaves(call.arguments) if isinstance(v, str) and len(v) > 2]
            self.rng.shuffle(places)
            said = " ".join(m.text for m in moves[:n] if isinstance(m, Answer))
            told = [place for place in places if testimony.says(said, place[1]) and len(place[0]) == 1]
            for path, value in [*told, *places] if existing else places:
                other = existing_like(value, results, self.rng) if existing else self.another(value)
                if other is None or other == value:
                    continue
                changed = [*moves]
                arguments = replaced(copy.deepcopy(dict(call.arguments)), path, other)
                changed[n] = Use(Call(name=call.name, arguments=arguments))
                record = self.attempt(episode, changed)
                if record:
                    made_up = testimony.is_hard(value) and " " not in value and not valueflow.ISO.fullmatch(value)
                    kind = kinds.MADE_UP if not existing and made_up else ""
                    if existing and (path, value) in told and not testimony.says(said, other):
                        kind = kinds.OTHER_VALUE
                    how = ("another value read: " if existing else "a value made up: ") + f"{value} → {other}"
                    return Planted(kind=kind, how=how, record=record, value=str(other), agent=True)
        return None

    def told_otherwise(self, episode):
        """The agent writes another value than the user told it: one of the domain's that nobody said to it."""
        moves = self.moves(episode)
        writes = [
            n
            for n, m in enumerate(moves)
            if isinstance(m, Use) and m.call.name in self.world.writes and m.call.requestor == "assistant"
        ]
        self.rng.shuffle(writes)
        whole = " ".join(m.text for m in moves if isinstance(m, Answer))
        for n in writes:
            call, said = moves[n].call, " ".join(m.text for m in moves[:n] if isinstance(m, Answer))
            for path, value in leaves(call.arguments):
                if len(path) > 1 or not isinstance(value, str) or len(value) < 3 or not testimony.says(said, value):
                    continue
                others = [v for v in self.values.get(shape(value), ()) if v != value and not testimony.says(whole, v)]
                if not others:
                    continue
                other = self.rng.choice(others)
                changed = [*moves]
                changed[n] = Use(
                    Call(name=call.name, arguments=replaced(copy.deepcopy(dict(call.arguments)), path, other))
                )
                record = self.attempt(episode, changed)
                if record:
                    how = f"{value} was told → {other}"
                    return Planted(kind=kinds.OTHER_VALUE, how=how, record=record, value=other, agent=True)
        return None

    def unreadable(self, episode):
        """From a turn on, the agent's calls cannot be read, or it says nothing."""
        moves = self.moves(episode)
        turns = sum(isinstance(m, Say) or m.call.requestor == "assistant" for m in moves if not isinstance(m, Answer))
        empty = self.rng.random() < 0.5
        record = self.attempt(episode, moves, garbled=(self.rng.randrange(turns), empty))
        how = "an empty turn" if empty else "calls that cannot be read"
        return record and Planted(kind=kinds.UNREADABLE, how=how, record=record, agent=True)

    def lazy(self, episode):
        """The agent leaves a write out and says that it is done."""
        moves = self.moves(episode)
        writes = [n for n, m in enumerate(moves) if isinstance(m, Use) and m.call.name in self.world.writes]
        writes = [n for n in writes if moves[n].call.requestor == "assistant"]
        if not writes:
            return None
        n = self.rng.choice(writes)
        record = self.attempt(episode, [*moves[:n], *moves[n + 1 :]])
        return record and Planted(kind="", how="a write left out", record=record, agent=True)

    def refuses(self, episode):
        """The agent gives up somewhere, though it could go on; the user takes it."""
        moves = self.moves(episode)
        places = [n for n, m in enumerate(moves) if isinstance(m, Say)]
        if not places:
            return None
        n = self.rng.choice(places)
        no = Say(self.rng.choice(("I'm sorry, I can't do that for you.", "That is not possible, I'm afraid.")))
        bye = Answer(self.rng.choice((f"OK, I understand. {bench.STOP}", f"Too bad. {bench.STOP}", bench.STOP)))
        record = self.attempt(episode, [*moves[:n], no, bye])
        return record and Planted(kind="", how="the agent gives up", record=record, agent=True)

    def hands_over(self, episode):
        """The agent transfers without need."""
        moves = self.moves(episode)
        places = [n for n, m in enumerate(moves) if isinstance(m, Say)]
        if not places:
            return None
        n = self.rng.choice(places)
        transfer = Use(Call(name="transfer_to_human_agents", arguments={"summary": "-"}))
        tail = [transfer, Say("YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."), Answer(bench.TRANSFER)]
        record = self.attempt(episode, [*moves[:n], *tail])
        return record and Planted(kind="", how="the agent transfers", record=record, agent=True)

    def forbidden_by_agent(self, episode):
        """The agent makes a write that the policy forbids, beside all the others."""
        moves, extra = self.moves(episode), self.forbidden(episode)
        places = [n for n, m in enumerate(moves) if isinstance(m, Use) and m.call.requestor == "assistant"]
        if extra is None or not places:
            return None
        n = self.rng.choice(places)
        record = self.attempt(episode, [*moves[: n + 1], extra, *moves[n + 1 :]])
        how = f"{extra.call.name} of somebody else, or not allowed"
        return record and Planted(kind=kinds.RULE_BROKEN, how=how, record=record, agent=True)

    def planted(self):
        """Every conversation that can be made of the episodes: each way once per task."""
        for episode in self.episodes:
            ways = (
                self.said_otherwise,
                self.said_another_kind,
                self.withheld,
                self.one_wish_untold,
                self.stopped,
                self.act_left_undone,
                self.list_turned_in_gold,
                self.forbidden_in_gold,
                lambda e: self.wrong_write(e, existing=False),
                lambda e: self.wrong_write(e, existing=True),
                self.told_otherwise,
                self.unreadable,
                self.lazy,
                self.refuses,
                self.hands_over,
                self.forbidden_by_agent,
            )
            for way in ways:
                if made := way(episode):
                    yield made
            yield Planted(kind="", how="the expert, as if lost", record=self.judged_lost(episode))

    def attempt(self, episode, moves, **how):
        """`play`, but None where the changed moves cannot be played to the end."""
        try:
            return self.play(episode, moves, **how)
        except (FactoryError, AssertionError):
            return None

    def another(self, value):
        """A value that looks the same and is another: mistyped."""
        if not isinstance(value, str):
            return value / 2 if value > 1 else value * 0.75
        digits = [n for n, c in enumerate(value) if c.isdigit()]
        if digits:
            at = digits[-1] if len(digits) < 3 else self.rng.choice(digits[len(digits) // 2 :])
            other = self.rng.choice([d for d in "123456789" if d != value[at]])
            if valueflow.ISO.fullmatch(value):
                return value[:8] + f"{int(value[8:]) % 28 + 1:02}"
            return value[:at] + other + value[at + 1 :]
        letters = [n for n, c in enumerate(value) if c.isalpha()]
        at = letters[len(letters) // 2]
        return value[:at] + ("x" if value[at].lower() != "x" else "y") + value[at + 1 :]


class Garbled(StageAgent):
    """The agent of a stage, until a turn from which on it is empty, or what it calls cannot be read."""

    def __init__(self, stage, turns, empty):
        super().__init__(stage)
        self.left, self.empty = turns, empty

    async def act(self, history, message):
        self.left -= 1
        if self.left >= 0:
            return await super().act(history, message)
        if self.empty:
            return AgentAction(None, termination=Termination.AGENT_ERROR, detail="an empty turn")
        turn = Native().read('<tool_call>{"name": </tool_call>')
        return AgentAction(turn.message, malformed=turn.malformed)


def refuel(customer, line, amount):
    """More data than the policy allows at a time."""
    arguments = {"customer_id": customer, "line_id": line, "gb_amount": amount}
    return Call(name="refuel_data", arguments=arguments)


def gold_values(made):
    return [v for call in made.draft.calls() for _, v in leaves(dict(call.arguments)) if not isinstance(v, bool)]


def answers_with(text, words):
    """Whether an answer says a fact in its own words: most of the fact's long words are in it."""
    long = [w for w in re.findall(r"[a-z]{4,}", words.lower()) if w not in ("your", "want", "with", "that")]
    return bool(long) and sum(w in text.lower() for w in long) * 2 >= len(long) and "?" not in text


def existing_like(value, results, rng):
    """Another value of the same shape that a tool has returned."""
    others = [v for v in by_shape(results).get(shape(value), ()) if v != value]
    return rng.choice(others) if others else None


def reworded(move, old, new):
    if isinstance(move, Use):
        return move
    text = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new, move.text, flags=re.I)
    return type(move)(text)


def swapped_call(move, old, new):
    if not isinstance(move, Use):
        return move
    arguments = json.loads(json.dumps(dict(move.call.arguments)))
    for path, value in list(leaves(arguments)):
        if value == old:
            arguments = replaced(arguments, path, new)
    return Use(Call(name=move.call.name, arguments=arguments, requestor=move.call.requestor))


def swapped(move, old, new):
    """A move with another value in words and calls alike."""
    if isinstance(move, Use):
        return swapped_call(move, old, new)
    text = reworded(move, str(old), str(new)).text
    if isinstance(old, str) and valueflow.ISO.fullmatch(old):
        day, other = int(old[-2:]), int(new[-2:])
        month = [name for name, n in valueflow.MONTHS.items() if n == int(old[5:7])]
        for name in month:
            text = re.sub(rf"\b({name})\.? {day}\b", rf"\g<1> {other}", text, flags=re.I)
    return type(move)(text)
