"""A user simulator that is gone, seen from slime: every sample of a rollout comes back soon, masked, and says which
server it was.
"""

import asyncio
from argparse import Namespace

import pytest
from fake_policy import FakePolicy, teacher_reply

from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import endpoint
from slime_tau2.hooks import generate
from slime_tau2.hooks.compat import GenerateState, Sample

GONE = "http://127.0.0.1:9/v1"


class Hangs(asyncio.Protocol):
    """Accepts a connection and never says a word."""


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_a_whole_rollout_ends_as_user_failure(how, tokenizer, monkeypatch):
    monkeypatch.setattr(endpoint, "MAX_PAUSE_S", 0.0)
    server, url = None, GONE
    if how == "hangs":
        server = await asyncio.get_running_loop().create_server(Hangs, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with FakePolicy(tokenizer, teacher_reply()) as fake:
        host, port = fake.url.removeprefix("http://").split(":")
        args = Namespace(
            hf_checkpoint=str(TOKENIZER),
            sglang_router_ip=host,
            sglang_router_port=int(port),
            sglang_server_concurrency=8,
            rollout_temperature=1.0,
            rollout_top_p=1.0,
            rollout_top_k=-1,
            rollout_max_response_len=600,
            n_samples_per_prompt=1,
            tau2_user="llm",
            tau2_user_base_url=url,
            tau2_user_model="m",
            tau2_user_timeout_s=0.2,
            tau2_user_retries=3,
        )
        samples = [
            Sample(group_index=n, index=n, prompt="orders_3", metadata={"domain": "helpdesk", "task_id": "orders_3"})
            for n in range(48)
        ]
        state = GenerateState(args)
        await asyncio.gather(*(generate.generate(args, s, state.sampling_params) for s in samples))
        faults = generate.take_faults()
        await generate.harness(args).close()
    if server is not None:
        server.close()
    told = [s.metadata["tau2"] for s in samples]
    assert {t["termination"] for t in told} == {"user_failure"} and all(
        f"{url}/chat/completions" in t["detail"] for t in told
    )
    assert all(
        s.status is Sample.Status.ABORTED and s.remove_sample and s.reward == 0.0 and s.loss_mask == [0]
        for s in samples
    )
    assert all(key.startswith("user/") for key in faults), faults
    assert sum(faults.values()) <= 48 + 16, "not 48 × 2 × 4 time-outs, one after the other"
