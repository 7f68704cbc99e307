"""A model that thinks, from nothing to GRPO on this machine: `python tests/bench/thinking.py DIRECTORY [--plain]`.

A scripted teacher writes a short reason before each turn. Its episodes are played by tokens, under the template of
Qwen3's hybrid (from the trl wheel), which drops earlier reasons; each of their segments is a row of SFT. Then RFT on the
segments of successes, then GRPO through the hooks, by the local server and trainer. Every episode is audited. `--plain`
is the same teacher and template without the reasons. `low` and `high` are the 95 % interval of a reward over tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from thinking_models import tokenizer_of

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.data.traces import TokenRow
from slime_tau2.domains.helpdesk import CONTEXT, TOKENIZER
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import worlds
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import Generation, PolicyClient
from slime_tau2.episode.recorder import Recorder
from slime_tau2.episode.splits import WHOLE
from slime_tau2.episode.token_agent import TokenAgent
from slime_tau2.episode.users import DomainUser
from slime_tau2.evaluation import audit, estimators
from slime_tau2.experiments import stages
from slime_tau2.experiments.episodes import spread, train_tasks
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.local.models import load_model, new_model, save_model
from slime_tau2.local.process import ServerProcess
from slime_tau2.local.trainer import Trainer
from slime_tau2.seeds import derive_seed
from slime_tau2.tokenizer import load_tokenizer


class Taught:
    """The teacher in the place of a policy's server, for one episode."""

    def __init__(self, chat, seed, flaws, thinks):
        self.chat, self.teacher, self.thinks = chat, Teacher(seed, flaws), thinks

    async def generate(self, ids_json, params, routing_key=None, more=None):
        said = self.chat.decode(json.loads(ids_json)).rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
        text = said.replace("<tool_response>\n", "").replace("\n</tool_response>", "")
        turn = self.teacher.act(text, text.startswith("Error"))
        calls = [{"name": c.name, "arguments": c.arguments} for c in turn.tool_calls or []]
        words = "\n".join(f"<tool_call>\n{json.dumps(c)}\n</tool_call>" for c in calls) or turn.content
        reason = f"I need {calls[0]['name']} now." if calls else "I can answer now."
        words = f"<think>\n{reason}\n</think>\n\n{words}" if self.thinks else words
        ids = [*self.chat.encode(words), *self.chat.ends]
        return Generation(ids, [-1.0] * len(ids), "stop", {})


def rows(episodes):
    """The segments of episodes as training sequences."""
    made = []
    for episode in episodes:
        for s in episode.segments:
            if s.sampled:
                made.append(TokenRow(s.tokens, s.loss_mask, s.log_probs))
    return made


