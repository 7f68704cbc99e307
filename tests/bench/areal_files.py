"""Files of the exact shape and size of inclusionAI/AReaL-tau2-data, whose real ones cannot be had here.

Numbers and sizes are those that are published: 1,982 tasks (airline 1,148, retail 563, telecom 271) over nine
databases, and 33,531 rows of one turn each, 874 MB. What is in them is made from tau2's own tasks and databases: a
measure of importers, not a set to train on.

    python tests/bench/areal_files.py OUTPUT [--share 1.0]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

from slime_tau2 import bench
from slime_tau2.bench.tasks import domain_dir
from slime_tau2.episode import worlds

TASKS = {"airline": 1148, "retail": 563, "telecom": 271}
ROWS = {"telecom": 9294, "airline": 12842, "retail": 11395}
MARK = {"airline": "seed_pattern_task_id", "retail": "scenario_id", "telecom": "difficulty"}
BYTES = 874_000_000
TASK_BYTES = 8_700_000
TURNS = (5, 22)
"""Least and most assistant's turns of a dialogue."""
WORDS = "the order is on its way and you will get it back within five days once I have looked it up for you".split()


def databases(folder: Path) -> dict[str, list[str]]:
    """{domain: paths of its databases}: tau2's own, and copies that differ from it in one row each."""
    folder.mkdir(parents=True)
    names = {
        "airline": ["tau2_airline_db", *(f"tau2_airline_new_db_{n}" for n in (1, 2, 3))],
        "retail": [f"tau2_retail_new_db_{n}" for n in (1, 2, 3, 4)],
        "telecom": ["tau2_telecom_db"],
    }
    out: dict[str, list[str]] = {}
    for domain, stems in names.items():
        suffix = ".toml" if domain == "telecom" else ".json"
        for number, stem in enumerate(stems):
            path = folder / f"{stem}{suffix}"
            shutil.copy(domain_dir(domain) / f"db{suffix}", path)
            if suffix == ".json" and (number or domain == "retail"):
                content = json.loads(path.read_text())
                next(iter(content["users"].values()))["address"]["zip"] = f"{number:05}"
                path.write_text(json.dumps(content, indent=4))
            elif suffix == ".toml":
                path.write_text(path.read_text() + "\n")
            out.setdefault(domain, []).append(f"{folder.name}/{path.name}")
    return out


def tasks(root: Path, paths: dict[str, list[str]], share: float) -> None:
    """tau2_rl_train.jsonl."""
    with (root / "tau2_rl_train.jsonl").open("w", encoding="utf-8") as file:
        for domain, count in TASKS.items():
            own = list(worlds.load(domain).tasks.values())[:200]
            for n in range(max(2, int(count * share))):
                row = own[n % len(own)].model_dump(mode="json")
                row["id"] = f"{domain}_{n - n % 40 if n % 40 == 39 else n}"  # one in forty has another's id
                row["evaluation_criteria"] = json.dumps(row["evaluation_criteria"])
                row["db_path"] = paths[domain][n % len(paths[domain])]
                missing = TASK_BYTES // sum(TASKS.values()) - len(json.dumps(row))
                row["description"] = {"purpose": "x" * max(0, missing)}
                file.write(json.dumps(row) + "\n")


def rows(root: Path, share: float, seed: int = 0) -> None:
    """tau2_sft_train.jsonl: dialogues in mixed order, a row per turn, one turn in seven marked as failed."""
    rng = random.Random(seed)
    left, budget = sum(int(n * share) for n in ROWS.values()), BYTES * share
    pending: list[list[str]] = []
    with (root / "tau2_sft_train.jsonl").open("w", encoding="utf-8") as file:
        for domain, count in ROWS.items():
            count = int(count * share)
            world, number = worlds.load(domain), 0
            system = world.policy + "\n\n" + json.dumps(world.tool_schemas)
            while count:
                turns = min(rng.randint(*TURNS), count)
                size = (budget / left - len(system) * 1.03) / turns  # a row has half of its dialogue's turns
                lines = dialogue(rng, domain, f"{domain}_dialog_{number}", system, turns, max(60, int(size)))
                pending.append(lines)
                count, left, number = count - turns, left - turns, number + 1
                budget -= sum(len(line.encode()) for line in lines)
                if len(pending) == 3:  # rows of one dialogue do not always follow each other
                    interleave(file, pending)
            interleave(file, pending)


def interleave(file, pending):
    """Write what is pending, a row of each in turn, and empty it."""
    while any(pending):
        for lines in pending:
            if lines:
                file.write(lines.pop(0))
    pending.clear()


def dialogue(rng, domain, name, system, turns, size):
    """Lines of one dialogue: each turn in its whole context."""
    said = lambda count: " ".join(rng.choices(WORDS, k=max(1, int(count) // 5)))  # noqa: E731
    messages = [{"role": "system", "content": system}, {"role": "user", "content": said(size)}]
    correct, out = rng.random() > 0.15, []
    for turn in range(turns):
        thinking, calls = said(size / 2), turn % 2 == 1
        answer = {"role": "assistant", "content": "" if calls else said(size / 2), "thinking": thinking}
        if calls:
            answer["tool_calls"] = [{"name": "get_user_details", "arguments": {"user_id": said(10)}}]
        fine = correct or turn < turns / 2
        metadata = {"source_dialog_id": name, "turn_index": turn, "correct": int(fine), "reward": float(fine)}
        row = {"messages": messages, "answer": answer, "metadata": metadata | {MARK[domain]: turn}}
        out.append(json.dumps(row, ensure_ascii=False) + "\n")
        kept = {k: v for k, v in answer.items() if k != "thinking"}
        if calls:
            kept["tool_calls"] = [{"id": f"call_{turn}", "type": "function", "function": answer["tool_calls"][0]}]
            heard = {"role": "tool", "tool_call_id": f"call_{turn}", "content": said(size)}
        else:
            heard = {"role": "user", "content": said(size)}
        messages = [*messages, kept, heard]
    return out


def write(root: Path, share: float = 1.0) -> Path:
    """Everything under `root`."""
    tasks(root, databases(root / "tau2_rl_database"), share)
    rows(root, share)
    return root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows and tasks")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    write(options.output, options.share)
    for path in sorted(options.output.rglob("*.*")):
        print(f"{path.relative_to(options.output)}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"by tau2 {bench.VINTAGE.version}")
