"""How a retail agent finds out who the user is."""

from __future__ import annotations

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Identity, Told, read
from slime_tau2.factory.retail import policy
from slime_tau2.factory.retail.shop import Shop


def identity(case: Case) -> Identity:
    """By email; by name and zip code where the user does not remember the email, or names one that is not on file."""
    user, rng = Shop(case).user, case.rng
    name = f"{user.name.first_name} {user.name.last_name}"
    full_name = Fact("your name", f"You are {name}.", Told.AT_ONCE)
    email = Fact("your email address", f"Your email address is {user.email}.")
    zip_code = Fact("your zip code", f"Your zip code is {user.address.zip}.")
    facts = [full_name]
    if rng.random() < 0.15:
        facts.append(Fact("your user id", f"Your user id is {user.user_id}.", Told.AT_ONCE))
    known = policy.authenticated(by_email=True, by_name_and_zip=True)
    by_email = read("find_user_id_by_email", email=user.email)
    by_name = read(
        "find_user_id_by_name_zip",
        first_name=user.name.first_name,
        last_name=user.name.last_name,
        zip=user.address.zip,
    )
    wrong = f"{user.name.first_name}.{user.name.last_name}@example.net".lower()
    way = rng.random()
    if way < 0.45:
        return Identity((*facts, email), (by_email,), (known,))
    if way < 0.93 or any(other.email.lower() == wrong for other in case.db.users.values()):
        forgotten = Fact(email.name, "", Told.FORGOTTEN)
        return Identity((*facts, zip_code, forgotten), (by_name,), (known,))
    outdated = Fact(
        "your email address",
        f"You believe that your email address is {wrong}. If the agent does not find you by it, give your zip code.",
    )
    failing = Call(name="find_user_id_by_email", arguments={"email": wrong}, errs=True)
    return Identity((*facts, outdated, zip_code), (failing, by_name), (known,))
