"""Telecom's policy, and both its manuals, as named predicates on accounts and phones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from slime_tau2.factory.rules import Rulebook
from slime_tau2.factory.telecom.account import Bill, Line

BOOK = Rulebook()
rule = BOOK.rule

GENERAL, LOOKUP = "Telecom agent policy", "Customer lookup"
BILLS, SUSPENSION, REFUEL = "Overdue bill payment", "Line suspension", "Data refueling"
PLAN, ROAMING = "Change plan", "Data roaming"
SERVICE, DATA, MMS = "Cellular service", "Mobile data", "MMS"

REFUEL_LIMIT_GB = 2.0
SCOPE = ("repair", "bill", "suspension", "data", "information")


# The main policy


@rule(LOOKUP, "a customer is found by phone number, by customer id, or by full name and date of birth")
def identified(by: Iterable[str]) -> bool:
    known = set(by)
    return bool(known & {"phone", "id"}) or {"name", "birth"} <= known


@rule(GENERAL, "what no action can do goes to a person, and nothing else does")
def in_scope(request: str) -> bool:
    return request in SCOPE


@rule(GENERAL, "users are told what the tools say of their accounts")
def information(in_account: bool) -> bool:
    return in_account


@rule(BILLS, "a payment request is sent for an overdue bill, and for no other")
def bill_overdue(bill: Bill) -> bool:
    return bill.status == "Overdue"


@rule(BILLS, "one bill at a time awaits payment")
def one_at_a_time(awaiting: int) -> bool:
    return awaiting == 0


@rule(BILLS, "the user accepts the request and pays")
def pays(accepts: bool) -> bool:
    return accepts


@rule(SUSPENSION, "a suspension is lifted when all overdue bills are paid")
def all_paid(open_bills: Sequence[Bill]) -> bool:
    return not open_bills


@rule(SUSPENSION, "a suspension is not lifted when the line's contract has ended")
def contract_runs(line: Line, today: date) -> bool:
    return line.contract_end_date is None or line.contract_end_date >= today


@rule(SUSPENSION, "after a line is resumed the phone is rebooted")
def rebooted(line: Line) -> bool:
    return line.status == "Suspended"


@rule(REFUEL, "at most 2 GB are refueled")
def refuel_limit(gb: float, refueled: float = 0.0) -> bool:
    return 0 < gb and gb + refueled <= REFUEL_LIMIT_GB


@rule(REFUEL, "the user names the amount, and agrees to the plan's price for it")
def refuel_agreed(agrees: bool) -> bool:
    return agrees


@rule(PLAN, "another plan is applied by an action")
def plan_tool(tools: Iterable[str]) -> bool:
    return any("plan" in tool for tool in tools)


@rule(ROAMING, "for a user abroad roaming is enabled on the line, at no cost")
def roaming_line(abroad: bool) -> bool:
    return abroad


# The manual: each rule is what has to be done about something that may be wrong with the phone


@rule(SERVICE, "airplane mode is turned off")
def airplane_mode(on: bool) -> bool:
    return on


@rule(SERVICE, "a missing SIM card is reseated")
def sim_seated(missing: bool) -> bool:
    return missing


@rule(SERVICE, "a SIM card that is locked is a matter for others")
def sim_unlocked(status: str) -> bool:
    return not status.startswith("locked")


@rule(SERVICE, "incorrect APN settings are reset, and the phone is rebooted")
def apn(wrong: bool) -> bool:
    return wrong


@rule(SERVICE, "a line may be suspended: the policy says what then")
def suspension(line: Line) -> bool:
    return line.status == "Suspended"


@rule(DATA, "mobile data is turned on")
def mobile_data(off: bool) -> bool:
    return off


@rule(DATA, "abroad, data roaming is turned on in the phone")
def roaming_phone(off: bool, abroad: bool) -> bool:
    return off and abroad


@rule(DATA, "data saver mode is turned off")
def data_saver(on: bool) -> bool:
    return on


@rule(DATA, "a VPN of poor performance is disconnected")
def vpn(poor: bool) -> bool:
    return poor


@rule(DATA, "data beyond the plan's limit are refueled, or the plan is changed")
def data_limit(exceeded: bool) -> bool:
    return exceeded


@rule(DATA, "a phone that prefers 2G or 3G is set to 4G and 5G")
def network_mode(old: bool) -> bool:
    return old


@rule(MMS, "picture messages need more than 2G")
def mms_network(two_g: bool) -> bool:
    return two_g


@rule(MMS, "a missing MMSC address is restored by a reset of the APN settings and a reboot")
def mmsc(missing: bool) -> bool:
    return missing


@rule(MMS, "Wi-Fi calling is turned off")
def wifi_calling(on: bool) -> bool:
    return on


@rule(MMS, "the messaging app is granted storage and SMS")
def app_permissions(lacking: bool) -> bool:
    return lacking
