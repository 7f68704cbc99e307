"""An agent that solves tasks with errors, for pages that need many and different conversations without a model."""

from __future__ import annotations

import json
import random

from slime_tau2 import bench
from slime_tau2.episode import driver
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.users import END, USER_TOOL, GoldUser, _say

OPENINGS = ("Let me look at that for you.", "One moment, please.", "I have found your record.", "That is possible.")
SENTENCES = (
    "I have looked at {} and can see what you mean.",
    "The amount would be {} dollars, and it goes back to the card that you paid with.",
    "Please tell me whether you agree before I change anything in {}.",
    "I am not sure that the rules allow this for {}, so let me check once more.",
    "Is there anything else about {} that I should know?",
    "It takes {} days until you see it on your account.",
    "I had called about {} before, and nobody could help me.",
    "I do not remember the number, but it may have been {}.",
    "If that is not possible, the other one that ends in {} is fine as well.",
    "Thank you, that sounds right to me.",
    "Could you say that once more, please? I only understood {}.",
    "You will get a message with the number {} as soon as it is done.",
    "It is more important to me to keep {} than to get the money back.",
    "Yes, please go ahead with that.",
    "I can offer you a certificate of {} dollars for the trouble.",
    "Before we go on, please confirm that {} is yours.",
)


def paragraph(rng: random.Random) -> str:
    """What somebody might say, as long as people write, and never twice the same."""
    said = rng.sample(SENTENCES, k=rng.randint(1, 4))
    return " ".join(sentence.format(rng.randint(100, 99_999)) for sentence in said)


class TellingUser(GoldUser):
    """A gold user that begins with its reason for the call, and goes on talking."""

    def start(self, world, task, environment, history, seed):
        self.rng = random.Random(f"user {task.id} {seed}")
        told = task.user_scenario.instructions
        self.reason = getattr(told, "reason_for_call", None) or getattr(told, "task_instructions", None) or str(told)

    async def respond(self, message):
        said = await super().respond(message)
        if not said.tool_calls and bench.STOP not in said.content:
            said, self.reason = _say(self.reason or paragraph(self.rng)), ""
        return said


def script(task: bench.Task, skill: float, seed: object) -> list[bench.AssistantMessage]:
    """The task's solution, where each call is right with a chance of `skill`, else left out, wrong, or made twice."""
    rng, out = random.Random(f"{task.id} {seed}"), []
    criteria = task.evaluation_criteria
    out.append(bench.AssistantMessage(role="assistant", content=rng.choice(OPENINGS), cost=0.0))
    for action in (criteria.actions if criteria else None) or []:
        arguments = json.loads(json.dumps(action.arguments))
        right = rng.random() < skill
        kind = "right" if right else rng.choice(("left out", "wrong", "wrong", "twice"))
        if kind == "left out":
            continue
        if kind == "wrong" and arguments:
            name = rng.choice(sorted(arguments))
            arguments[name] = {str: "unknown", list: [], dict: {}, bool: not arguments[name]}.get(
                type(arguments[name]), 7
            )
        if rng.random() < 0.6:
            out.append(bench.AssistantMessage(role="assistant", content=paragraph(rng), cost=0.0))
        for _ in range(2 if kind == "twice" else 1):
            if action.requestor == "user":
                text = USER_TOOL + json.dumps({"name": action.name, "arguments": arguments})
                out.append(bench.AssistantMessage(role="assistant", content=text, cost=0.0))
            else:
                call = bench.ToolCall(name=action.name, arguments=arguments)
                out.append(bench.AssistantMessage(role="assistant", content=None, tool_calls=[call], cost=0.0))
    told = [info for info in (criteria.communicate_info if criteria else None) or [] if rng.random() < skill]
    last = f"All done. {'; '.join(told)} {END}"
    return [*out, bench.AssistantMessage(role="assistant", content=last, cost=0.0)]


async def play(world, task_id: str, seed: int, skill: float):
    """One episode, with made-up tokens, log-probs and usage."""
    agent = ScriptedAgent(script(world.task(task_id), skill, seed))
    episode = await driver.run_episode(world, task_id, agent, TellingUser(), seed=seed)
    rng, end, tokens, turns = random.Random(seed), 0, [], []
    own = [m for m in episode.messages if m["role"] == "assistant"][-len(episode.turns) :]
    for message in own:
        text = message.get("content") or json.dumps([[c["name"], c["arguments"]] for c in message["tool_calls"]])
        tokens.append([(text[i : i + 4], -round(rng.expovariate(6 * skill + 0.5), 2)) for i in range(0, len(text), 4)])
    for turn, spoken in zip(episode.turns, tokens):
        turns.append(turn.__class__(**{**turn.__dict__, "start": end, "end": end + len(spoken)}))
        end += len(spoken) + 40
    episode.turns, episode.turn_tokens = turns, tokens
    sent = 4000 * len(turns) + 20 * end
    episode.usage = {
        "policy": {
            "requests": len(turns),
            "prompt": sent,
            "cached": int(0.8 * sent),
            "completion": sum(map(len, tokens)),
        },
        "user": {"requests": len(turns), "prompt": sent // 4, "cached": 0, "completion": 20 * len(turns)},
    }
    return episode
