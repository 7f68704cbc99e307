"""Customers of our own, and the scene that a task begins in.

tau2's telecom database has four customers, and all its tasks are about one line of one of them. So that no task of ours
has anybody in common with a test task, each brings its customers: who they are follows from their number, how their
account stands is drawn anew for every task. The agent's toolkit has an `update_db`; a call of it puts them in the place
of tau2's. (`initialization_data` would do the same, but in tau2 v1.0.x it leaves the user without a phone.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from slime_tau2 import bench
from slime_tau2.factory.case import Case
from slime_tau2.factory.telecom.account import Plan, by_assertions, function, today
from slime_tau2.seeds import derive_seed

if TYPE_CHECKING:
    from slime_tau2.episode.world import World

FIRST_NUMBER, HOUSEHOLDS = 2001, 1200
FIRST_NAMES = tuple(
    "Adele Amir Astrid Bashir Beatriz Bilal Camila Cedric Chiara Dalia Darius Dolores Edith Elif Emeka Esther Fabian "
    "Farah Felix Freya Giulia Goran Hanna Hugo Ingrid Ismail Ivana Jasper Jolene Kaito Katya Leandro Leila Lorenzo "
    "Magnus Malik Marisol Mei Milan Nadia Niels Noor Odette Omar Petra Quentin Rafael Rosalie Salma Silas Tamara Tariq "
    "Ursula Valentin Viola Wanda Xenia Yusuf Zelda Zoran".split()
)
LAST_NAMES = tuple(
    "Abara Albrecht Amato Banerjee Barlow Bergstrom Calloway Castellano Chandra Dahl Delacroix Dimitrov Egan Engel "
    "Farouk Ferreira Galloway Gutierrez Haddad Halvorsen Hashimoto Iglesias Ivanova Jankowski Jimenez Kaplan Kowalczyk "
    "Kruger Lachance Lindgren Marchetti Mbeki Moreau Nakamura Novak Oduya Olsson Pacheco Petrova Quintero Rahman "
    "Rinaldi Saito Sandoval Schreiber Takahashi Tanaka Ueda Urbina Vargas Verhoeven Vasquez Wexler Wolff Xiong Yamada "
    "Yilmaz Zapata Ziegler Zielinski".split()
)
STREETS = ("Alder Way", "Birch Lane", "Canal Street", "Dover Road", "Elmwood Drive", "Foundry Row", "Garnet Court")
TOWNS = (
    ("Albany", "NY", "12207"),
    ("Boise", "ID", "83702"),
    ("Dayton", "OH", "45402"),
    ("Eugene", "OR", "97401"),
    ("Fresno", "CA", "93721"),
    ("Lincoln", "NE", "68508"),
    ("Macon", "GA", "31201"),
    ("Tulsa", "OK", "74103"),
)
MODELS = ("Aster 9", "Aster 9 Mini", "Borealis X2", "Cobalt Fold", "Dune 5G", "Ember Pro", "Fjord 12", "Halo SE")
METHODS = ("Credit Card", "Debit Card", "PayPal")
EXTRAS = ("International calls", "Premium text messages", "Device insurance", "Directory assistance")


@dataclass(frozen=True)
class Card:
    """A line of a household, as far as it never changes."""

    line_id: str
    phone_number: str
    device_id: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Household:
    """A customer, as far as it never changes."""

    number: int
    full_name: str
    date_of_birth: str
    address: dict[str, str]
    method: dict[str, str]
    cards: tuple[Card, ...]

    @property
    def customer_id(self) -> str:
        return f"C{self.number}"


@cache
def household(customer_id: str) -> Household:
    """The household of a customer id."""
    number = int(customer_id[1:])
    rng = random.Random(derive_seed("factory", "telecom", "household", number))
    index = number - FIRST_NUMBER
    first = index % len(FIRST_NAMES)
    last = (index // len(FIRST_NAMES) + 13 * first) % len(LAST_NAMES)
    town, state, code = rng.choice(TOWNS)
    born = date(rng.randint(1944, 2004), rng.randint(1, 12), rng.randint(1, 28))
    models = rng.sample(MODELS, rng.choice((1, 1, 2, 2, 3)))
    cards = []
    for n, model in enumerate(models):
        phone = f"555-{300 + index // 100:03}-{index % 100 * 100 + 30 * n + rng.randrange(30):04}"
        cards.append(Card(f"L{number}{n + 1}", phone, f"D{number}{n + 1}", model))
    return Household(
        number=number,
        full_name=f"{FIRST_NAMES[first]} {LAST_NAMES[last]}",
        date_of_birth=born.isoformat(),
        address={
            "street": f"{rng.randint(2, 980)} {rng.choice(STREETS)}",
            "city": town,
            "state": state,
            "zip_code": code,
        },
        method={
            "method_type": rng.choice(METHODS),
            "account_number_last_4": f"{rng.randrange(10_000):04}",
            "expiration_date": f"{rng.randint(1, 12):02}/{rng.randint(2026, 2029)}",
        },
        cards=tuple(cards),
    )


def owners(world: World) -> list[str]:
    """Customer ids that are not tau2's, with names that are not either."""
    database = world.environments.base.tools.db.model_dump_json()
    ids = [f"C{FIRST_NUMBER + n}" for n in range(HOUSEHOLDS)]
    return [c for c in ids if c not in database and household(c).full_name not in database]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How an account stands with the carrier.

    Attributes:
        overdue: how many bills are.
        suspended: whether the line in question is.
        ended: whether its contract has.
    """

    overdue: int = 0
    suspended: bool = False
    ended: bool = False


STANDINGS = {
    Standing(): 0.6,
    Standing(overdue=1): 0.13,
    Standing(overdue=1, suspended=True): 0.1,
    Standing(overdue=2, suspended=True): 0.09,
    Standing(suspended=True, ended=True): 0.04,
    Standing(overdue=1, suspended=True, ended=True): 0.04,
}


def scene(case: Case) -> tuple[bench.EnvFunctionCall, ...]:
    """Two households in the carrier's books, and one's phone in the user's hand."""
    rng, books = case.rng, _Books(case, exact=by_assertions(case.recipe))
    home = household(case.owner)
    card = rng.choice(home.cards)
    standing = rng.choices(list(STANDINGS), list(STANDINGS.values()))[0]
    parts = [(home, card, standing)]
    others = [peer for peer in case.peers if peer != case.owner]
    if others:
        other = household(rng.choice(others))
        parts.insert(rng.randrange(2), (other, other.cards[0], Standing()))
    for part in parts:
        books.enter(*part)
    return (
        function("assistant", "update_db", update_data=books.rows),
        function("user", "set_user_info", name=home.full_name, phone_number=card.phone_number),
        function("user", "simulate_network_search"),
    )


