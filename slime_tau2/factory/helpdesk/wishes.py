"""What a customer of a long conversation asks for, one wish after the other, on the database as the wishes before have
left it.

No order is swapped twice or paid twice, so that each write is needed.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from slime_tau2 import bench
from slime_tau2.domains.helpdesk import cases
from slime_tau2.domains.helpdesk.cases import Refused, Request
from slime_tau2.domains.helpdesk.environment import SETTINGS
from slime_tau2.domains.helpdesk.tasks import ITEMS
from slime_tau2.factory.case import Case, Family
from slime_tau2.factory.draft import Call, Fact, Outcome, Told, Wish, read, write
from slime_tau2.factory.helpdesk import policy
from slime_tau2.factory.helpdesk.customers import idents
from slime_tau2.factory.rules import Finding

THRESHOLDS = ("$20", "$30", "$40")


def requests_of(wish: Wish) -> list[Request]:
    """What a wish asks for."""
    return [Request(**request) for request in wish.notes[cases.REQUESTS]]


def _earlier(case: Case) -> list[Request]:
    return [request for wish in case.wishes for request in requests_of(wish)]


def _seen(case: Case) -> list[str]:
    """Orders that gold calls have looked up so far."""
    calls = [call for wish in case.wishes for call in wish.calls if call.name == "get_order"]
    return list(dict.fromkeys(call.arguments["order_id"] for call in calls))


def _free(case: Case, status: str = "", *, taken: tuple[str, ...] = ()) -> list[str]:
    """Orders that nothing was wished for, of a status if one is named."""
    spoken = {request.ident for request in _earlier(case)} | set(taken)
    orders = case.db.orders
    return [
        ident
        for ident in idents(case.owner)[0]
        if ident not in spoken and orders[ident].status in (status or orders[ident].status)
    ]


def _pick(case: Case, found: list[str]) -> str | None:
    """One of them; those that were looked up before come up more often, because they are what takes memory."""
    seen = [ident for ident in found if ident in _seen(case)]
    if seen and case.rng.random() < 0.7:
        return case.rng.choice(seen)
    return case.rng.choice(found) if found else None


def _called(case: Case, ident: str) -> str:
    """How the user names an order."""
    earlier = _earlier(case)
    if earlier and earlier[-1].ident == ident:
        return case.rng.choice(("it", "the same order"))
    item = case.db.orders[ident].item
    alone = sum(order.item == item for order in case.db.orders.values()) == 1
    if alone and ident in _seen(case) and case.rng.random() < 0.8:
        return f"the {item} order"
    return ident


def _new_item(case: Case, *, but: tuple[str, ...] = ()) -> str:
    """An item that none of the customer's orders has or had."""
    had = {order.item for order in case.db.orders.values()} | {request.item for request in _earlier(case)} | set(but)
    return case.rng.choice([item for item in ITEMS if item not in had])


def _wish(
    *requests: Request,
    reason: str,
    calls: tuple[Call, ...],
    findings: tuple[Finding, ...],
    outcome: Outcome = "done",
    instructions: tuple[str, ...] = (),
    **more: Any,
) -> Wish:
    ids = frozenset(request.ident for request in requests)
    facts = tuple(Fact("your order or line", f"This is about {request.ident}.", Told.AT_ONCE) for request in requests)
    return Wish(
        reason=reason,
        facts=facts,
        calls=calls,
        findings=findings,
        outcome=outcome,
        instructions=instructions,
        entities=ids,
        after=True,
        notes={cases.REQUESTS: [asdict(request) for request in requests]},
        topic=repr(requests) if outcome != "done" else "",
        **more,
    )


def _look(ident: str) -> Call:
    return read("get_order", order_id=ident)


def _swapping(case: Case, ident: str, *, firm: bool = False, **more: Any) -> Wish:
    """A pending order to another item, perhaps after a change of mind; none if the user is firm."""
    item = _new_item(case)
    second = _new_item(case, but=(item,)) if not firm and case.rng.random() < 0.4 else ""
    request = Request(
        kind="swap", ident=ident, called=_called(case, ident), item=item, item_called=item, second_item=second, **more
    )
    turn = (f"When you are asked to confirm the {item}, say that you want the {second} instead, and confirm that.",)
    return _wish(
        request,
        reason=f"You want {_said(request)} changed to a {item}.",
        calls=(_look(ident), write("swap_item", order_id=ident, item=second or item)),
        findings=(policy.known(True), policy.confirmed(True), policy.swap_or_return("pending")),
        instructions=turn if second else (),
    )


def _refunding(case: Case, ident: str, **more: Any) -> Wish:
    """A refund, in full or by half, or the refusal of a final sale."""
    request = Request(kind="refund", ident=ident, called=_called(case, ident), **more)
    return _money(case, request, reason=f"You want your money back for {_said(request)}.")


def _money(case: Case, request: Request, **more: Any) -> Wish:
    """A request that ends with the order's money, whatever it began with."""
    calls, findings, tells = _paid(case, request.ident)
    return _wish(request, calls=(_look(request.ident), *calls), findings=findings, tells=tells, **more)


