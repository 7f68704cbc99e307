"""What the tests under real slime share: its arguments as `parse_args` would have made them, its process-wide state
made fresh, and a policy server with the helpdesk teacher's manners that speaks what slime's rollout asks of SGLang.

Nothing of slime is patched. The server alone stands in for another thing; `tests/sglang_cpu` has the real one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import tempfile
import threading
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from fake_policy import FakePolicy, teacher_reply

from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.local.process import free_port


def slime_is_there() -> bool:
    """Whether the slime that can be imported is THUDM's; PyPI has something else by that name."""
    try:
        return importlib.util.find_spec("slime.utils.types") is not None
    except ImportError:
        return False


needs_slime = pytest.mark.skipif(
    not slime_is_there(), reason="slime is not installed: put its source tree on PYTHONPATH"
)
"""A mark, and no `importorskip` at a module's head: that would hide the rest of the module wherever slime is absent."""

VAL_TASKS = ("orders_0", "phones_1", "refunds_0")
HOOKS = {
    "custom_generate_function_path": "slime_tau2.hooks.generate.generate",
    "custom_rm_path": "slime_tau2.hooks.rewards.reward",
    "custom_reward_post_process_path": "slime_tau2.hooks.rewards.reward_post_process",
    "custom_advantage_function_path": "slime_tau2.hooks.advantages.turn_advantages",
    "data_source_path": "slime_tau2.hooks.data_source.Tau2DataSource",
    "dynamic_sampling_filter_path": "slime_tau2.hooks.filters.dynamic_sampling_filter",
    "buffer_filter_path": "slime_tau2.hooks.filters.buffer_filter",
    "rollout_sample_filter_path": "slime_tau2.hooks.filters.rollout_sample_filter",
    "rollout_all_samples_process_path": "slime_tau2.hooks.filters.process_all_samples",
    "custom_rollout_log_function_path": "slime_tau2.hooks.metrics.log_rollout",
    "custom_eval_rollout_log_function_path": "slime_tau2.hooks.metrics.log_eval",
}


class TeacherServer(FakePolicy):
    """FakePolicy in a thread, with slime's abort, load and worker endpoints; a request sleeps `delay` seconds and can
    be aborted.
    """

    def __init__(self, tokenizer, flaws: float = 1.0, delay: float = 0.0):
        super().__init__(tokenizer, teacher_reply(flaws), 0.0)
        self.flaws, self.teachers = flaws, {}
        self.token_delay, self.running, self.loop, self.port = delay, {}, asyncio.new_event_loop(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        ready = threading.Event()
        threading.Thread(target=self._main, args=(ready,), daemon=True).start()
        assert ready.wait(20)
        return self

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _main(self, ready):
        asyncio.set_event_loop(self.loop)
        app = web.Application(client_max_size=2**26)
        model = {"model_path": str(TOKENIZER), "tokenizer_path": str(TOKENIZER), "is_generation": True}
        answers = {
            "/v1/loads": lambda: {"loads": [{"num_running_reqs": len(self.running), "num_waiting_reqs": 0}]},
            "/workers": lambda: {"workers": [{"id": "w0", "url": self.url}]},
            "/health": dict,
            "/health_generate": dict,
            "/flush_cache": dict,
            "/get_model_info": lambda: model,
            "/model_info": lambda: model,
            "/server_info": lambda: {**model, "tp_size": 1, "dp_size": 1},
            "/get_server_info": lambda: {**model, "tp_size": 1, "dp_size": 1},
        }
        for path, answer in answers.items():
            app.router.add_get(path, self._answer(answer))
        app.router.add_post("/generate", self._abortable)
        app.router.add_post("/abort_request", self._abort)
        runner = web.AppRunner(app, access_log=None)
        self.loop.run_until_complete(runner.setup())
        self.loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self.port).start())
        ready.set()
        self.loop.run_forever()

    def reply_to(self, request):
        key = request.headers["X-SMG-Routing-Key"]
        return self.teachers.setdefault(key, teacher_reply(self.flaws, seed=key))

    def _answer(self, make):
        async def handler(request):
            return web.json_response(make())

        return handler

    async def _abort(self, request):
        for event in self.running.values():
            event.set()
        return web.json_response({})

    async def _abortable(self, request):
        event = self.running[id(request)] = asyncio.Event()
        try:
            await asyncio.wait_for(event.wait(), self.token_delay) if self.token_delay else None
        except TimeoutError:
            pass
        finally:
            del self.running[id(request)]
        if event.is_set():
            self.requests.append(await request.json())
            meta = {
                "finish_reason": {"type": "abort", "message": "aborted"},
                "output_token_logprobs": [],
                "weight_version": "3",
            }
            return web.json_response({"text": "", "output_ids": [], "meta_info": meta})
        return await self._generate(request)


