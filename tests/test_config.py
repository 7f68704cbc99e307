import inspect
from argparse import Namespace

import pytest

from slime_tau2.config import Tau2Config, from_environment
from slime_tau2.episode import driver, openai_chat, policy, vllm
from slime_tau2.errors import ConfigError
from slime_tau2.limits import CHAT_RETRIES, Limits, Retries
from slime_tau2.options import parse_assignments


def test_unknown_keys_name_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"unknown key tau2_shapping; did you mean tau2_shaping\?"):
        Tau2Config.from_args(Namespace(tau2_shapping="none", hf_checkpoint="x"))


def test_bad_values_name_key_and_value():
    with pytest.raises(ConfigError, match=r"tau2_max_steps = 0: "):
        Tau2Config.from_args(Namespace(tau2_max_steps=0))
    with pytest.raises(ConfigError, match=r"tau2_shaping = 'lots'"):
        Tau2Config.from_args(Namespace(tau2_shaping="lots"))


def test_args_without_options_give_defaults():
    assert Tau2Config.from_args(None) == Tau2Config()
    assert Tau2Config.from_args(Namespace(rollout_seed=1)).max_steps == 200


def test_what_is_played_without_a_configuration_has_the_configurations_limits():
    """An episode that a library caller runs, and a client that it makes, end when those of a configuration do."""
    config = Tau2Config()
    assert config.limits == Limits() and config.policy_client_retries == Retries()
    assert config.user_client_retries == config.judge_client_retries == CHAT_RETRIES
    for client in (openai_chat.ChatClient.__init__, vllm.VLLMClient.__init__, policy.PolicyClient.__init__):
        default = inspect.signature(client).parameters["retries"].default
        assert default == (CHAT_RETRIES if client is openai_chat.ChatClient.__init__ else Retries())
    assert inspect.signature(driver.run_episode).parameters["limits"].default == config.limits


def test_environment_comes_before_arguments(monkeypatch):
    monkeypatch.setenv("TAU2_ALPHA", "0.5")
    monkeypatch.setenv("TAU2_DOMAINS", "retail,airline")
    monkeypatch.setenv("TAU2_DATA_DIR", "/elsewhere")  # tau2's own, none of ours
    assert from_environment() == {"alpha": "0.5", "domains": ["retail", "airline"]}
    config = Tau2Config.from_args(Namespace(tau2_alpha=0.1))
    assert config.alpha == 0.1 and config.domains == ("retail", "airline")


def test_every_option_is_documented_and_printed():
    for name, field in Tau2Config.model_fields.items():
        assert field.description, name
        assert f"tau2_{name} = " in Tau2Config().resolved()


def test_no_option_can_hold_a_secret():
    assert not [n for n in Tau2Config.model_fields if "key" in n and not n.endswith("_key_env")]


@pytest.mark.parametrize("name", [n for n in Tau2Config.model_fields if n.endswith("_key_env")])
def test_a_key_in_place_of_its_variables_name_is_refused_and_not_repeated(name):
    assert getattr(Tau2Config.from_mapping({name: "MY_KEY2"}, "here"), name) == "MY_KEY2"
    for bad in ("sk-abcdef", "2abcdef", "abcdef\n", "", 1234567):
        with pytest.raises(ConfigError, match=f"here: tau2_{name}: ") as caught:
            Tau2Config.from_mapping({name: bad}, "here")
        shown = str(caught.value) + str(caught.value.__cause__)
        assert "abcdef" not in shown and "1234567" not in shown
    with pytest.raises(ConfigError, match="name the environment variable that holds the key, never the key itself"):
        Tau2Config.from_mapping({name: "sk-abcdef"}, "here")


def test_on_and_off_are_words_though_yaml_takes_them_for_booleans():
    given = parse_assignments(["thinking=on", "user_thinking=off"], Tau2Config.model_fields, "--set")
    config = Tau2Config.from_mapping(given, "--set")
    assert (config.thinking, config.user_thinking) == ("on", "off")
    with pytest.raises(ConfigError, match="tau2_thinking = 1: "):
        Tau2Config.from_mapping({"thinking": 1}, "--set")


@pytest.mark.parametrize("none", [[], (), [""]])
def test_a_run_without_a_domain_is_refused(none):
    with pytest.raises(ConfigError, match=r"tau2_domains = .*: name at least one domain"):
        Tau2Config.from_mapping({"domains": none}, "here")


def test_assignments_are_yaml_and_checked():
    assert parse_assignments(["seed=3", "curriculum=true"], Tau2Config.model_fields, "--set") == {
        "seed": 3,
        "curriculum": True,
    }
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_assignments(["seed"], Tau2Config.model_fields, "--set")
    with pytest.raises(ConfigError, match=r"unknown key sead; did you mean seed\?"):
        parse_assignments(["sead=3"], Tau2Config.model_fields, "--set")


def test_the_last_source_wins_and_an_error_names_its_own(monkeypatch):
    sources = (("a file", {"max_steps": 5, "alpha": 0.5}), ("the line", {"max_steps": 7}))
    config = Tau2Config.resolve(*sources)
    assert (config.max_steps, config.alpha) == (7, 0.5)
    with pytest.raises(ConfigError, match=r"^a file: tau2_alpha = -1: "):
        Tau2Config.resolve(("a file", {"alpha": -1}), ("the line", {"max_steps": 7}))
    with pytest.raises(ConfigError, match=r"^the line: unknown key tau2_alpah; did you mean tau2_alpha"):
        Tau2Config.resolve(("a file", {}), ("the line", {"alpah": 1}))
    monkeypatch.setenv("TAU2_MAX_STEPS", "none")
    with pytest.raises(ConfigError, match=r"^TAU2_\* in the environment: tau2_max_steps = 'none': "):
        Tau2Config.from_args(Namespace(tau2_alpha=0.5))
