"""Workers: what crosses their border, who gets the next episode, and what becomes of those whose worker dies."""

import asyncio
import importlib
import json
import os
import random
import re
import signal
import sys
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_players import Broken, DeadOnArrival, NeverThere, Obedient, episode

from slime_tau2.config import Tau2Config
from slime_tau2.errors import ConfigError, LedgerError, UserError, WorkerError
from slime_tau2.ledger import Ids, TokenLedger
from slime_tau2.types import CallGain, Reply, Turn
from slime_tau2.workers import ray_actors, shares, wire
from slime_tau2.workers.player import Answer
from slime_tau2.workers.pool import DIED, MOST_DEATHS, TRIES, Pool, WorkerDied
from slime_tau2.workers.processes import Processes


def pool(count, make=Obedient, aborted=lambda: False):
    return Pool(count, Processes(make, count), aborted)


def run(play, count=2, **how):
    """What `play(pool)` returns; the pool is closed."""

    async def whole():
        workers = pool(count, **how)
        try:
            return await play(workers)
        finally:
            await workers.close()

    return asyncio.run(whole())


# What crosses the border


def fields(one):
    tokens = [(s.prompt_length, s.kept, s.tokens, s.loss_mask, s.log_probs) for s in one.segments]
    return {**vars(one), "segments": tokens}


runs = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(st.integers(0, 2**31 - 1), st.floats(-1e4, 0.0)), max_size=6)),
    max_size=6,
)


class Border:
    """Both sides."""

    def __init__(self):
        self.packer, self.unpacker, self.asked, self.bytes = wire.Packer(), wire.Unpacker(), 0, []

    def cross(self, one):
        packed = self.packer.pack(one)
        self.bytes.append(len(packed.episode))
        while missing := self.unpacker.missing(packed.heads):
            self.asked += 1
            self.unpacker.learn(missing[0], self.packer.head(missing[0]))
        return self.unpacker.unpack(packed.episode)


prompts = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6)


@given(prompts, prompts, runs, st.text())
def test_an_episode_comes_back_as_it_went(head, prompt, parts, said):
    one = episode(3)
    one.segments = [TokenLedger(Ids.of(head) + Ids.of(prompt)), TokenLedger(Ids.of([1, *prompt]), kept=1)]
    for sampled, pairs in parts:
        ids = [i for i, _ in pairs]
        if sampled:
            one.segments[1].append_sampled(ids, [p for _, p in pairs])
        else:
            one.segments[1].append_context(Ids.of(ids))
    one.messages = [{"role": "user", "content": said}]
    one.replies = [Reply(start=0, end=2, meta={"weight_version": "7", "cached_tokens": 3})]
    gain = CallGain(0, 1, 0.25, "forbidden")
    one.turns = [
        Turn(
            index=0,
            start=0,
            end=2,
            text=said,
            calls=1,
            call_errors=0,
            malformed=0,
            finish_reason="stop",
            sent=True,
            partial=0.1,
            gain=0.1,
            by_call=(gain,),
        )
    ]
    border = Border()
    for _ in range(3):  # the second time without the head that the first had
        back = border.cross(one)
        assert fields(back) == fields(one) and json.dumps(back.record()) == json.dumps(one.record())
        assert one.messages  # what is sent is left as it is
    assert border.asked == 0


def with_head(number, head):
    one = episode(number)
    one.segments = [TokenLedger(head + Ids.of([7, number]))]
    return one


def test_what_many_prompts_begin_with_crosses_once():
    border, policy = Border(), Ids.of(list(range(3_000)))
    for n in range(20):
        one = with_head(n, policy)
        assert fields(border.cross(one)) == fields(one)
    assert border.asked == 0 and border.bytes[0] > 12_000 > 2_000 > max(border.bytes[1:])


def test_segments_that_begin_alike_hold_their_head_once():
    border, policy = Border(), Ids.of(list(range(3_000)))
    one = episode(1)
    one.segments = [
        TokenLedger(policy + Ids.of([7])),
        TokenLedger(policy + Ids.of([8])),
        TokenLedger(Ids.of([]) + policy),
    ]
    for _ in range(2):
        assert fields(border.cross(one)) == fields(one)
    assert border.asked == 0


