"""The scripted retail agent's way to other variants of items: modify them, or exchange them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Call, Fact, Wish
from slime_tau2.factory.phrasing import CONFIRM
from slime_tau2.factory.retail.changes import SETTLEMENT, cheapest, dearest, exact, in_stock
from slime_tau2.factory.retail.clerk import Clerk, described, instruction, is_or_are, mine, too_little
from slime_tau2.factory.retail.shop import Item, Order, Product, Variant
from slime_tau2.factory.retail.words import feature, item_words, money, noun, options_but
from slime_tau2.factory.stories import listed

GONE = re.compile(r"If the .+ that you want (?:is|are) not available, you want (.+) instead\.")
TOO_DEAR = re.compile(
    r"(?:^|.*\. )Ask what the .+ that you want would cost\. If it is more than you paid, you want (.+) i"
)
SEVERAL = re.compile(
    r"If the shop has (?:more than one|several kinds of) (.+), you want the (cheapest|most expensive),"
)
MIND = re.compile(r"When the agent asks you to confirm, you change your mind about .+: you want (.+) instead\.")
ADDED = r"When the agent asks whether .* you add one more item: (.+), (?:to|for) (.+)\.$"
Detour = Callable[[], Script[None]]


@dataclass(kw_only=True)
class Swap:
    """An item, and the variant that the user wants for it at this point of the conversation."""

    item: Item
    product: Product
    target: Variant
    final: Variant
    words: str

    @property
    def line(self) -> str:
        """As the agent lists it: what is different, and the prices."""
        old, new = self.item, self.target
        options = [
            f"{option} {old.options[option]} → {value}" if option in old.options else f"{option} {value}"
            for option, value in options_but(new.options, old.options).items()
        ]
        return f"{noun(old.name)}: {', '.join(options)}; price ${money(old.price)} → ${money(new.price)}"


class Changing:
    """One wish for other variants, while it is being served."""

    def __init__(self, clerk: Clerk, wish: Wish, order: Order, call: Call):
        self.clerk, self.wish, self.order, self.call = clerk, wish, order, call
        self.exchange = call.name.startswith("exchange")
        self.verb = "exchange" if self.exchange else "change"
        self.swaps: list[Swap] = []
        self.detours: list[Detour] = []
        self.lines = list(wish.instructions)

    def pairs(self) -> list[tuple[Item, str]]:
        """(item, id of its new variant) of the gold call."""
        items = {item.item_id: item for item in self.order.items}
        arguments = self.call.arguments
        return [(items[old], new) for old, new in zip(arguments["item_ids"], arguments["new_item_ids"], strict=True)]

    def name(self, item: Item) -> str:
        """The item as the user names it."""
        return item_words(item, self.order.items)

    def ask_what(self, items: Sequence[Item]) -> Script[None]:
        """What the user wants instead, where that is not said."""
        names = {f"what you want instead of {self.name(item)}" for item in items}
        facts = [fact for fact in self.wish.facts if fact.name in names]
        what = listed([self.name(item) for item in items])
        yield from self.clerk.ask(
            facts,
            f"What would you like instead of {what}?",
            f"Which version would you like instead of {what}?",
            f"Please tell me which options you want in place of {what}.",
        )

    def said(self, item: Item) -> str:
        """The user's words about what is to come in an item's place."""
        name = self.name(item)
        for fact in self.wish.facts:
            if fact.name == f"what you want instead of {name}":
                return fact.words
        parts = [part for part in self.wish.reason.split("; ") if name in part]
        return parts[0] if parts else self.wish.reason

    def take(self, item: Item, new: str, said: str) -> Script[None]:
        """Look at an item's product, and go through what the user says of it until it is clear which variant it is."""
        product = yield from self.clerk.look_at_product(item.product_id)
        final = product.variants[new]
        first = _meant(item, product, said) or final
        swap = Swap(item=item, product=product, target=first, final=final, words=self.name(item))
        self.swaps.append(swap)
        yield from self._settle_variant(swap)

    def _line(self, swap: Swap, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The instruction about a swap that fits a pattern."""
        for line in self.lines:
            found = pattern.match(line)
            if found is None:
                continue
            if pattern is SEVERAL:
                fits = found[1].startswith(noun(swap.item.name))
            else:
                fits = found[1] == exact(swap.item, swap.final) and noun(swap.item.name) in line
            if fits:
                self.lines.remove(line)
                return found
        return None

    def _settle_variant(self, swap: Swap) -> Script[None]:
        clerk, item = self.clerk, swap.item
        name = noun(item.name)
        if found := self._line(swap, SEVERAL):
            which = found[1].removeprefix(name).strip()
            fitting = [
                variant
                for variant in in_stock(swap.product, item)
                if any(feature(option, value) == which for option, value in variant.options.items())
            ]
            swap.target = swap.final
            if len(fitting) > 1:
                yield from self._several(swap, which, fitting, found[2])
        elif found := self._line(swap, GONE):
            second = f"{found[1]}"
            yield from clerk.say(
                clerk.pick(
                    f"[sorry] the {name} you have in mind ({described(swap.target.options)}) {is_or_are(item)} not "
                    "available right now. Would you like something different?",
                    f"Unfortunately, the {name} of that kind ({described(swap.target.options)}) {is_or_are(item)} "
                    "out of "
                    "stock. Is there another kind that you'd like?",
                )
            )
            yield from clerk.answer(
                clerk.voice.pick(f"Then {second}, please.", f"In that case I'd take {second}.", f"OK, {second}, then.")
            )
            swap.target = swap.final
        elif found := self._line(swap, TOO_DEAR):
            second = found[1]
            yield from clerk.say(
                clerk.pick(
                    f"The {name} with {described(swap.target.options)} is available for ${money(swap.target.price)}. "
                    f"You paid ${money(item.price)} for yours.",
                    f"That {name} ({described(swap.target.options)}) costs ${money(swap.target.price)}; yours was "
                    f"${money(item.price)}.",
                )
                + clerk.pick(" Would you like it?", " Is that all right?", " Shall I take that one?")
            )
            yield from clerk.answer(
                clerk.voice.pick(
                    f"That's more than I paid. Then I'd like {second}.", f"No, too much. I'd rather have {second}."
                )
            )
            swap.target = swap.final
        elif found := self._line(swap, MIND):
            self.detours.append(lambda: self._other_mind(swap, found[1]))
        else:
            swap.target = swap.final

    def _several(self, swap: Swap, which: str, fitting: list[Variant], word: str) -> Script[None]:
        clerk, name = self.clerk, noun(swap.item.name)
        low, high = cheapest(fitting), dearest(fitting)
        ordered = sorted(fitting, key=lambda variant: variant.price)
        if len(fitting) <= 4 or low is None or high is None:
            lines = [f"- {described(variant.options)}: ${money(variant.price)}" for variant in ordered]
            yield from clerk.say(
                clerk.pick(
                    f"There are {len(fitting)} {name} options {which}:", f"I have {len(fitting)} in stock {which}:"
                ),
                *lines,
                clerk.pick("Which one would you like?", "Which of them do you want?"),
            )
        else:
            yield from clerk.say(
                f"There are {len(fitting)} {name} options {which} in stock, from ${money(low.price)} "
                f"({described(low.options)}) to ${money(high.price)} ({described(high.options)}).",
                clerk.pick("Which one would you like?", "Do you have a preference?"),
            )
        yield from clerk.answer(
            clerk.voice.pick(f"The {word} one, please.", f"I'll take the {word} one.", f"Whichever is {word}.")
        )

    def _other_mind(self, swap: Swap, other: str) -> Script[None]:
        clerk = self.clerk
        yield from clerk.answer(
            clerk.voice.pick(
                f"Wait, I've changed my mind about {swap.words}: I'd rather have {other}.",
                f"Hmm, actually, for {swap.words} I'd rather have {other}.",
                f"Sorry, on second thought: for {swap.words} I want {other}.",
            )
        )
        swap.target = swap.final

    def _add(self, item: Item, new: str, wish: str) -> Script[None]:
        clerk = self.clerk
        name = self.name(item)
        price = ""
        if any(TOO_DEAR.match(line) and noun(item.name) in line for line in self.lines):
            price = " What would that cost?"
        yield from clerk.answer(
            clerk.voice.pick(
                f"Please {self.verb} {name} too: I'd like {wish}.{price}",
                f"One more thing: {name}. I'd like {wish}.{price}",
                f"Oh, and {name} as well, for {wish}.{price}",
            )
        )
        yield from self.take(item, new, wish + ".")

    def difference(self) -> Script[float]:
        """What is to be paid for the swaps as they are now; below 0 what is given back."""
        terms = [f"{money(swap.target.price)} - {money(swap.item.price)}" for swap in self.swaps]
        expression = terms[0] if len(terms) == 1 else " + ".join(f"({term})" for term in terms)
        return (yield from self.clerk.calculate(expression))

    def recap(self) -> Script[bool]:
        """Remind the user that this can be done once; whether the question was if something is missing."""
        clerk, number = self.clerk, self.order.order_id
        missing = clerk.rng.random() < 0.6
        yield from clerk.say(
            clerk.pick("So far I have:", "This is what I have noted:", "Here is what you want so far:"),
            *(f"- {swap.line}" for swap in self.swaps),
            clerk.pick(
                f"Is there anything else to {self.verb} in order {number}? It can be done only once.",
                f"I can {self.verb} items of order {number} only once. Is anything missing?",
            )
            if missing
            else clerk.pick(
                f"I can {self.verb} items of an order only once. Are these all the items that you want to {self.verb} "
                f"in order {number}?",
                f"Please check that this is everything you want to {self.verb} in order {number}, since it can be done "
                "only once. Is it complete?",
            ),
        )
        return missing

    def all_and_confirm(self) -> Sequence[str]:
        """The reminder and the question for a yes in one: the policy wants both before the write."""
        items = "these items" if len(self.swaps) > 1 else "this item"
        verb = self.verb
        to = f"{verb} in order {self.order.order_id}"
        return (
            f"Please make sure that you have named all the items you want to {to}. If so, may I proceed (yes/no)?",
            f"Are these all the items that you want to {to}, and shall I go ahead (yes/no)?",
            f"Is it only {items} that you want to {to}? Please answer yes if the list is complete and I may go ahead.",
            f"Please check that no item is missing that you want to {verb}, and confirm with yes.",
            f"Do you confirm that this is everything you want to {to} (yes or no)?",
        )

    def settle(self) -> Script[None]:
        """Find out who pays the difference, or gets it."""
        clerk = self.clerk
        fact = next(fact for fact in self.wish.facts if fact.name == SETTLEMENT)
        amount = yield from self.difference()
        asked = not clerk.known(fact)
        two = re.match(
            r"You would like to settle .* with (.+?); if the balance is too low, you take (.+)\.$", fact.words
        )
        if two:
            yield from clerk.look_at_profile(balances=True)
        words = self._difference_words(amount)
        question = clerk.pick(
            f"{words} Which payment method should I use for that?",
            f"{words} How would you like to settle it?",
            f"{words} Which payment method in your profile should that go to?",
        )
        if amount == 0:
            question = "The price stays the same. I still need a payment method for the order: which one should I use?"
        if two is None:
            yield from clerk.ask([fact], question)
            return
        if asked:
            clerk.reply([fact])
            yield from clerk.say(question)
            yield from clerk.answer(clerk.voice.pick(f"With {mine(two[1])}, please.", f"Use {mine(two[1])}."))
        yield from too_little(clerk, two[1], two[2], amount, asked=asked)

    def _difference_words(self, amount: float) -> str:
        what = (
            f" for the {listed([noun(swap.item.name) for swap in self.swaps])}" if self.clerk.rng.random() < 0.5 else ""
        )
        if amount > 0:
            return f"The price difference{what} is ${money(amount)}, which you would pay."
        return f"The price difference{what} is ${money(-amount)} in your favor."

    def details(self, before: Sequence[str]) -> Script[list[str]]:
        """All details of the write."""
        amount = yield from self.difference()
        method = self.clerk.method(self.call.arguments["payment_method_id"])
        if amount > 0:
            settled = f"Price difference: ${money(amount)}, to be paid with {method}"
        elif amount < 0:
            settled = f"Price difference: ${money(-amount)}, to be refunded to {method}"
        else:
            settled = f"Price difference: none; payment method: {method}"
        verb = "Exchange" if self.exchange else "Change"
        swaps = [f"{verb} the {swap.line}" for swap in self.swaps]
        number = () if before else (f"Order: {self.order.order_id}",)
        return [*before, *number, *swaps, settled]


def _meant(item: Item, product: Product, said: str) -> Variant | None:
    """The variant that the user describes exactly."""
    for variant in product.variants.values():
        if variant.item_id != item.item_id and re.search(re.escape(exact(item, variant)) + r"($|[.;])", said):
            return variant
    return None


def serve(clerk: Clerk, wish: Wish) -> Script[None]:
    """Other variants of items of one order."""
    order = yield from clerk.locate(wish)
    yield from change(clerk, wish, order, wish.writes()[0])


def change(
    clerk: Clerk, wish: Wish, order: Order, call: Call, before: Sequence[tuple[Call, list[str]]] = ()
) -> Script[None]:
    """Find out which variants, settle the difference, list, and write.

    Args:
        before: other writes to the order that are listed with it and made first, with their details.
    """
    changing = Changing(clerk, wish, order, call)
    pairs = changing.pairs()
    added = instruction(wish, ADDED)
    later = None
    if added:
        later = next(pair for pair in pairs if changing.name(pair[0]) == added[1])
        pairs.remove(later)
    yield from changing.ask_what([item for item, _ in pairs])
    for item, new in pairs:
        yield from changing.take(item, new, changing.said(item))
    if added and later:
        changing.detours.insert(0, lambda: changing._add(*later, added[2]))
    fact: Fact = next(fact for fact in wish.facts if fact.name == SETTLEMENT)
    complete = False
    if "balance is too low" in fact.words or clerk.rng.random() < 0.5:
        complete = yield from _detours_at_recap(changing)
    yield from changing.settle()
    method: str = call.arguments["payment_method_id"]
    yield from clerk.look_at_profile(balances=method.startswith("gift_card"))
    while True:
        details = yield from changing.details([line for _, lines in before for line in lines])
        confirm = CONFIRM if complete else changing.all_and_confirm()
        yield from clerk.propose(details, tail=_once(clerk, changing), confirm=confirm)
        if not changing.detours:
            break
        yield from changing.detours.pop(0)()
    yield from clerk.agree() if complete else clerk.answer(clerk.voice.whole())
    yield from clerk.do([*(write for write, _ in before), call])
    if before:
        clerk.note(f"Order {order.order_id} has been changed as listed.")
    else:
        clerk.note(_done(clerk, changing))


def _detours_at_recap(changing: Changing) -> Script[bool]:
    """Go through what the user has in mind still; whether the user has said that the list is complete."""
    clerk = changing.clerk
    complete = not changing.detours
    if complete:
        missing = yield from changing.recap()
        no = ("No, that's all.", "No, nothing else.", "No, that's everything.")
        yes = ("Yes, that's all.", "Yes, that's everything.", "Yes, just that.")
        yield from clerk.answer(clerk.voice.pick(*(no if missing else yes)))
    while changing.detours:
        yield from changing.recap()
        yield from changing.detours.pop(0)()
    return complete


def _once(clerk: Clerk, changing: Changing) -> str:
    number = changing.order.order_id
    if changing.exchange:
        return clerk.pick("", f"An exchange can be made only once for order {number}.", "This can be done only once.")
    return clerk.pick(
        f"After this, order {number} can't be changed or cancelled any more.",
        "Please note that this can be done only once, and that the order can't be cancelled afterwards.",
    )


def _done(clerk: Clerk, changing: Changing) -> str:
    number = changing.order.order_id
    if changing.exchange:
        return clerk.pick(
            f"The exchange for order {number} is requested. You will get an email on how to return the old "
            f"{'item' if len(changing.swaps) == 1 else 'items'}; there is no need to place a new order.",
            "Done, the exchange is requested. An email will tell you how to send the old "
            f"{'item' if len(changing.swaps) == 1 else 'items'} back.",
        )
    return clerk.pick(
        f"[done] order {number} has been changed.",
        f"Order {number} now has the {listed([noun(swap.item.name) for swap in changing.swaps])} you wanted.",
    )
