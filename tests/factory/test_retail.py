"""Retail's factory: its words, its families, and that no valid other write earns the reward."""

from collections import Counter

import factory_proofs as proofs
import pytest

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.factory import build
from slime_tau2.factory.retail import RETAIL, policy
from slime_tau2.factory.retail.words import a_product, feature, features, money, noun, tellable


@pytest.fixture(scope="module")
def world():
    return worlds.load("retail")


@pytest.fixture(scope="module")
def made():
    return build.make("retail", 1200, seed=11)


def test_every_rule_is_met_and_broken_and_every_tool_used(made):
    covered = build.coverage("retail", made)
    rarely = {"payment_covered", "exchange_difference", "items_difference"}  # broken where a gift card is short
    for rule, (holds, broken) in covered.rules.items():
        assert holds >= 25, rule
        assert broken >= (1 if rule in rarely else 4), rule
    assert all(number >= 25 for number in covered.tools.values()), covered.tools
    rare = {"spent", "cancel_all", "status"}  # few databases have them; a status is a word that seldom stands once
    assert all(number >= 5 or family in rare for family, number in covered.families.items())
    assert Counter(len(draft.wishes) for _, draft in made).keys() == {1, 2, 3}
    assert max(draft.difficulty for _, draft in made) >= 8


def test_each_family_makes_tasks_that_gold_solves(world):
    for recipe in [(name,) for name in RETAIL.families if name not in ("again", "undo")]:
        for task, draft in build.make("retail", 2, seed=3, mix={recipe: 1.0}):
            assert draft.families == recipe
            assert proofs.gold(world, bench.Task.model_validate(task), draft) == 1.0


def test_no_other_valid_write_earns_the_reward(world, made):
    """Another reason, payment method, variant or order of the same user: each is wrong."""
    db = world.environments.base.tools.db

    def others(call, name):
        value, order = call.arguments[name], db.orders.get(call.arguments.get("order_id"))
        user = db.users[order.user_id] if order else db.users[call.arguments["user_id"]]
        if name == "reason":
            return [reason for reason in policy.CANCEL_REASONS if reason != value]
        if name == "payment_method_id":
            return [method for method in user.payment_methods if method != value]
        if name == "order_id":
            return [other for other in user.orders if other != value]
        if name == "item_ids":
            return [value[:-1], *([i.item_id] for i in order.items if [i.item_id] != value)]
        if name == "new_item_ids":
            product = next(p for p in db.products.values() if value[-1] in p.variants)
            return [[*value[:-1], other] for other in product.variants if other not in value]
        return [proofs.altered(value)]

    tried = 0
    for task, draft in [m for m in made if m.draft.writes()][:40]:
        parsed = bench.Task.model_validate(task)
        for difference, calls in proofs.variations(draft.calls(), others):
            if " twice" not in difference:
                tried += 1
                assert proofs.reward(world, parsed, calls, draft.tells()) == 0.0, (task["id"], difference)
    assert tried > 300


def test_order_of_items_is_marked_where_the_tools_care(world, made):
    """tau2's modify_pending_order_items leaves another state if its lists are in another order."""
    freedom = [
        m
        for m in made
        if "modify_items" in m.draft.families and '"any_order": {}' not in m.task["description"]["notes"]
    ]
    assert freedom
    for _, draft in freedom:
        call = next(c for c in draft.calls() if c.name == "modify_pending_order_items")
        assert call.any_order == ("item_ids", "new_item_ids")
        bought = [item.item_id for item in world.environments.base.tools.db.orders[call.arguments["order_id"]].items]
        assert list(call.arguments["item_ids"]) == sorted(call.arguments["item_ids"], key=bought.index)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("color", "black", "in black"),
        ("material", "glass", "made of glass"),
        ("size", "L", "in size L"),
        ("size", "full size", "in full size"),
        ("storage", "1TB SSD", "with 1TB SSD storage"),
        ("switch type", "clicky", "with clicky switch type"),
        ("cover type", "hard cover", "with hard cover"),
        ("backlight", "none", "without backlight"),
        ("features", "none", "without extra features"),
        ("features", "timer", "with the feature timer"),
        ("waterproof", "no", 'with "waterproof: no"'),
        ("bagged/bagless", "bagless", 'marked "bagless"'),
        ("gender", "men", "for men"),
        ("type", "gas", "of the type gas"),
        ("brand", "Brand A", "of Brand A"),
    ],
)
def test_features_in_words(option, value, words):
    assert feature(option, value) == words


def test_words():
    assert features({"color": "red", "size": "M"}) == "in red and in size M"
    assert [noun(n) for n in ("Desk Lamp", "LED Light Bulb", "T-Shirt")] == ["desk lamp", "LED light bulb", "t-shirt"]
    assert money(1234.5) == "1234.50" and not tellable(1234.5) and tellable(0.07) and not tellable(0.0)


def test_features_of_a_product_are_told_apart_by_their_words(world):
    for product in world.environments.base.tools.db.products.values():
        told = {(o, v): feature(o, v) for variant in product.variants.values() for o, v in variant.options.items()}
        assert len(set(told.values())) == len(told), product.name
        assert a_product(product)