def make_args(work: Path, port: int, **over) -> Namespace:
    """The part of slime's arguments that its rollout side reads."""
    args = Namespace(
        hf_checkpoint=str(TOKENIZER),
        sglang_router_ip="127.0.0.1",
        sglang_router_port=port,
        sglang_model_routers=None,
        router_policy="consistent_hashing",
        sglang_server_concurrency=32,
        rollout_num_gpus=1,
        rollout_num_gpus_per_engine=1,
        num_gpus_per_node=8,
        sglang_dp_size=1,
        use_distributed_post=False,
        sglang_speculative_algorithm=None,
        rollout_temperature=1.0,
        rollout_top_p=1.0,
        rollout_top_k=-1,
        rollout_max_response_len=600,
        rollout_stop=None,
        rollout_stop_token_ids=None,
        rollout_skip_special_tokens=False,
        rollout_seed=42,
        rollout_max_prompt_len=None,
        rollout_batch_size=4,
        over_sampling_batch_size=6,
        n_samples_per_prompt=4,
        rollout_global_dataset=True,
        partial_rollout=False,
        mask_offpolicy_in_partial_rollout=False,
        group_rm=False,
        ci_test=False,
        use_rollout_routing_replay=False,
        rollout_shuffle=True,
        global_batch_size=16,
        prompt_data=str(work / "tasks.jsonl"),
        input_key="prompt",
        label_key=None,
        metadata_key="metadata",
        tool_key=None,
        multimodal_keys=None,
        apply_chat_template=False,
        apply_chat_template_kwargs={},
        dump_details=None,
        save=str(work / "ckpt"),
        load=str(work / "ckpt"),
        rollout_function_path="slime.rollout.sglang_rollout.generate_rollout",
        eval_function_path="slime.rollout.sglang_rollout.generate_rollout",
        rollout_sample_hook_path=None,
        custom_convert_samples_to_train_data_path=None,
        rm_type=None,
        rm_url=None,
        reward_key=None,
        eval_reward_key=None,
        eval_datasets=[],
        eval_max_prompt_len=None,
        eval_min_new_tokens=None,
        n_samples_per_eval_prompt=2,
        eval_config=None,
        eval_prompt_data=None,
        advantage_estimator="grpo",
        rewards_normalization=True,
        grpo_std_normalization=True,
        use_dynamic_batch_size=True,
        max_tokens_per_gpu=4096,
        micro_batch_size=1,
        balance_data=False,
        balance_by_flops=False,
        rollout_data_transport="object-store",
        use_wandb=False,
        use_tensorboard=False,
        log_passrate=False,
        log_reward_category=None,
        load_debug_rollout_data=None,
        save_debug_rollout_data=None,
        debug_rollout_only=False,
        debug_train_only=False,
        use_fault_tolerance=False,
        wandb_always_use_train_step=False,
        loss_mask_type="qwen3",
        use_opd=False,
        normalize_advantages=False,
        tau2_user="scripted",
        tau2_policy_retries=1,
        tau2_max_turn_tokens=64,
        tau2_max_steps=60,
        **HOOKS,
    )
    for key, value in over.items():
        setattr(args, key, value)
    rows = [{"prompt": f"helpdesk/{t}", "metadata": {"domain": "helpdesk", "task_id": t}} for t in VAL_TASKS]
    (work / "tasks.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return args


def fresh(args):
    """What RolloutManager does before the first rollout; undoes what an earlier test left in slime's process-wide
    state.
    """
    from slime.rollout import sglang_rollout
    from slime.utils import http_utils
    from slime.utils.misc import SingletonMeta, load_function

    SingletonMeta._instances.clear()
    sglang_rollout.EVAL_PROMPT_DATASET.clear()
    http_utils._http_client = None
    http_utils.init_http_client(args)
    return load_function(args.data_source_path)(args)


def roll(args, rollout_id, source, evaluation=False):
    """One rollout, as RolloutManager asks for it."""
    from slime.rollout.base_types import call_rollout_fn
    from slime.utils.misc import load_function

    path = args.eval_function_path if evaluation else args.rollout_function_path
    return call_rollout_fn(load_function(path), args, rollout_id, source, evaluation=evaluation)


def manager(args, source):
    """slime's RolloutManager without its Ray actor."""
    rollout = pytest.importorskip("slime.ray.rollout", reason="slime.ray.rollout needs sglang's modules")
    from slime.utils.misc import load_function

    cls = rollout.RolloutManager.__ray_metadata__.modified_class
    made = cls.__new__(cls)
    made.args, made.data_source = args, source
    made.generate_rollout = load_function(args.rollout_function_path)
    made.custom_reward_post_process_func = load_function(args.custom_reward_post_process_path)
    made.custom_convert_samples_to_train_data_func = None
    made.train_parallel_config = {"dp_size": 2, "cp_size": 1, "vpp_size": 1, "microbatch_group_size_per_vp_stage": 1}
    return made


@contextmanager
def ray_cluster():
    """A Ray of this test's own, whose processes find modules where this one does."""
    ray = pytest.importorskip("ray")
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "HF_HUB_OFFLINE": "1"}
    folder = tempfile.mkdtemp(prefix="ray-")  # short: it holds sockets
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
        _temp_dir=folder,
    )
    try:
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def assert_trainable(sample):
    """What slime's conversion and trainer ask of a sample."""
    assert (
        len(sample.loss_mask) == sample.response_length == len(sample.rollout_log_probs)
        and len(sample.tokens) > sample.response_length
    )
    assert isinstance(sample.reward, float)
