"""slime's own dumps, as its `--save-debug-rollout-data` and `--save-debug-train-data` write them: read without running
anything.
"""

import os
import pickle

import numpy
import pytest
import torch

from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.dumps.arrays import unpack_floats, unpack_ids
from slime_tau2.errors import ConfigError
from slime_tau2.rollouts.found import find
from slime_tau2.rollouts.reader import Reader

MASK = [1, 1, 0, 1]


def sample(index, reward, **over):
    """As `Sample.to_dict()`."""
    info = {"termination": "user_stop", "partial": reward, "components": {}, "turns": 2, "turn_gains": [0.5, 0.5]}
    return {
        "group_index": index // 2,
        "index": index,
        "prompt": "helpdesk/orders_3",
        "tokens": [40, 41, 42, *(50 + index + n for n in range(4))],
        "response": "said",
        "response_length": 4,
        "reward": reward,
        "loss_mask": MASK,
        "rollout_log_probs": [-0.5, -0.25, 0.0, -1.0],
        "remove_sample": False,
        "status": "completed",
        "metadata": {"domain": "helpdesk", "task_id": "orders_3", "tau2": info},
        "spec_info": {"spec_verify_ct": 0},
        "prefix_cache_info": {"cached_tokens": 0, "total_prompt_tokens": 0},
        "a_field_of_tomorrow": None,
        **over,
    }


@pytest.fixture
def details(tmp_path):
    """A folder as `--dump-details` fills it."""
    samples = [sample(n, float(n % 2)) for n in range(4)]
    for folder in ("rollout_data", "train_data"):
        (tmp_path / folder).mkdir()
    torch.save({"rollout_id": 7, "samples": samples}, tmp_path / "rollout_data" / "7.pt")
    torch.save({"rollout_id": 7, "samples": samples}, tmp_path / "rollout_data" / "eval_7.pt")
    return tmp_path


def trained(*indices, log_probs=None):
    """Columns of a trainer's batch."""
    columns = {
        "sample_indices": list(indices),
        "tokens": [torch.tensor(sample(n, 0.0)["tokens"]) for n in indices],
        "loss_masks": [torch.tensor(MASK) for _ in indices],
        "advantages": [torch.full((4,), 0.25) for _ in indices],
    }
    return columns | ({} if log_probs is None else {"log_probs": [torch.tensor(log_probs) for _ in indices]})


def test_the_samples_that_trained(details):
    found = find(details, TOKENIZER)
    assert found.written() == [7]
    part = found.rollout(7)
    assert [(g["group"], g["domain"], g["task"], g["fate"]) for g in part["groups"]] == [
        (0, "helpdesk", "orders_3", "trained"),
        (1, "helpdesk", "orders_3", "trained"),
    ]
    rows = [s for g in part["groups"] for s in g["samples"]]
    assert [(s["sample"], s["reward"], s["training_reward"], s["advantage"]) for s in rows[:2]] == [
        (0, 0.0, None, None),
        (1, 1.0, None, None),
    ]
    told = part["samples"][1]
    assert unpack_ids(part["prompts"][0]) + unpack_ids(told["ids"]) == sample(1, 1.0)["tokens"]
    assert told["trained"] == [[0, 2], [3, 4]] and unpack_floats(told["log_probs"]) == [-0.5, -0.25, -1.0]
    reader = Reader(found)
    assert reader.refresh() and len(reader.index()["samples"]) == 4


@pytest.mark.parametrize("version", ["a list of samples", "a rank's batch"])
def test_what_a_trainer_said(details, version):
    columns = trained(0, 3, log_probs=[-0.5, -0.5, 0.0, -0.75])
    if version == "a list of samples":  # after v0.3.1
        names = {"sample_indices": "sample_index"}
        rows = [{names.get(k, k): v[n] for k, v in columns.items()} for n in range(2)]
        value = {"format_version": 2, "rollout_id": 7, "samples": rows}
    else:
        value = {"rollout_id": 7, "rank": 0, "rollout_data": columns}
    torch.save(value, details / "train_data" / "7_0.pt")
    reader = Reader(find(details, TOKENIZER))
    reader.refresh()
    told = reader.tokens(7)["samples"]
    assert unpack_floats(told["3.0"]["trainer"]) == [-0.5, -0.5, -0.75]
    assert unpack_floats(told["0.0"]["advantages"]) == [0.25] * 3 and "trainer" not in told["1.0"]


def test_a_ranks_share_of_tokens_is_left_out(details):
    """v0.3.1 dumps what a context-parallel rank holds and does not say which tokens these are."""
    value = {"rollout_id": 7, "rank": 0, "rollout_data": trained(0, log_probs=[-0.5, -0.5])}
    torch.save(value, details / "train_data" / "7_0.pt")
    reader = Reader(find(details, TOKENIZER))
    reader.refresh()
    assert "trainer" not in reader.tokens(7)["samples"]["0.0"]


class Runs:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_dump_is_run(details, tmp_path):
    mean = Runs()
    mean.path = str(tmp_path / "pwned")
    for value in ({"samples": [mean]}, mean):
        (details / "rollout_data" / "7.pt").write_bytes(pickle.dumps(value))
        with pytest.raises(ConfigError, match=r"7\.pt: no dump of slime's that can be read without running"):
            find(details, TOKENIZER).rollout(7)
        torch.save(value, details / "rollout_data" / "7.pt")
        with pytest.raises(ConfigError, match="without running what is in it"):
            find(details, TOKENIZER).rollout(7)
    assert not (tmp_path / "pwned").exists()


BROKEN = {
    "no samples": ({"rollout_id": 7}, "no samples in it"),
    "none": ({"samples": []}, "no samples in it"),
    "a sample without its status": ({"samples": [{"index": 0}]}, "no sample of slime's"),
    "a sample of another generate": ({"samples": [sample(0, 1.0, metadata={})]}, "none that slime_tau2's generate"),
    "a mask of another length": ({"samples": [sample(0, 1.0, loss_mask=[1])]}, "none that slime_tau2's generate"),
    "an array of numpy": ({"samples": [sample(0, 1.0, rollout_routed_experts=numpy.zeros(3))]}, "without running"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_dump_is_named(details, name):
    value, why = BROKEN[name]
    torch.save(value, details / "rollout_data" / "7.pt")
    with pytest.raises(ConfigError, match=why) as error:
        find(details, TOKENIZER).rollout(7)
    assert "7.pt" in str(error.value)


def test_a_trainers_dump_that_is_none(details):
    torch.save({"rollout_id": 7}, details / "train_data" / "7_0.pt")
    with pytest.raises(ConfigError, match="no dump of a trainer"):
        find(details, TOKENIZER).trainers(7)


def test_the_words_need_a_tokenizer(details):
    with pytest.raises(ConfigError, match="add --tokenizer MODEL_DIR"):
        find(details)
