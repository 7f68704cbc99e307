"""Telecom's rules on a write of a finished task: the agent's, and what the user does to the phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from slime_tau2.factory.case import Write
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.telecom import policy
from slime_tau2.factory.telecom.account import Account

OLD_MODES = ("2g_only", "3g_only")
RESTARTED_AFTER = ("resume_line", "reset_apn_settings")
"""What takes effect with a reboot."""


def ruling(write: Write) -> Iterator[Finding]:
    """What the database before a write, the write and the scenario decide; nothing of a tool that no rule asks for."""
    if all(customer.customer_id != write.case.owner for customer in write.case.db.customers):
        yield policy.identified(())
        return
    account = Account(write.case)
    phone: Any = write.case.environment.user_tools
    by_user = write.call.requestor == "user"
    if found := list(_on_phone(write, phone.db) if by_user else _at_carrier(write, account, phone.db)):
        yield from (_identified(account, write), *found)


def _at_carrier(write: Write, account: Account, phone: Any) -> Iterator[Finding]:
    """The policy: what the agent does for the account."""
    tool, arguments = write.call.name, write.call.arguments
    if tool == "send_payment_request":
        yield policy.bill_overdue(next(b for b in account.db.bills if b.bill_id == arguments["bill_id"]))
        yield policy.one_at_a_time(len(account.with_status("Awaiting Payment")))
    elif tool == "resume_line":
        yield policy.suspension(account.line)
        yield policy.all_paid([*account.with_status("Overdue"), *account.with_status("Awaiting Payment")])
        yield policy.contract_runs(account.line, account.today)
        yield policy.BOOK.rules["rebooted"](any(call.name == "reboot_device" for call in write.later))
    elif tool == "refuel_data":
        yield policy.refuel_limit(arguments["gb_amount"], account.line.data_refueling_gb)
    elif tool == "enable_roaming":
        yield policy.roaming_line(phone.surroundings.is_abroad)


def _identified(account: Account, write: Write) -> Finding:
    """Whether the story says who the user is, and the write is about that customer and that line."""
    customer, story = account.customer, write.story
    known = {
        "phone": account.line.phone_number in story,
        "id": customer.customer_id in story,
        "name": customer.full_name in story,
        "birth": customer.date_of_birth in story,
    }
    own = {"customer_id": customer.customer_id, "line_id": account.line.line_id}
    other = any(write.call.arguments.get(name, value) != value for name, value in own.items())
    return policy.identified(() if other else [what for what, said in known.items() if said])


def _on_phone(write: Write, phone: Any) -> Iterator[Finding]:
    """The manual: whatever the user changes was wrong."""
    tool, arguments = write.call.name, write.call.arguments
    if tool == "make_payment":
        yield policy.pays(accepts=phone.surroundings.payment_request is not None)
    elif tool == "reboot_device":
        yield policy.BOOK.rules["rebooted"](any(call.name in RESTARTED_AFTER for call in write.earlier))
    elif tool == "reset_apn_settings":
        settings = phone.device.active_apn_settings
        yield policy.mmsc(True) if settings.mmsc_url is None else policy.apn(settings.apn_name.value == "broken")
    elif tool in SETTINGS:
        yield SETTINGS[tool](phone, arguments)


def _vpn(phone: Any, arguments: Mapping[str, Any]) -> Finding:
    details = phone.device.vpn_details
    return policy.vpn(bool(phone.device.vpn_connected and details and details.server_performance.value == "poor"))


def _permission(phone: Any, arguments: Mapping[str, Any]) -> Finding:
    permissions = phone.device.app_statuses[arguments["app_name"]].permissions
    return policy.app_permissions(lacking=not getattr(permissions, arguments["permission"]))


SETTINGS: dict[str, Callable[[Any, Mapping[str, Any]], Finding]] = {
    "toggle_airplane_mode": lambda phone, _: policy.airplane_mode(phone.device.airplane_mode),
    "reseat_sim_card": lambda phone, _: policy.sim_seated(phone.device.sim_card_missing),
    "toggle_data": lambda phone, _: policy.mobile_data(not phone.device.data_enabled),
    "toggle_roaming": lambda phone, _: policy.roaming_phone(
        not phone.device.roaming_enabled, phone.surroundings.is_abroad
    ),
    "toggle_data_saver_mode": lambda phone, _: policy.data_saver(phone.device.data_saver_mode),
    "set_network_mode_preference": lambda phone, _: policy.network_mode(
        phone.device.network_mode_preference.value in OLD_MODES
    ),
    "disconnect_vpn": _vpn,
    "toggle_wifi_calling": lambda phone, _: policy.wifi_calling(phone.device.wifi_calling_enabled),
    "grant_app_permission": _permission,
}
"""{tool of the user: whether there is something wrong that it mends}"""
