"""Real slime beside our stand-ins. Needs slime's source tree on PYTHONPATH; skipped, with the reason, where it is
absent.
"""

import dataclasses

import pytest
from slime_harness import needs_slime

from slime_tau2.hooks import stand_ins

pytestmark = [pytest.mark.upstream, needs_slime]


REPLIES = (
    {"finish_reason": {"type": "abort", "message": "x"}, "prompt_tokens": 3, "cached_tokens": 0, "weight_version": "1"},
    {"finish_reason": {"type": "stop", "matched": 7}, "prompt_tokens": 6, "cached_tokens": 5, "weight_version": "2"},
)


def operate(kind):
    sample = kind(group_index=1, index=2, prompt="p", metadata={"a": 1})
    sample.tokens = [1, 2, 3]
    sample.append_response_tokens(
        None, tokens=[4, 5], log_probs=[-1.0, -2.0], trainable=True, text="x", meta_info=REPLIES[0]
    )
    sample.append_response_tokens(None, tokens=[6], trainable=False)
    sample.append_response_tokens(None, tokens=[7], log_probs=[-3.0], trainable=True, meta_info=REPLIES[1])
    sample.append_response_tokens(None, tokens=[], log_probs=[], trainable=True, meta_info=REPLIES[0])
    sample.reward = 1.0
    return sample


@pytest.fixture(scope="module")
def sample():
    """slime's Sample."""
    from slime.utils.types import Sample

    return Sample


def test_one_sequence_of_operations_gives_equal_fields(sample):
    ours, theirs = operate(stand_ins.Sample), operate(sample)
    assert ours.prefix_cache_info.total_prompt_tokens == 12 and ours.weight_versions == ["1", "2", "1"]
    for field in dataclasses.fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "status":
            assert a.value == b.value == "aborted"
        elif dataclasses.is_dataclass(a):
            assert all(getattr(b, name) == value for name, value in vars(a).items()), field.name
        else:
            assert a == b, field.name


def test_statuses_are_slimes(sample):
    assert {s.name: s.value for s in stand_ins.Sample.Status} == {s.name: s.value for s in sample.Status}
