import copy
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.errors import ConfigError
from slime_tau2.local.engine import CHUNK, Engine, Request
from slime_tau2.local.sampling import SamplingParams, sample, uniform


def finish(engine):
    done = []
    while engine.waiting or engine.running:
        done += engine.step()
    return done


def request(rid, ids, seed=0, tokens=12, **params):
    params = SamplingParams(max_new_tokens=tokens, sampling_seed=seed, **{"ignore_eos": True} | params)
    return Request(rid=str(rid), input_ids=ids, params=params)


def fresh_log_probs(model, r):
    ids = torch.tensor([r.input_ids + r.output_ids])
    with torch.no_grad():
        log_probs = torch.log_softmax(model(input_ids=ids).logits[0].float() / (r.params.temperature or 1.0), -1)
    at = len(r.input_ids) - 1
    return [log_probs[at + n, t].item() for n, t in enumerate(r.output_ids)]


def assert_exact(model, done):
    for r in done:
        assert r.log_probs == pytest.approx(fresh_log_probs(model, r), abs=1e-4), r.rid


@pytest.fixture
def engine(tiny_model):
    return Engine(tiny_model, eos=3, max_slots=8)


def random_ids(rng, low, high):
    return [rng.randrange(1500) for _ in range(rng.randrange(low, high))]


def test_log_probs_equal_a_fresh_forward_pass(engine, tiny_model):
    """Ragged prompts, more requests than slots, several temperatures, prompts of more than one chunk."""
    rng = random.Random(0)
    requests = [request(n, random_ids(rng, 1, 80), n, temperature=(0.5, 1.0, 0.0)[n % 3]) for n in range(20)]
    requests.append(request("long", random_ids(rng, CHUNK + 100, CHUNK + 200), 99))
    for r in requests:
        engine.admit(r)
    done = finish(engine)
    assert len(done) == 21 and all(len(r.output_ids) == 12 and r.finish == "length" for r in done)
    assert_exact(tiny_model, done)


def test_the_next_turn_computes_only_what_is_new(engine, tiny_model):
    first = request("a", list(range(50)))
    engine.admit(first)
    finish(engine)
    second = request("b", first.input_ids + first.output_ids + [7, 8, 9], 5)
    other = request("c", [*first.input_ids[:30], 1000, 1001], 6)
    engine.admit(second)
    engine.admit(other)
    done = finish(engine)
    assert second.cached_tokens == 50 + 11 and other.cached_tokens == 30
    assert_exact(tiny_model, done)
    engine.flush()
    third = request("d", second.input_ids, 5)
    engine.admit(third)
    finish(engine)
    assert third.cached_tokens == 0 and third.output_ids == second.output_ids


def test_a_prompt_is_read_while_others_are_decoded(engine, tiny_model, monkeypatch):
    """One pass for all, without padding: each slot reads its own next ids, and sees its own tokens alone."""
    rng, read, aim = random.Random(5), [], engine.slots.aim
    monkeypatch.setattr(engine.slots, "aim", lambda reading: (read.append(dict(reading)), aim(reading)))
    engine.admit(request("a", random_ids(rng, 20, 40), tokens=30))
    done = engine.step() + engine.step()
    late = request("late", random_ids(rng, 300, 400), tokens=4)
    engine.admit(late)
    done += finish(engine)
    assert read[1:4] == [{0: 1}, {0: 1, 1: len(late.input_ids)}, {0: 1, 1: 1}]
    assert [r.rid for r in done] == ["late", "a"]
    assert_exact(tiny_model, done)


def test_heads_that_share_keys_and_values(tiny_model):
    """As Qwen3's own do."""
    from transformers import Qwen3ForCausalLM

    config = copy.deepcopy(tiny_model.config)
    config.num_key_value_heads = 1
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    engine, rng = Engine(model, eos=3, max_slots=4), random.Random(6)
    for n in range(6):
        engine.admit(request(n, random_ids(rng, 5, 60), n))
    assert_exact(model, finish(engine))


