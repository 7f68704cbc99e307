"""LiteLLM's names are refused where they cannot be a model's, and names with a slash are left alone where they can."""

import pytest

from slime_tau2.config import Tau2Config
from slime_tau2.episode import model_names
from slime_tau2.episode.harness import Harness
from slime_tau2.errors import ConfigError
from slime_tau2.hosts import Access, Host

OPENAI, OURS, GATEWAY = "https://api.openai.com/v1", "http://127.0.0.1:30001/v1", "https://openrouter.ai/api/v1"


@pytest.mark.parametrize(
    "model, url, fix",
    [
        ("openai/gpt-4.1", OPENAI, "gpt-4.1 at https://api.openai.com/v1"),
        ("openai/gpt-4.1", OURS, "gpt-4.1 at https://api.openai.com/v1"),
        ("openai/o3", OURS, "o3 at https://api.openai.com/v1"),
        ("azure/mine", OPENAI, r"mine \(the deployment\) at https://RESOURCE.openai.azure.com/openai/v1"),
        ("azure/mine", "https://me.openai.azure.com/openai/v1", "mine .the deployment."),
        ("azure/mine", OURS, "mine .the deployment."),
        (
            "bedrock/anthropic.claude-3",
            OURS,
            r"its own name at an OpenAI-compatible gateway to bedrock.*hosts=\{HOST: \{\}\}",
        ),
        ("anthropic/claude-sonnet-4", OURS, "claude-sonnet-4 at https://api.anthropic.com/v1"),
        ("gemini/gemini-2.5-pro", OPENAI, "gemini-2.5-pro at https://generativelanguage.googleapis.com/v1beta/openai"),
        ("hosted_vllm/Qwen/Qwen3-4B", OURS, "Qwen/Qwen3-4B at that server's own"),
    ],
)
def test_litellms_names_are_refused_with_the_way_to_say_it_here(model, url, fix):
    with pytest.raises(ConfigError, match=rf"^{model} is LiteLLM's way to name a model; .*URL: {fix}"):
        model_names.check(model, url, Access())


@pytest.mark.parametrize(
    "model, url",
    [
        ("gpt-4.1", OPENAI),
        ("ft:gpt-4o:me::1", OPENAI),
        ("Qwen/Qwen3-4B", OURS),
        ("openai/gpt-oss-20b", OURS),
        ("outputs/grpo/hf", OURS),
        ("/models/bedrock/x", OURS),
        ("openai/gpt-4.1", GATEWAY),
        ("anthropic/claude-sonnet-4", GATEWAY),
        ("bedrock/x", "https://llm.firm.example/v1"),
    ],
)
def test_other_names_are_left_alone(model, url):
    model_names.check(model, url, Access())


def test_a_gateway_of_ones_own_is_named():
    model_names.check("bedrock/x", OURS, Access({"127.0.0.1": Host()}))
    with pytest.raises(ConfigError):
        model_names.check("openai/gpt-4.1", OPENAI, Access({"api.openai.com": Host()}))


@pytest.mark.parametrize(
    "options", [{"user_model": "azure/x"}, {"eval_user_model": "azure/x"}, {"judge_model": "azure/x"}]
)
def test_each_roles_option_is_looked_at(options):
    with pytest.raises(ConfigError, match="azure/x is LiteLLM's way"):
        box = Harness(Tau2Config(user="llm", user_base_url=OURS, **options))
        box.check()
        assert box.judge
