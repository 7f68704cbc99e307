"""A phone that does not work: no service, no or slow mobile data, no picture messages.

Several things are wrong at once, on the phone and at the carrier, in sets that no test task of tau2 has.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from slime_tau2 import bench
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, write
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import remembered
from slime_tau2.factory.telecom import faults, policy
from slime_tau2.factory.telecom.account import Account, function, holds, paid
from slime_tau2.factory.telecom.bills import resuming, settling
from slime_tau2.factory.telecom.faults import FAULTS, look
from slime_tau2.factory.telecom.words import ANY_REQUEST, COUNTRIES, gigabytes, some, with_phone


@dataclass(frozen=True, kw_only=True)
class Complaint:
    """What a user may complain of.

    Attributes:
        about: in a few words.
        symptoms, wants: what the user says at first, with an occasion between them.
        solved: when the user takes it for solved.
        groups: alternatives that may be wrong, one of each group; a tuple within are several at once.
        needs: at least one of these is wrong.
        tests: what shows whether it works.
        works: the assertions that it does.
        broken: the assertions that it still does not, for what nobody can mend.
        data: whether roaming and used up data are in its way too.
    """

    about: str
    symptoms: tuple[str, ...]
    wants: tuple[str, ...]
    solved: tuple[str, ...]
    groups: tuple[tuple[str | tuple[str, ...], ...], ...]
    needs: frozenset[str]
    tests: tuple[Call, ...]
    works: tuple[bench.EnvAssertion, ...]
    broken: tuple[bench.EnvAssertion, ...]
    data: bool = True

    def reason(self, rng: random.Random) -> str:
        """What the user says at first."""
        return " ".join(filter(None, (some(rng, self.symptoms), some(rng, OCCASIONS), some(rng, self.wants))))


OCCASIONS = (
    *("It began this morning.", "It has been like this since last night.", "Yesterday it was still fine."),
    *(
        "You have a long drive ahead today.",
        "You are expecting news from your family.",
        "You have been patient long enough.",
    ),
    *(
        "You need your phone for work.",
        "You noticed it on the way home.",
        "It started after the weekend.",
        "It is urgent.",
    ),
    *("You have no other phone.", "You are leaving in an hour.", "You have an appointment this afternoon.", ""),
)
"""When it began, or why it matters, in words that say nothing of the cause."""
CONNECTED = holds("user", "service_status", expected_status="connected")
NO_SERVICE = holds("user", "service_status", expected_status="no_service")
ONLINE = holds("user", "mobile_data_status", expected_status=True)
OFFLINE = holds("user", "mobile_data_status", expected_status=False)
FAST = holds("user", "internet_speed", expected_speed=200, expected_desc="excellent")
PICTURES = holds("user", "can_send_mms", expected_status=True)
NO_PICTURES = holds("user", "can_send_mms", expected_status=False)

RADIO: tuple[tuple[str | tuple[str, ...], ...], ...] = (("airplane",), ("sim_missing",), ("apn",))
ROAMING = ("roaming_phone", "roaming_line")
SLOW = frozenset({"saver", "2g", "3g", "vpn"})

SERVICE = Complaint(
    about="your signal",
    symptoms=(
        "Your phone has no signal: you can neither call nor be called.",
        "Nobody can reach you, and your calls do not go out.",
        "The top of your screen says that there is no service.",
        "Your phone does not find the network any more.",
        "Every call that you try ends before it rings.",
        "There is not a single bar on your phone, wherever you stand.",
        "Your phone is no use for calls: it says that there is no network.",
        "You missed a call from your doctor because your phone has no service.",
    ),
    wants=(
        "You want it to work again.",
        "You want your service back.",
        "You want to be able to make calls again.",
        "You want help with it.",
        "You want your phone to have a signal again.",
        "You want to have that mended.",
    ),
    solved=(
        "You are satisfied as soon as the status bar shows a signal.",
        "It is solved for you when your phone has signal again, not before.",
    ),
    groups=RADIO,
    needs=frozenset({"airplane", "sim_missing", "apn", "suspended"}),
    tests=(look("check_status_bar"),),
    works=(CONNECTED,),
    broken=(NO_SERVICE,),
    data=False,
)
NO_DATA = Complaint(
    about="the internet on your phone",
    symptoms=(
        "The internet on your phone does not work when you are not on Wi-Fi, and you have no Wi-Fi.",
        "Nothing loads on your phone over mobile data.",
        "Maps and mail do not load at all on your phone, and there is no Wi-Fi where you are.",
        "Your mobile data are dead: no page opens.",
        "The messenger on your phone never connects, and there is no Wi-Fi to help out.",
        "Your phone says that you are offline, and you have no Wi-Fi to fall back on.",
        "You cannot read your mail on your phone: there is no mobile internet.",
        "Your bus ticket is in an app that does not load: you have no mobile data.",
    ),
    wants=(
        "You want to get online again; the speed does not matter.",
        "You want it to work again, fast or slow.",
        "You want your mobile data back, at whatever speed.",
        "You want to be online on the go again, however slowly.",
        "You want a connection, and do not mind if it is slow.",
    ),
    solved=(
        "You are satisfied as soon as a speed test shows a connection, whatever the speed.",
        "It is solved for you when a speed test gives a result instead of failing.",
    ),
    groups=(*RADIO, ("data_off",)),
    needs=frozenset({"airplane", "sim_missing", "apn", "data_off", "suspended", "usage", *ROAMING}),
    tests=(look("run_speed_test"),),
    works=(ONLINE,),
    broken=(OFFLINE,),
)
SLOW_DATA = Complaint(
    about="the speed of your internet",
    symptoms=(
        "The internet on your phone is a trial: pages hang, or do not come at all.",
        "You pay for fast mobile data and do not have it.",
        "Mobile data on your phone is far too slow, when it works at all.",
        "Videos on your phone stop every few seconds, or never begin.",
        "A page takes minutes over mobile data, if it comes.",
        "Your mobile internet crawls, or stands still.",
        "A photo takes a quarter of an hour to upload over mobile data, or fails.",
        "Music on your phone breaks off all the time: mobile data are too slow for it.",
    ),
    wants=(
        "You want it as fast as it can be, and there is no Wi-Fi where you are.",
        "You want an excellent speed, nothing less.",
        "You want a speed test to say excellent.",
        "You want your internet to be really fast again, and you have no Wi-Fi.",
        "You want the best speed that there is.",
    ),
    solved=(
        "You are satisfied only when a speed test says excellent; good or fair is not enough.",
        "It is solved for you when the speed test rates your connection as excellent, and not before.",
    ),
    groups=(*RADIO, ("data_off",), ("saver",), ("2g", "3g"), ("vpn",)),
    needs=SLOW,
    tests=(look("run_speed_test"),),
    works=(ONLINE, FAST),
    broken=(OFFLINE,),
)
MMS = Complaint(
    about="picture messages",
    symptoms=(
        "You cannot send pictures in your messages any more.",
        "Every message with a photo fails on your phone.",
        "Your phone refuses to send a video message to your sister.",
        "Picture messages do not leave your phone.",
        "A photo that you send in a message hangs until the phone gives up.",
        "Group messages with pictures fail on your phone.",
        "Your phone says that a message with a photo was not sent, each time.",
        "You took a picture for your landlord, and your phone does not send it as a message.",
    ),
    wants=(
        "You want picture messages to work again.",
        "You want to send pictures again.",
        "You want to have that mended.",
        "You want your phone to send photos as it used to.",
        "You want to be able to send a photo in a message.",
    ),
    solved=(
        "You are satisfied when your phone says that it can send picture messages.",
        "It is solved for you when a check shows that MMS can be sent.",
    ),
    groups=(
        *RADIO,
        ("data_off",),
        ("2g_mms",),
        ("wifi_calling",),
        ("mmsc",),
        ("sms_permission", "storage_permission", ("sms_permission", "storage_permission")),
    ),
    needs=frozenset({"2g_mms", "wifi_calling", "mmsc", "sms_permission", "storage_permission"}),
    tests=(look("can_send_mms"),),
    works=(PICTURES,),
    broken=(NO_PICTURES,),
)
COMPLAINTS = (SERVICE, NO_DATA, SLOW_DATA, MMS)

NUMBER = {1: 0.05, 2: 0.13, 3: 0.2, 4: 0.22, 5: 0.2, 6: 0.13, 7: 0.07}
"""How many things are wrong, and how likely."""
AMOUNTS = (0.5, 1.0, 1.5, 2.0)


def draw(rng: random.Random, complaint: Complaint, line: Sequence[str]) -> frozenset[str]:
    """What is wrong by chance, beside what is wrong with the line."""
    pools = list(complaint.groups)
    if complaint.data:
        pools += [("usage",), (("roaming_phone",), ("roaming_line",), ROAMING)]
    wanted = rng.choices(list(NUMBER), list(NUMBER.values()))[0]
    names = set(line)
    for pool in rng.sample(pools, min(wanted, len(pools))):
        choice = rng.choice(pool)
        names |= {choice} if isinstance(choice, str) else set(choice)
    return frozenset(names)


def repair(case: Case, complaint: Complaint) -> Wish | None:
    """A phone that the user and the agent can mend together."""
    account, rng = Account(case), case.rng
    if not account.runs or bool(account.with_status("Overdue")) != account.suspended:
        return None  # what is owed beside a phone that does not work is not what the user calls for
    wrong = draw(rng, complaint, ("suspended",) if account.suspended else ())
    if not wrong & complaint.needs or _taken(case, account, wrong):
        return None
    if "usage" in wrong and account.plan.data_limit_gb > 100:
        return None
    away = bool(wrong & set(ROAMING)) or (complaint.data and rng.random() < 0.2)
    amount = rng.choice(AMOUNTS)

    setup = situation(account, wrong, away=away, over=_over(rng, amount))
    calls, findings = mending(account, complaint, wrong, amount)
    instructions = [some(rng, complaint.solved), *with_phone(rng)]
    facts = [place(rng, away)] if complaint.data else []
    if "usage" in wrong:
        facts.append(
            Fact(
                "how much more data you would take",
                f"If your data are used up, you take {gigabytes(amount)} more and pay the price for it.",
                Told.ASKED,
            )
        )
        instructions.append("You do not want another plan.")
    elif complaint.data and rng.random() < 0.5:
        instructions.append("You do not want to buy data unless the agent says that yours are used up.")
    instructions.append(some(rng, PAYING if "suspended" in wrong else ANY_REQUEST))
    return Wish(
        reason=complaint.reason(rng),
        about=complaint.about,
        facts=tuple(facts),
        instructions=tuple(instructions),
        calls=calls,
        findings=findings,
        setup=setup,
        assertions=(*complaint.works, *(paid(bill) for bill in account.with_status("Overdue") if account.suspended)),
        entities=account.entities,
    )


PAYING = (
    "If a bill is open, you pay it as soon as the agent has sent you a payment request.",
    "Should the agent find an unpaid bill, you are willing to pay it: check for the payment request, then pay.",
    "You forgot about your bills. If the agent sends you a payment request, you check it and pay, one after the other.",
)


def _taken(case: Case, account: Account, wrong: frozenset[str]) -> bool:
    """Whether a test task has this fault set; a second unpaid bill makes it another one."""
    if "suspended" in wrong and len(account.with_status("Overdue")) > 1:
        return False
    return faults.named(wrong) in faults.held_out_sets(case.world)


def _over(rng: random.Random, amount: float) -> float:
    """How much was used beyond the limit: less than what the user would refuel."""
    return round(rng.randint(1, int(amount * 10) - 1) / 10, 1)


def place(rng: random.Random, away: bool) -> Fact:
    """Where the user is."""
    words = f"You are in {rng.choice(COUNTRIES)} at the moment, on a trip." if away else "You are at home, not abroad."
    return remembered(rng, Fact("where you are", words), at_once=0.5 if away else 0.2)


def situation(
    account: Account, wrong: frozenset[str], *, away: bool, over: float, refueled: float = 0.0
) -> tuple[bench.EnvFunctionCall, ...]:
    """How things came to be as they are.

    Args:
        over: GB used beyond the limit, if that is wrong.
        refueled: GB that were added to the limit before.
    """
    calls: list[bench.EnvFunctionCall] = []
    if away:
        calls += faults.abroad(account, line_roams="roaming_line" not in wrong)
    if refueled:
        calls.append(function("assistant", "refuel_data", **account.ids(), gb_amount=refueled))
    if "usage" in wrong:
        used = round(account.plan.data_limit_gb + refueled + over, 1)
        calls.append(function("assistant", "set_data_usage", **account.ids(), data_used_gb=used))
    for name, fault in FAULTS.items():
        if name in wrong:
            calls += fault.setup
    return tuple(calls)


def mending(
    account: Account, complaint: Complaint, wrong: frozenset[str], amount: float
) -> tuple[tuple[Call, ...], tuple[Finding, ...]]:
    """What is done, and the rules for it."""
    calls: list[Call] = [*complaint.tests]
    findings: list[Finding] = []
    at_last: list[Call] = []
    for name, fault in FAULTS.items():
        if name not in wrong:
            continue
        calls += fault.shows
        findings += fault.findings
        if fault.reboot:
            at_last += [call for call in fault.mends if call not in at_last]
        else:
            calls += fault.mends
    if "roaming_line" in wrong:
        calls.append(write("enable_roaming", **account.ids()))
        findings.append(policy.roaming_line(abroad=True))
    if "usage" in wrong:
        calls += [
            account.look_at_usage(),
            account.look_at_plan(),
            write("refuel_data", **account.ids(), gb_amount=amount),
        ]
        findings += [policy.data_limit(exceeded=True), policy.refuel_limit(amount), policy.refuel_agreed(agrees=True)]
    if "suspended" in wrong:
        bills = account.with_status("Overdue")
        settle, found = settling(account, bills)
        resume, rules = resuming(account)
        calls += [*settle, *resume]
        findings += [policy.suspension(account.line), *found, *rules]
    calls += at_last
    if at_last or "suspended" in wrong:
        calls.append(faults.press("reboot_device"))
    return tuple(calls), tuple(findings)


def service(case: Case) -> Wish | None:
    """No signal."""
    return repair(case, SERVICE)


def no_data(case: Case) -> Wish | None:
    """No mobile data, whatever their speed."""
    return repair(case, NO_DATA)


def slow_data(case: Case) -> Wish | None:
    """Mobile data that have to be excellent."""
    return repair(case, SLOW_DATA)


def mms(case: Case) -> Wish | None:
    """No picture messages."""
    return repair(case, MMS)
