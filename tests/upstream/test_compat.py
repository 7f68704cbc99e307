"""Real slime beside our stand-ins. Needs slime's source tree on PYTHONPATH; skipped, with the reason, where it is absent."""

import dataclasses

import pytest

pytestmark = pytest.mark.upstream
slime_types = pytest.importorskip("slime.utils.types", reason="slime is not installed: put its source tree on PYTHONPATH")


def stand_in():
    """Our Sample, as `hooks.compat` defines it where slime is absent."""
    import importlib.util
    import sys
    from pathlib import Path

    import slime_tau2.hooks as hooks

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "slime"}
    sys.modules["slime"] = None  # an import of slime now fails
    try:
        spec = importlib.util.spec_from_file_location("compat_without_slime", Path(hooks.__file__).with_name("compat.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        del sys.modules["slime"]
        sys.modules.update(hidden)
    assert not module.HAS_SLIME
    return module.Sample


def operate(kind):
    sample = kind(group_index=1, index=2, prompt="p", metadata={"a": 1})
    sample.tokens = [1, 2, 3]
    sample.append_response_tokens(None, tokens=[4, 5], log_probs=[-1.0, -2.0], trainable=True, text="x")
    sample.append_response_tokens(None, tokens=[6], trainable=False)
    sample.append_response_tokens(None, tokens=[7], log_probs=[-3.0], trainable=True)
    sample.reward, sample.status = 1.0, kind.Status.COMPLETED
    return sample


def test_one_sequence_of_operations_gives_equal_fields():
    ours, theirs = operate(stand_in()), operate(slime_types.Sample)
    for field in dataclasses.fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        assert (a.value, type(a).__name__) == (b.value, type(b).__name__) if field.name == "status" else a == b, field.name


def test_statuses_are_slimes():
    assert {s.name: s.value for s in stand_in().Status} == {s.name: s.value for s in slime_types.Sample.Status}
