"""What an RTSP camera asks of who plays it: a user and a password, by Basic or by Digest (RFC 2617, MD5)."""

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
    """Who is let in."""

    scheme: Scheme
    user: str
    password: str
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def challenge(self) -> str:
        """The header of a 401."""
        return (
            f'Digest realm="{REALM}", nonce="{self.nonce}"' if self.scheme == "digest" else f'Basic realm="{REALM}"'
        )

    def admits(self, method: str, authorization: str) -> bool:
        """Whether a request with this header is let in."""
        if self.scheme == "basic":
            return authorization == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        said = dict(re.findall(r'(\w+)="([^"]*)"', authorization))
        own = _md5(f"{self.user}:{REALM}:{self.password}")
        what = _md5(f"{method}:{said.get('uri', '')}")
        wanted = _md5(f"{own}:{self.nonce}:{what}")
        return (said.get("username"), said.get("response")) == (self.user, wanted)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324  the protocol's
