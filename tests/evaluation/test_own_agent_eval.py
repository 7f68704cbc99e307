"""`eval` with an agent of one's own: the same records from one process and from workers, and a run that says who acted."""

import pytest
from fake_policy import FakePolicy, teacher_reply
from own_agents import on_path, planning_reply
from serving import Serving
from test_eval_workers import Teacher, told

from slime_tau2.data import records, rejection
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.evaluation import plan

TASKS = [part for n in range(250, 253) for part in ("--task", f"orders_{n}")]


@pytest.fixture(scope="module", autouse=True)
def page(tmp_path_factory):
    yield from on_path(tmp_path_factory.mktemp("page"))


@pytest.fixture
def asked_at(cli, tmp_path):
    def ask(url, name, *options):
        output = tmp_path / name
        server = ("--policy", url, "--tokenizer", TOKENIZER)
        return *cli("eval", *server, "--user", "scripted", *TASKS, "--output", output, *options), output

    return ask


@pytest.fixture
def asked(asked_at):
    def ask(fake, name, *options):
        with Serving(fake) as server:
            return asked_at(server.url, name, *options)

    return ask


def test_a_client_in_two_workers_leaves_the_records_of_our_own_agent(asked, cli, tokenizer):
    options = ("--attempts", "2", "--set", "agent=helped:Helped")
    *_, ours = asked(Teacher(tokenizer), "ours", *options[:2])
    code, out, error, alone = asked(Teacher(tokenizer), "alone", *options)
    assert code == 0 and "token mismatches: 0 in 6 episodes" in out, error
    code, out, error, shared = asked(Teacher(tokenizer), "shared", *options, "--workers", 2)
    assert code == 0 and "token mismatches: 0 in 6 episodes" in out, error
    assert told(alone) == told(shared)
    assert told(ours) == {k: {f: v for f, v in r.items() if f != "agent"} for k, r in told(alone).items()}
    assert {record["agent"] for record in told(alone).values()} == {"helped:Helped"}
    settings = plan.read(alone).settings
    assert settings["agent"] == "helped:Helped" and len(settings["agent_sha256"]) == 64
    code, out, _ = cli("compare", ours, alone)
    assert code == 0 and "the policies differ in agent: ours None, alone helped:Helped" in out
    counts = rejection.select(records.read(alone / records.FILE)).counts
    assert counts["of other agents"] == 6 and counts["kept"] == 0 and "prompts are not" in rejection.why_none(counts)


def test_a_planner_is_audited_by_what_it_asked(asked, tokenizer):
    code, out, error, output = asked(
        FakePolicy(tokenizer, planning_reply()), "planner", "--set", "agent=planner:Planner", "--concurrency", 1
    )
    assert code == 0 and "token mismatches: 0 in 3 episodes" in out, error
    for record in told(output).values():
        assert record["reward"] == 1.0 and len(record["turn_tokens"]) == len(record["turns"])
        for turn, tokens in zip(record["turns"], record["turn_tokens"]):
            assert "".join(text for text, _ in tokens).replace("<|im_end|>", "\n").strip() == turn["text"]


def test_a_resumed_run_has_the_same_agent(asked_at, tokenizer, page):
    options = ("run", "--set", "agent=helped:Helped")
    with Serving(FakePolicy(tokenizer, teacher_reply())) as server:
        asked_at(server.url, *options, "--concurrency", 1)
        with (page / "helped.py").open("a") as file:
            file.write("# another version\n")
        code, _, error, _ = asked_at(server.url, *options)
    assert code == 2 and "agent_sha256" in error


@pytest.mark.parametrize(
    "command, said",
    [
        (("eval", "--policy", "https://127.0.0.1:9/v1", "--model", "m"), "an agent of your own asks by tokens"),
        (("collect", "--policy", "http://127.0.0.1:9", "--tokenizer", TOKENIZER), "collect with our own agent"),
        (("eval", "--policy", "http://127.0.0.1:9", "--tokenizer", TOKENIZER, "--set", "protocol=card"), "leave out"),
    ],
)
def test_where_it_has_no_place_it_is_refused(cli, tmp_path, command, said):
    output = tmp_path / "out"
    options = ("--domain", "helpdesk", "--user", "scripted", "--set", "agent=helped:Helped", "--output", output)
    code, _, error = cli(*command, *options)
    assert code == 2 and said in error, error
    assert not output.exists()
