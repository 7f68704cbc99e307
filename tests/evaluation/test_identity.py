"""A tokenizer that is not the server's is named before the first attempt; without that the run ends with a score of 0
and no mismatch.
"""

import json
import urllib.request

import pytest
import tokenizers_that_differ as differ
from aiohttp import web
from fake_policy import FakePolicy

from slime_tau2.episode.policy import PolicyClient, Sample
from slime_tau2.errors import ConfigError, ServerUnavailable
from slime_tau2.evaluation import identity
from slime_tau2.local.process import free_port
from slime_tau2.tokenizer import load_tokenizer


async def checked(url, tokenizer, context=32_768):
    client = PolicyClient(url)
    try:
        return await identity.check(client, tokenizer, context)
    finally:
        await client.close()


async def refusal(url, tokenizer, context=32_768):
    with pytest.raises(ConfigError) as caught:
        await checked(url, tokenizer, context)
    return str(caught.value)


async def test_a_server_that_is_away_is_no_error_of_the_configuration(tokenizer):
    with pytest.raises(ServerUnavailable, match="cannot say whether the tokenizer at"):
        await checked(f"http://127.0.0.1:{free_port()}", tokenizer)


async def test_the_right_tokenizer(server, tokenizer, tiny_model_dir):
    told = await checked(server.url, tokenizer)
    assert told == {
        "server": "SGLang slime_tau2.local",
        "model_path": str(tiny_model_dir),
        "weight_version": told["weight_version"],
        "context_length": 32_768,
        "tokenizer_sha256": identity.tokenizer_sha256(tokenizer),
    }


async def test_a_permuted_vocabulary(server, tmp_path, tiny_model_dir):
    said = await refusal(server.url, load_tokenizer(differ.permuted(tmp_path / "t")))
    assert (
        said.startswith(f"policy {server.url}: the vocabulary at {tmp_path}/t is not the server's: ")
        and "\n" not in said
    )
    assert said.endswith(f"name the tokenizer of the model that is served with --tokenizer ({tiny_model_dir})")


async def test_another_template(server, tmp_path):
    said = await refusal(server.url, load_tokenizer(differ.another_template(tmp_path / "t")))
    assert (
        f"the chat template at {tmp_path}/t is not the server's: two messages are" in said
        and "'<think>\\n' here" in said
    )


async def test_too_short_a_context(server, tokenizer):
    said = await refusal(server.url, tokenizer, 40_000)
    assert (
        "takes 32768 tokens of context, and max_context_tokens is 40000: start it with more (SGLang: --context-length"
        in said
    )
    assert "--set max_context_tokens=32768" in said


async def test_everything_that_is_wrong_has_its_line(server, tmp_path):
    said = await refusal(server.url, load_tokenizer(differ.another_template(tmp_path / "t")), 40_000)
    assert ["chat template" in line for line in said.split("\n")] == [True, False]


def test_an_evaluation_with_another_vocabulary_ends_before_its_first_attempt(cli, server, tmp_path):
    path = differ.permuted(tmp_path / "t")
    code, _, err = cli(
        "eval", "--policy", server.url, "--tokenizer", path, "--task", "orders_0", "--output", tmp_path / "run"
    )
    assert (
        code == 2
        and "the vocabulary at" in err
        and err.count("\n") == 1
        and not (tmp_path / "run/attempts.jsonl").exists()
    )


class Mute(FakePolicy):
    """A server that tells neither ids nor templates: what an old one says of a text, and its own text of what it
    sampled.
    """

    def __init__(self, tokenizer, **options):
        super().__init__(tokenizer, lambda p, n: "The letters of the alphabet", **options)

    async def _tokenize(self, request):
        return web.Response(status=404)


@pytest.mark.parametrize("seed", range(4))
async def test_a_permuted_vocabulary_on_a_server_that_only_writes(tokenizer, tmp_path, seed):
    async with Mute(tokenizer) as server:
        assert (await checked(server.url, tokenizer))["weight_version"] == "3"
        said = await refusal(server.url, load_tokenizer(differ.permuted(tmp_path / "t", seed)))
    assert "it sampled 'The letters of the alphabet', and here the same ids are" in said


async def test_a_longer_vocabulary_on_a_server_that_only_counts(tokenizer, tmp_path):
    async with Mute(tokenizer) as server:
        said = await refusal(server.url, load_tokenizer(differ.extended(tmp_path / "t")))
    assert "it reads the same text as" in said


async def test_ids_behind_the_end_of_ours(tokenizer, qwen_tokenizer, monkeypatch):
    """A server of a larger vocabulary that reads what it is asked as we do."""
    async with FakePolicy(tokenizer, lambda p, n: "no") as server:
        client = PolicyClient(server.url)

        async def more(prompt, tokens):
            return Sample([len(tokenizer), 5], "?", None)

        monkeypatch.setattr(client, "sample", more)
        with pytest.raises(
            ConfigError, match=rf"it sampled the ids \[{len(tokenizer)}\], and here they end at {len(tokenizer) - 1}"
        ):
            await identity.check(client, tokenizer, 1)
        await client.close()


@pytest.mark.parametrize("cut", range(3))
def test_half_a_character_at_the_end_is_no_difference(qwen_tokenizer, cut):
    """A byte-level vocabulary: an emoji is four tokens, of which some were sampled; shown as U+FFFD, or withheld."""
    ids = qwen_tokenizer.encode("ok 🙂", add_special_tokens=False)
    ids = ids[: len(ids) - cut]
    shown = qwen_tokenizer.decode(ids)
    assert not identity._another_text(Sample(ids, shown, None), qwen_tokenizer)
    assert not identity._another_text(Sample(ids, "ok ", None), qwen_tokenizer) or not cut
    assert not identity._another_text(Sample([*ids, qwen_tokenizer.eos_token_id], shown, None), qwen_tokenizer)
    assert identity._another_text(Sample(ids, "no ", None), qwen_tokenizer)


def test_the_hash_is_of_the_content(tokenizer, tmp_path):
    same, template, vocabulary = (
        load_tokenizer(path)
        for path in (
            differ._written(tmp_path / "same", lambda core: None),
            differ.another_template(tmp_path / "a"),
            differ.permuted(tmp_path / "b"),
        )
    )
    hashes = [identity.tokenizer_sha256(t) for t in (tokenizer, same, template, vocabulary)]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


def test_the_local_server_tells_what_is_asked(server, tokenizer):
    def ask(body):
        request = urllib.request.Request(
            f"{server.url}/tokenize", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.loads(urllib.request.urlopen(request, timeout=30).read())

    assert ask({"prompt": "hello<|im_end|>"})["tokens"] == tokenizer.encode("hello<|im_end|>", add_special_tokens=False)
    text = tokenizer.apply_chat_template(identity.MESSAGES, tokenize=False, add_generation_prompt=True)
    told = ask({"messages": identity.MESSAGES})
    assert told["tokens"] == tokenizer.encode(text, add_special_tokens=False) and told["max_model_len"] == 32_768
    assert server.info()["context_length"] == 32_768
