"""The data source by itself: what it serves, what it takes back, what a saved state remembers, when it gives up."""

import json
import logging
import os
import subprocess
import sys
from argparse import Namespace

import pytest

from slime_tau2.errors import CheckpointError, PolicyError
from slime_tau2.hooks import current, filters, generate, liveness, rewards
from slime_tau2.hooks import metrics as log_hooks
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.hooks.rollout_states import UNKEPT
from slime_tau2.terminations import Termination

FULLY_ASYNC = "slime.rollout.fully_async_rollout.generate_rollout_fully_async"


def source_args(tmp_path, **over):
    told = {"n_samples_per_prompt": 2, "save": str(tmp_path), "load": str(tmp_path), "tau2_user": "scripted"}
    return Namespace(**told | over)


def finish(group, *rewards_):
    for s, reward in zip(group, rewards_):
        s.status, s.reward, s.response = Sample.Status.COMPLETED, float(reward), "said"
        s.metadata["tau2"] = {"termination": "user_stop"}
    return group


def end(source, rollout_id, *groups):
    """As slime does at the end of each rollout, in this order."""
    flat = [s for g in groups for s in g]
    assert log_hooks.log_rollout(rollout_id, source.args, flat, None, 1.0) is False
    rewards.reward_post_process(source.args, flat)


def indices(groups):
    return [g[0].group_index for g in groups]


def resumed(tmp_path, rollout_id, **over):
    again = Tau2DataSource(source_args(tmp_path, **over))
    again.load(rollout_id)
    return again


def test_every_task_is_served_once_an_epoch(tmp_path):
    source = Tau2DataSource(source_args(tmp_path))
    assert len(source) == 600
    groups = source.get_samples(600)
    assert len({g[0].metadata["task_id"] for g in groups}) == 600 and source.order.epoch == 1
    assert all(len(g) == 2 and g[0].group_index == g[1].group_index for g in groups)
    assert [s.index for g in groups for s in g] == list(range(1200))
    assert [g[0].prompt for g in source.get_samples(600)] != [g[0].prompt for g in groups], (
        "another order in the next epoch"
    )


@pytest.mark.parametrize("curriculum", [False, True])
def test_a_resumed_run_serves_what_the_first_would_have(tmp_path, curriculum):
    first = Tau2DataSource(source_args(tmp_path, tau2_curriculum=curriculum))
    groups = first.get_samples(5)
    first.add_samples([groups[1]])
    trained = [finish(g, 1, 0) for g in groups if g is not groups[1]]
    end(first, 7, *trained)
    end(first, 7, *trained)  # idempotent
    assert (
        first.order.curriculum.counts[groups[0][0].prompt][1] > 0 and sum(first.metadata["terminations"].values()) == 8
    )
    second = resumed(tmp_path, 7, tau2_curriculum=curriculum)
    assert second.order.curriculum == first.order.curriculum
    a, b = first.get_samples(6), second.get_samples(6)
    assert [[(s.prompt, s.index, s.group_index) for s in g] for g in a] == [
        [(s.prompt, s.index, s.group_index) for s in g] for g in b
    ]
    assert indices(b)[0] == groups[1][0].group_index, "the returned group first, under its own index"


@pytest.mark.parametrize("hook", [True, False])
def test_the_curriculum_hears_of_groups_that_the_filter_dropped(tmp_path, hook):
    """What trains is neither solved nor hopeless, ever; and a group counts once, whole, when it is closed."""
    source = Tau2DataSource(source_args(tmp_path, tau2_curriculum=True))
    won, mixed, cut = source.get_samples(3)
    finish(won, 1, 1), finish(mixed, 1, 0), finish(cut, 0, 0)
    cut[1].status, cut[1].remove_sample, cut[1].session_id = Sample.Status.ABORTED, True, "a routing key"
    if hook:  # --rollout-all-samples-process-path is an option
        filters.process_all_samples(source.args, [won, mixed], source.get_samples)
    end(source, 0, mixed)
    counts = source.order.curriculum.counts
    assert counts[won[0].prompt] == (2.0, 0.0) and counts[mixed[0].prompt] == (1.0, 1.0)
    (again,) = source.buffer
    assert cut[0].prompt not in counts and indices([again]) == indices([cut]) and not source.groups.out
    assert all(s.status is Sample.Status.PENDING and s.reward is None and "tau2" not in s.metadata for s in again), (
        "it begins anew"
    )
    assert again[1].session_id is None, "another conversation, which no server may take for the one that was cut off"


