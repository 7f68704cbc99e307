"""What a scripted telecom agent knows of an account and a phone: what calls returned, and what the user reports."""

from __future__ import annotations

import json
import random
import re
from types import SimpleNamespace
from typing import Any

from slime_tau2.episode.world import World
from slime_tau2.factory.dialogue import Result, Script, use
from slime_tau2.factory.draft import Call, Draft, Fact, read
from slime_tau2.factory.expert import Expert
from slime_tau2.factory.telecom import screen
from slime_tau2.factory.telecom.account import today
from slime_tau2.factory.telecom.words import money
from slime_tau2.factory.voice import first_person


class Clerk(Expert):
    """An expert with telecom's memory.

    Attributes:
        customer: once identified.
        line: the line that it is about.
        rows: all that was looked up, by its id, as the last call left it.
        bar: the phone's status bar, as the user last reported it.
        seen: {tool of the phone: what it said last}.
    """

    def __init__(self, world: World, draft: Draft, *, persona: str | None, rng: random.Random):
        super().__init__(world, draft, persona=persona, rng=rng)
        self.customer: Any = None
        self.line: Any = None
        self.rows: dict[str, Any] = {}
        self.usage: Any = None
        self.bar = ""
        self.seen: dict[str, str] = {}
        self.today = today(world.policy).isoformat()

    def heard(self, call: Call, result: Result) -> None:
        if call.name == "refuel_data":
            self.results.pop(read("get_data_usage", **self.ids()).canonical(), None)
            return
        if result.error or not result.text.startswith(("{", "[")):
            return
        found: Any = json.loads(result.text, object_hook=lambda row: SimpleNamespace(**row))
        if call.name == "get_data_usage":
            self.usage = found
            return
        for row in found if isinstance(found, list) else [found]:
            self._remember(row)
        if call.name.startswith("get_customer"):
            self.customer = found[0] if isinstance(found, list) else found

    def _remember(self, row: Any) -> None:
        order = ("bill_id", "plan_id", "line_id", "device_id", "customer_id")
        key = next((name for name in order if hasattr(row, name) and self._is_own(row, name)), None)
        if key:
            self.rows[getattr(row, key)] = row

    def _is_own(self, row: Any, key: str) -> bool:
        """Whether a row is of the kind that the key names: a line has the ids of its plan and its device too."""
        marks = {"bill_id": "total_due", "plan_id": "data_limit_gb", "line_id": "data_used_gb", "device_id": "model"}
        return hasattr(row, marks.get(key, "full_name"))

    # Looking up

    def look_at(self, row_id: str, *, anew: bool = False) -> Script[Any]:
        """A line, a plan, a device or a bill."""
        call = read("get_details_by_id", id=row_id)
        if anew:
            self.results.pop(call.canonical(), None)
        yield from self.look(call)
        return self.rows[row_id]

    def look_at_plan(self) -> Script[Any]:
        """The line's plan."""
        return (yield from self.look_at(self.line.plan_id))

    def look_at_usage(self) -> Script[Any]:
        """How much of its data the line has used; looked up again if some were added since."""
        yield from self.look(read("get_data_usage", **self.ids()))
        return self.usage

    def look_at_bills(self) -> Script[list[Any]]:
        """All bills, oldest first."""
        yield from self.look(read("get_bills_for_customer", customer_id=self.customer.customer_id))
        bills = [self.rows[bill] for bill in self.customer.bill_ids if bill in self.rows]
        return sorted(bills, key=lambda bill: str(bill.due_date))

    def with_status(self, status: str) -> list[Any]:
        """The bills that are known to have a status, oldest first."""
        bills = [row for row in self.rows.values() if hasattr(row, "total_due") and row.status == status]
        return sorted(bills, key=lambda bill: str(bill.due_date))

    def ids(self) -> dict[str, Any]:
        """What most tools ask for."""
        return {"customer_id": self.customer.customer_id, "line_id": self.line.line_id}

    # The phone

    def phone(self, name: str, *requests: str, why: str = "", **arguments: str) -> Script[str]:
        """Have the user use a tool of the phone, and hear what it said.

        Args:
            requests: how the agent asks for it, if not as `ASKS` has it.
            why: said first.
        """
        call = Call(name=name, arguments=arguments, requestor="user", write=name in PRESSES)
        request = self.pick(*(requests or ASKS[name])).format(**arguments)
        yield from self.say(" ".join(filter(None, [why, request])))
        return (yield from self.use_phone(call))

    def use_phone(self, call: Call, *, before: str = "") -> Script[str]:
        """The user uses a tool, and reports.

        Args:
            before: what the user says before the report.
        """
        text = yield from self.press(call)
        yield from self.answer(" ".join(filter(None, [before, self.report(call.name, text)])))
        return text

    def press(self, call: Call) -> Script[str]:
        """The user uses a tool."""
        result = yield from use(call)
        self.seen[call.name] = result.text
        bar = re.search(r"Status Bar: (.*)", result.text)
        if bar:
            self.bar = bar[1]
        return result.text

    def report(self, name: str, text: str) -> str:
        """What the user says of a result."""
        found = re.search(r"Status Bar: (.*)", text)
        icons = screen.bar(found[1]) if found else ""
        if name == "check_status_bar":
            return self.voice.pick(
                f"[It shows|I see|There is|At the top]: {icons}.",
                f"[The status bar shows|At the top I see|Up there I see] {icons}.",
                f"{icons}.",
            )
        said = screen.read_out(text)
        if icons:
            done = self.voice.pick("[Done.|OK, done.|I did that.|All right, done.|OK.|That's done.|]")
            shows = self.voice.pick(
                f"[The status bar shows|At the top I see|It shows] {icons}[ now|].",
                f"[Now|And now] [the status bar shows|I see|it shows] {icons}.",
            )
            return capital(self.voice.pick(f"{done} {capital(said)} {shows}"))
        return capital(self.voice.pick(said))

    @property
    def has_signal(self) -> bool:
        """Whether the status bar, as far as it is known, shows service."""
        return "📶" in self.bar

    def fact_words(self, fact: Fact) -> str:
        for pattern, options in SAID:
            found = re.match(pattern, fact.words)
            if found:
                text = first_person(found.expand(self.voice.pick(*options)))
                return text[:1].upper() + text[1:]
        return super().fact_words(fact)

    def bill_words(self, bill: Any) -> str:
        """'bill B22242 ($133.07, due on 2025-01-19)'."""
        return f"bill {bill.bill_id} (${money(bill.total_due)}, due on {bill.due_date})"