def _paid(case: Case, ident: str) -> tuple[tuple[Call, ...], tuple[Finding, ...], tuple[str, ...]]:
    """Gold write of a refund, the rules, what has to be told."""
    order = case.db.orders[ident]
    if order.seal == "final":
        deny = write("deny_refund", order_id=ident, reason="final sale")
        return (deny,), (policy.known(True), policy.final_sale("final")), ("final sale",)
    amount = order.full if order.seal == "sealed" or order.tier == "gold" else order.half
    pay = write("refund", order_id=ident, amount=amount)
    return (pay,), (policy.known(True), policy.confirmed(True), policy.amount(order.seal, order.tier)), (amount,)


def _said(request: Request) -> str:
    """The order in the story, which the user model may name as it likes."""
    if request.called == request.ident:
        return f"the order {request.ident}"
    return (
        f"the same order {request.ident}"
        if request.called in ("it", "the same order")
        else f"{request.called} {request.ident}"
    )


def _swap(case: Case) -> Wish | None:
    ident = _pick(case, _free(case, "pending"))
    return _swapping(case, ident) if ident else None


def _refund(case: Case) -> Wish | None:
    ident = _pick(case, _free(case))
    return _refunding(case, ident) if ident else None


def _same(case: Case) -> Wish | None:
    """The money for an order that was swapped, or whose return was booked."""
    done = [c.arguments["order_id"] for w in case.wishes for c in w.calls if c.name in ("swap_item", "book_return")]
    paid = [c.arguments["order_id"] for w in case.wishes for c in w.calls if c.name in ("refund", "deny_refund")]
    left = [ident for ident in done if ident not in paid]
    return _refunding(case, case.rng.choice(left)) if left else None


def _in_vain(case: Case, status: str, answers: tuple[Refused, ...]) -> tuple[Request, str] | None:
    """(a swap of an order that is no longer pending, why), with what the user does when it is refused."""
    ident = _pick(case, _free(case, status))
    if ident is None:
        return None
    refused, item = case.rng.choice(answers), _new_item(case)
    request = Request(
        kind="swap", ident=ident, called=_called(case, ident), item=item, item_called=item, refused=refused
    )
    return request, f"You want {_said(request)} changed to a {item}."


def _shipped(case: Case) -> Wish | None:
    """A swap of what has shipped: the user takes the return that is offered, keeps it, or wants its money."""
    asked = _in_vain(case, "shipped", ("return", "keep", "refund"))
    if asked is None:
        return None
    request, reason = asked
    if request.refused == "return":
        return _wish(
            request,
            reason=reason,
            calls=(_look(request.ident), write("book_return", order_id=request.ident)),
            findings=(policy.known(True), policy.confirmed(True), policy.swap_or_return("shipped")),
            instructions=("If it has shipped, send it back.",),
        )
    if request.refused == "keep":
        return _wish(
            request,
            reason=reason,
            calls=(_look(request.ident),),
            findings=(policy.known(True), policy.confirmed(False)),
            outcome="refused",
            instructions=("If it has shipped, you do not want to send it back: leave it as it is.",),
        )
    return _money(
        case,
        request,
        reason=reason,
        tried=(policy.confirmed(False),),
        instructions=("If it has shipped, you do not want to send it back: ask for your money.",),
    )


def _delivered(case: Case) -> Wish | None:
    """A swap of what was delivered, which cannot be done: the user leaves it, or wants its money."""
    asked = _in_vain(case, "delivered", ("keep", "refund"))
    if asked is None:
        return None
    request, reason = asked
    late = policy.swap_or_return("delivered")
    if request.refused == "keep":
        findings = (policy.known(True), late)
        return _wish(request, reason=reason, calls=(_look(request.ident),), findings=findings, outcome="refused")
    return _money(
        case, request, reason=reason, tried=(late,), instructions=("If that cannot be done, ask for your money.",)
    )


def _like(case: Case) -> Wish | None:
    """A pending order to the item that another order has, or had before it was swapped in this conversation."""
    ident = _pick(case, _free(case, "pending"))
    if ident is None:
        return None
    swapped = [call.arguments["order_id"] for wish in case.wishes for call in wish.calls if call.name == "swap_item"]
    others = [other for other in (*swapped, *_free(case, taken=(ident,))) if other != ident]
    if not others:
        return None
    other = case.rng.choice(others)
    had = other in swapped and case.rng.random() < 0.5
    item = _first_item(case, other) if had else case.db.orders[other].item
    if item == case.db.orders[ident].item:
        return None
    request = Request(
        kind="swap",
        ident=ident,
        called=_called(case, ident),
        item=item,
        item_called=f"what {other} {'had' if had else 'has'}",
    )
    then = "had before" if had else "has now"
    return _wish(
        request,
        reason=f"You want {_said(request)} changed to the item that {other} {then}.",
        calls=(_look(ident), _look(other), write("swap_item", order_id=ident, item=item)),
        findings=(policy.known(True), policy.confirmed(True), policy.swap_or_return("pending")),
    )


