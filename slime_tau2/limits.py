"""How long an episode may go on, how long a server is waited for, and how often it is asked again.

The defaults of the options that say so (`config.py`) are the ones here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long one episode may go on.

    Attributes:
        max_steps: tau2's limit on hops.
        max_errors: tau2's limit on error results, the user's included.
        deadline_s: seconds of wall clock for the whole episode; an episode that meets it ends as infrastructure.
    """

    max_steps: int = 200
    max_errors: int = 10
    deadline_s: float = 1800.0


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often one request to a server is tried, and how long each try is waited for. By default: one to the policy.

    Attributes:
        count: further tries after the first.
        timeout_s: seconds until a try counts as failed.
        backoff_s: seconds before the second try; each further pause is twice as long.
    """

    count: int = 4
    timeout_s: float = 300.0
    backoff_s: float = 0.5


CHAT_RETRIES = Retries(count=3, timeout_s=120.0)
"""The default for one request to a chat model: the user simulator, the judge, a policy that is asked for text."""
