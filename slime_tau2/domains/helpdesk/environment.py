"""helpdesk: a small, complete tau2 domain with dual control.

One shop, three families of tasks that mirror the three benchmarks: orders (database writes after a confirmation, as
retail), refunds (rules, refusals and told amounts, as airline), phones (a device that only the user can operate, as
telecom). The agent reaches the shop's database; the user reaches the phone; the phone's signal follows the shop's line.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, Field

from slime_tau2.bench import (
    DB,
    EnvFunctionCall,
    Environment,
    InitializationData,
    Message,
    Requestor,
    ToolKitBase,
    ToolType,
    is_tool,
)

NAME = "helpdesk"
SETTINGS = {"airplane": "off", "data": "on", "saver": "off", "vpn": "off"}
"""{setting of the phone: its right value}"""


class Order(BaseModel):
    """One order. `full` and `half` are the two amounts that policy knows, as "$40"; `line` is that of a phone."""

    item: str
    status: str
    tier: str
    seal: str
    full: str
    half: str
    line: str | None = None
    returned: bool = False
    refunds: list[str] = Field(default_factory=list)
    denied: list[str] = Field(default_factory=list)


class Line(BaseModel):
    """One phone line; `status` is active or suspended."""

    status: str


class HelpdeskDB(DB):
    """What the agent's tools reach."""

    orders: dict[str, Order] = Field(default_factory=dict)
    lines: dict[str, Line] = Field(default_factory=dict)


class Phone(DB):
    """What the user's tools reach. `signal` follows the line's status (see `HelpdeskEnvironment.sync_tools`)."""

    line_id: str = ""
    airplane: str = "off"
    data: str = "on"
    saver: str = "off"
    vpn: str = "off"
    signal: str = "ok"


class HelpdeskTools(ToolKitBase):
    """The agent's tools."""

    db: HelpdeskDB

    def _order(self, order_id: str) -> Order:
        if order_id not in self.db.orders:
            raise ValueError(f"order {order_id} not found")
        return self.db.orders[order_id]

    def _line(self, line_id: str) -> Line:
        if line_id not in self.db.lines:
            raise ValueError(f"line {line_id} not found")
        return self.db.lines[line_id]

    @is_tool(ToolType.READ)
    def get_order(self, order_id: str) -> dict[str, Any]:
        """Look up an order."""
        shown = {"item", "status", "tier", "seal", "full", "half", "line"}
        return self._order(order_id).model_dump(include=shown, exclude_none=True)

    @is_tool(ToolType.WRITE)
    def swap_item(self, order_id: str, item: str) -> str:
        """Swap the item of a pending order."""
        order = self._order(order_id)
        if order.status != "pending":
            raise ValueError(f"order {order_id} is {order.status}")
        order.item = item
        return "ok"

    @is_tool(ToolType.WRITE)
    def book_return(self, order_id: str) -> str:
        """Book the return of a shipped order."""
        order = self._order(order_id)
        if order.status != "shipped":
            raise ValueError(f"order {order_id} is {order.status}")
        order.returned = True
        return "ok"

    @is_tool(ToolType.WRITE)
    def refund(self, order_id: str, amount: str) -> str:
        """Pay a refund."""
        self._order(order_id).refunds.append(amount)
        return "ok"

    @is_tool(ToolType.WRITE)
    def deny_refund(self, order_id: str, reason: str) -> str:
        """Record a denied refund."""
        self._order(order_id).denied.append(reason)
        return "ok"

    @is_tool(ToolType.READ)
    def get_line(self, line_id: str) -> dict[str, Any]:
        """Look up a line."""
        return self._line(line_id).model_dump()

    @is_tool(ToolType.WRITE)
    def resume_line(self, line_id: str) -> str:
        """Resume a suspended line."""
        line = self._line(line_id)
        if line.status != "suspended":
            raise ValueError(f"line {line_id} is {line.status}")
        line.status = "active"
        return "ok"

    @is_tool(ToolType.GENERIC)
    def transfer_to_human_agents(self, summary: str) -> str:
        """Transfer the user to a person."""
        return "Transfer successful"

    def suspend_line(self, line_id: str) -> None:
        """Set-up of a task: the line is suspended."""
        self._line(line_id).status = "suspended"

    def assert_line_active(self, line_id: str) -> bool:
        """Env assertion: the line is active."""
        return self._line(line_id).status == "active"


class PhoneTools(ToolKitBase):
    """The user's tools."""

    db: Phone

    @is_tool(ToolType.READ)
    def check_phone(self) -> dict[str, Any]:
        """See the phone's settings and signal."""
        return self.db.model_dump(exclude={"line_id"})

    @is_tool(ToolType.WRITE)
    def toggle(self, setting: str) -> str:
        """Toggle a setting of the phone: airplane, data, saver or vpn."""
        if setting not in SETTINGS:
            raise ValueError(f"no setting {setting}")
        value = "off" if getattr(self.db, setting) == "on" else "on"
        setattr(self.db, setting, value)
        return f"{setting} {value}"

    def assert_setting(self, setting: str, value: str) -> bool:
        """Env assertion: one setting has a value."""
        return bool(getattr(self.db, setting) == value)

    def assert_online(self) -> bool:
        """Env assertion: there is signal and every setting is right."""
        return self.db.signal == "ok" and all(getattr(self.db, k) == v for k, v in SETTINGS.items())


class HelpdeskEnvironment(Environment):
    """The shop and the user's phone."""

    tools: HelpdeskTools
    user_tools: PhoneTools

    def set_state(
        self,
        initialization_data: InitializationData | None,
        initialization_actions: Sequence[EnvFunctionCall] | None,
        message_history: Sequence[Message],
        **options: Any,
    ) -> None:
        """As tau2's, but for filling the two databases: v1.0.x's own would leave one in the place of both."""
        if initialization_data is not None:
            self.tools.update_db(initialization_data.agent_data)
            self.user_tools.update_db(initialization_data.user_data)
        super().set_state(None, initialization_actions, message_history, **options)

    def make_tool_call(self, tool_name: str, requestor: Requestor = "assistant", **kwargs: Any) -> Any:
        """As tau2's, which leaves the phone's signal behind the line when it plays gold calls."""
        result = super().make_tool_call(tool_name, requestor, **kwargs)
        self.sync_tools()
        return result

    def sync_tools(self) -> None:
        """The phone has signal if and only if its line is active."""
        line = self.tools.db.lines.get(self.user_tools.db.line_id)
        if line is not None:
            self.user_tools.db.signal = "ok" if line.status == "active" else "none"


@cache
def policy() -> str:
    """The agent's policy, one paragraph per family."""
    return (files(__package__) / "policy.md").read_text(encoding="utf-8").strip()


def get_environment(
    db: HelpdeskDB | None = None, user_db: Phone | None = None, solo_mode: bool = False
) -> HelpdeskEnvironment:
    """A fresh environment; each task's `initialization_data` fills it."""
    if solo_mode:
        raise ValueError("helpdesk has no solo mode: its users hold facts that the agent must ask for")
    tools, phone = HelpdeskTools(db or HelpdeskDB()), PhoneTools(user_db or Phone())
    return HelpdeskEnvironment(domain_name=NAME, policy=policy(), tools=tools, user_tools=phone)
