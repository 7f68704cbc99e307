"""Real slime beside our stand-ins. Needs slime's source tree on PYTHONPATH; skipped, with the reason, where it is absent."""

import builtins
import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
from slime_harness import needs_slime

from slime_tau2 import hooks

pytestmark = [pytest.mark.upstream, needs_slime]


@pytest.fixture(scope="module")
def stand_in():
    """Our Sample, as `hooks.compat` defines it in a process that does not run slime and where an import of slime fails."""
    path, imports = Path(hooks.__path__[0]) / "compat.py", builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "slime":
            raise ImportError(f"{name} is hidden")
        return imports(name, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in sys.modules if n.split(".")[0] == "slime"]:
            patch.delitem(sys.modules, name)
        patch.setattr(builtins, "__import__", refuse)
        spec = importlib.util.spec_from_file_location("compat_without_slime", path)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    assert not module.HAS_SLIME
    return module.Sample


REPLIES = (
    {"finish_reason": {"type": "abort", "message": "x"}, "prompt_tokens": 3, "cached_tokens": 0, "weight_version": "1"},
    {"finish_reason": {"type": "stop", "matched": 7}, "prompt_tokens": 6, "cached_tokens": 5, "weight_version": "2"},
)


def operate(kind):
    sample = kind(group_index=1, index=2, prompt="p", metadata={"a": 1})
    sample.tokens = [1, 2, 3]
    sample.append_response_tokens(None, tokens=[4, 5], log_probs=[-1.0, -2.0], trainable=True, text="x", meta_info=REPLIES[0])
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


def test_one_sequence_of_operations_gives_equal_fields(stand_in, sample):
    ours, theirs = operate(stand_in), operate(sample)
    assert ours.prefix_cache_info.total_prompt_tokens == 12 and ours.weight_versions == ["1", "2", "1"]
    for field in dataclasses.fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "status":
            assert a.value == b.value == "aborted"
        elif dataclasses.is_dataclass(a):
            assert all(getattr(b, name) == value for name, value in vars(a).items()), field.name
        else:
            assert a == b, field.name


def test_statuses_are_slimes(stand_in, sample):
    assert {s.name: s.value for s in stand_in.Status} == {s.name: s.value for s in sample.Status}