@pytest.mark.parametrize(
    "name, settings, why",
    [
        (
            "Qwen3ForCausalLM",
            {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0},
            "Qwen3Attention has sliding_window",
        ),
        ("MistralForCausalLM", {"sliding_window": 16}, "MistralAttention has sliding_window"),
        ("GPT2LMHeadModel", {}, "cannot read a GPT2LMHeadModel"),
    ],
)
def test_a_model_that_attends_otherwise_is_refused(name, settings, why):
    """It would sample from another distribution than its own, and say nothing."""
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16}
    sizes |= {"num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
    kind = getattr(transformers, name)
    with pytest.raises(ConfigError, match=f"{why}.*; serve this one with SGLang or vLLM"):
        Engine(kind(kind.config_class(**sizes, **settings)), eos=3, max_slots=2)


def test_a_whole_model_attends_as_ever_after_an_engine_has_taken_it(tiny_model, tiny_model_dir):
    from slime_tau2.local.models import load_model

    Engine(tiny_model, eos=3, max_slots=2)
    ids = torch.arange(24).reshape(2, 12)
    padded = {"input_ids": ids, "attention_mask": torch.tensor([[0] * 3 + [1] * 9, [1] * 12])}
    with torch.no_grad():
        mine, plain = (model(**padded).logits for model in (tiny_model, load_model(tiny_model_dir, "cpu")))
    assert torch.equal(mine[0, 3:], plain[0, 3:]) and torch.equal(mine[1], plain[1])


def test_the_same_tokens_whoever_else_is_in_the_batch(tiny_model):
    """Invariant 7 at the engine: concurrency 1 and 8."""
    rng = random.Random(1)
    prompts = [random_ids(rng, 5, 60) for _ in range(24)]
    alone, together = Engine(tiny_model, 3, max_slots=1), Engine(tiny_model, 3, max_slots=8)
    results = []
    for e in (alone, together):
        for n, ids in enumerate(prompts):
            e.admit(request(n, ids, seed=n))
        results.append({r.rid: r.output_ids for r in finish(e)})
    different = sum(results[0][k] != results[1][k] for k in results[0])
    assert different <= alone.near_ties + together.near_ties


def test_stops(engine):
    probe = request("p", [1, 2, 3], tokens=5)
    engine.admit(probe)
    finish(engine)
    stop = request("s", [1, 2, 3], tokens=5, stop_token_ids=(probe.output_ids[2],))
    engine.admit(stop)
    finish(engine)
    assert stop.finish == "stop" and stop.output_ids == probe.output_ids[:3]


def test_what_does_not_fit_is_refused(engine):
    with pytest.raises(ValueError, match=r"maximum context length of 32768 tokens: 32760 input tokens and 12 new ones"):
        engine.admit(request("x", [1] * 32760))
    with pytest.raises(ValueError, match=r"input_ids must lie in \[0, 1536\)"):
        engine.admit(request("x", [1536]))
    with pytest.raises(ValueError):
        engine.admit(request("x", []))


def test_the_store_grows_for_a_long_request_and_stays_within_budget(tiny_model):
    engine = Engine(tiny_model, 3, max_slots=8, token_budget=8192)
    for n in range(3):
        engine.admit(request(n, [5] * 40, n))
    long = request("long", [9] * 3000, tokens=4)
    engine.admit(long)
    engine.admit(request("after", [5] * 40))
    done = finish(engine)
    assert len(done) == 5 and engine.slots.capacity == 4096 and len(engine.slots) * engine.slots.capacity <= 8192
    assert_exact(tiny_model, [long])


def test_aborting_keeps_what_was_sampled(engine, tiny_model):
    running, other = request("a", [1, 2, 3], tokens=50), request("b", [4, 5], tokens=50)
    engine.admit(running)
    engine.admit(other)
    for _ in range(4):
        engine.step()
    assert engine.abort("a") == [running] and running.finish == "abort" and 0 < len(running.output_ids) < 50
    assert_exact(tiny_model, [running])
    assert engine.abort() == [other] and not engine.running and finish(engine) == []


@given(st.integers(0, 2**31), st.integers(0, 10_000))
def test_draws_are_numbers_in_the_unit_interval(seed, position):
    assert 0.0 <= uniform(seed, position) < 1.0 and uniform(seed, position) == uniform(seed, position)


def test_draws_are_uniform():
    values = [uniform(s, p) for s in range(200) for p in range(50)]
    assert abs(sum(values) / len(values) - 0.5) < 0.01
    assert all(850 < sum(a / 10 <= v < (a + 1) / 10 for v in values) < 1150 for a in range(10))


def test_sampling_follows_the_distribution_and_its_restrictions():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, 1)
    draws = [uniform(7, n) for n in range(4000)]
    ids, log_probs, _ = sample(logits, [SamplingParams()] * 4000, draws)
    assert [ids.count(n) / 4000 for n in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.025)
    assert log_probs[ids.index(1)] == pytest.approx(-1.204, abs=1e-3)
    assert set(sample(logits, [SamplingParams(top_k=2)] * 4000, draws)[0]) == {0, 1}
    assert set(sample(logits, [SamplingParams(top_p=0.7)] * 4000, draws)[0]) == {0, 1}
    greedy, log_probs, ties = sample(logits[:3], [SamplingParams(temperature=0.0)] * 3, draws[:3])
    assert greedy == [0, 0, 0] and ties == 0 and log_probs[0] == pytest.approx(-0.693, abs=1e-3)
    sharp, _, _ = sample(logits, [SamplingParams(temperature=0.25)] * 4000, draws)
    assert sharp.count(0) / 4000 == pytest.approx(0.5**4 / (0.5**4 + 0.3**4 + 0.15**4 + 0.05**4), abs=0.025)


def test_near_ties_are_counted():
    logits = torch.log(torch.tensor([[0.5, 0.5]]))
    assert (
        sample(logits, [SamplingParams()], [0.5 - 1e-7])[2] == 1 and sample(logits, [SamplingParams()], [0.25])[2] == 0
    )
