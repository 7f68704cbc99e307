"""What the policies say of how an agent talks, looked for in the scripted expert's conversations."""

import re

import pytest

from slime_tau2.factory import experts, traces

COUNT = 220
FINDS = {"retail": "find_user_id", "airline": "get_user_details", "telecom": "get_customer_by"}
ONCE = ("modify_pending_order_items", "exchange_delivered_order_items")
COMPLETE = re.compile(
    r"all the items|Is anything missing|anything else to (change|exchange)|everything you want to|no item is missing"
    r"|Is it only (this item|these items)"
)


@pytest.fixture(scope="module")
def played():
    """{domain: episodes}, made when a test first asks for them."""
    made = {}

    def of(domain):
        if domain not in made:
            made[domain] = traces.play(domain, COUNT, seed=11).episodes
        return made[domain]

    return of


def calls(message):
    return message.get("tool_calls") or [] if message["role"] == "assistant" else []


def test_all_items_are_confirmed_before_what_can_be_done_once(played):
    """ "Remember to remind the customer to confirm they have provided all items": asked, and answered with a yes or
    what amounts to it, after the last item was named."""
    seen = 0
    for episode in played("retail"):
        asked = answered = ""
        for message in episode.messages:
            if message["role"] == "assistant" and COMPLETE.search(message.get("content") or ""):
                asked, answered = message["content"], ""
            elif message["role"] == "user" and asked and not answered:
                answered = message["content"].lower()
            for call in calls(message):
                if call["name"] in ONCE:
                    assert asked, episode.task
                    assert re.match(r"(yes|no,)", answered), (episode.task, asked, answered)
                    asked = answered = ""
                    seen += 1
    assert seen > COUNT / 4


@pytest.mark.parametrize("domain", experts.DOMAINS)
def test_the_user_is_looked_up_first(played, domain):
    """Even one who gives a user id at once is found by what the policy asks for, before anything else is called."""
    for episode in played(domain):
        names = [call["name"] for message in episode.messages for call in calls(message)]
        assert all(name.startswith(FINDS[domain]) for name in names[:1]), (episode.task, names)