def test_a_task_that_a_group_of_eight_fails_is_hopeless_until_one_succeeds(tmp_path):
    """Evidence that faded with every episode never reached the bound, and no group ever began within a success."""
    source = Tau2DataSource(source_args(tmp_path, tau2_curriculum=True, n_samples_per_prompt=8))
    pool = source.order.curriculum.pool
    task, pools = next(iter(source.tasks.values())), []
    for n, wins in enumerate((0, 1, 0)):
        group = finish(source.factory.group(task), *[1] * wins, *[0] * (8 - wins))
        source.groups.served([group])
        end(source, n, group)
        pools.append(pool(str(task)))
    assert pools == ["hopeless", "learnable", "hopeless"]


def test_one_group_more_than_the_batch_holds_is_served_again(tmp_path):
    """slime keeps a batch of what finished together and forgets the rest, which its filter had accepted."""
    source = Tau2DataSource(source_args(tmp_path))
    trained, surplus, dropped = (finish(g, *r) for g, r in zip(source.get_samples(3), ((1, 0), (0, 1), (0, 0))))
    filters.process_all_samples(source.args, [trained, surplus, dropped], source.get_samples)
    end(source, 0, trained)
    assert indices(source.buffer) == indices([surplus]) and not source.groups.out
    unfiltered = Tau2DataSource(source_args(tmp_path, dynamic_sampling_filter_path=None))
    groups = [finish(g, 0, 0) for g in unfiltered.get_samples(2)]
    end(unfiltered, 0, groups[0])
    assert indices(unfiltered.buffer) == indices(groups[1:]), "without a filter nothing is ever dropped"


@pytest.mark.parametrize("partial", [False, True])
def test_what_the_end_of_a_rollout_cut_off_is_served_again(tmp_path, partial):
    source = Tau2DataSource(source_args(tmp_path, partial_rollout=partial))
    kept, cut, not_begun = source.get_samples(3)
    finish(kept, 1, 0), finish(cut, 1, 0)
    cut[1].status = Sample.Status.ABORTED
    filters.process_all_samples(source.args, [kept], source.get_samples)
    if partial:  # slime hands them back itself
        assert not source.buffer
        source.add_samples([cut, not_begun])
        source.add_samples([cut])
    end(source, 0, kept)
    assert indices(source.buffer) == indices([cut, not_begun]), "once each"
    assert [s.status.value for s in source.get_samples(1)[0]] == (
        ["completed", "pending"] if partial else ["pending", "pending"]
    )


def test_spoiled_groups_are_served_again_and_bad_tasks_are_not(tmp_path):
    source = Tau2DataSource(source_args(tmp_path))
    spoiled, broken, trained = source.get_samples(3)
    for s in spoiled:
        generate.placeholder(s, "connection refused", Termination.POLICY_FAILURE)
    for s in broken:
        generate.placeholder(s, "KeyError", Termination.ENVIRONMENT_ERROR)
    filters.process_all_samples(source.args, [spoiled, broken, finish(trained, 1, 0)], source.get_samples)
    assert indices(source.buffer) == indices([spoiled])
    end(source, 0, trained)
    assert source.metadata["terminations"] == {"environment_error": 2, "user_stop": 2}
    (again,) = source.get_samples(1)
    assert indices([again]) == indices([spoiled]) and again[0].status is Sample.Status.PENDING


@pytest.mark.parametrize("path", [None, "slime_tau2.hooks.filters.dynamic_sampling_filter"])
def test_a_spoiled_group_that_trains_all_the_same_is_left_as_it_is(tmp_path, path):
    """Without a filter, or with another one than ours, slime trains on what is left of it: the all-samples hook sees it
    before that.
    """
    source = Tau2DataSource(source_args(tmp_path, dynamic_sampling_filter_path=path))
    (group,) = source.get_samples(1)
    finish(group, 1, 0)
    generate.placeholder(group[1], "connection refused", Termination.USER_FAILURE)
    filters.process_all_samples(source.args, [group], source.get_samples)
    assert group[0].status is Sample.Status.COMPLETED and group[0].reward == 1.0 and group[0].response, (
        "slime holds these very samples"
    )
    end(source, 0, group)
    assert not source.buffer and source.metadata["terminations"] == {"user_stop": 1, "user_failure": 1}


def test_slimes_own_data_source_gets_spoiled_groups_back():
    class Plain:
        def __init__(self):
            self.got = []

        def get_samples(self, count):
            return []

        def add_samples(self, groups):
            self.got += groups

    plain, group = Plain(), [Sample(status=Sample.Status.ABORTED), Sample(status=Sample.Status.ABORTED)]
    filters.process_all_samples(Namespace(), [group, [Sample(status=Sample.Status.COMPLETED)] * 2], plain.get_samples)
    assert plain.got == [group]


