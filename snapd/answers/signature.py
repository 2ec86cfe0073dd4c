"""Signatures of callbacks, by which their receiver knows who sent them: Standard Webhooks, symmetric.

See https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import string
import time
from urllib.parse import quote

PREFIX = "whsec_"

_VISIBLE = "".join(character for character in string.printable if character.isascii() and not character.isspace())


class Signer:
    """Makes the headers of signed callbacks.

    Args:
        secret: ``whsec_`` and base64, or else any text, whose UTF-8 is the key.

    Raises:
        ValueError: what follows ``whsec_`` is not base64.
    """

    def __init__(self, secret: str) -> None:
        self._key = secret.encode()
        if secret.startswith(PREFIX):
            try:
                self._key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
            except binascii.Error as error:
                raise ValueError(f"not base64 after {PREFIX}") from error

    def headers(self, message_id: str, content: bytes) -> dict[str, str]:
        """The headers for `content`; an id that no header could carry is percent-encoded."""
        identity = quote(message_id, safe=_VISIBLE)
        timestamp = str(int(time.time()))
        signed = b".".join((identity.encode(), timestamp.encode(), content))
        digest = hmac.digest(self._key, signed, hashlib.sha256)
        return {
            "webhook-id": identity,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }
