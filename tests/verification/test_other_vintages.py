"""The hashes of the test tasks of all vintages (`slime_tau2/verification/test_tasks.json`) against the installed one.

`python tests/verification/test_other_vintages.py` writes those of the installed vintage anew. They are hashes alone:
no text of tau2's is kept.
"""

import json
from pathlib import Path

import pytest

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.verification import leaks
from slime_tau2.verification.verify import Verifier

FILE = Path(leaks.__file__).with_name("test_tasks.json")
DOMAINS = ("airline", "retail", "telecom")
NAME = leaks.VINTAGES[bench.VINTAGE.name]


def marks(domain):
    """What `test_tasks.json` has of a domain for the installed vintage."""
    own = worlds.load(domain)
    found, shared = leaks.in_test_tasks(own, leaks.Records([own.environments.base.tools.db]))
    sentences = {key: where for key, where in found.sentences.items() if key not in shared}
    return {"records": dict(sorted(found.records.items())), "sentences": dict(sorted(sentences.items()))}


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_installed_vintage_is_as_the_file_has_it(domain):
    kept = json.loads(FILE.read_text())
    assert kept.keys() == set(leaks.VINTAGES.values())
    assert kept[NAME][domain] == marks(domain)


@pytest.mark.parametrize("domain, most", [("airline", 20), ("retail", 10)])
def test_a_sentence_of_another_vintages_test_task_is_found(domain, most, monkeypatch):
    """Their words are not here: a made sentence is given the hash of one."""
    kept = json.loads(FILE.read_text())
    (other,) = kept.keys() - {NAME}
    elsewhere = kept[other][domain]["sentences"].keys() - kept[NAME][domain]["sentences"].keys()
    assert 0 < len(elsewhere) <= most
    own = worlds.load(domain)
    held = Verifier(worlds.build(own.spec, name="made", tasks=[next(iter(own.tasks.values()))]), own).held
    assert len(elsewhere & held.sentences.keys()) >= len(elsewhere) - 1, "one may be common here"
    marked = next(iter(elsewhere & held.sentences.keys()))
    digest = leaks.digest
    monkeypatch.setattr(leaks, "digest", lambda text: marked if text == "a sentence that v1 has." else digest(text))
    assert held.sentences_of(["a sentence that v1 has.", "and one that nobody has."]) == {
        "a sentence that v1 has.": kept[other][domain]["sentences"][marked]
    }


def test_the_records_of_test_tasks_are_the_same_in_all_vintages():
    one, other = (json.loads(FILE.read_text())[name] for name in sorted(set(leaks.VINTAGES.values())))
    assert {d: one[d]["records"].keys() for d in DOMAINS} == {d: other[d]["records"].keys() for d in DOMAINS}


if __name__ == "__main__":
    whole = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps(whole | {NAME: {domain: marks(domain) for domain in DOMAINS}}, indent=0) + "\n")