# --- state ------------------------------------------------------------------------------------------------------------
# -------------


def test_a_state_is_of_its_rollouts_end_not_of_the_call_to_save(tmp_path):
    """train_async.py asks for the state of one rollout behind the whole next one."""
    source = Tau2DataSource(source_args(tmp_path))
    end(source, 0, *[finish(g, 1, 0) for g in source.get_samples(2)])
    end(source, 1, *[finish(g, 1, 0) for g in source.get_samples(2)])
    source.save(0)
    assert indices(resumed(tmp_path, 0).get_samples(2)) == [2, 3] and indices(resumed(tmp_path, 1).get_samples(1)) == [
        4
    ]


def test_a_kill_between_the_models_checkpoint_and_ours_loses_nothing(tmp_path):
    source = Tau2DataSource(source_args(tmp_path))
    end(source, 0, *[finish(g, 1, 0) for g in source.get_samples(2)])
    del source  # killed: `save(0)` was never called
    assert indices(resumed(tmp_path, 0).get_samples(1)) == [2]


def test_without_our_log_hook_save_writes_the_state(tmp_path):
    source = Tau2DataSource(source_args(tmp_path))
    for g in source.get_samples(2):
        finish(g, 1, 0)
    running = source.get_samples(1)
    source.save(4)
    assert indices(resumed(tmp_path, 4).get_samples(2)) == [running[0][0].group_index, 3]


def test_states_without_a_checkpoint_are_pruned(tmp_path):
    source = Tau2DataSource(source_args(tmp_path))
    for n in range(9):
        end(source, n, *[finish(g, 1, 0) for g in source.get_samples(1)])
        if n % 4 == 0:
            source.save(n)
    left = sorted(int(p.stem.rsplit("_", 1)[1]) for p in (tmp_path / "rollout").iterdir())
    assert left == [0, 4, 6, 7, 8] and UNKEPT == 3, "those of checkpoints, and the last few"


