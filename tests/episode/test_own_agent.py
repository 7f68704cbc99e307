"""Agents of one's own over the recorder: what they ask is one ledger, and what ends them is what ends ours."""

import asyncio
import re
from collections import defaultdict
from itertools import islice, pairwise

import odd_agents
import openai
import pytest
from aiohttp import web
from fake_policy import FakePolicy, teacher_reply
from own_agents import THOUGHT, advised_reply, on_path, planning_reply
from thinking_models import thinking_teacher, tokenizer_of

from slime_tau2.config import Tau2Config
from slime_tau2.episode import own_agent
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import audit
from slime_tau2.limits import Retries
from slime_tau2.looplag import LoopLag
from slime_tau2.terminations import Termination

TASKS = ("orders_7", "refunds_2", "phones_9", "orders_1")
QUICK = Retries(count=1, backoff_s=0.01, timeout_s=2.0)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    yield from on_path(tmp_path_factory.mktemp("page"))


class Played:
    """`await play(…)` of some tasks: episodes, and what the policy was sent."""

    def __init__(self, tokenizer, helpdesk):
        self.tokenizer, self.world = tokenizer, helpdesk

    async def __call__(self, agent, reply, tasks=TASKS[:1], sampling=(), delay=0.0, aborted=lambda: False, **options):
        async with FakePolicy(self.tokenizer, reply, delay) as fake:
            config = Tau2Config.from_mapping({"user": "scripted", "agent": agent, **options}, "test")
            box = Harness(config, self.tokenizer, PolicyClient(fake.url, retries=QUICK))
            box.check()
            self.requests, episodes = fake.requests, []
            for n, task_id in enumerate(tasks):
                acting = box.agent(
                    self.world,
                    sampling={"max_new_tokens": 20_000, **dict(sampling)},
                    seed=n,
                    aborted=aborted,
                    episode_seed=n,
                )
                episodes.append(await box.run(self.world, task_id, acting, seed=n, aborted=aborted))
            self.chat = box.chat("helpdesk")
            self.faults = box.take_faults()
            await box.close()
        return episodes

    def mismatches(self, episodes):
        return sum(audit.is_mismatch(episode, self.chat, "") for episode in episodes)


@pytest.fixture
def play(tokenizer, helpdesk, page):
    return Played(tokenizer, helpdesk)


def without_port(detail):
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", detail)


def ids_of(episode):
    return [(ledger.tokens, ledger.loss_mask, ledger.log_probs) for ledger in episode.segments]


async def test_a_plan_and_an_act_each_turn_are_one_ledger(play):
    episodes = await play("planner:Planner", planning_reply(), TASKS)
    assert [e.reward for e in episodes] == [1.0] * len(TASKS) and play.mismatches(episodes) == 0
    requests = iter(play.requests)
    for episode in episodes:
        ledger, turns = episode.segments[0], episode.turns
        sent = [request["input_ids"] for request in islice(requests, len(episode.replies))]
        for before, after in pairwise(sent):
            assert after[: len(before)] == before
        assert sent[-1] == ledger.tokens[: len(sent[-1])] and sent[0] == ledger.tokens[: ledger.prompt_length]
        assert len(ledger.spans()) == 2 * len(turns) == len(episode.replies)
        assert all(turn.text.startswith(THOUGHT + "\n") for turn in turns)
        assert [(t.start, t.end) for t in turns] == [
            (plan[0], act[1]) for plan, act in zip(ledger.spans()[::2], ledger.spans()[1::2])
        ]
        assert THOUGHT not in str(episode.messages)


async def test_each_conversation_is_a_segment_of_its_own(play):
    ours = await play(None, teacher_reply(), TASKS)
    episodes = await play("odd_agents:Advised", advised_reply(), TASKS)
    assert [e.reward for e in episodes] == [1.0] * len(TASKS) and play.mismatches(episodes) == 0
    for episode, own in zip(episodes, ours):
        adviser, doer = episode.segments
        assert (doer.tokens, doer.loss_mask) == (own.segments[0].tokens, own.segments[0].loss_mask)
        assert len(adviser.spans()) == len(doer.spans()) == len(episode.turns)
        assert [r.segment for r in episode.replies] == [0, 1] * len(episode.turns)
        assert [r.turn for r in episode.replies] == [n for n in range(len(episode.turns)) for _ in range(2)]
        assert [(t.segment, t.start, t.end) for t in episode.turns] == [(1, *span) for span in doer.spans()]
        assert [s["kept"] for s in episode.record()["segments"]] == [0, doer.kept]


