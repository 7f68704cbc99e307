"""What can be wrong with a phone or its line: how it comes about, what shows it, what mends it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from slime_tau2 import bench
from slime_tau2.factory.draft import Call
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.telecom import policy
from slime_tau2.factory.telecom.account import Account, function

if TYPE_CHECKING:
    from slime_tau2.episode.world import World

BEST_MODE = "4g_5g_preferred"


def look(name: str, **arguments: Any) -> Call:
    """A tool of the user's that only looks."""
    return Call(name=name, arguments=arguments, requestor="user")


def press(name: str, *, free: tuple[str, ...] = (), **arguments: Any) -> Call:
    """A tool of the user's that changes something."""
    return Call(name=name, arguments=arguments, requestor="user", write=True, free=free)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong with a phone.

    Attributes:
        name: as in a fault set.
        setup: how it comes about.
        shows: what shows it.
        mends: what the user does about it. Empty where the agent has to do something, or nobody can.
        findings: the manual's rules.
        reboot: the phone has to be restarted afterwards.
    """

    name: str
    setup: tuple[bench.EnvFunctionCall, ...]
    shows: tuple[Call, ...] = ()
    mends: tuple[Call, ...] = ()
    findings: tuple[Finding, ...]
    reboot: bool = False


def _phone(name: str, **arguments: Any) -> tuple[bench.EnvFunctionCall, ...]:
    return (function("user", name, **arguments),)


def _mode(name: str, mode: str) -> Fault:
    return Fault(
        name=name,
        setup=_phone("set_network_mode_preference", mode=mode),
        shows=(look("check_network_mode_preference"),),
        mends=(press("set_network_mode_preference", mode=BEST_MODE),),
        findings=(policy.network_mode(old=True),),
    )


def _locked(mode: str) -> Fault:
    return Fault(
        name=f"sim_{mode}",
        setup=_phone("lock_sim_card", mode=mode),
        shows=(look("check_sim_status"),),
        findings=(policy.sim_unlocked(f"locked_{mode}"),),
    )


def _permission(name: str) -> Fault:
    return Fault(
        name=f"{name}_permission",
        setup=_phone("remove_app_permission", app_name="messaging", permission=name),
        shows=(look("check_app_permissions", app_name="messaging"),),
        mends=(press("grant_app_permission", app_name="messaging", permission=name),),
        findings=(policy.app_permissions(lacking=True),),
    )


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            name="airplane",
            setup=_phone("turn_airplane_mode_on"),
            shows=(look("check_status_bar"),),
            mends=(press("toggle_airplane_mode"),),
            findings=(policy.airplane_mode(on=True),),
        ),
        Fault(
            name="sim_missing",
            setup=_phone("unseat_sim_card"),
            shows=(look("check_sim_status"),),
            mends=(press("reseat_sim_card"),),
            findings=(policy.sim_seated(missing=True), policy.sim_unlocked("missing")),
        ),
        _locked("pin"),
        _locked("puk"),
        Fault(
            name="data_off",
            setup=_phone("turn_data_off"),
            shows=(look("check_network_status"),),
            mends=(press("toggle_data"),),
            findings=(policy.mobile_data(off=True),),
        ),
        Fault(
            name="roaming_phone",
            setup=_phone("turn_roaming_off"),
            shows=(look("check_network_status"),),
            mends=(press("toggle_roaming"),),
            findings=(policy.roaming_phone(off=True, abroad=True),),
        ),
        Fault(
            name="saver",
            setup=_phone("turn_data_saver_mode_on"),
            shows=(look("check_data_restriction_status"),),
            mends=(press("toggle_data_saver_mode"),),
            findings=(policy.data_saver(on=True),),
        ),
        _mode("2g", "2g_only"),
        _mode("3g", "3g_only"),
        Fault(
            name="2g_mms",
            setup=_phone("set_network_mode_preference", mode="2g_only"),
            shows=(look("check_network_status"), look("check_network_mode_preference")),
            mends=(press("set_network_mode_preference", mode=BEST_MODE, free=("mode",)),),
            findings=(policy.mms_network(two_g=True),),
        ),
        Fault(
            name="vpn",
            setup=_phone("break_vpn"),
            shows=(look("check_vpn_status"),),
            mends=(press("disconnect_vpn"),),
            findings=(policy.vpn(poor=True),),
        ),
        Fault(
            name="wifi_calling",
            setup=_phone("set_wifi_calling", enabled=True, mms_over_wifi=True),
            shows=(look("check_wifi_calling_status"),),
            mends=(press("toggle_wifi_calling"),),
            findings=(policy.wifi_calling(on=True),),
        ),
        _permission("sms"),
        _permission("storage"),
        Fault(
            name="apn",
            setup=_phone("break_apn_settings"),
            shows=(look("check_apn_settings"),),
            mends=(press("reset_apn_settings"),),
            findings=(policy.apn(wrong=True),),
            reboot=True,
        ),
        Fault(
            name="mmsc",
            setup=_phone("break_apn_mms_setting"),
            shows=(look("check_apn_settings"),),
            mends=(press("reset_apn_settings"),),
            findings=(policy.mmsc(missing=True),),
            reboot=True,
        ),
    )
}
"""In the order in which they come about, and are mended. What the carrier has to do comes before the settings that take
a reboot: a reboot is last, so that nothing else can do its work."""

CARRIER = ("roaming_line", "usage", "suspended")
ALIKE = {"2g_mms": "2g"}


def named(names: Iterable[str]) -> frozenset[str]:
    """A fault set as tau2's tasks may have it."""
    return frozenset(ALIKE.get(name, name) for name in names)


@cache
def held_out_sets(world: World) -> frozenset[frozenset[str]]:
    """The fault sets of tau2's test and val tasks, whoever the customer is."""
    ids = [task for split in ("test", "val") for task in world.splits.get(split, ())]
    return frozenset(_of_task(world.task(task)) for task in ids)


def _of_task(task: bench.Task) -> frozenset[str]:
    actions = (task.initial_state.initialization_actions if task.initial_state else None) or []
    called = {(action.func_name, json.dumps(action.arguments, sort_keys=True)) for action in actions}
    names = {name for name, fault in FAULTS.items() if all(_key(call) in called for call in fault.setup)}
    functions = {action.func_name for action in actions}
    if "set_user_location" not in functions:
        names.discard("roaming_phone")
    if "disable_roaming" in functions:
        names.add("roaming_line")
    if "set_data_usage" in functions:
        names.add("exhausted" if "refuel_data" in functions else "usage")
    for action in actions:
        if action.func_name == "suspend_line_for_overdue_bill":
            names.add("ended" if action.arguments["contract_ended"] else "suspended")
    return named(names)


def _key(call: bench.EnvFunctionCall) -> tuple[str, str]:
    return call.func_name, json.dumps(call.arguments, sort_keys=True)


def abroad(account: Account, *, line_roams: bool) -> tuple[bench.EnvFunctionCall, ...]:
    """The user is in another country; roaming is on in the phone, and as said on the line."""
    return (
        function("user", "set_user_location", abroad=True),
        function("user", "turn_roaming_on"),
        function("assistant", "enable_roaming" if line_roams else "disable_roaming", **account.ids()),
    )
