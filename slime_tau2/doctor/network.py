"""Addresses and interfaces of this node, and whether nodes reach each other at those that slime will announce.

Standard library only: `launch/node.sh` runs `python3 -P network.py` before Ray is there, and the doctor's probe sends
it to every node of a cluster. IPv4, as slime's default is.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading

IFACE_VARIABLES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
HOST_VARIABLE = "SLIME_HOST_IP"
SIOCGIFADDR = 0x8915
CONNECT_S = 5.0


def interfaces() -> dict[str, str]:
    """{name: its IPv4 address, or "" without one} of this node (Linux)."""
    import fcntl

    addresses = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                addresses[name] = socket.inet_ntoa(reply[20:24])
            except OSError:
                addresses[name] = ""
    return addresses


def towards(address: str) -> str:
    """This node's address on the way to `address`; empty where no route leads there. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def announced() -> str:
    """The address that slime's servers on this node give to all others.

    SLIME_HOST_IP; else this node's on the way out; else its host name's.
    """
    if os.environ.get(HOST_VARIABLE):
        return os.environ[HOST_VARIABLE]
    outwards = towards("8.8.8.8")
    if outwards and not outwards.startswith("127."):
        return outwards
    try:
        resolved = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        resolved = []
    named = [str(entry[4][0]) for entry in resolved]
    return next((a for a in named if not a.startswith("127.")), "127.0.0.1")


def is_own(address: str) -> bool:
    """Whether an address is this node's. An interface's second one is, too, though `interfaces` does not show it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
            return True
        except OSError:
            return False


def matching(variable: str, value: str, names: list[str]) -> list[str]:
    """The interfaces, of those that there are, that a variable names.

    Gloo's takes names. NCCL's takes what they begin with, or after `=` whole names; `^` means all but these.
    """
    if not variable.startswith("NCCL_"):
        return [n for n in value.split(",") if n in names]
    leave_out = value.startswith("^")
    pattern = value.lstrip("^")
    exact = pattern.startswith("=")
    wanted = [w for w in pattern.lstrip("=").split(",") if w]
    named = [n for n in names if any(n == w or (not exact and n.startswith(w)) for w in wanted)]
    return [n for n in names if n not in named] if leave_out else named


def wrong(several: bool) -> list[str]:
    """What is wrong with this node's own network settings, as this process has them, one line each.

    Args:
        several: the run has more than one node, so that a loopback address will not do.
    """
    here = interfaces()
    out = []
    shown = ", ".join(f"{name} {address}".strip() for name, address in here.items())
    for variable in IFACE_VARIABLES:
        value = os.environ.get(variable, "")
        if value and not any(here[n] for n in matching(variable, value, list(here))):
            out.append(f"{variable}={value} is no interface with an address there; it has {shown}")
    address = announced()
    if not is_own(address):
        out.append(f"{HOST_VARIABLE}={address} is not that node's address; it has {shown}")
    elif several and address.startswith("127."):
        out.append(f"slime would announce {address}, which no other node reaches; it has {shown}")
    return out


class Listener:
    """A port that listens, as long as this object lives, at the address that slime will announce.

    Raises:
        OSError: that address is not this node's own.
    """

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.bind((announced(), 0))
        self.socket.listen(64)
        threading.Thread(target=self._greet, daemon=True).start()

    def where(self) -> tuple[str, int]:
        """(address, port)."""
        host, port = self.socket.getsockname()
        return host, port

    def close(self) -> None:
        self.socket.close()

    def _greet(self) -> None:
        try:
            while True:
                self.socket.accept()[0].close()
        except OSError:  # closed
            return


def unreachable(addresses: list[tuple[str, int]]) -> list[str]:
    """Those of other nodes' listeners that this one cannot connect to, with the reason, one line each."""
    out = []
    for host, port in addresses:
        try:
            socket.create_connection((host, port), timeout=CONNECT_S).close()
        except OSError as error:
            out.append(f"{host}:{port} ({error})")
    return out


def choose(interface: str, address: str, head: str) -> tuple[str, str]:
    """(interface, address) of this node for a cluster.

    An address that is not given is the interface's, or else the one on the way to `head`, or else on the way out. An
    interface that is not given is the one that has the address.

    Raises:
        ValueError: there is no such interface or address, or none that others could reach; names what there is.
    """
    here = interfaces()
    shown = ", ".join(f"{name} {a}" for name, a in here.items() if a)
    if interface and not here.get(interface):
        raise ValueError(f"IFACE={interface} is no interface with an address here; there are: {shown}")
    if not address:
        if interface:
            address = here[interface]
        else:
            address = towards(head) if head else announced()
    if not address:
        raise ValueError(f"no route leads to HEAD_IP={head} from here; there are: {shown}")
    if not is_own(address):
        raise ValueError(f"NODE_IP={address} is no address of this machine; there are: {shown}")
    if address.startswith("127.") and address != head:
        raise ValueError(
            f"{address} is reached by this machine alone; name the interface to the other nodes as IFACE; there "
            f"are: {shown}"
        )
    interface = interface or next((n for n, a in here.items() if a == address), "")
    if not interface:
        raise ValueError(
            f"NODE_IP={address} is a second address of its interface; name that as IFACE; there are: {shown}"
        )
    return interface, address


def main(arguments: list[str]) -> int:
    """`INTERFACE ADDRESS HEAD PORT`, each of which may be empty: prints `interface address` of this node.

    With a head and a port, only if the head answers there.
    """
    interface, address, head, port = arguments
    try:
        interface, address = choose(interface, address, head)
        if head and port:
            socket.create_connection((head, int(port)), timeout=CONNECT_S, source_address=(address, 0)).close()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        fix = f"is `launch/node.sh head` running there, with NODE_IP={head}, and is the port open for {address}?"
        print(f"{head}:{port} does not answer to {address} on {interface} ({error}): {fix}", file=sys.stderr)
        return 2
    print(interface, address)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