def test_an_answer_that_comes_before_the_one_with_its_head():
    """As Ray's may; and a head that was forgotten meanwhile is not made up."""
    policy = Ids.of(list(range(50)))
    packer, unpacker = wire.Packer(), wire.Unpacker()
    packer.pack(with_head(1, policy))  # on its way
    late = packer.pack(with_head(2, policy))
    assert late.heads == (policy.digest,) == tuple(unpacker.missing(late.heads))
    unpacker.learn(policy.digest, packer.head(policy.digest))
    assert fields(unpacker.unpack(late.episode)) == fields(with_head(2, policy))
    for n in range(wire.HEADS):
        packer.pack(with_head(n, Ids.of([n])))
    assert packer.head(policy.digest) == b"" and packer.pack(with_head(3, policy)).heads == ()


def test_prompts_of_which_each_begins_otherwise_fill_no_memory():
    border = Border()
    for n in range(3 * wire.HEADS):
        one = with_head(n, Ids.of([n, n + 1]))
        assert fields(border.cross(one)) == fields(one)
    assert border.asked == 0
    assert len(border.packer._heads.known) == len(border.unpacker._heads.known) == wire.HEADS


def test_a_head_that_an_episode_names_is_not_pushed_out_by_one_that_it_holds():
    """The parent remembers as many as it may, of all workers, and the one that is named was used longest ago."""
    border, old, new = Border(), Ids.of([1, 2, 3]), Ids.of([4, 5, 6])
    border.cross(with_head(0, old))
    others = wire.Packer()
    for n in range(wire.HEADS - 1):
        border.unpacker.unpack(others.pack(with_head(n, Ids.of([7, n]))).episode)
    one = episode(1)
    one.segments = [TokenLedger(head + Ids.of([9])) for head in (new, old, new)]
    assert fields(border.cross(one)) == fields(one) and border.asked == 0


class Forgetful:
    """A worker of this process. What it says when it is asked for a head is told beforehand: `die`, `forget` or `say`."""

    def __init__(self, said):
        self.said, self.packer, self.policy = said, wire.Packer(), Ids.of(list(range(50)))
        self.packer.pack(with_head(0, self.policy))

    async def play(self, job):
        return Answer(episode=self.packer.pack(with_head(job, self.policy)), counts=Counter(played=1))

    async def head(self, digest):
        match self.said.pop(0):
            case "die":
                raise WorkerDied("as it was asked")
            case "forget":
                return b""
        return self.packer.head(digest)

    async def close(self):
        pass

    def kill(self):
        pass


class Starts:
    def __init__(self, said):
        self.said, self.started = said, 0

    async def start(self, number):
        self.started += 1
        return Forgetful(self.said)

    async def close(self):
        pass


@pytest.mark.parametrize("said, workers", [(["say"], 1), (["die", "say"], 2), (["forget", "say"], 1)])
async def test_a_worker_that_dies_or_has_forgotten_when_it_is_asked_for_a_head(said, workers):
    """The episode is played again; what was counted before is counted."""
    carrier = Starts([*said])
    workers_of = Pool(1, carrier)
    one = await workers_of.play(5, "task")
    counts = workers_of.take_counts()
    await workers_of.close()
    assert fields(one) == fields(with_head(5, Ids.of(list(range(50))))) and carrier.started == workers
    assert counts["played"] == len(said) and counts[DIED] == workers - 1


async def test_a_worker_that_always_forgets_ends_the_episode():
    workers_of = Pool(1, Starts(["forget"] * TRIES))
    with pytest.raises(WorkerError, match="did not know any more what a prompt begins with"):
        await workers_of.play(5, "task")
    await workers_of.close()


def test_an_episode_that_cannot_be_sent_is_an_error_and_no_silence():
    async def play(workers):
        with pytest.raises(RuntimeError, match="in a worker"):
            await workers.play((1, "unsendable"), 1)
        return await workers.play((3, "play"), 3)

    assert run(play, count=1).seed == 3


def test_an_episode_without_tokens_comes_back_too():
    one = episode(3)
    one.segments = []
    assert fields(Border().cross(one)) == fields(one)


def test_nothing_follows_an_episode_that_ended_elsewhere():
    ledger = Border().cross(episode(3)).segments[0]
    with pytest.raises(LedgerError, match="has ended"):
        ledger.ids_json()
    with pytest.raises(LedgerError, match="has ended"):
        ledger.append_context(Ids.of([1]))
    with pytest.raises(LedgerError, match="mask of 1 and 2"):
        TokenLedger.ended(2, [1, 2, 3, 4], [1], [-0.1, -0.2])


# Who plays


def test_each_episode_is_played_once_and_the_load_is_spread():
    async def play(workers):
        jobs = [workers.play((n, 0.02), n) for n in range(40)]
        return await asyncio.gather(*jobs), workers.take_counts()

    episodes, counts = run(play)
    assert [one.seed for one in episodes] == list(range(40)) and counts == {"played": 40}
    places = [re.match(r"worker (\d) of 2", one.detail)[1] for one in episodes]
    assert sorted((places.count("0"), places.count("1"))) == [20, 20]


def test_a_task_goes_where_it_was_known_unless_that_worker_has_more_to_do():
    async def play(workers):
        await asyncio.gather(*(workers.play((n, 0.0), n) for n in range(8)))
        firsts = {n: (await workers.play((n, 0.0), n)).detail for n in range(8)}
        again = {n: (await workers.play((n, 0.0), n)).detail for n in range(8)}
        crowd = await asyncio.gather(*(workers.play((n, 0.1), "one task") for n in range(20)))
        return firsts, again, {one.detail for one in crowd}

    firsts, again, crowd = run(play)
    assert firsts == again and len(set(firsts.values())) == 2 and len(crowd) == 2


def test_a_task_is_prepared_by_the_worker_that_will_play_it():
    async def play(workers):
        await asyncio.gather(*(workers.play((n, 0.0), n) for n in range(4)))
        for _ in range(2):  # what is known is not prepared again
            await asyncio.gather(*(workers.prepare(("helpdesk", str(n))) for n in range(10)))
        return await asyncio.gather(*(workers.play((n, 0.05), ("helpdesk", str(n))) for n in range(10)))

    played = [json.loads(one.messages[-1]["content"]) for one in run(play)]
    prepared = {tuple(map(tuple, told)) for told in played}
    assert sorted(task for told in prepared for task in told) == sorted(("helpdesk", str(n)) for n in range(10))
    assert sum(["helpdesk", str(n)] in told for n, told in enumerate(played)) >= 6, "most go where they are known"


def test_workers_hear_of_an_abort_and_of_its_end():
    said = []

    async def play(workers):
        waiting = [asyncio.create_task(workers.play((n, "wait"), n)) for n in range(6)]
        while workers.live < 6:  # noqa: ASYNC110 (no event tells that they have been sent)
            await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        said.append("abort")
        ended = await asyncio.gather(*waiting)
        said.clear()
        again = asyncio.create_task(workers.play((9, "wait"), 9))
        await asyncio.sleep(0.1)
        assert not again.done()
        said.append("abort")
        return [*ended, await again]

    assert {one.termination.value for one in run(play, aborted=lambda: bool(said))} == {"aborted"}


def test_what_a_player_raises_is_raised_here_and_its_worker_lives_on():
    async def play(workers):
        with pytest.raises(ConfigError, match="job 1 will not do"):
            await workers.play((1, "user error"), 1)
        with pytest.raises(RuntimeError, match=r"KeyError in a worker: 2(.|\n)*worker_players.py"):
            await workers.play((2, "bug"), 2)
        return await workers.play((3, "play"), 3), workers.take_counts()[DIED]

    one, deaths = run(play, count=1)
    assert one.seed == 3 and deaths == 0


def test_a_cancelled_episode_is_cancelled_in_its_worker():
    async def play(workers):
        await workers.play((0, "play"), 0)
        task = asyncio.create_task(workers.play((1, 60.0), 1))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert workers.live == 0
        started = asyncio.get_running_loop().time()
        await workers.close()  # it does not wait for the minute to pass
        return asyncio.get_running_loop().time() - started

    assert run(play, count=1) < 4


def test_the_silence_of_a_server_is_that_of_the_worker_that_heard_last():
    async def play(workers):
        await asyncio.gather(*(workers.play((n, 0.05), n) for n in range(4)))
        return await workers.silences()

    assert run(play) == {"policy": 5.0, "user": 0.0}


# Who dies


def test_a_thousand_episodes_while_workers_are_killed_at_random():
    """None is lost, none doubled, none scored twice."""
    done = []

    async def play(workers):
        over = asyncio.Event()

        async def kill():
            rng = random.Random(0)
            while not over.is_set():
                await asyncio.sleep(0.25)
                worker = rng.choice([p.worker for p in workers._places if p.worker is not None] or [None])
                if worker is not None:
                    with suppress(ProcessLookupError):  # the last one to be killed, whose death nobody has noticed yet
                        os.kill(worker.pid, signal.SIGKILL)

        async def one(number):
            async with limiter:
                while True:
                    try:
                        done.append(await workers.play((number, 0.01), number))
                        return
                    except WorkerError:  # three in a row: whoever asked asks again, as `generate` does
                        continue

        limiter = asyncio.Semaphore(32)
        killer = asyncio.create_task(kill())
        await asyncio.gather(*(one(n) for n in range(1000)))
        over.set()
        await killer
        return workers.take_counts()[DIED]

    assert run(play, count=3) >= 2
    assert sorted(e.seed for e in done) == list(range(1000)) and sum(e.reward for e in done) == 500


def test_an_episode_that_kills_its_workers_ends_as_infrastructure_and_the_others_go_on():
    async def play(workers):
        with pytest.raises(WorkerError, match=f"{TRIES} workers died while they played it.*signal 9"):
            await workers.play((13, "die"), 13)
        others = await asyncio.gather(*(workers.play((n, 0.02), n) for n in range(20)))
        return [one.seed for one in others], workers.take_counts()[DIED]

    seeds, deaths = run(play)
    assert seeds == list(range(20)) and deaths == TRIES


def test_workers_that_cannot_be_made_say_why_at_once():
    with pytest.raises(ConfigError, match="no such domain: mars"):
        run(lambda workers: workers.play((1, "play"), 1), make=NeverThere)


def test_a_bug_in_the_making_of_a_player_ends_the_waiting():
    with pytest.raises(RuntimeError, match=r"KeyError in a worker: 'mars'(.|\n)*worker_players.py"):
        run(lambda workers: asyncio.wait_for(workers.play((1, "play"), 1), 60), make=Broken)


def test_workers_that_die_as_they_are_made_are_given_up(caplog):
    with pytest.raises(UserError, match=f"all 2 workers died {MOST_DEATHS} times"):
        run(lambda workers: workers.play((1, "play"), 1), make=DeadOnArrival)
    assert "exit code 3" in caplog.text


def test_a_worker_ends_with_its_parent():
    async def play(workers):
        one = await workers.play((1, "play"), 1)
        worker = workers._places[0].worker
        worker._writer.transport.abort()  # as the kernel does for a parent that was killed
        await asyncio.wait_for(worker._listener, 10)
        with pytest.raises(WorkerDied, match="exit code 0"):
            await worker.play((2, "play"))
        return one

    assert run(play, count=1).seed == 1


# What each may have


@given(st.integers(1, 500), st.integers(1, 64))
def test_shares_are_whole_and_sum_to_the_limit(total, count):
    config = Tau2Config(policy_concurrency=total, user_concurrency=500)
    if total < count:
        with pytest.raises(ConfigError, match=f"tau2_policy_concurrency = {total}, and {count} workers"):
            shares.of_worker(config, 0, count)
        return
    parts = [shares.of_worker(config, n, count).policy_concurrency for n in range(count)]
    assert sum(parts) == total and max(parts) - min(parts) <= 1


def test_the_log_says_what_each_has():
    config = Tau2Config(policy_concurrency=256, user_concurrency=129, official_check=1)
    assert shares.line(config, 4) == (
        "4 workers share the servers' limits: tau2_policy_concurrency 256, 64 or more each; tau2_user_concurrency 129, "
        "32 or more each"
    )
    assert shares.of_worker(config, 3, 4).official_check == 1


def test_an_actor_of_rays_finds_what_its_parent_finds(tmp_path, monkeypatch):
    """Ray gives it the job's import path, and not what the parent added: the folder of a plugin."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_the_parent.py").write_text("")

    def make(number, count):
        importlib.import_module("beside_the_parent")
        return Obedient(number, count)

    lost, found = (ray_actors._Actor(make, 0, 1, paths) for paths in ([], [str(tmp_path)]))
    with pytest.raises(RuntimeError, match="No module named 'beside_the_parent'"):
        asyncio.run(lost.ready()).check()
    asyncio.run(found.ready()).check()
