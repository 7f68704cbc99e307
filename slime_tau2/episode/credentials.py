"""Which server may see what: OpenAI's key, a key that was named for one server, a conversation, and the routing key.

Four rules. OpenAI's own key goes to OpenAI's own host, over TLS, and nowhere else. Any other server sees a key only
where an option names the environment variable that holds it, and over plain http only at a loopback or private address:
on the way to any other, everybody could read it. Nor does a conversation go any further over plain http, unless an
option names the host. The routing key, which keeps one conversation on one server of a router, goes to servers of our
own: it means nothing to a stranger, and tells him which requests belong together.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from slime_tau2.errors import ConfigError

OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"
_OPENAI = ("openai.com", "openai.azure.com")


def parsed(url: str) -> SplitResult:
    """A server's URL, taken apart: every reader of one begins here, so that all refuse the same.

    Raises:
        ConfigError: no http or https, no host that could be one, no port that could be one, or a password in it.
    """
    why = ""
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:  # they would stand in every record and error
            raise ConfigError(
                f"the URL of {parts.hostname} has a user name or a password in it; leave it out, and name the "
                "environment variable that holds the key with user_key_env, eval_user_key_env, policy_key_env or "
                "judge_key_env"
            )
        (parts.hostname or "").rstrip(".").encode("idna")  # as it is looked up
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not any(map(str.isspace, url)):
            return parts
    except ValueError as error:
        why = f" ({error})"
    raise ConfigError(f"{url!r} is not the URL of a server{why}; it looks like http://127.0.0.1:30001/v1")


def is_openai(url: str) -> bool:
    """Whether OpenAI's API is behind a URL (Azure's too, and the regional hosts), which refuses fields that SGLang
    knows.
    """
    host = _host(url)
    return any(host == known or host.endswith(f".{known}") for known in _OPENAI)


def is_azure(url: str) -> bool:
    """Whether Azure serves OpenAI's models behind a URL."""
    return _host(url).endswith(".openai.azure.com")


def is_ours(url: str) -> bool:
    """Whether a server may know what we know: it speaks plain http, as SGLang and its router do, or its address is no
    public one.
    """
    return not is_openai(url) and (parsed(url).scheme == "http" or _is_near(_host(url)))


def variable(url: str, named: str | None) -> str | None:
    """The environment variable whose key a server may see; None: it sees none.

    Args:
        named: the variable that an option names for this server; None where none does.

    Raises:
        ConfigError: no URL of a server, or the key would cross a network in the clear. Looks a host's name up where
            that has to be known.
    """
    host, plain = _host(url), parsed(url).scheme != "https"
    if plain and is_openai(url):
        raise ConfigError(f"{url}: OpenAI's servers are asked over https; write https://{host}")
    if named is None:
        return OPENAI_KEY if host == OPENAI_HOST else None
    if plain and not _all_near(host):
        raise ConfigError(
            f"{url}: the key in {named} would go over plain http to {host}, which is no loopback or private address; "
            "use https, or a tunnel that ends on this machine"
        )
    return named


def check_conversation(url: str, plain_http: Sequence[str] = ()) -> None:
    """Refuse a server that conversations would reach in the clear, over a network that is not ours.

    Args:
        plain_http: hosts, or networks in CIDR notation, of which the user has said that they may.

    Raises:
        ConfigError: no URL of a server, or that.
    """
    host = _host(url)
    if (
        parsed(url).scheme == "https"
        or host in plain_http
        or all(_is_near(a) or _within(a, plain_http) for a in _addresses(host))
    ):
        return
    raise ConfigError(
        f"{url}: conversations would go over plain http to {host}, which is no loopback or private address (or "
        f"has none here); use https, or say that they may: plain_http=[{host}]"
    )


def _within(address: str, networks: Sequence[str]) -> bool:
    for network in networks:
        try:
            if ipaddress.ip_address(address.partition("%")[0]) in ipaddress.ip_network(network, strict=False):
                return True
        except ValueError:  # a host's name
            continue
    return False


def _all_near(host: str) -> bool:
    return all(_is_near(address) for address in _addresses(host))


def headers(variable: str | None) -> dict[str, str]:
    """`Authorization` for one request, read from the environment now and kept nowhere (invariant 8); empty without a
    key.
    """
    key = os.environ.get(variable) if variable else None
    return {"Authorization": f"Bearer {key}"} if key else {}


def hint(variable: str | None) -> str:
    """What to do where the server refuses us."""
    if variable is None:
        return (
            "no key is sent there: name the variable that holds it with user_key_env, eval_user_key_env, "
            "policy_key_env or judge_key_env"
        )
    return f"the key in {variable} is not accepted" if os.environ.get(variable) else f"set {variable} to a valid key"


def same_server(url: str, other: str) -> bool:
    """Whether two URLs are one server's: scheme, host and port."""
    first, second = parsed(url), parsed(other)
    return (first.scheme, first.hostname, first.port) == (second.scheme, second.hostname, second.port)


def _host(url: str) -> str:
    return (parsed(url).hostname or "").rstrip(".").lower()


def _is_near(host: str) -> bool:
    """Whether a host, as it is written, is an address that no route of the internet leads to, or one of this machine's
    own.
    """
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global or _is_this_machine(host)
    except ValueError:
        return host == "localhost"


def _is_this_machine(address: str) -> bool:
    """Whether what is sent there stays here: slime's router listens on the node's address, which may be a
    public one.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            return True
    except OSError:
        return False


def _addresses(host: str) -> list[str]:
    """The addresses of a host; itself where it is an address, or has none."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None)})
    except OSError:
        return [host]
