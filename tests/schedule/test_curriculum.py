import random
from collections import Counter

from slime_tau2.schedule.curriculum import FLOOR, Curriculum


def trained(**observations):
    c = Curriculum()
    for key, (won, tried) in observations.items():
        c.observe(key, won, tried)
    return c


def test_pools_and_weights():
    c = trained(easy=(40, 40), hard=(0, 40), half=(20, 40), new=(1, 2))
    assert [c.pool(k) for k in ("easy", "hard", "half", "new", "never")] == [
        "solved",
        "hopeless",
        "learnable",
        "unseen",
        "unseen",
    ]
    assert c.weight("half") > c.weight("easy") >= FLOOR * 0.25
    assert c.pools(["easy", "half", "never"]) == {"unseen": 1, "learnable": 1, "solved": 1, "hopeless": 0}


def test_draws_prefer_the_learnable_and_forget_nobody():
    c = trained(easy=(80, 80), half=(40, 80))
    drawn = Counter(c.draw(["easy", "half"], 1, random.Random(n))[0] for n in range(400))
    assert drawn["half"] > 3 * drawn["easy"] > 0
    assert sorted(c.draw(["easy", "half", "x"], 9, random.Random(0))) == ["easy", "half", "x"]


def test_old_evidence_fades():
    c = trained(a=(8, 8))
    for _ in range(30):
        c.observe("a", 0, 8)
    assert c.rate("a") < 0.05


def test_state_round_trips_through_json():
    import json

    c, d = trained(a=(3, 8), b=(0, 2)), Curriculum()
    d.load_state_dict(json.loads(json.dumps(c.state_dict())))
    assert d == c and d.draw(["a", "b"], 1, random.Random(5)) == c.draw(["a", "b"], 1, random.Random(5))
