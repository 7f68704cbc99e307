import math

import pytest
from aiohttp import web
from fake_policy import FakePolicy
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.episode.policy import MAX_LOG_PROB, PolicyClient, _generation
from slime_tau2.errors import PolicyAborted, PolicyError
from slime_tau2.limits import Retries


async def ask(tokenizer, reply, retries=3, **options):
    async with FakePolicy(tokenizer, reply, **options) as fake:
        client = PolicyClient(fake.url, retries=Retries(count=retries, backoff_s=0.01, timeout_s=0.3))
        try:
            return await client.generate(b"[1,2]", {"temperature": 1.0}, "key"), fake
        finally:
            await client.close()


async def test_ids_and_log_probs_come_back_as_sampled(tokenizer):
    out, fake = await ask(tokenizer, lambda p, n: "Which order?")
    assert tokenizer.decode(out.ids) == "Which order?<|im_end|>" and out.log_probs == [-0.25] * len(out.ids)
    assert fake.requests == [{"input_ids": [1, 2], "sampling_params": {"temperature": 1.0}, "return_logprob": True}]


async def test_transient_trouble_is_retried(tokenizer):
    out, fake = await ask(tokenizer, lambda p, n: web.Response(status=503) if n < 2 else "ok")
    assert tokenizer.decode(out.ids).startswith("ok") and len(fake.requests) == 3


async def test_a_refusal_is_not_retried_and_says_why(tokenizer):
    with pytest.raises(PolicyError, match="refused: HTTP 400 context is full"):
        await ask(tokenizer, lambda p, n: web.Response(status=400, text="context is full"))


async def test_a_hanging_server_is_given_up(tokenizer):
    with pytest.raises(PolicyError, match="failed 2 times, the last time with: no answer within"):
        await ask(tokenizer, lambda p, n: "late", retries=1, delay=2.0)


async def test_an_absent_server_is_named():
    client = PolicyClient("http://127.0.0.1:9", retries=Retries(count=0))
    with pytest.raises(PolicyError, match=r"http://127.0.0.1:9/generate failed 1 times"):
        await client.generate(b"[1]", {})
    await client.close()


async def test_an_abort_carries_what_was_sampled(tokenizer):
    with pytest.raises(PolicyAborted) as caught:
        await ask(tokenizer, lambda p, n: ("Which", "abort"))
    assert tokenizer.decode(caught.value.token_ids) == "Which" and len(caught.value.log_probs) == len(
        caught.value.token_ids
    )


async def test_an_answer_that_contradicts_itself_is_not_used(tokenizer):
    bad = {
        "output_ids": [1, 2],
        "meta_info": {"finish_reason": {"type": "stop"}, "output_token_logprobs": [[-1.0, 1, None]]},
    }
    with pytest.raises(PolicyError, match="disagree"):
        await ask(tokenizer, lambda p, n: web.json_response(bad), retries=0)


async def test_a_named_key_goes_with_every_request_and_is_missed_by_name(tokenizer, monkeypatch):
    """SGLang's --api-key: the episode's requests, the probe, and what is asked about the server."""
    monkeypatch.setenv("MY_KEY", "planted")
    keys = []

    @web.middleware
    async def guarded(request, handler):
        keys.append(request.headers.get("Authorization"))
        return await handler(request) if keys[-1] == "Bearer planted" else web.Response(status=401)

    fake = FakePolicy(tokenizer, lambda p, n: "ok")
    fake.app.middlewares.append(guarded)
    async with fake:
        client, keyless = PolicyClient(fake.url, key_env="MY_KEY"), PolicyClient(fake.url)
        await client.generate(b"[1,2]", {"temperature": 1.0})
        await client.probe()
        assert (await client.about())["model_path"] == "fake" and await client.read("a") is not None
        assert set(keys) == {"Bearer planted"} and len(keys) >= 5
        with pytest.raises(
            PolicyError, match=r"no key is sent there: name the variable that holds it with .*policy_key_env"
        ):
            await keyless.generate(b"[1,2]", {})
        await client.close()
        await keyless.close()


numbers = st.one_of(st.floats(-9.0, 0.0), st.floats(), st.integers(-9, 1), st.just(5e-4), st.just(-1e308), st.none())
tokens = st.one_of(st.integers(0, 99), st.integers(-2, 2), st.sampled_from([2**31 - 1, 2**31]), st.none(), st.just(3.0))


@given(st.lists(st.tuples(numbers, tokens), min_size=1, max_size=6))
def test_an_answer_is_taken_or_refused_as_a_look_at_each_token_would(pairs):
    """The first thing wrong with it is what is said of it."""

    def seen():
        ids, log_probs = [int(token) for _, token in pairs], [float(number) for number, _ in pairs]
        for log_prob in log_probs:
            if not math.isfinite(log_prob) or log_prob > MAX_LOG_PROB:
                raise ValueError(f"{log_prob!r}, which is no log-prob, in its answer")
        for token in ids:
            if not 0 <= token < 2**31:
                raise ValueError(f"{token}, which is no token id, in its answer")
        return ids, log_probs

    info = {"finish_reason": {"type": "stop"}, "output_token_logprobs": [[n, t, None] for n, t in pairs]}
    try:
        ids, log_probs = seen()
    except (ValueError, TypeError) as error:
        with pytest.raises(type(error)) as raised:
            _generation({"meta_info": info})
        assert str(raised.value) == str(error)
    else:
        made = _generation({"meta_info": info})
        assert (made.ids, list(map(repr, made.log_probs))) == (ids, list(map(repr, log_probs)))