class Work:
    def __init__(self, directory, options):
        self.directory, self.options = directory, options
        self.tokenizer, _ = tokenizer_of(load_tokenizer(TOKENIZER), "qwen3")
        self.world = worlds.load("helpdesk")
        self.chat = ChatRenderer(self.tokenizer, self.world.tool_schemas)
        self.prompt = bench.agent_prompt(self.world.policy)
        self.config = Tau2Config(user="scripted", max_turn_tokens=64, max_context_tokens=CONTEXT)
        self.audited = self.mismatches = 0

    def audit(self, episodes):
        self.audited += len(episodes)
        self.mismatches += sum(audit.is_mismatch(e, self.chat, self.prompt) for e in episodes)

    def told(self, name, episodes, **more):
        segments = [s for e in episodes for s in e.segments]
        later = [s for e in episodes for s in e.segments[1:]]
        figures = {
            "reward": fmean(e.reward or 0.0 for e in episodes),
            "segments an episode": len(segments) / len(episodes),
            "prompt tokens a segment": fmean(s.prompt_length for s in segments),
            "sampled tokens a segment": fmean(s.sampled for s in segments),
            "prefix kept": sum(s.kept for s in later) / max(sum(s.prompt_length for s in later), 1) if later else 1.0,
            "of thoughts": sum(t.thought - t.start for e in episodes for t in e.turns)
            / max(sum(s.sampled for s in segments), 1),
            **more,
        }
        print(
            name,
            {k: round(v, 3) for k, v in figures.items()},
            f"mismatches {self.mismatches} of {self.audited}",
            flush=True,
        )

    def taught(self):
        task_ids = self.world.task_ids(WHOLE)

        async def run():
            out = []
            for n in range(self.options.traces):
                seed = derive_seed(0, "trace", n)
                recorder = Recorder(
                    client=Taught(self.chat, seed, 0.3, not self.options.plain),
                    chat=self.chat,
                    sampling={},
                    max_turn_tokens=512,
                    max_response_tokens=CONTEXT,
                    max_context_tokens=CONTEXT,
                )
                agent = TokenAgent(recorder=recorder, system_prompt=self.prompt)
                out.append(await run_episode(self.world, task_ids[n % len(task_ids)], agent, DomainUser(), seed=seed))
            return out

        episodes = asyncio.run(run())
        self.audit(episodes[:200])
        self.told("teacher", episodes)
        return rows(episodes)

    def supervise(self, model, data, steps, lr):
        trainer, order, tokens = Trainer(model, stages.sft_options(lr, steps)), random.Random(0), 0
        for step in range(steps):
            report = trainer.sft_step([data[order.randrange(len(data))] for _ in range(16)])
            tokens += report["trained_tokens"]
            if step % 50 == 49:
                print(f"  step {step + 1}: loss {report['loss']:.3f}", flush=True)
        return tokens

    def play(self, server, task_ids, attempts, seed):
        async def run():
            client = PolicyClient(server.url)
            box, live = Harness(self.config, self.tokenizer, client), asyncio.Semaphore(16)

            async def one(task_id, n):
                async with live:
                    key = derive_seed(seed, task_id, n)
                    agent = box.agent(
                        self.world,
                        sampling={"temperature": 1.0, "max_new_tokens": 1024},
                        seed=key,
                        routing_key=str(key),
                    )
                    return await box.run(self.world, task_id, agent, seed=key)

            out = await asyncio.gather(*(one(t, n) for t in task_ids for n in range(attempts)))
            await box.close()
            return out

        episodes = asyncio.run(run())
        self.audit(episodes)
        return episodes

    def evaluate(self, name, model_dir, **more):
        with ServerProcess(model_dir, self.directory / "server.log") as server:
            played = self.play(server, self.world.task_ids("test"), self.options.attempts, 7)
        rates = {}
        for episode in played:
            rates.setdefault(episode.task.task_id, []).append(float(episode.reward == 1.0))
        won = estimators.bootstrap_mean([fmean(r) for r in rates.values()], 0)
        self.told(name, played, low=won.low, high=won.high, **more)

    def run(self):
        options, weights = self.options, self.directory / "weights"
        model = new_model(len(self.tokenizer), CONTEXT, seed=0)
        started = time.process_time()
        tokens = self.supervise(model, self.taught(), options.sft_steps, 4e-3)
        save_model(weights, model, self.tokenizer)
        self.evaluate("SFT", weights, trained_tokens=tokens, cpu_s=time.process_time() - started)
        with ServerProcess(weights, self.directory / "server.log") as server:
            tried = self.play(server, spread(train_tasks(self.world), options.rft_tasks), 2, 1)
        won = rows([e for e in tried if e.reward == 1.0])
        self.told("RFT samples", tried, rows=len(won))
        tokens += self.supervise(model, won, options.rft_steps, 5e-4)
        save_model(weights, model, self.tokenizer)
        self.evaluate("RFT", weights, trained_tokens=tokens)
        settings = PipelineSettings(grpo_steps=options.grpo_steps, grpo_groups=8, grpo_group_size=6, max_turn_tokens=64)
        stage = stages.Stage(
            name="grpo",
            directory=self.directory / "grpo",
            tick=lambda step, of, m: print(
                f"  rollout {step}: reward {m['rollout/reward']:.2f}, {m['rollout/segments']:.1f} segments, "
                f"samples trained {m.get('trained_samples')}, mismatch_kl {m.get('mismatch_kl', 0):.2e}",
                flush=True,
            ),
            metrics_path=self.directory / "metrics.jsonl",
        )
        trainer = Trainer(load_model(weights), stages.grpo_options(settings))
        stage.directory.mkdir(parents=True, exist_ok=True)
        with ServerProcess(weights, self.directory / "server.log") as server:
            stages.train_grpo(stage, trainer, self.tokenizer, server, settings=settings, paths={})
        self.evaluate("GRPO", stage.model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--plain", action="store_true")
    for name, default in {
        "traces": 2000,
        "sft-steps": 400,
        "rft-tasks": 120,
        "rft-steps": 40,
        "grpo-steps": 4,
        "attempts": 4,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    given.directory.mkdir(parents=True)
    torch.set_num_threads(1)
    Work(given.directory, given).run()
