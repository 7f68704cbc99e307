"""The scripted retail agent's way through each kind of wish that writes, but for other variants of items."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Call, Wish
from slime_tau2.factory.retail import speech_items
from slime_tau2.factory.retail.clerk import (
    Clerk,
    address_of,
    contents,
    instruction,
    mine,
    paid_back,
    paid_with,
    priced,
    refund_time,
    same_address,
    too_little,
)
from slime_tau2.factory.retail.shop import Item, Order, original
from slime_tau2.factory.retail.words import items_words, money

# Cancel


def cancel(clerk: Clerk, wish: Wish) -> Script[None]:
    """Check the order, ask for the reason, list, cancel."""
    order = yield from clerk.locate(wish)
    yield from clerk.ask_reason(wish)
    call = wish.writes()[0]
    elsewhere = instruction(wish, r"You ask for the refund on (.+?)\. If that is not possible")
    if elsewhere:
        yield from clerk.look_at_profile()
    lines = cancel_lines(clerk, order, call)
    yield from clerk.propose(lines)
    if elsewhere:
        words = mine(elsewhere[1])
        yield from clerk.answer(
            clerk.voice.pick(
                f"Can I have the refund on {words} instead?",
                f"Could the money go to {words}?",
                f"I'd rather have the refund on {words}. Is that possible?",
            )
        )
        back = clerk.method(original(order))
        yield from clerk.say(
            clerk.pick(
                f"[sorry] the refund of a cancelled order can only go back to the original payment method, {back}.",
                f"That isn't possible: when an order is cancelled, the money goes back the way it came, to {back}.",
            )
            + clerk.pick(
                f" Would you still like to cancel order {order.order_id} (yes/no)?",
                f" Shall I still cancel order {order.order_id} as listed? Please answer yes to confirm.",
            )
        )
        yield from clerk.answer(clerk.voice.pick("Yes, cancel it anyway.", "Yes, please cancel it.", "OK, yes."))
    else:
        yield from clerk.agree()
    yield from clerk.do([call])
    clerk.note(cancelled(clerk, order))


def cancel_lines(clerk: Clerk, order: Order, call: Call) -> list[str]:
    """The details of a cancellation."""
    return [
        f"Cancel order {order.order_id} ({contents(order)})",
        f"Reason: {call.arguments['reason']}",
        f"Refund: {paid_back(clerk, order)}",
    ]


def cancelled(clerk: Clerk, order: Order) -> str:
    """That it is done."""
    amount, when = money(order.payment_history[0].amount), refund_time(original(order))
    return clerk.pick(
        f"Order {order.order_id} is cancelled, and ${amount} will be refunded {when}.",
        f"[done] order {order.order_id} has been cancelled. You get ${amount} back {when}.",
        f"I have cancelled order {order.order_id}. The refund of ${amount} arrives {when}.",
    )


def cancel_all(clerk: Clerk, wish: Wish) -> Script[None]:
    """Look at all orders, list those that are pending, cancel each."""
    yield from clerk.look_all(call for call in wish.calls if call.name in ("get_user_details", "get_order_details"))
    calls = wish.writes()
    orders = [clerk.orders[call.arguments["order_id"]] for call in calls]
    numbers = ", ".join(order.order_id for order in orders)
    clerk.note(f"I went through your orders: {len(orders)} of them are still pending ({numbers}).")
    yield from clerk.ask_reason(wish)
    amount = yield from clerk.calculate(" + ".join(money(order.payment_history[0].amount) for order in orders))
    lines = [
        f"Cancel order {order.order_id} ({contents(order)}); refund: {paid_back(clerk, order)}" for order in orders
    ]
    yield from clerk.propose(
        [*lines, f"Reason for all: {calls[0].arguments['reason']}", f"Refund all together: ${money(amount)}"]
    )
    yield from clerk.agree()
    yield from clerk.do(calls)
    clerk.note(
        clerk.pick(
            f"All {len(orders)} orders are cancelled: {numbers}. You get ${money(amount)} back all together.",
            f"Orders {numbers} have been cancelled, with a refund of ${money(amount)} in total.",
        )
    )


def _item_spoken_of(wish: Wish, order: Order) -> Item:
    return next(item for item in order.items if items_words([item], order.items) in wish.reason)


def return_else_cancel(clerk: Clerk, wish: Wish) -> Script[None]:
    """A pending order cannot be returned, but it can be cancelled."""
    order = yield from clerk.locate(wish, quiet=True)
    item = items_words([_item_spoken_of(wish, order)], order.items)
    yield from clerk.say(
        clerk.pick(
            f"I found {item} in order {order.order_id}. That order is still pending, and only delivered orders can be "
            "returned.",
            f"Order {order.order_id} with {item} has not been delivered yet: it is pending. So I can't make a return "
            "for it.",
        )
        + clerk.pick("", " What I could do is cancel the whole order.", " I could cancel the order as a whole instead.")
    )
    yield from _then_cancel(clerk, wish, order)


def remove_else_cancel(clerk: Clerk, wish: Wish) -> Script[None]:
    """One item cannot be taken out of an order, but the whole can be cancelled."""
    order = yield from clerk.locate(wish, quiet=True)
    item = items_words([_item_spoken_of(wish, order)], order.items)
    yield from clerk.say(
        clerk.pick(
            f"Order {order.order_id} with {item} is still pending, but I can't take single items out of an order.",
            f"[sorry] it's not possible to remove only {item} from order {order.order_id}: an order can only be "
            "cancelled as a whole.",
        )
        + clerk.pick("", " Would you like to keep the order, or cancel all of it?")
    )
    yield from _then_cancel(clerk, wish, order)


def _then_cancel(clerk: Clerk, wish: Wish, order: Order) -> Script[None]:
    yield from clerk.answer(
        clerk.voice.pick(
            "Then please cancel the whole order.",
            "OK, cancel the whole order, then.",
            "In that case I'd like to cancel the entire order.",
        )
    )
    yield from clerk.ask_reason(wish)
    yield from clerk.carry_out(cancel_lines(clerk, order, wish.writes()[0]), wish.writes())
    clerk.note(cancelled(clerk, order))


def cancel_else_return(clerk: Clerk, wish: Wish) -> Script[None]:
    """A delivered order cannot be cancelled, but it can be returned."""
    order = yield from clerk.locate(wish, quiet=True)
    yield from clerk.say(
        clerk.pick(
            f"Order {order.order_id} ({contents(order)}) has already been delivered, so it can't be cancelled any "
            "more.",
            f"It's too late to cancel order {order.order_id}: it has been delivered, and only pending orders can be "
            "cancelled.",
        )
        + clerk.pick("", " A return would be possible, though.")
    )
    yield from clerk.answer(
        clerk.voice.pick("Then I'd like to return everything in it.", "OK, then I want to return all of it.")
    )
    yield from return_(clerk, wish, order)


# Return


def returns(clerk: Clerk, wish: Wish) -> Script[None]:
    """Check the order, ask where the refund goes, list, return."""
    order = yield from clerk.locate(wish)
    yield from return_(clerk, wish, order)


def return_(clerk: Clerk, wish: Wish, order: Order) -> Script[None]:
    """The return of what a wish's write returns, once the order is found."""
    call = wish.writes()[0]
    target: str = call.arguments["payment_method_id"]
    chosen: list[str] = call.arguments["item_ids"]
    items = [item for item in order.items if item.item_id in chosen]
    add = instruction(wish, r"When the agent asks whether .* you add (.+)\.$")
    at_first = [item for item in items if add is None or items_words([item], order.items) != add[1]]
    yield from _refund_target(clerk, wish, order, target)
    if target != original(order):
        yield from clerk.look_at_profile()
    if add:
        if clerk.rng.random() < 0.5:
            yield from clerk.say(
                clerk.pick(
                    f"So far I have {items_words(at_first, order.items)} from order {order.order_id}. Is there "
                    "anything else from that order that you'd like to return? It can only be done once.",
                    f"Is {items_words(at_first, order.items)} all that you want to return from order "
                    f"{order.order_id}? I can make only one return for it.",
                )
            )
        else:
            yield from clerk.propose((yield from _return_lines(clerk, order, at_first, target)))
        yield from clerk.answer(
            clerk.voice.pick(f"Please add {add[1]} too.", f"Oh, {add[1]} as well, please.", f"Also {add[1]}.")
        )
    yield from clerk.carry_out((yield from _return_lines(clerk, order, items, target)), [call])
    clerk.note(
        clerk.pick(
            f"The return is requested. You will get an email that says how to send {_them(items)} back.",
            "Done. You will receive an email with instructions for the return.",
            f"I have requested the return for order {order.order_id}; an email will tell you how to send back "
            f"{_them(items)}.",
        )
    )


