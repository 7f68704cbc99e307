"""A whole iteration, and the next, through slime's own unmodified `train.py` on a CPU: TP 2, CP 2 x DP 2, TP 2 x CP 2.

RolloutManager (slime's rollout, conversion, split) → our hooks → the project's own server as an external SGLang behind
the real sglang-router → MegatronTrainRayActor over gloo → optimizer step → slime's checkpoint → `export-hf` →
transformers; the weights go back over the disk, and the next rollout samples from them. Everything is compared with
Hugging Face's model in float64 (parity.py).

Needs, on PYTHONPATH, slime's source tree (SLIME_DIR names it too), Megatron-LM at slime's commit with slime's patch for
it, and torch_memory_saver; ray, sglang, sglang-router installed; numpy 1.x, which slime asserts, with a pyarrow that
takes it (18, not 26).

    SLIME_DIR=…/slime PYTHONPATH=$PWD:$SLIME_DIR:…/Megatron-LM:… python -m pytest -m upstream tests/upstream/train_cpu
    -p no:cacheprovider -s

Not as on a GPU, all in this folder and tests/megatron/shim.py: torch.cuda means the CPU; slime's accelerator says "cpu"
(HEAD); decoder layers with Transformer Engine's names made of Megatron's own parts, since its kernels need a GPU, with
an attention that gathers the whole sequence over context-parallel ranks (`--cp-comm-type all_gather`); float32 set
after `parse_args`; torch's AdamW, which Megatron falls back to, helped over loading a checkpoint; slime's destroyable
process groups left out; TorchDynamo off. Nothing else of either is changed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def absent() -> str:
    """What of the hosts is not here, or an empty string."""
    if not (Path(os.environ.get("SLIME_DIR", "")) / "train.py").is_file() or not os.environ.get("SLIME_DIR"):
        return "SLIME_DIR does not name slime's source tree"
    for name in ("slime", "megatron.training", "torch_memory_saver", "ray", "sglang", "sglang_router"):
        try:
            if importlib.util.find_spec(name) is None:
                return f"{name} is not on PYTHONPATH"
        except ModuleNotFoundError:
            return f"{name} is not on PYTHONPATH"
    import numpy
    import torch

    if torch.cuda.is_available():
        return "these runs are for machines without a GPU"
    if not numpy.__version__.startswith("1."):
        return f"slime asserts numpy 1.x, and this is {numpy.__version__}"
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        return f"Ray needs a pyarrow that takes numpy {numpy.__version__}: {error}"
    return ""


# a process that only collects must not pay for torch: the reason is looked for where slime is named
REASON = absent() if os.environ.get("SLIME_DIR") else "SLIME_DIR does not name slime's source tree"
pytestmark = [pytest.mark.upstream, pytest.mark.skipif(bool(REASON), reason=REASON)]

ROLLOUTS = 2
RUNS = {
    "episode": {"credit": "episode", "tp": 2},
    "turn": {"credit": "turn", "tp": 2},
    "split": {"credit": "turn", "cp": 2, "dp": 2},
    "call": {"credit": "call", "tp": 2, "cp": 2},
    "thoughts": {"credit": "turn", "tp": 2},
    "thoughts split": {"credit": "turn", "cp": 2, "dp": 2},
}
"""`episode` has slime's trainer score every token once more before its step, so that its log-probs can be read token by
token; `turn` takes the way of the launch scripts, which reuses the step's own, and is killed within its second rollout;
the policy of `call` makes each call twice in a message (`policy.Hasty`). That of both `thoughts` thinks, and its template drops
earlier thoughts: most of its episodes are several samples (`policy.Thinker`).
"""
OWN_LOG_PROBS = (
    "--get-mismatch-metrics --custom-tis-function-path slime.backends.megatron_utils.loss.vanilla_tis_function"
)
GRADIENT, SAMPLER, UPDATE, SCORES = 3e-5, 5e-6, 2e-3, 1e-4
"""Most that may lie between slime and the reference: gradient norm (relative), log-probs of trainer and sampler (mean),
the update (relative), log-probs of slime's trainer and of the exported model (each). Measured: 1e-6, 5e-7, 3e-4, 8e-6.
"""


@dataclass
class Done:
    """A run that is over. `resumed_at` is the rollout at which its last life began."""

    name: str
    run: object
    server: dict
    greedy: list
    resumed_at: int = 0
    lives: int = 1

    @property
    def thinks(self) -> bool:
        return self.name.startswith("thoughts")

    @property
    def last(self) -> int:
        return max(self.run.steps())

    def online(self, rollout: int) -> Path:
        """The weights that slime's trainer handed to the engine after a rollout's step (-1: before the first of its
        last life).
        """
        return self.run.weights(rollout - self.resumed_at + 2)

    def exported(self, rollout: int) -> Path:
        """By `export-hf`, from slime's checkpoint; the model that the run began with for -1."""
        if rollout < 0:
            return self.run.model
        out = self.run.directory / f"export_{rollout}"
        if not out.exists():
            command = [sys.executable, "-m", "slime_tau2.cli", "export-hf", str(self.run.checkpoint(rollout))]
            done = subprocess.run(
                [*command, "--hf-config", str(self.run.model), "--output", str(out)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-2000:]
        return out


def named(sample) -> tuple[int, tuple[int, ...]]:
    """A sample's name: those of one episode share the index."""
    return sample.index, tuple(sample.tokens)


def named_by(kept: dict, n: int) -> tuple[int, tuple[int, ...]]:
    """The name of the n-th sample that a rank trained on."""
    return int(kept["sample_indices"][n]), tuple(kept["tokens"][n].tolist())


def phase(text: str) -> None:
    print(f"\n{time.strftime('%H:%M:%S')} {text}", flush=True)


@pytest.fixture(scope="module")
def policies(tmp_path_factory, chat, tokenizer):
    """`policies(teacher)`: the model that has learned from a teacher, trained once."""
    import policy

    trained = {}
    ready = os.environ.get("SLIME_TAU2_TRAIN_CPU_POLICY")  # one that an earlier run left
    if ready:
        trained[policy.Teacher] = Path(ready)

    def get(teacher):
        if teacher not in trained:
            phase(f"a small Qwen3 learns thirty tasks of helpdesk by heart, from {teacher.__name__}")
            path = tmp_path_factory.mktemp("policy") / "model"
            trained[teacher] = policy.train(path, chat, tokenizer, teacher)
        return trained[teacher]

    return get


def ask(server, ids):
    """[[log-prob, id, None]] of the most likely continuation, from the live server."""
    body = {
        "input_ids": ids,
        "sampling_params": {"max_new_tokens": 12, "temperature": 0, "ignore_eos": True},
        "return_logprob": True,
    }
    request = urllib.request.Request(
        f"{server.url}/generate", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.loads(reply.read())["meta_info"]["output_token_logprobs"]


def play(name, policy, directory):
    from runs import Run

    from slime_tau2.local.process import ServerProcess

    phase(f"{name}: {RUNS[name]}")
    with ServerProcess(policy, directory / "server.log") as server:
        run = Run(
            directory / "run", policy, server.port, extra=OWN_LOG_PROBS if name == "episode" else "", **RUNS[name]
        )
        lives, resumed_at, rollouts = 1, 0, ROLLOUTS
        if name == "turn":
            rollouts, seen = ROLLOUTS + 1, []

            def within_the_second_rollout():
                info = server.info()
                if info["weight_version"] == "2":
                    seen.append(info["served_requests"])
                return bool(seen) and seen[-1] >= seen[0] + 8

            assert not run.start(rollouts, within_the_second_rollout), "it came to its end before it could be killed"
            assert (run.directory / "checkpoints" / "latest_checkpointed_iteration.txt").read_text().strip() == "0"
            phase("killed within its second rollout; the same command again")
            lives, resumed_at = 2, 1
        assert run.start(rollouts)
        return Done(name, run, server.info(), ask(server, run.samples(0)[0].tokens[:60]), resumed_at, lives)


@pytest.fixture(scope="module")
def played(policies, tmp_path_factory):
    """`played(name)`: a run of RUNS, run once; one that failed fails each test that asks for it."""
    import policy

    over = {}

    def get(name):
        if name not in over:
            try:
                teacher = {"call": policy.Hasty, "thoughts": policy.Thinker}.get(name.split()[0], policy.Teacher)
                over[name] = play(name, policies(teacher), tmp_path_factory.mktemp(name.replace(" ", "_")))
            except Exception as error:
                over[name] = error
        if isinstance(over[name], Exception):
            raise over[name]
        return over[name]

    return get


@pytest.fixture(params=RUNS)
def done(request, played):
    return played(request.param)


def test_the_steps_are_hugging_faces(done):
    """Gradient norm, log-probs and every parameter after each step; Adam's moments go on through a resume."""
    from parity import Adam, episode

    adam, steps = Adam(done.run.model), done.run.steps()
    assert sorted(steps) == list(range(done.last + 1)) and done.last == (ROLLOUTS if done.lives == 2 else ROLLOUTS - 1)
    for rollout in steps:
        samples, told = done.run.samples(rollout), steps[rollout]
        taught = sum(bool((s.advantages != 0).any()) for s in samples)
        episodes = len({episode(s) for s in samples})
        assert (episodes < len(samples)) == done.thinks, "one sample per episode where history stays"
        step = adam.step(done.exported(rollout - 1), samples)
        gradient = abs(told["train/grad_norm"] - step.grad_norm) / step.grad_norm if step.grad_norm else float("inf")
        update = adam.apart(done.exported(rollout))
        sampler = told["train/train_rollout_logprob_abs_diff"]
        print(
            f"\n{done.name}, rollout {rollout}: {episodes} episodes, {len(samples)} samples, {taught} with an advantage; gradient norm {told['train/grad_norm']:.5f}, "
            f"relative difference {gradient:.1e}; |trainer - sampler| {sampler:.1e}, |reference - sampler| {step.sampler_mean:.1e}; "
            f"update off by {update:.1e}"
        )
        assert taught >= 4 and step.grad_norm > 1e-2, "nothing was learned, so nothing was compared"
        assert gradient < GRADIENT and update < UPDATE and sampler < SAMPLER and step.sampler_mean < SAMPLER
        assert told["train/global_batch_size"] == episodes
        if done.name == "episode":
            worst, scores = 0.0, {named(s): own for s, own in zip(samples, step.scores, strict=True)}
            for kept in done.run.trained(rollout):
                for n, own in enumerate(kept["log_probs"]):
                    worst = max(worst, float((own.double() - scores[named_by(kept, n)]).abs().max()))
            print(f"  largest |log-prob of slime's trainer - of the exported model| {worst:.1e}")
            assert 0 < worst < SCORES


def test_each_rank_trains_on_its_slice_of_the_whole(done, monkeypatch):
    """By slime's own slicing and by a mapping of ours: advantages, log-probs and carried credit; tokens and masks
    whole.
    """
    import slime.backends.megatron_utils.cp_utils as cp_utils
    import torch
    from megatron.core import mpu
    from parity import held

    from slime_tau2.masks import spans

    run, empty, turns, calls = done.run, 0, 0, 0
    monkeypatch.setattr(mpu, "get_context_parallel_world_size", lambda: run.cp)
    for rollout in range(done.last + 1):
        samples = {named(s): s for s in run.samples(rollout)}
        seen = {(name, tp): [] for name in samples for tp in range(run.tp)}
        owners = {}
        for kept in run.trained(rollout):
            place = kept["place"]
            monkeypatch.setattr(mpu, "get_context_parallel_rank", lambda rank=place["cp"]: rank)
            for n in range(len(kept["sample_indices"])):
                name = named_by(kept, n)
                sample, total, length = samples[name], kept["total_lengths"][n], kept["response_lengths"][n]
                owners.setdefault(name, set()).add(place["dp"])
                assert kept["tokens"][n].tolist() == list(sample.tokens) and (total, length) == (
                    len(sample.tokens),
                    sample.response_length,
                )
                mask = [0] * length if sample.remove_sample else sample.loss_mask
                assert kept["loss_masks"][n].tolist() == list(mask)
                own = held(total, length, place["cp"], run.cp)
                seen[name, place["tp"]] += own
                empty += not own
                whole = {
                    "advantages": sample.advantages,
                    "returns": sample.advantages,
                    "rollout_log_probs": sample.rollout_log_probs,
                }
                if done.name != "episode":
                    whole["teacher_log_probs"] = sample.teacher_log_probs
                for field, values in whole.items():
                    values = torch.as_tensor(values, dtype=torch.float32)
                    sliced = cp_utils.slice_log_prob_with_cp(values, total, length)
                    assert torch.equal(kept[field][n], sliced) and torch.equal(kept[field][n], values[own]), (
                        field,
                        sample.index,
                        place,
                    )
        assert all(sorted(tokens) == list(range(samples[name].response_length)) for (name, _), tokens in seen.items())
        assert owners.keys() == samples.keys() and all(len(ranks) == 1 for ranks in owners.values())
        assert {next(iter(r)) for r in owners.values()} == set(range(run.dp)), "every data-parallel rank has samples"
        trained = [s.advantages[torch.tensor(s.loss_mask).bool()].unique() for s in samples.values()]
        turns += sum(len(values) > 1 for values in trained)
        of_turns = [s.advantages[a:b].unique() for s in samples.values() for a, b in spans(s.loss_mask)]
        calls += sum(len(values) > 1 for values in of_turns)
    print(
        f"\n{done.name}: unequal slices 0, empty ones {empty}; samples whose turns have different advantages: {turns}; "
        f"turns whose calls have: {calls}"
    )
    if done.name in ("episode", "turn", "split"):  # the others' responses are long
        assert (empty > 0) == (run.cp > 1), (
            "a response shorter than half a sequence leaves a context-parallel rank without a token"
        )
    assert (turns > 0) == (done.name != "episode") and (calls > 0) == (done.name == "call")


def test_the_dump_has_what_each_rank_said_and_trained_on(done):
    """Sampler's and trainer's log-probs and advantages by token, put together of the ranks' shares."""
    import math

    from slime_tau2.dumps.arrays import unpack_floats
    from slime_tau2.dumps.store import FOLDER, Dump
    from slime_tau2.hooks.rollout_rows import segments
    from slime_tau2.rollouts.reader import Reader

    reader = Reader(Dump(done.run.directory / "checkpoints" / FOLDER))
    reader.refresh()
    apart, scored = 0.0, 0
    for rollout in range(done.last + 1):
        samples, told = done.run.samples(rollout), reader.tokens(rollout)["samples"]
        by_name = {(s.index, n): s for s, n in zip(samples, segments(samples), strict=True)}
        assert len({own["sample"] for own in told.values()}) == 8, "two groups of four"
        assert [s["others"] for s in reader.index()["steps"]] == [0] * (done.last + 1)
        for own in told.values():
            sample = by_name[own["sample"], own["segment"]]
            mask = [bool(m) for m in sample.loss_mask]
            advantages = [float(a) for a, m in zip(sample.advantages, mask) if m]
            sampler = unpack_floats(own["log_probs"])
            assert unpack_floats(own["advantages"]) == pytest.approx(advantages, abs=1e-6)
            assert sampler == pytest.approx([p for p, m in zip(sample.rollout_log_probs, mask) if m])
            assert (own["trainer"] is not None) == (done.name == "episode"), "in a single step slime scores none before"
            if own["trainer"] is not None:
                trainer = unpack_floats(own["trainer"])
                assert len(trainer) == len(sampler) and not any(map(math.isnan, trainer))
                apart, scored = max(apart, *(abs(a - b) for a, b in zip(trainer, sampler))), scored + len(trainer)
    print(f"\n{done.name}: {scored} tokens scored by the trainer too, at most {apart:.1e} from the sampler")
    assert apart < SCORES


def test_all_ways_out_of_a_checkpoint_give_the_same_bits(done):
    """`export-hf`, slime's converter, slime's own weights for the engine; and the live engine says what the last of
    them say.
    """
    import torch
    from parity import load, tensors, unequal

    first = done.resumed_at
    for rollout in range(first, done.last + 1):
        exported, theirs = done.exported(rollout), done.run.directory / f"converted_{rollout}"
        command = [
            sys.executable,
            f"{os.environ['SLIME_DIR']}/tools/convert_torch_dist_to_hf.py",
            "--origin-hf-dir",
            str(done.run.model),
        ]
        ran = subprocess.run(
            [*command, "--input-dir", str(done.run.checkpoint(rollout)), "--output-dir", str(theirs)],
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        ours = tensors(exported)
        assert unequal(ours, tensors(theirs)) == [] and unequal(ours, tensors(done.online(rollout))) == [], rollout
        assert unequal(ours, tensors(done.exported(rollout - 1))), "the step changed the weights"
        print(
            f"\n{done.name}, rollout {rollout}: {len(ours)} tensors equal to slime's converter's and to those handed to the engine"
        )
    assert unequal(tensors(done.online(first - 1)), tensors(done.exported(first - 1))) == [], (
        "what the run, or its last life, began with"
    )
    ids = done.run.samples(0)[0].tokens[:60]
    with torch.no_grad():
        logits = load(done.exported(done.last))(torch.tensor([ids + [i for _, i, _ in done.greedy]])).logits[0]
        assert torch.equal(
            load(done.online(done.last))(torch.tensor([ids])).logits[0],
            load(done.exported(done.last))(torch.tensor([ids])).logits[0],
        )
    scores = logits.log_softmax(-1)
    for n, (log_prob, token, _) in enumerate(done.greedy):
        assert log_prob == pytest.approx(float(scores[len(ids) - 1 + n, token]), abs=1e-4), (
            "the live engine has the last weights"
        )


def test_every_rollout_samples_from_the_weights_before_it(done):
    for rollout in range(done.last + 1):
        versions = {v for s in done.run.samples(rollout) for v in s.weight_versions}
        assert versions == {str(rollout + 1 - (done.resumed_at if rollout >= done.resumed_at else 0))}, rollout
    print(
        f"\n{done.name}: {done.server['prefix_mismatches']} prefix mismatches in {done.server['prefix_checked']} continued requests"
    )
    assert (done.server["prefix_mismatches"] > 0) == done.thinks, "a prompt that drops a thought begins otherwise"
    assert done.server["prefix_checked"] > 50
    assert done.server["weight_version"] == str(done.last + 2 - done.resumed_at)


def test_after_a_kill_the_same_command_goes_on_and_no_trained_group_is_served_again(played):
    import few_tasks

    done = played("turn")
    assert done.lives == 2 and done.last == ROLLOUTS
    groups = {r: {s.group_index: s.prompt for s in done.run.samples(r)} for r in range(done.last + 1)}
    print(f"\ngroups trained on: { {r: sorted(g) for r, g in groups.items()} }")
    assert all(len(g) == 4 for g in groups.values()) and len({k for g in groups.values() for k in g}) == 4 * len(groups)
    if max(k for g in groups.values() for k in g) < len(few_tasks.TASKS):  # the first epoch, which has each task once
        tasks = [task.split("/")[1] for g in groups.values() for task in g.values()]
        assert len(set(tasks)) == len(tasks) and set(tasks) <= set(few_tasks.TASKS)
    log = done.run.log.read_text(errors="replace")
    assert log.count("JOB DONE") == 1 and log.count(" step 0: {") == 1, "the second life began with rollout 1"
