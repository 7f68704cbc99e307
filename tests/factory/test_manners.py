"""What the policies say of how an agent talks, looked for in the scripted expert's conversations."""

import random
import re
from collections import Counter

import expert_played
import pytest

from slime_tau2.factory import experts
from slime_tau2.factory.phrasing import compose
from slime_tau2.factory.voice import Voice

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
            made[domain] = expert_played.play(domain, COUNT, seed=11).episodes
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


BEFORE = {
    "retail": {
        "cancel_pending_order": ("call get_order_details", "agent [Rr]eason"),
        "modify_pending_order_items": ("call get_order_details", "call get_product_details"),
        "modify_pending_order_payment": ("call get_order_details", "call get_user_details"),
        "modify_pending_order_address": ("call get_order_details",),
        "return_delivered_order_items": ("call get_order_details", "agent Refund: "),
        "exchange_delivered_order_items": ("call get_order_details", "call get_product_details"),
    },
    "airline": {
        "book_reservation": ("call search_", "agent travel insurance", "agent Total: "),
        "update_reservation_flights": ("call get_reservation_details", "call search_"),
        "update_reservation_passengers": ("call get_reservation_details",),
        "update_reservation_baggages": ("call get_reservation_details", "agent free"),
        "cancel_reservation": ("call get_reservation_details",),
        "send_certificate": ("user compensat|certificate", "call get_flight_status"),
    },
    "telecom": {
        "send_payment_request": ("call get_bills_for_customer", r"agent \(\$[\d.]+, due on"),
        "make_payment": ("call send_payment_request", "call check_payment_request"),
        "resume_line": ("call make_payment", "call get_details_by_id"),
        "refuel_data": (r"agent Price: \$", "user GB"),
        "enable_roaming": ("call get_details_by_id", "user trip|abroad|in [A-Z]"),
    },
}
"""{a write: what the policy wants before it: calls, by their names, and words of the agent or the user}."""


@pytest.mark.parametrize("domain", experts.DOMAINS)
def test_what_the_policy_wants_before_a_write_comes_before_it(played, domain):
    seen = Counter()
    for episode in played(domain):
        before = []
        for message in episode.messages:
            for call in message.get("tool_calls") or []:
                for wanted in BEFORE[domain].get(call["name"], ()):
                    kind, pattern = wanted.split(" ", 1)
                    found = any(it == kind and re.search(pattern, text) for it, text in before)
                    assert found, (episode.task, call["name"], wanted)
                    seen[call["name"]] += 1
                before.append(("call", call["name"]))
            name = {"assistant": "agent", "user": "user"}.get(message["role"])
            if name and message.get("content"):
                before.append((name, message["content"]))
    assert set(seen) == set(BEFORE[domain])


def test_a_bill_is_said_to_be_paid_once_it_is_looked_at_again(played):
    """Between the payment and the words that it is paid, the agent has looked up its status."""
    paid = 0
    for episode in played("telecom"):
        looked = False
        for message in episode.messages:
            for call in message.get("tool_calls") or []:
                if call["name"] == "make_payment":
                    looked = False
                elif call["name"] == "get_details_by_id" and call["arguments"]["id"].startswith("B"):
                    looked = True
            if message["role"] == "assistant" and re.search(r"bill B\d+ is (now )?paid", message.get("content") or ""):
                assert looked, episode.task
                paid += 1
    assert paid


@pytest.mark.parametrize("domain", experts.DOMAINS)
def test_no_sentence_has_a_known_defect(played, domain):
    """Mistakes of grammar, texts of programs, leftovers of the story's second person."""
    for episode in played(domain):
        for message in episode.messages[1:]:
            text = message.get("content") or ""
            if message["role"] not in ("assistant", "user") or not text:
                continue
            for pattern in DEFECTS + (AGENT_DEFECTS if message["role"] == "assistant" else USER_DEFECTS):
                found = re.search(pattern, text)
                assert not found, (episode.task, pattern, text)


DEFECTS = (
    r"\[[^\]]*\|",
    r"<\w+\.\w+",
    r"\{'",
    r"(?<![/\w])(\w+) \1\b(?<!that that)",  # an option of the shop is called "bagged/bagless"
    r"\b(?:for|to|with|from|of|bring|brings|give|gives|tell|tells|cost|costs|let|help|send|find) I\b",
    r"\bI (?:are|has|is|were)\b",
    r"\s[.,;!](?:\s|$)",
    r"(?<!\.)\.\.(?!\.)",
    r"[.!?][,;]",
    r", (?:Could|Can|Would|Please)\b",
    r"  ",
    r"(?i:\bplease\b[^.?!\n]*\bplease\b)",
)
AGENT_DEFECTS = (
    r"Thank[^\n]*\bThank",
    r"(?m)^- (?:Out|In): ",
    r"no seats left in [\w ]+, which is not enough",
    r"(?:^|[.!?] )[a-z]",
)
USER_DEFECTS = (r"\b[Yy]ou(?:r|rs|rself)? (?:want|have to|would like|cannot)\b", r"Status Bar:", r"Mbps \(", "📶|🔋|📵")


