"""TLS for the receiver and for targets: 1.2 or newer, and both sides prove who they are where ``ca`` is set."""

from __future__ import annotations

import ssl
from pathlib import Path

from lnfast.errors import BackendError
from lnfast.node.settings import Tls


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return the settings of a receiver. With ``ca`` a peer must show a certificate that it signed.

    Raises:
        BackendError: ``tls-unusable``: a file cannot be read, or certificate and key do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls)
    if tls.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return the settings of a connection to a target, whose certificate must be signed by ``ca``.

    Without ``ca`` it must be signed by an authority that this system trusts. Its name must be the target's host name.

    Raises:
        BackendError: ``tls-unusable``.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, tls)
    if tls.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _context(protocol: int, tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise BackendError("tls-unusable", _reason(error, "cert and key", tls.cert, tls.key)) from error
    if tls.ca is not None:
        try:
            context.load_verify_locations(tls.ca)
        except (OSError, ssl.SSLError) as error:
            raise BackendError("tls-unusable", _reason(error, "ca", tls.ca)) from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def _reason(error: Exception, keys: str, *paths: Path) -> str:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "no PEM").replace("_", " ").lower()
    else:
        reason = getattr(error, "strerror", None) or str(error)
    files = " and ".join(map(str, paths))
    return (
        f"[tls] {keys} cannot be used: {reason} ({files}); give PEM files that belong together, and a key without a "
        "password"
    )