def capital(text: str) -> str:
    """With a capital at the beginning of each sentence."""
    return re.sub(r"(^|[.!?] )([a-z])(?!ttp)", lambda found: found[1] + found[2].upper(), text.strip())


PRESSES = frozenset(
    "set_network_mode_preference toggle_airplane_mode reseat_sim_card toggle_data toggle_roaming "
    "toggle_data_saver_mode reset_apn_settings toggle_wifi_calling disconnect_vpn grant_app_permission reboot_device "
    "make_payment".split()
)
ASKS: dict[str, tuple[str, ...]] = {
    "check_status_bar": (
        "[Please|Now please|Next, please] look at the status bar at the top of your screen. What does it show?",
        "[may] check the status bar of your phone and tell me what icons you see?",
        "What does the status bar of your phone show right now?",
    ),
    "check_network_status": (
        "[Please|Now please|Next, please] check the network status of your phone and tell me what it says.",
        "[may] open the network status on your phone and read it to me?",
        "What does your phone say under network status?",
        "Let's look at the network status of your phone. What does it show?",
    ),
    "check_network_mode_preference": (
        "[Please|Now please|Next, please] check which network mode your phone prefers.",
        "[may] look up the preferred network mode in your settings?",
    ),
    "check_sim_status": (
        "[Please|Now please|Next, please] check the status of your SIM card. What does it say?",
        "[may] check the SIM card's status on your phone?",
        "What does your phone say about the SIM card?",
    ),
    "check_data_restriction_status": (
        "[Please|Now please|Next, please] check if Data Saver or another data restriction is on.",
        "[may] check the data restrictions on your phone, such as Data Saver?",
    ),
    "check_apn_settings": (
        "[Please|Now please|Next, please] check the APN settings of your phone and tell me what they show.",
        "[may] open the APN settings and read them to me?",
        "What do the APN settings of your phone say?",
    ),
    "check_wifi_calling_status": (
        "[Please|Now please|Next, please] check if Wi-Fi Calling is on.",
        "[may] check the status of Wi-Fi Calling on your phone?",
    ),
    "check_vpn_status": (
        "[Please|Now please|Next, please] check if a VPN is on, and what its details say.",
        "[may] check the VPN status on your phone?",
    ),
    "check_app_permissions": (
        "[Please|Now please|Next, please] check which permissions your messaging app has.",
        "[may] look up the permissions of the messaging app?",
        "Which permissions does the messaging app have? Please check.",
    ),
    "run_speed_test": (
        "[Please|Now please|Next, please] run a speed test on your phone and tell me the result.",
        "[may] run a speed test?",
        "[Please|Now please|Next, please] run a speed test, so that we see how the connection is.",
    ),
    "can_send_mms": (
        "[Please|Now please|Next, please] check if your messaging app can send MMS now.",
        "[may] check whether your phone can send picture messages (MMS)?",
    ),
    "set_network_mode_preference": (
        "[Please|Now please|Next, please] set the preferred network mode to {mode}.",
        "[may] change the network mode preference to {mode}?",
    ),
    "toggle_airplane_mode": (
        "[Please|Now please|Next, please] turn Airplane Mode off.",
        "[may] switch Airplane Mode off and tell me what happens?",
    ),
    "reseat_sim_card": (
        "[Please|Now please|Next, please] take the SIM card out and put it in again.",
        "[may] reseat the SIM card, that is, take it out and insert it again?",
    ),
    "toggle_data": ("[Please|Now please|Next, please] turn Mobile Data on.", "[may] switch your mobile data on?"),
    "toggle_roaming": (
        "[Please|Now please|Next, please] turn Data Roaming on.",
        "[may] switch Data Roaming on in your phone?",
    ),
    "toggle_data_saver_mode": (
        "[Please|Now please|Next, please] turn Data Saver off.",
        "[may] switch Data Saver mode off?",
    ),
    "reset_apn_settings": (
        "[Please|Now please|Next, please] reset the APN settings to their defaults.",
        "[may] reset the APN settings of your phone?",
    ),
    "toggle_wifi_calling": (
        "[Please|Now please|Next, please] turn Wi-Fi Calling off.",
        "[may] switch Wi-Fi Calling off?",
    ),
    "disconnect_vpn": ("[Please|Now please|Next, please] disconnect the VPN.", "[may] disconnect from the VPN?"),
    "grant_app_permission": (
        "[Please|Now please|Next, please] grant the messaging app the {permission} permission.",
        "[may] give the messaging app permission for {permission}?",
    ),
    "reboot_device": (
        "[Please|Now please] [restart|reboot] your phone[| once].",
        "[Please|Now please|Next, please] reboot the phone, so that the change takes effect.",
        "[may] restart your phone now?",
    ),
}
"""How the agent asks the user to use a tool of the phone."""
SAID: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"You are ([^.,]+)\.$", (r"I'm \1.", r"My name is \1.", r"This is \1.")),
    (r"You were born on (.+)\.$", (r"I was born on \1.", r"\1", r"My date of birth is \1.")),
    (r"The phone number of the line is (.+)\.$", (r"It's \1.", r"\1", r"My number is \1.")),
    (r"It is about the line of your (.+)\.$", (r"It's the line of my \1.", r"The one of my \1.", r"My \1.")),
    (r"You are in (.+) at the moment, on a trip\.$", (r"I'm in \1 at the moment.", r"I'm on a trip in \1.")),
    (r"You are at home, not abroad\.$", (r"I'm at home.", r"At home, not abroad.", r"No, I'm at home.")),
    (r"If your data are used up, you take (.+) more and .*$", (r"I'd take \1 more.", r"\1, please.", r"\1 more.")),
    (r"You want ([\d.]+ GB)\.$", (r"\1, please.", r"I'd like \1.", r"\1")),
    (r"At first you want ([\d.]+ GB)\.$", (r"\1, please.", r"I'd like \1.")),
    (r"You ask for ([\d.]+ GB)\.$", (r"\1, please.", r"I'd like \1.")),
    (
        r"You want ([\d.]+ GB) if that costs no more than ([\d.]+) dollars; otherwise you want none\.$",
        (r"\1, if it costs no more than $\2.", r"I'd like \1, but only if it's $\2 at most."),
    ),
)
"""How the user says its facts when asked for them."""
