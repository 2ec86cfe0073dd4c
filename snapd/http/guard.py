"""Which addresses may be called, for URLs that come with requests and may be anybody's.

A URL is taken apart here and put together again from checked parts, so nobody after this reads it otherwise.
A name is resolved once, every address it has is checked, and the connection goes to one of those.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM, AddressFamily, gaierror, getaddrinfo
from typing import Self
from urllib.parse import urlsplit

import idna

from framesrv.process import reaching
from snapd.errors import AddressRefusedError
from snapd.http.session import Address, remaining

MAX_URL = 2048
PORTS = {"http": 80, "https": 443}
FRESH = 10.0  # s that a name's addresses are used again
FRESH_FAILURE = 2.0  # s that a name counts as not found
MAX_LOOKUPS = 8  # at once: a lookup that hangs cannot be ended, only left
MAX_NAMES = 256

IPAddress = IPv4Address | IPv6Address
Judge = Callable[[IPAddress], str]

_ODD = re.compile(r"[^!-~\u00a1-\U0010ffff]|\\")
_PATH = re.compile(r"[!-~]*\Z")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?\Z")
_NUMBER = re.compile(r"([0-9]+|0x[0-9a-f]*)\Z")

_REFUSED = {
    ip_network(network): why
    for why, networks in {
        "a link-local address": ("169.254.0.0/16", "fe80::/10"),
        "a metadata address": (
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle
            "fd00:ec2::254/128",  # AWS
            "fd20:ce::254/128",  # Google
            "fd00:42::42/128",  # Scaleway
        ),
        "an unspecified address": ("0.0.0.0/8", "::/128"),
        "a multicast address": ("224.0.0.0/4", "ff00::/8"),
        "a reserved address": ("240.0.0.0/4", "192.0.0.0/24", "2001::/32"),  # the last is Teredo
    }.items()
    for network in networks
}
# Whatever of IPv6 is neither global, nor unique local, nor loopback is reserved.
_USABLE6 = tuple(IPv6Network(network) for network in ("2000::/3", "fc00::/7", "::1/128"))
_NAT64 = IPv6Network("64:ff9b::/96")


def refusal(address: IPAddress) -> str:
    """Why nobody is to be called at `address`; empty if it may be. Loopback and private ones may."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return refusal(inner)
    for network, why in _REFUSED.items():
        if address in network:
            return why
    if isinstance(address, IPv6Address) and not any(address in network for network in _USABLE6):
        return "a reserved address"
    return ""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL to call, in parts; `path` has no ``/`` at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """The parts of `url`. Raises ValueError, with the reason, if it is not to be called."""
        if len(url) > MAX_URL:
            raise ValueError(f"longer than {MAX_URL} characters")
        if _ODD.search(url):
            raise ValueError("has characters that no URL has")
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.netloc:
            raise ValueError("not an http or https URL")
        for mark, what in (("@", "user info"), ("?", "a query"), ("#", "a fragment")):
            if mark in (parts.netloc if mark == "@" else url):
                raise ValueError(f"has {what}")
        if not _PATH.match(parts.path):
            raise ValueError("has characters that no path has")
        port = PORTS[parts.scheme] if parts.port is None else parts.port
        if port == 0:
            raise ValueError("port 0")
        return cls(parts.scheme, _host(parts.hostname or "", parts.netloc), port, parts.path.rstrip("/"))

    @property
    def origin(self) -> tuple[str, str, int]:
        """What decides who is called."""
        return self.scheme, self.host, self.port

    @property
    def url(self) -> str:
        """The same in one piece, without a ``/`` at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def _host(host: str, netloc: str) -> str:
    """`host` in the one form in which hosts are compared."""
    if netloc.startswith("["):
        if "%" in host:
            raise ValueError("has a zone")
        return str(IPv6Address(host))
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True, std3_rules=True).decode()
    except idna.IDNAError as error:
        raise ValueError(f"no host name: {error}") from error
    if not _NAME.match(name):
        raise ValueError("no host name")
    if _NUMBER.match(name.rstrip(".").rpartition(".")[2]):
        # 2852039166, 0xA9FEA9FE and 0251.0376.0251.0376 mean something to getaddrinfo, to others something else.
        return str(IPv4Address(name))
    return name


@dataclass(slots=True)
class _Lookup:
    """What is known of one name. `found` or `problem` is set when `done` is."""

    done: threading.Event
    until: float
    found: tuple[str, ...] = ()
    problem: str = ""


class Resolver:
    """Gives the addresses of hosts, within the deadline of the thread that asks; for several threads.

    Args:
        judge: says why an address is not to be called; one such address refuses its whole name.
    """

    def __init__(self, judge: Judge = lambda _: "") -> None:
        self._judge = judge
        self._lookups: dict[str, _Lookup] = {}
        self._under_way = 0
        self._lock = threading.Lock()

    def __call__(self, host: str, port: int) -> list[Address]:
        """The addresses to connect to.

        Raises:
            AddressRefusedError: at least one of them is not to be called.
            OSError: there is none, or none in time.
        """
        try:
            texts: tuple[str, ...] = (str(ip_address(host)),)
        except ValueError:
            texts = ()
        texts = texts or self._look_up(host)  # not above: what it raises would be raised for that
        addresses: list[Address] = []
        for text in texts:
            address = ip_address(text.partition("%")[0])
            why = self._judge(address)
            if why:
                raise AddressRefusedError(f"{host} is {why}" if text == host else f"{host} is {text}, {why}")
            family = AddressFamily.AF_INET if address.version == 4 else AddressFamily.AF_INET6
            addresses.append((family, (text, port)))
        # Two are tried, of both families if there are both: more would leave too little time to each.
        others = sorted(addresses[1:], key=lambda one: one[0] == addresses[0][0])
        return addresses[:1] + others[:1]

    def _look_up(self, name: str) -> tuple[str, ...]:
        with self._lock:
            lookup = self._lookups.get(name)
            if lookup is None or (lookup.done.is_set() and lookup.until < time.monotonic()):
                lookup = self._begin(name)
        if not lookup.done.wait(min(remaining(), threading.TIMEOUT_MAX)):
            raise TimeoutError(f"the host name {name} is not looked up in time: see this host's DNS")
        if lookup.problem:
            raise gaierror(lookup.problem)
        return lookup.found

    def _begin(self, name: str) -> _Lookup:
        if self._under_way >= MAX_LOOKUPS:
            raise OSError(f"{name} is not looked up: {MAX_LOOKUPS} other lookups hang")
        if len(self._lookups) >= MAX_NAMES:
            self._lookups = {key: value for key, value in self._lookups.items() if not value.done.is_set()}
        lookup = self._lookups[name] = _Lookup(threading.Event(), 0.0)
        self._under_way += 1
        # A thread of its own and a daemon, because getaddrinfo knows no time-out and must not delay the end.
        threading.Thread(target=self._run, args=(name, lookup), name="resolver", daemon=True).start()
        return lookup

    def _run(self, name: str, lookup: _Lookup) -> None:
        fresh = FRESH_FAILURE
        try:
            found = getaddrinfo(name, None, type=SOCK_STREAM)
            lookup.found = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
            fresh = FRESH
        except (gaierror, OSError, UnicodeError):
            lookup.problem = reaching.name_unknown(name)
        finally:
            with self._lock:
                self._under_way -= 1
            lookup.until = time.monotonic() + fresh
            lookup.done.set()
