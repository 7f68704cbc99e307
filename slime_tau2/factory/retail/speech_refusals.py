"""How the scripted retail agent says no, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Wish
from slime_tau2.factory.retail.clerk import (
    Clerk,
    contents,
    described,
    is_or_are,
    paid_back,
    paid_with,
    priced,
    status_words,
)
from slime_tau2.factory.retail.shop import Item, Order, original
from slime_tau2.factory.retail.words import item_words, money, noun


def _spoken_of(wish: Wish, order: Order) -> Item:
    """The item of an order that a wish is about."""
    return next(item for item in order.items if item.item_id in wish.topic)


def unidentified(clerk: Clerk, wish: Wish) -> Script[None]:
    """A user who has a user id and nothing else."""
    user_id, name, *forgotten = clerk.draft.identity.facts
    yield from clerk.ask(
        forgotten,
        "To find your account, I need your email address, or your full name and zip code.",
        "First, I need to verify who you are: please give me the email address of your account, or your name and zip "
        "code.",
    )
    told = [fact for fact in (name, user_id) if not clerk.known(fact)]
    also = f" But {' '.join(map(clerk.statement, told))}" if told else ""
    yield from clerk.say(
        clerk.pick(
            "Without your email address, or your name and zip code, I can't verify who you are. Do you have anything "
            "else?",
            "[sorry] I need one of these to verify your identity.",
        )
    )
    yield from clerk.answer(
        clerk.voice.pick(
            f"My user id must be enough.{also}",
            f"You have my user id, that should do.{also}",
        )
    )
    yield from clerk.say(
        clerk.pick(
            "[sorry] a user id alone isn't enough: I have to verify you by your email address, or by your name and "
            "zip code, before I can look at any order.",
            "[understand] I can't verify you by a user id. It takes the email address of your account, or your "
            "name and zip code. Without that I can't do anything about the order.",
        )
    )
    yield from clerk.answer(
        clerk.voice.pick(
            "Then I'll look for the email address and come back another day.",
            "OK, I'll find the email address and come back.",
        )
    )
    clerk.note(clerk.pick("That's a good idea.", "Please do.", "Thank you for understanding."))


def cancel_too_late(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish, quiet=True)
    yield from clerk.refuse(
        wish,
        f"[sorry] order {order.order_id} ({contents(order)}) {status_words(order)}, and only pending orders can "
        "be cancelled.",
        f"Order {order.order_id} can't be cancelled any more: its status is {order.status}, and cancelling is possible "
        "only while an order is pending.",
        firm=(
            f"[understand] as order {order.order_id} is {order.status}, I can't cancel it.",
            "[sorry] there is no exception: only pending orders can be cancelled.",
        ),
    )


def cancel_bad_reason(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    yield from clerk.ask_reason(wish)
    yield from clerk.say(
        clerk.pick(
            f"[sorry] I can't cancel order {order.order_id} for that reason. An order can be cancelled only if it's "
            "no longer needed or was ordered by mistake.",
            "That isn't a reason for which I may cancel an order. There are two: that it is no longer needed, or that "
            "it was ordered by mistake. Does one of them apply?",
            "I'm afraid that I can cancel an order only if it's no longer needed or was ordered by mistake, and not "
            "for another reason.",
        )
    )
    yield from clerk.answer(
        clerk.voice.pick(
            "No, that's my only reason. Then I'll keep the order.",
            "Neither of them. OK, I keep it, then.",
            "That's the only reason I have. Then leave the order as it is.",
        )
    )
    clerk.note(clerk.pick("All right, the order stays as it is.", "I understand. Then nothing changes."))


def cancel_other_refund(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    back = clerk.method(original(order))
    yield from clerk.refuse(
        wish,
        f"I could cancel order {order.order_id}, but the refund can go only to the original payment method, {back}.",
        f"When an order is cancelled, the money goes back the way it came: for order {order.order_id}, to {back}. I "
        "can't send it elsewhere. Would you still like to cancel?",
        accepts=(
            "Then I don't want to cancel at all.",
            "In that case I won't cancel.",
            "Then I'll keep the order.",
        ),
    )


def partial_cancel(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    name = item_words(_spoken_of(wish, order), order.items)
    yield from clerk.refuse(
        wish,
        f"[sorry] I can't cancel only {name}: an order can be cancelled only as a whole.",
        f"It isn't possible to take {name} out of order {order.order_id}. I can cancel the whole order, or leave it as "
        "it is.",
        accepts=("Then I keep the order as it is.", "Then leave the order as it is."),
    )


def add_item(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    yield from clerk.refuse(
        wish,
        f"[sorry] nothing can be added to order {order.order_id}. For a pending order I can change the address, the "
        "payment method, or the options of its items.",
        "I can't add items to an order that has been placed; only its address, its payment and the options of its "
        "items can be changed.",
    )


def modify_too_late(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish, quiet=True)
    what = "exchanged" if "exchange" in wish.reason else "changed"
    needed = "delivered" if what == "exchanged" else "pending"
    yield from clerk.refuse(
        wish,
        f"[sorry] order {order.order_id} has already been {order.status}. Only {needed} orders can be {what}.",
        f"Order {order.order_id} is {order.status}, so it can't be {what}: that's possible only while an order is "
        f"{needed}."
        if needed == "pending"
        else f"Order {order.order_id} is {order.status} and not delivered yet, so nothing in it can be exchanged.",
    )


def return_too_early(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish, quiet=True)
    yield from clerk.refuse(
        wish,
        f"[sorry] order {order.order_id} {status_words(order)}. Items can be returned only once an order has "
        "been delivered.",
        f"Order {order.order_id} ({contents(order)}) hasn't been delivered yet; its status is {order.status}. A return "
        "is possible only after the delivery.",
        accepts=("Then I'll wait until it's there.", "OK, I'll wait for the delivery.", "All right, I'll wait."),
    )


def return_other_refund(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    yield from clerk.look_at_profile()
    back = clerk.method(original(order))
    yield from clerk.refuse(
        wish,
        f"The refund of a return can go only to the original payment method, which is {back}, or to a gift card that "
        "you have. Another method isn't possible.",
        f"[sorry] I can't refund it that way. Order {order.order_id} was paid with {back}: the refund goes there "
        "or to a gift card in your profile. Would you like to return it on these terms?",
        accepts=("Then I'd rather keep it.", "Then I keep it.", "In that case I won't return it."),
    )


def other_product(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    item = _spoken_of(wish, order)
    what = "changed to" if order.status == "pending" else "exchanged for"
    yield from clerk.refuse(
        wish,
        f"[sorry] an item can be {what} another version of the same product only, so "
        f"{item_words(item, order.items)} can't become something else.",
        f"That isn't possible: {item_words(item, order.items)} can be {what} another {noun(item.name)} with different "
        "options, but not a different product.",
    )


def unavailable(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    item = _spoken_of(wish, order)
    product = yield from clerk.look_at_product(item.product_id)
    wanted = product.variants[wish.topic.split(" to ")[1].split()[0]]
    yield from clerk.refuse(
        wish,
        f"[sorry] the {noun(item.name)} that you'd like ({described(wanted.options)}) {is_or_are(item)} not "
        "available "
        "at the moment.",
        f"I checked: the {noun(item.name)} of that kind ({described(wanted.options)}) {is_or_are(item)} out of stock. "
        "Would "
        "you like another kind?",
        accepts=("Then I keep what I have.", "Then I'll keep the one I have.", "No other one will do. Leave it."),
    )


def payment_short(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    yield from clerk.look_at_profile(balances=True)
    card = wish.topic.removeprefix("pay with ").split()[0]
    balance = clerk.balance(card)
    assert balance is not None
    amount, words = money(order.payment_history[0].amount), clerk.method(card)
    yield from clerk.refuse(
        wish,
        f"[sorry] {words} has a balance of ${money(balance)}, and order {order.order_id} costs ${amount}. A gift "
        "card has to cover the whole amount.",
        f"There is ${money(balance)} on {words}, which doesn't cover the ${amount} of order {order.order_id}, so I "
        "can't change the payment to it.",
        accepts=("Then everything stays as it is.", "OK, then leave the payment as it is."),
    )


def payment_split(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    yield from clerk.refuse(
        wish,
        f"[sorry] the payment of order {order.order_id} can't be split: it takes a single payment method.",
        "An order can be paid with one payment method only, so I can't split it between two.",
        accepts=("Then leave the payment as it is.", "OK, then I leave it as it is."),
    )


def payment_same(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    words = clerk.method(original(order))
    yield from clerk.refuse(
        wish,
        f"Order {order.order_id} is already paid with {words}, so there is nothing to change.",
        f"I see that {words} is what order {order.order_id} was paid with. It could only be moved to a different "
        "payment method.",
        accepts=(
            "Then all is well, leave it so.",
            "Ah, good. Then leave it as it is.",
            "Oh, I see. That's fine, then.",
        ),
    )


def not_in_order(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish, quiet=True)
    found = re.match(r"You want to return the (.+) from order", wish.reason)
    assert found
    yield from clerk.refuse(
        wish,
        f"[sorry] there is no {found[1]} in order {order.order_id}. It has: {contents(order)}.",
        f"I can't find the {found[1]} in order {order.order_id}, only this: {contents(order)}. So I can't return it.",
        accepts=(
            "Then I must have bought it elsewhere. Never mind.",
            "Oh, then I bought it somewhere else. I return nothing, then.",
        ),
    )


def stranger(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from clerk.look_all(wish.calls)
    number = wish.calls[-1].arguments["order_id"]
    yield from clerk.refuse(
        wish,
        f"[sorry] order {number} isn't in your account, and I can help you only with your own orders.",
        f"Order {number} belongs to another customer. I can't change anything about it or tell you about it; the "
        "customer would have to contact us in person.",
        firm=("I understand that you want to help, but I can't act on somebody else's order.",),
        accepts=("I see. Then leave it.", "OK, I understand.", "All right, I'll tell them."),
    )


def again(clerk: Clerk, wish: Wish) -> Script[None]:
    order = clerk.orders[next(entity for entity in wish.entities if entity in clerk.orders)]
    what = {"pending (item modified)": "changed", "exchange requested": "exchanged", "return requested": "returned"}
    done = what.get(order.status, "changed")
    yield from clerk.refuse(
        wish,
        f"[sorry] items of order {order.order_id} have just been {done}, which can be done only once. Nothing more "
        "is possible for that order now.",
        f'That isn\'t possible any more: order {order.order_id} now has the status "{order.status}", after which it '
        "can't be changed, cancelled or returned.",
        firm=(f"[sorry] order {order.order_id} can't be touched any more.", "[understand] it can't be done."),
    )


def withdrawn(clerk: Clerk, wish: Wish) -> Script[None]:
    order = yield from clerk.locate(wish)
    if order.status == "pending":
        lines = [
            f"Cancel order {order.order_id} ({contents(order)})",
            "Reason: no longer needed",
            f"Refund: {paid_back(clerk, order)}",
        ]
        kept = "the order"
    else:
        item = _spoken_of(wish, order)
        yield from clerk.say(
            clerk.pick(
                "Where should the refund go: to the original payment method, or to a gift card of yours?",
                f"Would you like the refund on {clerk.method(original(order))}, as you paid, or on a gift card?",
            )
        )
        yield from clerk.answer(clerk.voice.pick("The way I paid, please.", "To the original payment method."))
        lines = [
            f"Return from order {order.order_id}: {priced([item], order)}",
            f"Refund: ${money(item.price)} to {paid_with(clerk, order)}",
        ]
        kept = "what I have"
    yield from clerk.propose(lines)
    yield from clerk.answer(
        clerk.voice.pick(
            f"Hmm, no. On second thought I'll keep {kept}.",
            f"No, I've thought again: I keep {kept}.",
            f"Actually, no. I'd rather keep {kept}.",
        )
    )
    clerk.note(
        clerk.pick(
            "All right, I haven't changed anything.",
            "No problem, everything stays as it is.",
            "Of course, nothing changes.",
        )
    )


REFUSED: Mapping[str, Callable[[Clerk, Wish], Script[None]]] = {
    "cancel_too_late": cancel_too_late,
    "cancel_bad_reason": cancel_bad_reason,
    "cancel_other_refund": cancel_other_refund,
    "partial_cancel": partial_cancel,
    "add_item": add_item,
    "modify_too_late": modify_too_late,
    "return_too_early": return_too_early,
    "return_other_refund": return_other_refund,
    "other_product": other_product,
    "unavailable": unavailable,
    "payment_short": payment_short,
    "payment_split": payment_split,
    "payment_same": payment_same,
    "not_in_order": not_in_order,
    "stranger": stranger,
    "again": again,
    "withdrawn": withdrawn,
}
