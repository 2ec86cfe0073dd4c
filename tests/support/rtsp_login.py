"""What a camera asks of who plays it: a user and a password, by Basic or by Digest (RFC 7616, without qop)."""

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Literal

Scheme = Literal["basic", "digest"]
REALM = "camera"


@dataclass(frozen=True)
class Login:
    """Who is let in.

    `algorithm`: of Digest, as ``SHA-256``; MD5 if it is empty.
    """

    scheme: Scheme
    user: str
    password: str
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    algorithm: str = ""

    @property
    def challenge(self) -> str:
        """The header of a 401."""
        if self.scheme == "basic":
            return f'Basic realm="{REALM}"'
        algorithm = f", algorithm={self.algorithm}" if self.algorithm else ""
        return f'Digest realm="{REALM}", nonce="{self.nonce}"{algorithm}'

    def admits(self, method: str, authorization: str) -> bool:
        """Whether a request with this header is let in."""
        if self.scheme == "basic":
            return authorization == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        said = dict(re.findall(r'(\w+)="([^"]*)"', authorization))
        own = self._hash(f"{self.user}:{REALM}:{self.password}")
        what = self._hash(f"{method}:{said.get('uri', '')}")
        wanted = self._hash(f"{own}:{self.nonce}:{what}")
        return (said.get("username"), said.get("response")) == (self.user, wanted)

    def _hash(self, text: str) -> str:
        return hashlib.new((self.algorithm or "MD5").replace("-", ""), text.encode()).hexdigest()