def _them(items: list[Item]) -> str:
    return "the item" if len(items) == 1 else "the items"


def _refund_target(clerk: Clerk, wish: Wish, order: Order, target: str) -> Script[None]:
    fact = next((fact for fact in wish.facts if fact.name == "where the refund goes"), None)
    if fact is None:
        return
    second = re.match(r"You want the refund on (.+?); if that is not possible, on (.+)\.$", fact.words)
    asked = not clerk.known(fact)
    if asked:
        back = clerk.method(original(order)) if clerk.rng.random() < 0.5 else "the original payment method"
        question = clerk.pick(
            f"Where should the refund go: to {back}, or to a gift card of yours?",
            f"How would you like to be refunded: on {back}, or on a gift card in your profile?",
        )
        if original(order).startswith("gift_card") and "gift card" in back:
            question = clerk.pick(
                f"Where should the refund go: back to {back}, with which you paid?",
                f"You paid with {back}. Should the refund go there?",
            )
        if second is None:
            yield from clerk.ask([fact], question)
            return
        clerk.reply([fact])
        yield from clerk.say(question)
        yield from clerk.answer(
            clerk.voice.pick(f"On {mine(second[1])}, please.", f"I'd like it on {mine(second[1])}.")
        )
    if second is None:
        return
    yield from clerk.look_at_profile()
    why = clerk.pick(
        f"I can't refund to {second[1]}: it has to be the original payment method ({clerk.method(original(order))}) or "
        "a gift card.",
        f"The refund can't go to {second[1]}, since you paid with {clerk.method(original(order))}; only that or a gift "
        "card is possible.",
    )
    if asked:
        yield from clerk.say(why, clerk.pick("Which would you like?", "Which of these do you prefer?"))
        yield from clerk.answer(clerk.voice.pick(f"Then on {mine(second[2])}.", f"OK, {mine(second[2])}, then."))
    else:
        clerk.note(f"{why} So I would take {second[2]}.")


