"""A handshake with ourselves: do certificate and key work, and for how long?"""

from __future__ import annotations

import ssl
import time

from lnfast.errors import BackendError
from lnfast.node.config.settings import Tls
from lnfast.node.transport.tls import client_context, server_context

EXPIRES_SOON_DAYS = 30.0
_DAY_S = 86400.0
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_STEPS = 10


def days_left(tls: Tls) -> float:
    """Return for how many days the certificate of ``[tls]`` is still valid.

    Raises:
        BackendError: ``tls-unusable``, ``tls-expired``.
    """
    serving, asking = server_context(tls), client_context(tls)
    serving.verify_mode = ssl.CERT_NONE
    asking.check_hostname = False
    asking.load_verify_locations(tls.cert)  # trusted as it is, whoever signed it
    asking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    client = asking.wrap_bio(to_client, to_server)
    try:
        for _ in range(_STEPS):
            if _finished(client) & _finished(server):
                break
        certificate = client.getpeercert() or {}
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            raise BackendError("tls-expired", f"{tls.cert} has expired; have it renewed") from error
        raise BackendError("tls-unusable", f"[tls] cert cannot be used: {error.verify_message} ({tls.cert})") from error
    except ssl.SSLError as error:
        reason = (error.reason or "the handshake fails").replace("_", " ").lower()
        raise BackendError("tls-unusable", f"[tls] cert and key cannot be used: {reason} ({tls.cert})") from error
    return (ends - time.time()) / _DAY_S


def _finished(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
