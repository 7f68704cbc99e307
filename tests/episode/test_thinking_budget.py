"""What a thought may take: the bound on it, and what becomes of a turn that reaches it."""

import pytest
from fake_policy import FakePolicy
from thinking_models import thinking_teacher, tokenizer_of

from slime_tau2.config import Tau2Config
from slime_tau2.episode import thoughts
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.evaluation import audit
from slime_tau2.terminations import Termination

LONG = "I wonder. " * 40


class Bounded(FakePolicy):
    """Says no more than it is asked for."""

    def __init__(self, tokenizer, reply):
        super().__init__(tokenizer, self.cut)
        self.whole = reply

    def cut(self, prompt, n):
        said = self.whole(prompt, n)
        ids, most = self.tokenizer.encode(said, add_special_tokens=False), self.requests[n]["sampling_params"]
        return (
            said
            if len(ids) < most["max_new_tokens"]
            else (self.tokenizer.decode(ids[: most["max_new_tokens"]]), "length")
        )


async def play(tokenizer, helpdesk, reply, family="qwen3", **over):
    made, thinking = tokenizer_of(tokenizer, family)
    async with Bounded(made, reply) as fake:
        config = Tau2Config(user="scripted", thinking=thinking, **over)
        box = Harness(config, made, PolicyClient(fake.url))
        agent = box.agent(helpdesk, sampling={"max_new_tokens": 20_000})
        episode = await box.run(helpdesk, "orders_0", agent, seed=1)
        await box.close()
    assert not audit.is_mismatch(episode, box.chat("helpdesk"), box.system_prompt(helpdesk))
    return episode, fake, box.chat("helpdesk")


def ponders(plain):
    """Thinks without end, until its thought is ended for it."""

    def reply(prompt, n):
        turn = prompt.rpartition("<|im_start|>assistant\n")[2]
        if thoughts.CUT in turn:
            return plain(prompt.rpartition("<|im_start|>assistant\n")[0], n).rpartition("</think>\n\n")[2]
        return ("" if turn == "<think>\n" else "<think>\n") + LONG

    return reply


@pytest.mark.parametrize("family", ["qwen3", "qwen3 2507"])
async def test_a_long_thought_is_ended_untrained_and_the_turn_goes_on(tokenizer, helpdesk, family):
    episode, fake, chat = await play(
        tokenizer, helpdesk, ponders(thinking_teacher()), family, max_thinking_tokens=20, max_turn_tokens=300
    )
    assert episode.reward == 1.0 and len(fake.requests) == 2 * len(episode.turns)
    assert {r["sampling_params"]["max_new_tokens"] for r in fake.requests[::2]} == {20}
    closing = chat.encode(thoughts.CUT)
    for turn in episode.turns:
        segment = episode.segments[turn.segment]
        ids = segment.tokens[segment.prompt_length :][turn.start : turn.end]
        mask = segment.loss_mask[turn.start : turn.end]
        assert ids[20 : 20 + len(closing)] == closing and mask == [1] * 20 + [0] * len(closing) + [1] * (
            len(ids) - 20 - len(closing)
        )
        assert turn.thought == turn.start + len(ids) - len(ids[20 + len(closing) :]) - len(chat.encode("\n\n"))
        assert thoughts.CUT in turn.text and turn.finish_reason == "stop"
    assert "wonder" not in str(episode.messages) and "Considering" not in str(episode.messages)


async def test_or_the_episode_ends_as_length(tokenizer, helpdesk):
    episode, fake, _ = await play(
        tokenizer, helpdesk, ponders(thinking_teacher()), max_thinking_tokens=20, cut_thoughts="length"
    )
    assert episode.termination is Termination.LENGTH and episode.detail == "20 tokens of thoughts without an end"
    assert len(fake.requests) == 1 and episode.reward == 0.0


async def test_words_are_not_bound_by_it(tokenizer, helpdesk):
    """A thought that ends in time, and a turn without one, go on past the bound."""
    teacher = thinking_teacher()

    def reply(prompt, n):
        turn = prompt.rpartition("<|im_start|>assistant\n")[2]
        before = prompt.removesuffix(turn)
        if before not in said:
            said[before] = teacher(prompt, n)
        return said[before].removeprefix(turn)

    said = {}
    episode, fake, _ = await play(tokenizer, helpdesk, reply, max_thinking_tokens=18)
    assert episode.reward == 1.0 and len(fake.requests) > len(episode.turns)
    assert all(0 not in s.loss_mask[t.start : t.end] for t in episode.turns for s in [episode.segments[t.segment]])


async def test_a_closing_that_does_not_fit_ends_the_turn(tokenizer, helpdesk):
    episode, _, _ = await play(
        tokenizer, helpdesk, ponders(thinking_teacher()), max_thinking_tokens=20, max_turn_tokens=24
    )
    assert episode.termination is Termination.LENGTH and not episode.turns[0].sent
