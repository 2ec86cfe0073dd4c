"""TLS with a camera: whose certificate is believed, and what is said where it is not."""

import logging
import ssl

from framesrv.camera.sources.address import Address
from framesrv.camera.sources.reasons import CANNOT, OTHER, Reason
from framesrv.errors import SourceError
from framesrv.process import reaching
from framesrv.settings import Camera

_PLAIN = (
    "WRONG_VERSION_NUMBER",
    "PACKET_LENGTH_TOO_LONG",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
)
_ANOTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH, x509_vfy.h

logger = logging.getLogger(__name__)


def context_of(camera: Camera, told: set[str]) -> ssl.SSLContext:
    """By what the camera's certificate is verified; it is not unless that is configured, which is said once.

    Args:
        camera: which one.
        told: what has been said of it so far.

    Raises:
        SourceError: the file of certificates cannot be read.
    """
    if not (camera.tls_verify or camera.tls_ca):
        words = "The camera's certificate is not verified, anybody in between may read all: tls_verify"
        if words not in told:
            told.add(words)
            logger.warning("%s", words)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # cameras are old, and nothing is verified anyway
        return context
    try:
        return ssl.create_default_context(cafile=camera.tls_ca or None)
    except OSError as error:  # ssl.SSLError too
        why = "there is no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise SourceError(f"{CANNOT}tls_ca = {camera.tls_ca} cannot be read: {why}") from error


def explain(error: OSError, address: Address) -> Reason | None:
    """Why TLS is not spoken; None where the error is another."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _ANOTHER_NAME:
            words = f"is not for {address.host}: write the name that it is for into source"
        else:
            words = "is not trusted: give it, or that of its signer, as tls_ca"
        return "protocol", f"the certificate of {address.where} {words}"
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError):
        return None
    if error.reason in _PLAIN:
        return "protocol", reaching.no_tls(address.where, OTHER[address.scheme])
    return "protocol", f"{address.where} agrees to no TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
