"""Stories in other words, by any OpenAI-compatible model: taken only where every fact is still there.

A model is asked for the four parts of a scenario anew. Its words are taken if they hold all that the story's hold: each
number, id, date, address and name, and every value of the gold writes that the story says, each in the part where it
stood. Nothing may come in: no other id or number. No "not" may be lost, come in, or move to another fact: each part has
as many negations as before, and a fact that was denied stays so. That is strict: a model that puts "you do not recall"
as "you forgot" says the same and is not believed. Where the words are not taken, the story stays as it is.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.errors import ConfigError, InfrastructureError, UserSimulatorError
from slime_tau2.factory.build import Made
from slime_tau2.factory.draft import Draft
from slime_tau2.factory.sets import Rewritten
from slime_tau2.limits import Retries
from slime_tau2.seeds import derive_seed

PARTS = ("reason_for_call", "known_info", "unknown_info", "task_instructions")
PROMPT = """You rewrite instructions for a person who plays a customer. Say the same in other words.
Keep every fact: each number, id, date, amount, address, email and name exactly as it is written, each in the part in \
which it stands. Add no fact. Keep every "not", "no", "never", "nothing", "only", "if" as it is, in its place, and the \
order of the wishes. Say "you" to the customer.
Answer with a JSON object of the same keys, and nothing else."""
RETRIES = Retries(count=3, timeout_s=120.0)
TRIES = 2
"""How often a story is asked for until its words will do."""
SHORTEST, LONGEST = 0.4, 2.5
"""How much longer or shorter a part may become."""
NEGATION = re.compile(
    r"\b(?:no|not|never|none|nothing|nobody|nowhere|neither|without|cannot|unless)\b|\b\w+n['’]t\b", re.IGNORECASE
)
ONLY_THEN = re.compile(
    r"\b(?:not|never|\w+n['’]t)\b[^.;!?]*?\b(?:until|before)\b|\bonly (?:when|if|once|after|on)\b", re.IGNORECASE
)
"""Both say that something comes no earlier: "do not … until", "only when"."""
CLAUSE = re.compile(r"[.,;:!?\n]+\s|\b(?:and|but|or)\b")
MARKED = re.compile(r"[#\w][\w.@+#'-]*\w|\w")


class Refused(ValueError):
    """Words that will not do."""


def rewriter(
    base_url: str, model: str, *, key_env: str | None, seed: int, concurrency: int
) -> Callable[[Sequence[Made]], Rewritten]:
    """What tells the stories of a set in a model's words.

    Args:
        base_url: of an OpenAI-compatible server, `http://…/v1`.
        key_env: environment variable of its key.

    Raises:
        ConfigError: a server that cannot be asked so; when it is called, one that does not answer.
    """
    client = ChatClient(
        base_url,
        model,
        failure=UserSimulatorError,
        options={"temperature": 1.0},
        key_env=key_env,
        concurrency=concurrency,
        retries=RETRIES,
    )

    def rewrite(made: Sequence[Made]) -> Rewritten:
        try:
            told = asyncio.run(_all(client, made, seed))
        except InfrastructureError as error:
            raise ConfigError(f"--rewrite {base_url}: {error}") from error
        changed = sum(new.task is not old.task for new, old in zip(told, made, strict=True))
        return Rewritten(told, {"model": model, "rewritten": changed, "kept": len(made) - changed})

    return rewrite


async def _all(client: ChatClient, made: Sequence[Made], seed: int) -> list[Made]:
    asked = (_one(client, m, derive_seed("rewrite", seed, number)) for number, m in enumerate(made))
    try:
        return list(await asyncio.gather(*asked))
    finally:
        await client.close()


async def _one(client: ChatClient, m: Made, seed: int) -> Made:
    old = _story(m.task)
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": json.dumps(old, ensure_ascii=False)}]
    encoded = [json.dumps(message, ensure_ascii=False).encode() for message in messages]
    for attempt in range(TRIES):
        reply = await client.complete(encoded, seed=seed + attempt, routing_key=m.task["id"])
        try:
            return Made(_with_story(m.task, accepted(reply.text or "", old, m.draft)), m.draft)
        except Refused:
            continue
    return m


def _story(task: Mapping[str, Any]) -> dict[str, str | None]:
    said = task["user_scenario"]["instructions"]
    return {part: said[part] for part in PARTS}


def _with_story(task: Mapping[str, Any], story: Mapping[str, str | None]) -> dict[str, Any]:
    scenario = task["user_scenario"]
    return {**task, "user_scenario": {**scenario, "instructions": {**scenario["instructions"], **story}}}


def accepted(text: str, old: Mapping[str, str | None], draft: Draft) -> dict[str, str | None]:
    """A model's words for a story.

    Raises:
        Refused: a part or a fact is lost, or one came in; says which.
    """
    try:
        new = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError as error:
        raise Refused("no JSON") from error
    if not isinstance(new, dict) or set(new) != set(old):
        raise Refused("other parts")
    values = {value for call in draft.writes() for value in _texts(call.arguments)}
    everything = facts(" ".join(filter(None, old.values())), values)
    for part, before in old.items():
        after = new[part]
        if not before:
            new[part] = before
            continue
        if not isinstance(after, str) or not SHORTEST <= len(after) / len(before) <= LONGEST:
            raise Refused(f"{part}: too short, too long or no text")
        if lost := {fact for fact in facts(before, values) if not _said(fact, after, fact in values)}:
            raise Refused(f"{part}: lost {min(lost)}")
        if negations(before) != negations(after):
            raise Refused(f"{part}: another number of negations")
        if turned := {fact for fact in facts(before, values) if denied(fact, before) != denied(fact, after)}:
            raise Refused(f"{part}: {min(turned)} is denied in one of the two, and not in the other")
        if come := {fact for fact in facts(after, values) - everything if _telling(fact)}:
            raise Refused(f"{part}: came in {min(come)}")
    return {part: new[part] for part in PARTS}


def negations(text: str) -> tuple[int, int]:
    """(how many negations a text has, how many times it says that something comes no earlier)."""
    rest, later = ONLY_THEN.subn(" ", text)
    return len(NEGATION.findall(rest)), later


def denied(fact: str, text: str) -> set[bool]:
    """Whether the clauses of a text that hold a fact are negated."""
    clauses = [clause for clause in CLAUSE.split(text) if _said(fact, clause, True)]
    return {len(NEGATION.findall(clause)) % 2 == 1 for clause in clauses}


def facts(text: str, values: set[str]) -> set[str]:
    """What must not be lost of a text: tokens with a digit, `#`, `@` or `_`, names, and the values that it says."""
    tokens = {token.strip(".'-") for token in MARKED.findall(text)}
    names = set(re.findall(r"(?<=[a-z,] )[A-Z][\w'-]+", text)) - {"I"}
    said = {value for value in values if len(value) > 2 and value.lower() in text.lower()}
    return {token for token in tokens if _telling(token)} | names | said


def _said(fact: str, text: str, any_case: bool) -> bool:
    flags = re.IGNORECASE if any_case else 0
    return re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", text, flags) is not None


def _telling(token: str) -> bool:
    return any(char.isdigit() or char in "#@_" for char in token)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, (list, tuple)):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []
