"""Who asks: Basic and Digest (RFC 7617, RFC 7616, RFC 2069), with whatever algorithm the camera offers.

The strongest that both sides know is tried first. Each try with a wrong password counts at the camera, which may lock
the account, so there are few.
"""

import base64
import os
import re
from dataclasses import dataclass, field
from types import ModuleType

from framesrv.camera.sources import reasons
from framesrv.camera.sources.reasons import Reason

LONGEST, MOST = 4096, 16  # characters of one header that are read, and headers
TRIES = 2  # ways that are tried with one password

_ALGORITHMS = {"MD5": "md5", "SHA256": "sha256", "SHA512256": "sha512_256"}  # weakest first
_PART = re.compile(r'(?P<key>[\w-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,]*))|(?P<scheme>[\w-]+)')
_ENCODED = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)


@dataclass(slots=True)
class Challenge:
    """One way that a camera offers.

    Attributes:
        scheme: ``basic``, ``digest``, or another, in small letters.
        parameters: by their names in small letters.
    """

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def nonce(self) -> str:
        """The camera's, for one digest or for many."""
        return self.parameters.get("nonce", "")

    @property
    def algorithm(self) -> str:
        """As the camera writes it; empty where it does not say."""
        return self.parameters.get("algorithm", "")

    @property
    def hash(self) -> str:
        """The algorithm's name in hashlib; empty if it is not known."""
        plain = re.sub(r"-SESS\Z", "", (self.algorithm or "MD5").upper())
        name = _ALGORITHMS.get(re.sub(r"[-_/]", "", plain), "")
        return name if name in _hashlib().algorithms_available else ""

    @property
    def strength(self) -> int:
        """The larger, the better; -1 for what is not known."""
        if self.scheme == "basic":
            return 0
        if self.scheme != "digest" or not self.hash:
            return -1
        return 1 + list(_ALGORITHMS.values()).index(self.hash)

    @property
    def name(self) -> str:
        """As people know it."""
        return f"{self.scheme.capitalize()} {self.algorithm}".strip()


def challenges(headers: list[str]) -> list[Challenge]:
    """What the camera's ``WWW-Authenticate`` headers offer, in their order."""
    found: list[Challenge] = []
    for header in headers[:MOST]:
        for part in _PART.finditer(header[:LONGEST]):
            if part["scheme"]:
                found.append(Challenge(part["scheme"].lower()))
            elif found:
                value = part["plain"] if part["quoted"] is None else re.sub(r"\\(.)", r"\1", part["quoted"])
                found[-1].parameters.setdefault(part["key"].lower(), value)
    return found


class Authentication:
    """A user and a password, and how they are told to one camera."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password
        self._challenge: Challenge | None = None
        self._offered: list[Challenge] = []
        self._tried: set[str] = set()
        self._accepted = False
        self._count = 0
        self._session_key = ""

    @property
    def offered(self) -> tuple[str, ...]:
        """The ways that the camera has last asked for, as people know them; the one in use comes first."""
        names = [one.name for one in self._offered]
        return tuple(dict.fromkeys([self._challenge.name, *names] if self._challenge else names))

    def header(self, method: str, url: str) -> str:
        """The value of ``Authorization`` for a request; empty where none is wanted."""
        challenge = self._challenge
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            return "Basic " + base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        return self._digest(challenge, method, url)

    def accepted(self) -> None:
        """A request was not refused for want of it."""
        self._accepted = self._challenge is not None

    def challenged(self, headers: list[str]) -> bool:
        """Takes what a 401 says; whether to ask again.

        Args:
            headers: of ``WWW-Authenticate``.
        """
        self._offered = challenges(headers)
        if not self._user:
            return False
        used, usable = self._challenge, [one for one in self._offered if one.strength >= 0]
        for one in usable:
            if used is not None and one.name == used.name and one.nonce != used.nonce:
                stale = one.parameters.get("stale", "").lower() == "true"
                if stale or self._accepted:  # the password is right, the nonce was too old
                    self._accepted = False
                    self._take(one)
                    return True
        usable = [one for one in usable if one.name not in self._tried]
        if not usable or len(self._tried) == TRIES:
            return False
        self._take(max(usable, key=lambda one: one.strength))
        return True

    def refusal(self) -> Reason:
        """Why it came to nothing."""
        if not self._user and self._offered:
            return reasons.NO_PASSWORD
        if self._offered and not self._tried:
            names = " or ".join(dict.fromkeys(one.name for one in self._offered))
            return (
                "protocol",
                f"the camera offers only {names}, which framesrv does not know: choose Digest MD5 or SHA-256 in the "
                "camera's settings",
            )
        cause, words = reasons.UNAUTHORIZED
        if _ENCODED.search(self._user + self._password):
            words += "; a % in a URL before two hexadecimal digits is written %25"
        return cause, words

    def _take(self, challenge: Challenge) -> None:
        self._challenge = challenge
        self._tried.add(challenge.name)
        self._count, self._session_key = 0, ""

    def _digest(self, challenge: Challenge, method: str, url: str) -> str:
        given = challenge.parameters
        realm, nonce = given.get("realm", ""), challenge.nonce
        offers = [one.strip().lower() for one in given.get("qop", "").split(",") if one.strip()]
        qop = "auth" if "auth" in offers else offers[0] if offers else ""
        self._count += 1
        count, own = f"{self._count:08x}", _nonce()

        def digest(*parts: str) -> str:
            hashed = _hashlib().new(challenge.hash, ":".join(parts).encode(), usedforsecurity=False)
            return str(hashed.hexdigest())

        secret = digest(self._user, realm, self._password)
        if challenge.algorithm.upper().endswith("-SESS"):
            self._session_key = self._session_key or own
            own = self._session_key
            secret = digest(secret, nonce, own)
        what = digest(method, url) if qop != "auth-int" else digest(method, url, digest(""))
        answer = digest(secret, nonce, count, own, qop, what) if qop else digest(secret, nonce, what)
        quoted = {"username": self._user, "realm": realm, "nonce": nonce, "uri": url, "response": answer}
        plain = {}
        if "opaque" in given:
            quoted["opaque"] = given["opaque"]
        if challenge.algorithm:
            plain["algorithm"] = challenge.algorithm
        if qop:
            quoted["cnonce"] = own
            plain |= {"qop": qop, "nc": count}
        elif self._session_key:
            quoted["cnonce"] = own
        parts = [f'{key}="{_quoted(value)}"' for key, value in quoted.items()]
        return "Digest " + ", ".join([*parts, *(f"{key}={value}" for key, value in plain.items())])


def _quoted(value: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", value)


def _nonce() -> str:
    """Our own, for one answer: what no camera can foresee."""
    return os.urandom(8).hex()


def _hashlib() -> ModuleType:
    import hashlib  # and OpenSSL, which only a password needs

    return hashlib
