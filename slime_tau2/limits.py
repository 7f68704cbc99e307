"""How long an episode may go on, and how long a server is waited for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one episode.

    Attributes:
        max_steps: tau2's limit on hops.
        max_errors: tau2's limit on error results, the user's included.
        deadline_s: seconds of wall clock for the whole episode; an episode that meets it ends as infrastructure.
    """

    max_steps: int = 200
    max_errors: int = 10
    deadline_s: float = 3600.0


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Of one request to a server.

    Attributes:
        retries: further tries after the first.
        timeout_s: seconds until a try counts as failed.
        backoff_s: seconds before the second try; each further pause is twice as long.
    """

    retries: int = 4
    timeout_s: float = 300.0
    backoff_s: float = 0.5