async def test_the_pages_adviser_is_one_segment_and_each_advised_turn_another(play):
    episodes = await play("advised:Advised", advised_reply(), TASKS)
    assert [e.reward for e in episodes] == [1.0] * len(TASKS) and play.mismatches(episodes) == 0
    for episode in episodes:
        assert len(episode.segments[0].spans()) == len(episode.turns) == len(episode.segments) - 1
        assert [turn.segment for turn in episode.turns] == list(range(1, len(episode.segments)))


async def test_who_rewrites_what_was_said_begins_a_segment_each_time(play):
    [episode] = await play("odd_agents:Rewriting", teacher_reply())
    assert len(episode.segments) == len(play.requests) > 1 and play.mismatches([episode]) == 0
    for segment, request in zip(episode.segments, play.requests, strict=True):
        assert segment.tokens[: segment.prompt_length] == request["input_ids"]
    assert [turn.segment for turn in episode.turns] == list(range(len(episode.turns)))


async def test_all_conversations_together_have_one_budget(play):
    whole = await play("odd_agents:Advised", advised_reply())
    taken = sum(s.response_length for s in whole[0].segments)
    [cut] = await play("odd_agents:Advised", advised_reply(), sampling={"max_new_tokens": taken // 2})
    assert cut.termination is Termination.CONTEXT_OVERFLOW and play.mismatches([cut]) == 0
    assert taken // 2 <= sum(s.response_length for s in cut.segments) < taken


async def test_a_client_of_openais_leaves_the_same_tokens_as_our_own_agent(play):
    ours = await play(None, teacher_reply(), TASKS)
    theirs = await play("helped:Helped", teacher_reply(), TASKS)
    assert [e.reward for e in theirs] == [1.0] * len(TASKS) and play.mismatches(theirs) == 0
    assert [ids_of(e) for e in theirs] == [ids_of(e) for e in ours]
    assert [e.turns for e in theirs] == [e.turns for e in ours]
    assert [e.usage for e in theirs] == [e.usage for e in ours]


@pytest.fixture
def seen():
    odd_agents.SEEN.clear()
    yield odd_agents.SEEN
    odd_agents.SEEN.clear()


def between(reply, *turns):
    """A reply to an agent that puts turns of its own between those of the teacher."""

    def answer(prompt, n):
        for role, text in turns:
            prompt = prompt.replace(f"<|im_start|>{role}\n{text}<|im_end|>\n", "")
        return reply(prompt, n)

    return answer


async def test_a_call_that_does_not_train_stays_in_the_ledger_with_mask_0(play, seen):
    teacher, last = teacher_reply(), "<|im_end|>\n<|im_start|>user\nThink.<|im_end|>\n<|im_start|>assistant\n"
    known = between(teacher, ("user", "Think."), ("assistant", THOUGHT), ("user", "Say it."))
    [episode] = await play("odd_agents:Untrained", lambda p, n: THOUGHT if p.endswith(last) else known(p, n))
    ledger = episode.segments[0]
    assert episode.reward == 1.0 and play.mismatches([episode]) == 0
    trained = [reply.trained for reply in episode.replies]
    assert trained == [False, True] * len(episode.turns)
    assert ledger.spans() == [(r.start, r.end) for r in episode.replies if r.trained]
    assert {ledger.log_probs[n] for r in episode.replies if not r.trained for n in range(r.start, r.end)} == {0.0}


async def test_a_bound_of_the_agents_own_ends_a_call_and_not_the_episode(play, seen):
    def reply(prompt, n):
        return (
            ("one two three four", "length")
            if not prompt.endswith("Go on.<|im_end|>\n<|im_start|>assistant\n")
            else "Bye."
        )

    [episode] = await play("odd_agents:Cut", reply, max_steps=6)
    assert episode.termination is Termination.MAX_STEPS and play.mismatches([episode]) == 0
    assert [said.finish_reason for said in seen] == ["length"] * len(episode.turns)
    assert [r["sampling_params"]["max_new_tokens"] for r in play.requests][::2] == [3] * len(episode.turns)


@pytest.mark.parametrize(
    "agent, message",
    [
        ("Forgetful", r"message 1 was \(.* and is \(user: 'The customer wants something\.'\)"),
        ("Picky", r"it has \d messages, of \d that are on record"),
        ("Parallel", r"it has \d messages, of \d that are on record"),
        ("Choosy", "it offers other tools than the call before"),
        ("Rewrites", r"message 3 was \(assistant: .* and is \(assistant: 'I said something else\.'\)"),
        ("Nonsense", "its answer will not do: int is no message"),
    ],
)
async def test_what_one_ledger_cannot_hold_ends_the_run(play, seen, agent, message):
    with pytest.raises(ConfigError, match=f"^tau2_agent: .*{message}"):
        await play(f"odd_agents:{agent}", teacher_reply())
    for told in seen:
        if isinstance(told, openai.BadRequestError):
            assert "does not extend" in told.message


@pytest.mark.parametrize("agent", ["Plain", "Caller", "Stubborn", "Swallows"])
@pytest.mark.parametrize(
    "reply, sampling, termination",
    [
        (lambda p, n: ("so", "length"), {}, Termination.LENGTH),
        (lambda p, n: ("so", "length"), {"max_new_tokens": 90}, Termination.CONTEXT_OVERFLOW),
        (lambda p, n: web.Response(status=500), {}, Termination.POLICY_FAILURE),
        (lambda p, n: web.Response(status=400, text="no"), {}, Termination.POLICY_FAILURE),
        (lambda p, n: "", {}, Termination.AGENT_ERROR),
    ],
)
async def test_an_episode_ends_as_our_own_agents_does(play, seen, agent, reply, sampling, termination):
    [ours] = await play(None, reply, sampling=sampling)
    [theirs] = await play(f"odd_agents:{agent}", reply, sampling=sampling)
    assert ours.termination is theirs.termination is termination
    assert (
        without_port(theirs.detail) == without_port(ours.detail)
        and theirs.turns == ours.turns
        and play.mismatches([theirs]) == 0
    )
    assert len(ours.segments) == len(theirs.segments) and ids_of(ours) == ids_of(theirs)


@pytest.mark.parametrize("agent", ["Plain", "Caller"])
async def test_an_abort_ends_the_episode_within_the_call(play, seen, agent):
    [episode] = await play(
        f"odd_agents:{agent}", lambda p, n: ("I loo", "abort"), aborted=lambda: len(play.requests) > 0
    )
    assert episode.termination is Termination.ABORTED
    assert episode.segments[0].sampled > 0


async def test_its_own_exception_is_the_environments_and_its_close_is_called(play, seen):
    [episode] = await play("odd_agents:Broken", teacher_reply())
    assert episode.termination is Termination.ENVIRONMENT_ERROR and episode.detail == "KeyError: 'mine'"
    [episode] = await play("odd_agents:Closed", teacher_reply())
    assert episode.reward == 1.0 and seen == ["closed"]


@pytest.mark.parametrize(
    "agent, message",
    [
        ("NeverCloses", "the agent's close did not end within 0.3 s"),
        ("ClosesInVain", "the agent's close did not end within 0.3 s"),
        ("ClosesSlowly", "the agent's close did not end within 0.3 s"),
        ("CannotClose", "the agent's close failed"),
        ("CancelsItsClose", "the agent's close cancelled itself"),
    ],
)
async def test_a_close_of_its_own_holds_up_nothing_and_the_result_stands(
    play, seen, monkeypatch, caplog, agent, message
):
    monkeypatch.setattr(own_agent, "CLOSE_S", 0.3)
    async with LoopLag() as lag, asyncio.timeout(20):
        [episode] = await play(f"odd_agents:{agent}", teacher_reply())
    assert episode.reward == 1.0 and [record.getMessage() for record in caplog.records] == [message]
    assert max(lag.lags_ms) < 1500, "the loop went on"


async def test_a_plain_close_runs_in_a_thread_and_what_it_hands_on_is_awaited(play, seen):
    for agent in ("ClosesInAThread", "ClosesByAClient"):
        await play(f"odd_agents:{agent}", teacher_reply())
    assert seen == ["tau2-agent", "closed"]


async def test_an_answer_of_its_own_has_no_tokens(play, seen):
    [episode] = await play("odd_agents:Silent", teacher_reply(), max_steps=8)
    assert not episode.segments and episode.termination is Termination.MAX_STEPS and not play.requests
    assert [turn.text for turn in episode.turns] == ["I cannot help you."] * len(episode.turns)
    [episode] = await play("odd_agents:Empty", teacher_reply())
    assert episode.termination is Termination.AGENT_ERROR and episode.segments[0].sampled > 0


async def test_a_thread_that_hangs_holds_up_nothing_but_its_episode(play, seen):
    [episode] = await play("odd_agents:Hangs", teacher_reply(), episode_timeout_s=0.3)
    assert episode.termination is Termination.TIMEOUT


async def test_a_stream_says_the_same_as_a_whole_reply(play, seen):
    whole = await play("odd_agents:Caller", teacher_reply(), TASKS[:2])
    whole_said = list(seen)
    streamed = await play("odd_agents:Streamed", teacher_reply(), TASKS[:2])
    assert [ids_of(e) for e in streamed] == [ids_of(e) for e in whole] and {e.reward for e in whole} == {1.0}
    usages = [chunk.usage for chunk in seen if getattr(chunk, "usage", None) and not chunk.choices]
    assert usages == [answer.usage for answer in whole_said]
    assert {answer.choices[0].finish_reason for answer in whole_said} == {"stop", "tool_calls"}


async def test_a_client_that_hung_up_asks_the_same_again(play, seen):
    [patient] = await play("odd_agents:Caller", teacher_reply())
    seen.clear()
    [hasty] = await play("odd_agents:HangsUp", repeated(teacher_reply()), delay=0.25)
    assert len([error for error in seen if isinstance(error, openai.APITimeoutError)]) == len(hasty.turns)
    assert ids_of(hasty) == ids_of(patient) and play.mismatches([hasty]) == 0


async def test_a_client_that_missed_its_reply_gets_it_again(play, seen):
    [patient] = await play("odd_agents:Caller", teacher_reply())
    asked = len(play.requests)
    seen.clear()
    [twice] = await play("odd_agents:AsksAgain", teacher_reply())
    assert ids_of(twice) == ids_of(patient) and play.mismatches([twice]) == 0
    assert len(play.requests) == asked == len(twice.turns) and len(seen) == 2 * asked


def repeated(reply):
    """The same prompt gets the same reply."""
    known = {}

    def again(prompt, n):
        if prompt not in known:
            known[prompt] = reply(prompt, n)
        return known[prompt]

    return again


async def test_words_beside_a_call_may_be_missing_from_an_echo(play, seen):
    teacher = teacher_reply()

    def reply(prompt, n):
        said = teacher(prompt.replace("A moment.\n", ""), n)
        return f"A moment.\n{said}" if said.startswith("<tool_call>") else said

    [episode] = await play("odd_agents:Wordless", reply)
    assert episode.reward == 1.0 and play.mismatches([episode]) == 0
    assert "A moment." in play.chat.decode(episode.segments[0].tokens)


async def test_what_no_policy_can_be_asked_is_refused_by_name(play, seen):
    [episode] = await play("odd_agents:Odd", teacher_reply())
    told = [one for one in seen if isinstance(one, tuple)]
    turns = len(episode.turns)
    assert episode.reward == 1.0 and len(told) == 6 * turns and seen.count(["policy"]) == turns
    assert all(f"{field} = " in message for field, message in told)


async def test_a_key_is_one_episodes(play, seen):
    [episode] = await play("odd_agents:Stranger", teacher_reply())
    assert episode.termination is Termination.ENVIRONMENT_ERROR and "no episode has this key" in episode.detail
    assert not play.requests


@pytest.mark.parametrize(
    "options, message",
    [
        ({"agent": "planner"}, "name module:factory"),
        ({"agent": "nowhere_at_all:Agent"}, "tau2_agent: no module nowhere_at_all"),
        ({"agent": "odd_agents:Nobody"}, "has no Nobody"),
        ({"agent": "odd_agents:not_a_factory"}, r"is called as not_a_factory\(model, brief\), and too many"),
        ({"agent": "odd_agents:Plain", "protocol": "card"}, "leave out tau2_protocol = card"),
    ],
)
def test_a_bad_agent_is_found_before_the_first_episode(tokenizer, options, message):
    with pytest.raises(ConfigError, match=message):
        Harness(Tau2Config.from_mapping({"user": "scripted", **options}, "test"), tokenizer).check()


class Teachers(FakePolicy):
    """A teacher for each conversation."""

    def __init__(self, tokenizer):
        super().__init__(tokenizer, None, delay=0.01)
        self.teachers = defaultdict(teacher_reply)

    def reply_to(self, request):
        return self.teachers[request.headers["X-SMG-Routing-Key"]]


async def test_many_episodes_at_a_time_keep_their_tokens_apart(tokenizer, helpdesk, page):
    """Through one endpoint, by threads and in the loop."""
    tasks = [f"{kind}_{n}" for kind in ("orders", "refunds", "phones") for n in range(1, 9)]
    ledgers = {}
    for agent in (None, "helped:Helped", "odd_agents:Caller"):
        async with Teachers(tokenizer) as fake:
            box = Harness(Tau2Config(user="scripted", agent=agent), tokenizer, PolicyClient(fake.url))
            agents = [box.agent(helpdesk, sampling={"max_new_tokens": 20_000}, routing_key=t) for t in tasks]
            played = await asyncio.gather(*(box.run(helpdesk, t, a, seed=1) for t, a in zip(tasks, agents)))
            await box.close()
        assert [episode.reward for episode in played] == [1.0] * len(tasks)
        ledgers[agent] = [ids_of(episode) for episode in played]
    assert ledgers[None] == ledgers["helped:Helped"] == ledgers["odd_agents:Caller"]


@pytest.mark.parametrize("agent", ["helped:Helped", "odd_agents:Caller", "planner:Planner"])
async def test_what_is_sampled_after_the_episodes_end_is_not_recorded(tokenizer, helpdesk, page, seen, agent):
    async with FakePolicy(tokenizer, teacher_reply(), delay=0.5) as fake:
        box = Harness(Tau2Config(user="scripted", agent=agent), tokenizer, PolicyClient(fake.url))
        acting = box.agent(helpdesk, sampling={"max_new_tokens": 20_000})
        running = asyncio.ensure_future(box.run(helpdesk, "orders_7", acting, seed=1))
        await fake.asked.wait()
        running.cancel()
        await asyncio.wait([running])
        await asyncio.sleep(0.8)
        assert running.cancelled() and len(fake.requests) == 1
        assert len(acting.segments[0]) == acting.segments[0].prompt_length
        await box.close()


async def test_where_the_template_rewrites_history_its_segments_are_those_of_our_own_agent(tokenizer, helpdesk, seen):
    thinker, _ = tokenizer_of(tokenizer, "qwen3")
    play = Played(thinker, helpdesk)
    ours = await play(None, thinking_teacher(), ("orders_0", "refunds_2"))
    assert any(len(episode.segments) > 1 for episode in ours)
    for agent in ("odd_agents:Plain", "odd_agents:Caller"):
        theirs = await play(agent, thinking_teacher(), ("orders_0", "refunds_2"))
        assert [e.reward for e in theirs] == [1.0, 1.0] and play.mismatches(theirs) == 0
        assert [ids_of(e) for e in theirs] == [ids_of(e) for e in ours]
        assert [e.turns for e in theirs] == [e.turns for e in ours]
        assert [e.reasoning for e in theirs] == [e.reasoning for e in ours]


async def test_calls_of_a_turn_may_lie_in_two_segments_each_with_its_thoughts(tokenizer, helpdesk, page):
    thinker, _ = tokenizer_of(tokenizer, "qwen3")
    play = Played(thinker, helpdesk)
    [episode] = await play("planner:Planner", lambda p, n: f"<think>\nhm {n}\n</think>\n\nI look.")
    assert play.mismatches([episode]) == 0 and len(episode.segments) == 2 * len(episode.turns)
    assert [r.turn for r in episode.replies] == [n for n in range(len(episode.turns)) for _ in range(2)]
    assert [turn.segment for turn in episode.turns] == [2 * n + 1 for n in range(len(episode.turns))]
    for reply in episode.replies:
        ledger = episode.segments[reply.segment]
        said = ledger.tokens[ledger.prompt_length :]
        assert thinker.decode(said[reply.start : reply.thought]).endswith("</think>")
        assert thinker.decode(said[reply.thought : reply.end]).strip() == "I look.<|im_end|>"
