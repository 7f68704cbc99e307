"""vLLM as an exact policy: the same ledger as SGLang's, over its own protocol."""

import json

import pytest
import tokenizers_that_differ as differ
from aiohttp import web
from fake_policy import FakePolicy, cut_in_three, teacher_reply
from fake_vllm import MODEL, FakeVLLM
from serving import Serving

from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import usage
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.vllm import VLLMClient
from slime_tau2.errors import ConfigError, PolicyAborted, PolicyError
from slime_tau2.evaluation import audit, identity, vigil
from slime_tau2.limits import Retries
from slime_tau2.terminations import Termination
from slime_tau2.tokenizer import load_tokenizer


async def ask(tokenizer, reply, params=None, retries=0, more=None, ids=b"[1,2]", **options):
    async with FakeVLLM(tokenizer, reply, **options) as fake:
        client = VLLMClient(fake.url, MODEL, retries=Retries(count=retries, backoff_s=0.01, timeout_s=5.0))
        try:
            return await client.generate(ids, params or {}, "key", more), fake
        finally:
            await client.close()


async def test_ids_and_log_probs_come_back_as_sampled(tokenizer):
    params = {
        "temperature": 0.7,
        "top_k": 20,
        "max_new_tokens": 9,
        "sampling_seed": 3,
        "stop_token_ids": [7],
        "skip_special_tokens": False,
    }
    out, fake = await ask(tokenizer, lambda p, n: "Which order?", params)
    assert (
        tokenizer.decode(out.ids) == "Which order?<|im_end|>"
        and out.log_probs == [-0.25] * len(out.ids)
        and out.finish_reason == "stop"
    )
    assert (
        out.meta["prompt_tokens"] == 2
        and out.meta["cached_tokens"] == 1
        and out.meta["completion_tokens"] == len(out.ids)
    )
    assert fake.requests == [
        {
            "model": MODEL,
            "prompt": [1, 2],
            "logprobs": 0,
            "return_token_ids": True,
            "temperature": 0.7,
            "top_k": 20,
            "max_tokens": 9,
            "seed": 3,
            "stop_token_ids": [7],
            "top_p": 1.0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
    ]


async def test_what_the_model_s_generation_config_would_change_is_sent(tokenizer):
    """vLLM takes what a request leaves out from there: a top-k of 20 for Qwen3, without a word."""
    _, fake = await ask(tokenizer, lambda p, n: "ok")
    assert {k: fake.requests[0][k] for k in ("temperature", "top_p", "top_k", "repetition_penalty")} == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": -1,
        "repetition_penalty": 1.0,
    }


@pytest.mark.parametrize(
    "params, more, why",
    [
        ({"tempratur": 1.0}, None, "sampling parameter tempratur is none that vLLM is asked for"),
        ({"stop": ["x"]}, None, "sampling parameter stop is none"),
        ({}, {"return_routed_experts": True}, "vLLM's /v1/completions has no return_routed_experts"),
    ],
)
async def test_what_vllm_would_ignore_is_refused(tokenizer, params, more, why):
    with pytest.raises(ConfigError, match=why):
        await ask(tokenizer, lambda p, n: "ok", params, more=more)


async def test_an_abort_carries_what_was_sampled(tokenizer):
    with pytest.raises(PolicyAborted) as caught:
        await ask(tokenizer, lambda p, n: ("Which", "abort"))
    assert tokenizer.decode(caught.value.token_ids) == "Which" and len(caught.value.log_probs) == len(
        caught.value.token_ids
    )


async def test_a_server_without_token_ids_is_named_at_once(tokenizer):
    with pytest.raises(
        PolicyError, match=r"/v1/completions: it answers without token ids: exact tokens need vLLM 0\.10\.2"
    ) as caught:
        await ask(tokenizer, lambda p, n: "ok", retries=3, returns_ids=False)
    assert "SGLang server: give its URL without /v1" in str(caught.value)


