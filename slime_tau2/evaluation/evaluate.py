"""`slime-tau2 eval`: any policy, any domain and split, through the one runner."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from slime_tau2 import bench
from slime_tau2.config import Tau2Config, from_environment, parse_assignments
from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.api_agent import ApiAgent
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.toolbox import Toolbox, system_prompt
from slime_tau2.errors import ConfigError, PolicyError
from slime_tau2.evaluation import audit, baselines, failures, page, runner
from slime_tau2.evaluation.tables import metrics_table
from slime_tau2.types import Episode


@dataclass(frozen=True)
class EvalRequest:
    """The command line of `eval`.

    `policy` is a script's name, a model directory, or the URL of a server: SGLang's, or with /v1 at its end an OpenAI-compatible one, of
    which `model` is then a model.
    """

    output: Path
    domain: str
    split: str
    policy: str
    attempts: int
    tasks: list[str] | None
    user: str | None
    temperature: float
    tokenizer: Path | None
    concurrency: int
    seed: int
    options: list[str]
    model: str | None = None


def main(request: EvalRequest, console: Console) -> None:
    """Run (or resume) an evaluation and print its table."""
    scripted = request.policy in scripts.SCRIPTS
    user = request.user or ("gold" if scripted else "scripted" if request.domain == "helpdesk" else "llm")
    options = parse_assignments(request.options, Tau2Config.model_fields, "--set")
    config = Tau2Config.from_mapping(
        {"seeded_sampling": True, "user": user, "retail_basis": "judge", **from_environment(), **options}, "--set"
    )
    console.print(f"{bench.VINTAGE}", soft_wrap=True, highlight=False)
    world = worlds.load(request.domain, config.retail_basis)
    for task_id in request.tasks or world.task_ids(request.split)[:1]:
        world.task(task_id)
    world.task_ids(request.split)
    audited = {"episodes": 0, "mismatches": 0}
    with ExitStack() as stack:
        _check_judge(config, [world.task(t) for t in request.tasks or world.task_ids(request.split)])
        run_one, settings, box = _policy(request, config, stack)
        progress = stack.enter_context(_progress(console))
        count = request.attempts * len(request.tasks or world.task_ids(request.split))
        bar = progress.add_task(f"{request.policy} on {request.domain}/{request.split}", total=count)

        def on_episode(episode: Episode) -> None:
            progress.advance(bar)
            if episode.ledger is not None:
                audited["episodes"] += 1
                audited["mismatches"] += audit.is_mismatch(episode, box.chat(world.domain), system_prompt(config, world.policy))

        job = runner.Run(
            world,
            request.split,
            request.attempts,
            request.output,
            run_one,
            settings,
            request.concurrency,
            request.seed,
            request.tasks,
            on_episode,
            box.tokenizer,
        )

        async def run() -> list[dict]:
            try:
                return await runner.run(job)
            finally:
                await box.close()

        records = asyncio.run(run())
        progress.update(bar, completed=count)
        faults = box.take_faults()
    world.environments.check()
    console.print(metrics_table(f"{request.policy} on {request.domain}/{request.split}", runner.tables(records, request.attempts)))
    beside = baselines.rates(world, request.tasks or world.task_ids(request.split), request.output / "baselines.json")
    shares = ", ".join(f"{kind} {'needs the judge' if share is None else f'{100 * share:.1f} %'}" for kind, share in beside.items())
    console.print(f"beside it, on the same tasks: {shares}", soft_wrap=True)
    failed = [r for r in records if r["reward"] is None]
    won = sum(r["reward"] is not None and r["reward"] >= 1 - 1e-6 for r in records)
    console.print(f"{won} of {len(records) - len(failed)} scored attempts earned reward 1.0; results in {request.output}", soft_wrap=True)
    if audited["episodes"]:
        console.print(f"token mismatches: {audited['mismatches']} in {audited['episodes']} episodes")
    if faults:
        console.print(f"failed requests, retried: {', '.join(f'{kind} {n}' for kind, n in faults.most_common())}", soft_wrap=True)
    if config.official_check and box.official is not None:
        console.print(f"tau2's own evaluator graded {box.official.compared} episodes again and agreed")
    if failed:
        console.print(
            f"{len(failed)} attempts were ended by the infrastructure and are excluded, e.g. {failed[0]['detail']}", soft_wrap=True
        )
        console.print("the same command tries them again")


def report(directories: Sequence[Path], output: Path | None, console: Console) -> None:
    """Print the tables of runs that are there, with their failures by what went wrong, and write the page of them all."""
    stages = []
    for directory in directories:
        records = runner.read_records(directory / "attempts.jsonl")
        if not records:
            raise ConfigError(f"{directory} holds no attempt; run `slime-tau2 eval --output {directory}` first")
        stages.append(page.Stage("/".join(directory.parts[-2:]) if len(directories) > 1 else directory.name, records))
        console.print(metrics_table(str(directory), runner.tables(records, stages[-1].attempts)))
        console.print(failures.table(page.failed(records)))
    facts = [" · ".join(dict.fromkeys(f"{r['domain']}: {r['tau2']}, tasks {r['tasks_sha256'][:12]}" for s in stages for r in s.records))]
    path = output or directories[0] / "report.html"
    page.write(page.Page("slime_tau2 evaluation", stages, facts), path)
    console.print(f"every conversation: {path}", soft_wrap=True)


def _policy(request: EvalRequest, config: Tau2Config, stack: ExitStack) -> tuple[runner.RunOne, dict[str, Any], Any]:
    """How to run one episode, what identifies the policy in the results, and its toolbox."""
    settings: dict[str, Any] = {
        "policy": request.policy, "user": config.user, "max_steps": config.max_steps, "max_errors": config.max_errors,
        "retail_basis": config.retail_basis, "judge_model": config.judge_model,
    }  # fmt: skip
    if config.user == "llm":
        settings |= {"user_model": config.eval_user_model or config.user_model, "user_temperature": config.user_temperature}
    if request.policy in scripts.SCRIPTS:
        box = Toolbox(config)

        async def scripted(world: worlds.World, task_id: str, seed: int) -> Episode:
            agent = ScriptedAgent(scripts.script(request.policy, world.task(task_id)))
            return await box.run(world, task_id, agent, seed, evaluation=True)

        return scripted, settings, box
    if request.policy.startswith(("http://", "https://")) and request.policy.rstrip("/").endswith("/v1"):
        return _api_policy(request, config, settings)
    from slime_tau2.local.models import load_tokenizer
    from slime_tau2.local.process import ServerProcess

    if request.policy.startswith(("http://", "https://")):
        if request.tokenizer is None:
            raise ConfigError(
                f"--policy {request.policy} is an SGLang server: name its tokenizer's directory with --tokenizer (an OpenAI-compatible "
                "server's URL ends with /v1)"
            )
        url, tokenizer = request.policy, load_tokenizer(request.tokenizer)
    elif Path(request.policy).is_dir():
        tokenizer = load_tokenizer(request.tokenizer or Path(request.policy))
        url = stack.enter_context(ServerProcess(Path(request.policy), request.output / "server.log")).url
    else:
        raise ConfigError(f"--policy {request.policy} is neither {', '.join(scripts.SCRIPTS)}, nor a model directory, nor a URL")
    policy = PolicyClient(url, config.policy_concurrency, config.policy_timeout_s, config.policy_retries)
    box = Toolbox(config, tokenizer, policy)
    sampling = {"temperature": request.temperature, "max_new_tokens": config.max_context_tokens}

    async def sampled(world: worlds.World, task_id: str, seed: int) -> Episode:
        agent = box.agent(world, sampling, seed if config.seeded_sampling else None, f"eval-{task_id}-{seed}")
        return await box.run(world, task_id, agent, seed, evaluation=True)

    return sampled, settings | {"temperature": request.temperature, "max_turn_tokens": config.max_turn_tokens}, box


def _api_policy(request: EvalRequest, config: Tau2Config, settings: dict[str, Any]) -> tuple[runner.RunOne, dict[str, Any], Any]:
    if request.model is None:
        raise ConfigError(f"--policy {request.policy} is an OpenAI-compatible server: name its model with --model")
    client = ChatClient(
        request.policy, request.model, config.policy_key_env, PolicyError, {"temperature": request.temperature}, config.policy_concurrency,
        config.policy_timeout_s, config.policy_retries,
    )  # fmt: skip
    box = Toolbox(config, None, client)
    tools: dict[str, bytes] = {}

    async def asked(world: worlds.World, task_id: str, seed: int) -> Episode:
        if world.domain not in tools:
            tools[world.domain] = json.dumps(world.tool_schemas, ensure_ascii=False).encode()
        agent = ApiAgent(client, system_prompt(config, world.policy), tools[world.domain], seed)
        return await box.run(world, task_id, agent, seed, evaluation=True)

    return asked, settings | {"model": request.model, "temperature": request.temperature}, box


def _check_judge(config: Tau2Config, tasks: list[Any]) -> None:
    """Fail before the first conversation, not after it, where the judge's key is absent."""
    judged = sum(bench.judge_request(task, []) is not None for task in tasks)
    if judged and "openai.com" in config.judge_base_url and not os.environ.get(config.judge_key_env):
        raise ConfigError(
            f"{judged} of these {len(tasks)} tasks are judged by {config.judge_model}, and {config.judge_key_env} is not set; set it, or "
            "name a server with --set judge_base_url=… judge_model=…, or score without a judge: --set retail_basis=communicate"
        )


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