def _first_item(case: Case, ident: str) -> str:
    """What an order had when the conversation began."""
    return str(case.data["agent_data"]["orders"][ident]["item"])


def _by_amount(case: Case) -> Wish | None:
    """A swap whose item hangs on the amount that was just refunded."""
    paid = [call for wish in case.wishes[-1:] for call in wish.calls if call.name == "refund"]
    ident = _pick(case, _free(case, "pending"))
    if len(paid) != 1 or ident is None:
        return None
    high, limit = _new_item(case), case.rng.choice(THRESHOLDS)
    low = _new_item(case, but=(high,))
    request = Request(
        kind="swap", ident=ident, called=_called(case, ident), item=high, item_called=high, when_low=low, at_least=limit
    )
    item = high if int(paid[0].arguments["amount"][1:]) >= int(limit[1:]) else low
    return _wish(
        request,
        reason=f"You want {_said(request)} changed to a {high} if the last refund is {limit} or more, else to a {low}.",
        calls=(_look(ident), write("swap_item", order_id=ident, item=item)),
        findings=(policy.known(True), policy.confirmed(True), policy.swap_or_return("pending")),
    )


def _phone(case: Case) -> Wish | None:
    """The customer's phone, by its line or by the order that it came with."""
    line = case.data["user_data"]["line_id"]
    order = next(ident for ident, order in case.db.orders.items() if order.line == line)
    by_order = case.rng.random() < 0.5
    ident = order if by_order else line
    faults = case.rng.sample(sorted(SETTINGS), case.rng.choice((0, 1, 1, 2)))
    suspended = not faults or case.rng.random() < 0.5
    setup = [bench.EnvFunctionCall(env_type="user", func_name="toggle", arguments={"setting": s}) for s in faults]
    checks: list[tuple[bench.Requestor, str, dict[str, str]]]
    checks = [("user", "assert_setting", {"setting": s, "value": SETTINGS[s]}) for s in SETTINGS if s in faults]
    calls = [_look(order)] if by_order else []
    calls.append(read("get_line", line_id=line))
    if suspended:
        setup.append(bench.EnvFunctionCall(env_type="assistant", func_name="suspend_line", arguments={"line_id": line}))
        calls.append(write("resume_line", line_id=line))
        checks.insert(0, ("assistant", "assert_line_active", {"line_id": line}))
    calls.append(Call(name="check_phone", requestor="user"))
    calls += [
        Call(name="toggle", arguments={"setting": s}, requestor="user", write=True) for s in SETTINGS if s in faults
    ]
    checks.append(("user", "assert_online", {}))
    resumed = (policy.resumed("suspended"),) if suspended else ()
    said = f"the line of your order {order}" if by_order else f"the line {line}"
    return _wish(
        Request(kind="phone", ident=ident, called=ident),
        reason=f"You want internet on {said}: your phone has none.",
        calls=tuple(calls),
        findings=(policy.known(True), *resumed, policy.settings(True)),
        instructions=("Use your phone's tools when you are asked to.",),
        setup=tuple(setup),
        assertions=tuple(
            bench.EnvAssertion(env_type=who, func_name=name, arguments=arguments, assert_value=True)
            for who, name, arguments in checks
        ),
    )


def _two(case: Case) -> Wish | None:
    """Two at once: refunds, swaps, or one of each."""
    kinds = [case.rng.choice(("swap", "refund")) for _ in range(2)]
    first = _pick(case, _free(case, "pending" if kinds[0] == "swap" else ""))
    if first is None:
        return None
    second = _pick(case, _free(case, "pending" if kinds[1] == "swap" else "", taken=(first,)))
    if second is None:
        return None
    firm = kinds == ["swap", "swap"]  # else nobody knows which of the two "make it a lamp" is about
    one, two = (
        _swapping(case, ident, firm=firm, with_previous=ident == second)
        if kind == "swap"
        else _refunding(case, ident, with_previous=ident == second)
        for kind, ident in zip(kinds, (first, second), strict=True)
    )
    requests = [*requests_of(one), *requests_of(two)]
    looks = tuple(call for wish in (one, two) for call in wish.calls if not call.write)
    writes = tuple(call for wish in (one, two) for call in wish.calls if call.write)
    return _wish(
        *requests,
        reason=f"{one.reason[:-1]} and, in the same message, {two.reason[len('You want ') :]}",
        calls=(*looks, *writes),
        findings=tuple(dict.fromkeys((*one.findings, *two.findings))),
        tells=(*one.tells, *two.tells),
        instructions=(*one.instructions, *two.instructions),
    )


FAMILIES = {
    "swap": Family(_swap),
    "refund": Family(_refund),
    "shipped": Family(_shipped),
    "delivered": Family(_delivered),
    "like": Family(_like),
    "same": Family(_same),
    "by_amount": Family(_by_amount),
    "phone": Family(_phone),
    "two": Family(_two),
}
