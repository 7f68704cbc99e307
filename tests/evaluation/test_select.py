"""Which checkpoint is chosen by its val tasks, and what is refused to choose by."""

import pytest
import run_files

from slime_tau2.episode import worlds


def write(directory, won, split="val", attempts=2, domain="helpdesk", tasks=None, **settings):
    """A run in which the first `won` tasks are solved, in each attempt, and no other is."""
    ids = worlds.load(domain).task_ids(split)
    rewards = {t: [float(n < won)] * attempts for n, t in enumerate(ids[:tasks])}
    return run_files.write(
        directory, {domain: rewards}, split=split, split_size=len(ids), **{"temperature": 1.0} | settings
    )


def test_the_best_one_is_chosen_and_told_from_the_next(cli, tmp_path):
    runs = [write(tmp_path / f"it{n}", won) for n, won in enumerate((60, 90, 88))]
    code, out, _ = cli("select", *runs)
    lines = [x for x in out.splitlines() if x.startswith("│ it")]
    assert code == 0 and [x[4] for x in lines] == ["1", "2", "0"], "best first"
    assert "helpdesk (val)" in out and "60.0 [" in lines[0] and "58.7 [" in lines[1] and "+20.0 [" in lines[2]
    assert "it2, the runner-up, is not distinguishable from it: +1.3 [" in out and "four times in five" in out
    assert out.splitlines()[-1] == f"chosen: {runs[1]}" and "the best of 3, and so too high" in out
    assert "it0, the runner-up, is distinguishable from it: +20.0 [" in cli("select", runs[0], runs[1])[1]


def test_of_equal_ones_the_first_is_chosen(cli, tmp_path):
    runs = [write(tmp_path / n, 50) for n in ("later", "earlier")]
    for order in (runs, runs[::-1]):
        out = cli("select", *order)[1]
        assert (
            f"chosen: {order[0]}" in out
            and f"{order[1].name} scored the same: of equal ones the one that was named first" in out
        )


def test_no_search_is_needed_to_read_the_splits(cli, tmp_path, monkeypatch):
    runs = [write(tmp_path / n, 50) for n in ("a", "b")]
    asked, load = [], worlds.load
    monkeypatch.setattr(worlds, "load", lambda domain, **how: asked.append(how.get("retrieval")) or load(domain, **how))
    assert cli("select", *runs)[0] == 0 and asked == [], "not even a database"


def test_domains_are_pooled_by_task(cli, tmp_path):
    """15 val tasks of retail outweigh 6 of airline."""
    ids = {d: worlds.load(d).task_ids("val") for d in ("airline", "retail")}
    for name, won in (("a", {"airline": 6, "retail": 0}), ("b", {"airline": 0, "retail": 7})):
        run_files.write(
            tmp_path / name, {d: {t: [float(n < won[d])] for n, t in enumerate(i)} for d, i in ids.items()}, split="val"
        )
    plan = tmp_path / "a" / "plan.json"
    assert '"split_size": 15' in plan.read_text()
    code, out, error = cli("select", tmp_path / "a", tmp_path / "b")
    assert code == 0 and f"chosen: {tmp_path / 'b'}" in out and "airline, retail (val)" in out, error


@pytest.mark.parametrize(
    "change, why",
    [
        (
            {"split": "test"},
            "{second}: 150 of its 150 tasks are test tasks, and a checkpoint that is chosen by them has no honest score left",
        ),
        ({"split": "base"}, "{second}: 150 of its 900 tasks are test tasks"),
        ({"tasks": 1}, "{second}: helpdesk (1 of 150 tasks of val) is no whole split; evaluate the split"),
        ({"temperature": 0.5}, "were not evaluated alike (temperature: first 1.0, second 0.5)"),
        ({"user_model": "v"}, "were not evaluated alike (user_model: first 'u', second 'v')"),
        ({"attempts": 3}, "second has 3 attempts at each task, first 2; give each as many"),
        ({"split": "train"}, "600 of its 600 tasks are not of the split val: a checkpoint may have trained on them"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused_by_name(cli, tmp_path, change, why):
    first, second = write(tmp_path / "first", 50), write(tmp_path / "second", 1, **change)
    code, out, error = cli("select", first, second)
    assert code == 2 and error.count("\n") == 1 and why.format(second=second) in error, error
    assert "chosen" not in out


def test_half_runs_single_runs_and_no_runs_are_refused(cli, tmp_path):
    first, second = (write(tmp_path / n, 50) for n in ("first", "second"))
    assert (
        "name at least two runs" in cli("select", first)[2] and "a run is named twice" in cli("select", first, first)[2]
    )
    assert f"{tmp_path / 'none'} holds no run" in cli("select", first, tmp_path / "none")[2]
    path = second / "attempts.jsonl"
    path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")
    code, _, error = cli("select", first, second)
    assert code == 2 and f"{second} is not whole: 299 of 300 attempts scored, 1 not run" in error


def test_who_says_so_may_choose_by_test(cli, tmp_path):
    runs = [write(tmp_path / n, won, split="test") for n, won in (("a", 3), ("b", 5))]
    assert cli("select", *runs)[0] == 2
    code, out, _ = cli("select", *runs, "--i-know")
    assert code == 0 and f"chosen: {runs[1]}" in out