def test_a_full_disk_stops_no_rollout_and_is_told_at_the_checkpoint(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    source = Tau2DataSource(source_args(blocked))
    end(source, 0, finish(source.get_samples(1)[0], 1, 0))
    assert "cannot save the data source" in caplog.text
    end(source, 1, finish(source.get_samples(1)[0], 1, 0))
    with pytest.raises(CheckpointError, match="cannot save the data source"):
        source.save(0)
    blocked.unlink()
    source.save(0)
    assert indices(resumed(blocked, 0).get_samples(1)) == [1], "as of rollout 0, though rollout 1 has ended"


def test_a_missing_state_is_the_newest_older_one_or_a_fresh_start(tmp_path, caplog):
    fresh = resumed(tmp_path, 9)
    assert "is absent, and so is every older one" in caplog.text and indices(fresh.get_samples(1)) == [0]
    source = Tau2DataSource(source_args(tmp_path))
    for n in range(3):
        end(source, n, *[finish(g, 1, 0) for g in source.get_samples(2)])
        source.save(n)
    (tmp_path / "rollout" / "tau2_data_source_1.json").unlink()
    caplog.clear()
    assert indices(resumed(tmp_path, 1).get_samples(1)) == [2], "of rollout 0; never of a later one"
    assert "goes on from rollout 0" in caplog.text
    untouched = Tau2DataSource(source_args(tmp_path))
    untouched.load(None), untouched.load(-1)
    assert indices(untouched.get_samples(1)) == [0]


def test_damaged_and_foreign_states_are_named(tmp_path, caplog):
    source = Tau2DataSource(source_args(tmp_path))
    end(source, 3, finish(source.get_samples(2)[0], 1, 0))
    path = tmp_path / "rollout" / "tau2_data_source_3.json"
    whole = json.loads(path.read_text())
    for data in (b"{", b"[]", b"", b'{"version": "\xff"}', b"[" * 100_000):
        path.write_bytes(data)
        with pytest.raises(
            CheckpointError, match=r"tau2_data_source_3.json is corrupt .*; remove it to go on from the state before it"
        ):
            source.load(3)
    counters = [whole | {name: value} for name in ("next_group", "position") for value in ("x", -5, None)]
    for broken in (
        {},
        whole | {"version": 3},
        whole | {"returned": 5},
        whole | {"returned": [{}]},
        whole | {"metadata": {}},
        *counters,
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(
            CheckpointError, match=r"tau2_data_source_3.json: .* state cannot be used: .*; remove it to go on"
        ):
            source.load(3)
    path.write_text(
        json.dumps(whole | {"tasks": "others", "returned": [{"group": 0, "index": 0, "task": "helpdesk/gone"}]})
    )
    source.load(3)
    assert "1 groups that came back are dropped, their tasks are no longer there: helpdesk/gone" in caplog.text
    assert (
        "the tasks are not those of the saved state" in caplog.text and source.order.position == 0 and not source.buffer
    )
    with pytest.raises(ValueError, match="has 1 samples, not 2"):
        source.add_samples([[Sample(group_index=0, index=0)]])
    with pytest.raises(ValueError, match="has no group_index"):
        source.add_samples([[Sample(), Sample()]])


def test_another_group_size_gives_no_index_twice(tmp_path):
    source = Tau2DataSource(source_args(tmp_path))
    end(source, 0, finish(source.get_samples(3)[0], 1, 0))
    args = source_args(tmp_path)
    args.n_samples_per_prompt = 4
    larger = Tau2DataSource(args)
    larger.load(0)
    served = [s.index for g in larger.get_samples(4) for s in g]
    assert len(served) == len(set(served)) == 16 and min(served) >= 6


def test_a_state_of_the_version_before_can_be_read(tmp_path):
    source = Tau2DataSource(source_args(tmp_path))
    first, second = source.get_samples(2)
    state = source.state_dict()
    del state["version"], state["tasks"]
    state["returned"] = [first[0].prompt, "helpdesk/gone"]
    source.load_state_dict(state)
    (again,) = source.buffer
    assert again[0].prompt == first[0].prompt and again[0].group_index == 2, (
        "it kept no indices: the group gets new ones"
    )
    assert second[0].prompt not in [g[0].prompt for g in source.get_samples(3)]


# --- liveness
# ----------------------------------------------------------------------------------------------------------------------


def test_a_dead_server_ends_the_run_instead_of_the_budget(tmp_path):
    source = Tau2DataSource(source_args(tmp_path))
    for _ in range(liveness.MAX_SPOILED_FETCHES):
        for s in filters.flatten(source.get_samples(2)):
            generate.placeholder(s, "connection refused")
    with pytest.raises(PolicyError, match=r"all of the last 32 episodes .* the last by: connection refused"):
        source.get_samples(2)
    next(iter(source.groups.out.values()))[0].remove_sample = False
    assert len(source.get_samples(2)) == 2, "one scored episode is a sign of life"


ENDS = f"""
import sys
from argparse import Namespace
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.hooks.generate import placeholder
from slime_tau2.terminations import Termination
source = Tau2DataSource(Namespace(n_samples_per_prompt=2, tau2_user="scripted", rollout_function_path={FULLY_ASYNC!r}, rollout_batch_size=3))
for n in range(int(sys.argv[1])):
    (group,) = source.get_samples(1)
    for s in group:
        placeholder(s, "connection refused", Termination(sys.argv[2]))
    source.add_samples([group])
try:
    source.get_samples(1)
except BaseException:
    pass  # slime's loop logs what it catches, and goes on
print("goes on")
"""


@pytest.mark.parametrize(
    "tries, termination, ends", [(24, "policy_failure", True), (23, "policy_failure", False), (99, "aborted", False)]
)
def test_slimes_fully_async_loop_cannot_swallow_a_dead_server(tries, termination, ends):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(tries), termination], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == ((1, "") if ends else (0, "goes on\n")), done.stderr
    assert (
        "all of the last 48 episodes were ended by the infrastructure, the last by: connection refused" in done.stderr
    ) == ends


def test_a_scored_episode_is_a_sign_of_life_under_fully_async_too(tmp_path):
    source = Tau2DataSource(source_args(tmp_path, rollout_function_path=FULLY_ASYNC, rollout_batch_size=1))
    for n in range(3 * liveness.MAX_SPOILED_FETCHES):
        group, other = source.get_samples(2)
        for s in group:
            generate.placeholder(s, "connection refused", Termination.USER_FAILURE)
        source.add_samples([group])
        end(source, n, finish(other, 1, 0))


def test_nothing_is_logged_where_nothing_is_wrong(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        source = Tau2DataSource(source_args(tmp_path))
        end(source, 0, finish(source.get_samples(1)[0], 1, 0))
        source.save(0)
        resumed(tmp_path, 0)
    assert not caplog.records and current.data_source() is not source
