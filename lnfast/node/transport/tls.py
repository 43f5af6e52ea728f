"""TLS for the receiver and for targets: 1.2 or newer, and both sides prove who they are where ``ca`` is set."""

from __future__ import annotations

import ssl
from pathlib import Path

from lnfast.errors import BackendError
from lnfast.node.config.settings import Tls


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


def folder_context(folder: Path) -> ssl.SSLContext:
    """Return the settings of a connection to a peer by the PEM files of a folder.

    Args:
        folder: with ``ca.pem``, which signed the peer's certificate (without it: the authorities that this system
            trusts), and with ``cert.pem`` and ``key.pem`` where the peer asks for ours.

    Raises:
        BackendError: ``tls-unusable``.
    """
    cert, key, ca = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
    if not folder.is_dir():
        raise BackendError("tls-unusable", f"{folder} is no folder; it should hold ca.pem, cert.pem and key.pem")
    if cert.exists() or key.exists():
        return client_context(Tls(cert, key, ca if ca.exists() else None))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    _trust(context, ca)
    return context


def _context(protocol: int, tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise BackendError("tls-unusable", _reason(error, "cert and key", tls.cert, tls.key)) from error
    if tls.ca is not None:
        _trust(context, tls.ca)
    return context


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise BackendError("tls-unusable", _reason(error, "ca", ca)) from error


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