def said(**changes):
    choice = {
        "text": "x",
        "finish_reason": "stop",
        "token_ids": [5, 6],
        "logprobs": {"token_logprobs": [-1.0, -2.0]},
        **changes,
    }
    return lambda p, n: web.json_response({"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 2}})


@pytest.mark.parametrize(
    "reply, why",
    [
        (said(prompt_token_ids=[0, 1, 2]), "it read another prompt than it was sent: 3 tokens, and 2 were sent"),
        (
            said(logprobs={"token_logprobs": [-1.0, 8.5]}),
            "logits where log-probs are asked for: start vLLM without --logprobs-mode",
        ),
        (said(logprobs={"token_logprobs": [-1.0]}), "2 token ids with 1 log-probs"),
        (said(logprobs={"token_logprobs": [-1.0, None]}), "failed 1 times"),
        (said(token_ids=[], logprobs={"token_logprobs": []}), "an answer without tokens"),
        (said(finish_reason="repetition"), "finish_reason 'repetition'"),
    ],
)
async def test_answers_that_cannot_be_exact_are_not_used(tokenizer, reply, why):
    with pytest.raises(PolicyError, match=why):
        await ask(tokenizer, reply)


async def test_a_wrong_model_is_named_with_those_that_are_served(tokenizer):
    async with FakeVLLM(tokenizer, lambda p, n: "ok") as fake:
        client = VLLMClient(fake.url, "tny")
        with pytest.raises(ConfigError, match=f"does not serve tny; it serves {MODEL}: name one of them with --model"):
            await vigil.before({"policy": client})
        await client.close()


async def test_its_key_goes_to_it(tokenizer, monkeypatch):
    monkeypatch.setenv("POLICY_KEY", "planted")
    seen = []

    class Keyed(FakeVLLM):
        def reply_to(self, request):
            seen.append(request.headers["Authorization"])
            return self.reply

    async with Keyed(tokenizer, lambda p, n: "ok") as fake:
        client = VLLMClient(fake.url, MODEL, key_env="POLICY_KEY")
        await client.generate(b"[3]", {})
        await client.close()
    assert seen == ["Bearer planted"]


@pytest.mark.parametrize("reply", [teacher_reply, cut_in_three])
async def test_an_episode_has_the_ledger_that_it_has_on_sglang(helpdesk, tokenizer, reply):
    async def episode(fake, client):
        async with fake:
            policy = client(fake.url)
            box = Harness(Tau2Config(user="scripted"), tokenizer, policy)
            agent = box.agent(helpdesk, sampling={"temperature": 1.0}, seed=7, routing_key="key")
            done = await box.run(helpdesk, "orders_0", agent, seed=7)
            mismatch = audit.is_mismatch(done, box.chat("helpdesk"), box.system_prompt(helpdesk), box.protocol)
            await box.close()
        return done, mismatch

    theirs, _ = await episode(FakePolicy(tokenizer, reply()), PolicyClient)
    ours, mismatch = await episode(FakeVLLM(tokenizer, reply()), lambda url: VLLMClient(url, MODEL))
    assert ours.termination is Termination.USER_STOP and not mismatch
    for name in ("tokens", "loss_mask", "log_probs", "prompt_length"):
        assert getattr(ours.segments[0], name) == getattr(theirs.segments[0], name), name
    assert ours.segments[0].sampled > 10 and ours.reward == theirs.reward == 1.0
    assert ours.usage["policy"] == theirs.usage["policy"] and ours.usage["policy"]["unreported"] == 0


async def test_its_tokens_are_counted(tokenizer):
    with usage.collecting() as spent:
        out, _ = await ask(tokenizer, lambda p, n: "ok")
    assert spent.tokens["policy"] == {
        "requests": 1,
        "unreported": 0,
        "prompt": 2,
        "cached": 1,
        "completion": len(out.ids),
    }


async def test_who_it_is(tokenizer, tmp_path):
    async with FakeVLLM(tokenizer, lambda p, n: "The letters of the alphabet", context=4096) as fake:
        client = VLLMClient(fake.url, MODEL)
        told = await identity.check(client, tokenizer, 4096)
        assert told == {
            "server": "vLLM 0.32.0",
            "model_path": "/models/tiny",
            "weight_version": None,
            "context_length": 4096,
            "tokenizer_sha256": identity.tokenizer_sha256(tokenizer),
        }
        with pytest.raises(
            ConfigError, match=r"takes 4096 tokens of context, and max_context_tokens is 32768: .*vLLM: --max-model-len"
        ):
            await identity.check(client, tokenizer, 32_768)
        with pytest.raises(ConfigError, match=r"the vocabulary at .* is not the server's"):
            await identity.check(client, load_tokenizer(differ.permuted(tmp_path / "p")), 4096)
        with pytest.raises(ConfigError, match=r"the chat template at .* is not the server's"):
            await identity.check(client, load_tokenizer(differ.another_template(tmp_path / "t")), 4096)
        await client.close()


@pytest.mark.parametrize(
    "kind, named, server", [(FakePolicy, [], "SGLang fake"), (FakeVLLM, ["--model", MODEL], "vLLM 0.32.0")]
)
def test_an_evaluation_by_tokens(cli, tmp_path, tokenizer, kind, named, server):
    with Serving(kind(tokenizer, teacher_reply())) as fake:
        command = ["eval", "--policy", fake.url, "--tokenizer", TOKENIZER, *named, "--task", "orders_0"]
        code, out, err = cli(*command, "--output", tmp_path / "run")
        again, _, _ = cli(*command, "--output", tmp_path / "run")
    assert code == 0 == again, err
    assert "token mismatches: 0 in 1 episodes" in out
    (record,) = map(json.loads, (tmp_path / "run/attempts.jsonl").read_text().splitlines())
    assert record["reward"] == 1.0 and record["turn_tokens"] and record["usage"]["policy"]["prompt"] > 100
    settings = json.loads((tmp_path / "run/plan.json").read_text())["settings"]
    assert settings["policy_server"]["server"] == server and settings.get("model") == (named[1] if named else None)