def _return_lines(clerk: Clerk, order: Order, items: list[Item], target: str) -> Script[list[str]]:
    amount = items[0].price
    if len(items) > 1:
        amount = yield from clerk.calculate(" + ".join(money(item.price) for item in items))
    where = paid_with(clerk, order) if target == original(order) else clerk.method(target)
    return [f"Return from order {order.order_id}: {priced(items, order)}", f"Refund: ${money(amount)} to {where}"]


# Addresses


def order_address(clerk: Clerk, wish: Wish) -> Script[None]:
    """Another address for one order."""
    order = yield from clerk.locate(wish)
    call = wish.writes()[0]
    lines = yield from order_address_lines(clerk, wish, order, call)
    yield from clerk.carry_out(lines, [call])
    clerk.note(
        clerk.pick(
            f"Order {order.order_id} will now be sent to {address_of(call.arguments)}.",
            f"[done] the shipping address of order {order.order_id} has been changed.",
        )
    )


def order_address_lines(clerk: Clerk, wish: Wish, order: Order, call: Call) -> Script[list[str]]:
    """The details of another address for an order, once it is known."""
    facts = [fact for fact in wish.facts if fact.name == "the new address"]
    yield from clerk.ask(
        facts,
        "What is the new address?",
        "Which address should it go to?",
        "Please tell me the new address, with city, state and zip code.",
    )
    words = address_of(call.arguments)
    if not facts:
        profile = yield from clerk.look_at_profile()
        assert same_address(profile.address, call.arguments)
        words = f"your default address, {words}"
    return [f"New shipping address of order {order.order_id}: {words}"]