@pytest.mark.parametrize("domain", experts.DOMAINS)
def test_nothing_is_calculated_without_need(played, domain):
    for episode in played(domain):
        for call in (call for message in episode.messages for call in calls(message) if call["name"] == "calculate"):
            terms = re.findall(r"[\d.]+", call["arguments"]["expression"])
            assert len(terms) > 1, (episode.task, call)
            small = all(float(term) < 20 and "." not in term for term in terms)
            assert not (len(terms) == 2 and small), (episode.task, call)
            assert not re.search(r"\* [01]\b(?!\.)", call["arguments"]["expression"]), (episode.task, call)


SAID = {
    "retail": (
        (r"\S+@\S+\.\w+", r"your email address|email address of your account"),
        (
            r"price difference is to be|for the price difference|price difference, it",
            r"[Ww]hich payment method|settle it",
        ),
    ),
    "airline": (
        (r"\b[a-z]+_[a-z]+_\d{4}\b", r"your user id"),
        (r"(?<!trip )\bin (?:basic economy|economy|business)\b", r"[Ww]hich cabin"),
    ),
    "telecom": ((r"\b555-\d{3}-\d{4}\b", r"phone number"),),
}
"""{domain: (what the user has said, what the agent asks for then no more)}, in conversations about one thing."""


@pytest.mark.parametrize("domain", experts.DOMAINS)
def test_nothing_is_asked_that_was_said(played, domain):
    for episode in played(domain):
        if "+" in episode.task.task_id or "profile" in episode.task.task_id:
            continue
        said = ""
        for message in episode.messages:
            text = message.get("content") or ""
            if message["role"] == "user":
                said += f" {text}"
            for known, question in SAID[domain]:
                asked = message["role"] == "assistant" and re.search(rf"(?:{question})[^.]*\?", text)
                assert not (asked and re.search(known, said)), (episode.task, text, said)


def openings(episode):
    spoken = [
        message["content"] for message in episode.messages if message["role"] == "assistant" and message.get("content")
    ]
    return [re.split(r"(?<=[.!?]) ", spoken[1])[0]] if len(spoken) > 2 else []


def confirmations(episode):
    spoken = [message.get("content") or "" for message in episode.messages if message["role"] == "assistant"]
    return [text.rsplit("\n", 1)[-1] for text in spoken if "\n- " in text]


def closings(episode):
    spoken = [
        message["content"] for message in episode.messages if message["role"] == "assistant" and message.get("content")
    ]
    return [] if "TRANSFERRED" in spoken[-1] else [spoken[-1]]


@pytest.mark.parametrize("domain", experts.DOMAINS)
@pytest.mark.parametrize("kind", [openings, confirmations, closings])
def test_no_sentence_carries_its_kind(played, domain, kind):
    """The most frequent one has a twentieth of its kind at most, but for the few that chance adds."""
    found = Counter(text for episode in played(domain) for text in kind(episode))
    (text, most), total = found.most_common(1)[0], found.total()
    assert total > COUNT / 4 and most <= total / 20 + 3, (most, total, text)


@pytest.mark.parametrize(
    "persona", ["You are matter-of-fact and precise.", "You are polite and brief.", "You are cheerful."]
)
@pytest.mark.parametrize("kind", ["yes", "permits", "thanks", "accepts", "insists"])
def test_the_user_does_not_repeat_itself_either(persona, kind):
    voice = Voice(random.Random(1), persona)
    found = Counter(getattr(voice, kind)() for _ in range(3000))
    assert found.most_common(1)[0][1] <= 3000 / 20 * 1.2, found.most_common(3)


def test_a_choice_may_stand_within_another():
    readings = {compose("[May|Can] I [go [on|ahead]|proceed]?", random.Random(n)) for n in range(100)}
    assert readings == {f"{may} I {go}?" for may in ("May", "Can") for go in ("go on", "go ahead", "proceed")}
    assert compose("a list [1, 2] stays", random.Random(1)) == "a list [1, 2] stays"
    assert compose("First, [may] say it, please?", random.Random(2)).count("lease") == 1
