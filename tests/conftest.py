"""Shared fixtures. Everything is real but the model, which is tiny and random, and what a test says it fakes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import hypothesis
import in_process
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # machines are shared: no test fails for its time
hypothesis.settings.load_profile("untimed")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["COLUMNS"] = "160"  # a console takes its width when it is made, and xdist's workers bring one of 80


LONG = (
    "test_docs_run.py",
    "test_exactness.py",
    "test_pipeline.py",
    "test_factory.py",
    "test_expert.py",
    "test_fault.py",
    "test_study.py",
)
"""Files that take minutes: where two processes share the files, none of these is left for one of them at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def no_job_goes_on():
    """What a job of slime's sets for its whole process ends with the test: files of tests share a process in any order."""
    yield
    from slime_tau2.hooks import current
    from slime_tau2.tasksets import openings

    openings.close_all()
    current.register(None)


@pytest.fixture(scope="session")
def helpdesk():
    from slime_tau2.episode import worlds

    return worlds.load("helpdesk")


@pytest.fixture(scope="session")
def tokenizer():
    from slime_tau2.domains.helpdesk import TOKENIZER
    from slime_tau2.tokenizer import load_tokenizer

    return load_tokenizer(TOKENIZER)


@pytest.fixture(scope="session")
def chat(helpdesk, tokenizer):
    from slime_tau2.episode.chat import ChatRenderer

    return ChatRenderer(tokenizer, helpdesk.tool_schemas)


def trl_template(name: str) -> str:
    """A chat template from the trl wheel (found without importing trl)."""
    spec = importlib.util.find_spec("trl")
    if spec is None:
        pytest.skip("trl is not installed: pip install --no-deps trl==1.16.0")
    return (Path(spec.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja").read_text()


@pytest.fixture(scope="session")
def qwen_tokenizer():
    """Qwen3-Instruct-2507's real template over a byte-level vocabulary that has Qwen's special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    core.add_tokens(
        [
            AddedToken(t, normalized=False)
            for t in ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=trl_template("qwen3_instruct_2507"),
    )


@pytest.fixture(scope="session")
def tiny_model(tokenizer):
    from slime_tau2.local.models import new_model

    return new_model(len(tokenizer), 32_768, seed=3, hidden=32, layers=2)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory, tiny_model, tokenizer):
    from slime_tau2.local.models import save_model

    path = tmp_path_factory.mktemp("tiny") / "model"
    save_model(path, tiny_model, tokenizer)
    return path


@pytest.fixture(scope="session")
def server(tiny_model_dir, tmp_path_factory):
    """The local server, in its child process, on the tiny random model."""
    from slime_tau2.local.process import ServerProcess

    with ServerProcess(tiny_model_dir, tmp_path_factory.mktemp("log") / "server.log") as process:
        yield process


@pytest.fixture
def cli(capsys):
    """`cli(*arguments)` -> (exit code, stdout, stderr), in this process."""

    def call(*arguments):
        capsys.readouterr()
        return (in_process.run(*arguments), *capsys.readouterr())

    return call