class _Books:
    """Rows of the carrier's database.

    Args:
        exact: what assertions cannot tell apart must not be. So roaming is enabled on all lines, because none says
            whether it is, and whoever else is in the books has paid all bills, because none says of a bill that is not
            paid whether a request for it was sent.
    """

    def __init__(self, case: Case, *, exact: bool):
        self.owner, self.rng, self.today, self.exact = case.owner, case.rng, today(case.world.policy), exact
        self.plans: Sequence[Plan] = [plan for plan in case.db.plans if plan.data_limit_gb >= 3]
        self.rows: dict[str, list[dict[str, Any]]] = {"customers": [], "lines": [], "bills": [], "devices": []}

    def enter(self, home: Household, card: Card, standing: Standing) -> None:
        """Write down a household whose line `card` stands as said."""
        plans = [self.rng.choice(self.plans) for _ in home.cards]
        for each, plan in zip(home.cards, plans, strict=True):
            self._line(each, plan, standing if each is card else Standing())
        bills = self._bills(home, plans, standing.overdue)
        if self.exact and home.customer_id != self.owner:
            bills = [bill for bill in bills if bill["status"] == "Paid"]
        first, last = home.full_name.lower().split()
        self.rows["customers"].append(
            {
                "customer_id": home.customer_id,
                "full_name": home.full_name,
                "date_of_birth": home.date_of_birth,
                "email": f"{first}.{last}@example.com",
                "phone_number": home.cards[0].phone_number,
                "address": home.address,
                "account_status": "Active",
                "payment_methods": [home.method],
                "line_ids": [each.line_id for each in home.cards],
                "bill_ids": [bill["bill_id"] for bill in bills],
                "created_at": f"{self._day(-900, -120)}T10:00:00",
                "last_extension_date": None,
                "goodwill_credit_used_this_year": 0.0,
            }
        )
        self.rows["bills"] += bills

    def _day(self, first: int, last: int) -> str:
        """A day by chance, so many days from today."""
        return (self.today + timedelta(days=self.rng.randint(first, last))).isoformat()

    def _line(self, card: Card, plan: Plan, standing: Standing) -> None:
        rng = self.rng
        changed = self._day(-500, -60)
        ends = self._day(-70, -6) if standing.ended else self._day(60, 800)
        limit = min(plan.data_limit_gb, 40.0)
        self.rows["lines"].append(
            {
                "line_id": card.line_id,
                "phone_number": card.phone_number,
                "status": "Suspended" if standing.suspended else "Active",
                "plan_id": plan.plan_id,
                "device_id": card.device_id,
                "data_used_gb": round(limit * rng.uniform(0.2, 0.85), 1),
                "data_refueling_gb": 0.0,
                "roaming_enabled": rng.random() < 0.5 or self.exact,
                "contract_end_date": ends,
                "last_plan_change_date": changed,
                "last_sim_replacement_date": None,
                "suspension_start_date": self._day(-5, -1) if standing.suspended else None,
            }
        )
        self.rows["devices"].append(
            {
                "device_id": card.device_id,
                "device_type": "phone",
                "model": card.model,
                "imei": f"{rng.randrange(10**15):015}",
                "is_esim_capable": True,
                "activated": True,
                "activation_date": f"{changed}T09:30:00",
                "last_esim_transfer_date": None,
            }
        )

    def _bills(self, home: Household, plans: Sequence[Plan], overdue: int) -> list[dict[str, Any]]:
        """The bills of the last two months, paid but for the overdue ones; this month's; and the draft of the next,
        which refueling is charged to."""
        this_month = self.today.replace(day=1)
        months = [this_month]
        for _ in range(2):
            months.insert(0, (months[0] - timedelta(days=1)).replace(day=1))
        months.append((this_month + timedelta(days=32)).replace(day=1))
        paid, late = "Paid", "Overdue"
        states = {0: (paid, paid), 1: (paid, late), 2: (late, late)}[overdue]
        bills = []
        for n, (month, status) in enumerate(zip(months, (*states, "Issued", "Draft"), strict=True), 1):
            issued = month + timedelta(days=4)
            if status == "Issued":  # not due yet
                issued = self.today - timedelta(days=self.rng.randint(2, 8))
            elif status == "Draft":
                issued = month
            items = [] if status == "Draft" else self._items(home, plans, issued)
            bills.append(
                {
                    "bill_id": f"B{home.number}{n}",
                    "customer_id": home.customer_id,
                    "period_start": month.isoformat(),
                    "period_end": ((month + timedelta(days=32)).replace(day=1) - timedelta(days=1)).isoformat(),
                    "issue_date": issued.isoformat(),
                    "total_due": round(sum(item["amount"] for item in items), 2),
                    "due_date": (issued + timedelta(days=14)).isoformat(),
                    "line_items": items,
                    "status": status,
                }
            )
        return bills

    def _items(self, home: Household, plans: Sequence[Plan], day: date) -> list[dict[str, Any]]:
        items = [
            (f"{plan.name} - Line {card.phone_number}", plan.price_per_month, "Plan Charge")
            for card, plan in zip(home.cards, plans, strict=True)
        ]
        # two decimals that both count: 12.34, never 12.30, reads the same however it is written
        extra = self.rng.randint(1, 29) + (self.rng.randint(0, 9) * 10 + self.rng.randint(1, 9)) / 100
        items.append((self.rng.choice(EXTRAS), extra, "Fee"))
        return [
            {"description": text, "amount": amount, "date": day.isoformat(), "item_type": kind}
            for text, amount, kind in items
        ]