def user_address(clerk: Clerk, wish: Wish) -> Script[None]:
    """Another default address, and with it, perhaps, that of the pending orders."""
    profile_call, *order_calls = wish.writes()
    new = [fact for fact in wish.facts if fact.name == "the new address"]
    if not new:
        yield from clerk.locate(wish)
    yield from clerk.ask(
        new,
        "What is your new address?",
        "Please tell me the new address, with city, state and zip code.",
        "Which address should I put in?",
    )
    if order_calls:
        yield from clerk.look_all(call for call in wish.calls if call.name in ("get_user_details", "get_order_details"))
    words = address_of(profile_call.arguments)
    numbers = [call.arguments["order_id"] for call in order_calls]
    lines = [f"New default address in your profile: {words}"]
    lines += [f"Shipping address of order {number}, which is pending: the same new address" for number in numbers]
    yield from clerk.carry_out(lines, [profile_call, *order_calls])
    done = clerk.pick("Your default address has been changed.", f"Your default address is now {words}.")
    if numbers:
        done += f" {'Orders' if len(numbers) > 1 else 'Order'} {', '.join(numbers)} will go there too."
    clerk.note(done)


# Payment


def modify_payment(clerk: Clerk, wish: Wish) -> Script[None]:
    """Another payment method for one order."""
    order = yield from clerk.locate(wish)
    call = wish.writes()[0]
    lines = yield from payment_lines(clerk, wish, order, call)
    yield from clerk.carry_out(lines, [call])
    clerk.note(
        clerk.pick(
            f"Order {order.order_id} is now paid with {clerk.method(call.arguments['payment_method_id'])}.",
            f"[done] the payment method of order {order.order_id} has been changed.",
        )
    )


def payment_lines(clerk: Clerk, wish: Wish, order: Order, call: Call) -> Script[list[str]]:
    """The details of another payment method for an order, once it is known."""
    yield from clerk.look_at_profile(balances=True)
    amount, before = order.payment_history[0].amount, original(order)
    fact = next((fact for fact in wish.facts if fact.name == "how you want to pay"), None)
    if fact is not None:
        asked = not clerk.known(fact)
        question = clerk.pick(
            f"How would you like to pay for it? It's ${money(amount)}, paid so far with {clerk.method(before)}.",
            "Which payment method would you like to use instead?",
        )
        two = re.match(r"You would like to pay for that order with (.+?); if there is .*, with (.+)\.$", fact.words)
        if two is None:
            yield from clerk.ask([fact], question)
        else:
            yield from clerk.say(question) if asked else ()
            if asked:
                clerk.reply([fact])
                yield from clerk.answer(clerk.voice.pick(f"With {mine(two[1])}, please.", f"With {mine(two[1])}."))
            yield from too_little(clerk, two[1], two[2], amount, asked=asked)
    after = clerk.method(call.arguments["payment_method_id"])
    return [
        f"Change the payment of order {order.order_id} (${money(amount)}) from {clerk.method(before)} to {after}",
        f"Refund of ${money(amount)} to {clerk.method(before)}: {refund_time(before)}",
    ]


def rework(clerk: Clerk, wish: Wish) -> Script[None]:
    """Items of one order, and its address or payment: listed together, the items done last."""
    order = yield from clerk.locate(wish)
    first, items = wish.writes()
    lines_of: Callable[[Clerk, Wish, Order, Call], Script[list[str]]] = order_address_lines
    if first.name == "modify_pending_order_payment":
        lines_of = payment_lines
    lines = yield from lines_of(clerk, wish, order, first)
    yield from speech_items.change(clerk, wish, order, items, before=[(first, lines)])


Serve = Callable[[Clerk, Wish], Script[None]]
DONE: Mapping[str, Serve] = {
    "cancel": cancel,
    "cancel_all": cancel_all,
    "return_else_cancel": return_else_cancel,
    "remove_else_cancel": remove_else_cancel,
    "cancel_else_return": cancel_else_return,
    "modify_items": speech_items.serve,
    "exchange_items": speech_items.serve,
    "return_items": returns,
    "order_address": order_address,
    "user_address": user_address,
    "modify_payment": modify_payment,
    "rework": rework,
}
