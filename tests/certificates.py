"""Certificates for tests of TLS: an authority, what it signed, and what another one signed; made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from dicom_network import program


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM files."""

    cert: Path
    key: Path


def make_authority(folder: Path, name: str) -> Certificate:
    """A certificate that signs itself and others."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl("req", "-x509", *_new_key(paths.key), "-out", paths.cert, "-subj", f"/CN={name}", "-days", "2")
    return paths


def make_certificate(folder: Path, name: str, authority: Certificate, days: int = 2) -> Certificate:
    """A certificate of loopback, for either side, that an authority signed; with -1 day it has expired."""
    paths = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")
    _openssl("req", "-new", *_new_key(paths.key), "-out", request, "-subj", f"/CN={name}")
    signer = ("-CA", authority.cert, "-CAkey", authority.key, "-CAcreateserial", "-extfile", extensions)
    _openssl("x509", "-req", "-in", request, *signer, "-out", paths.cert, "-days", str(days))
    return paths


def _new_key(path: Path) -> tuple[str | Path, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path)


def _openssl(*arguments: str | Path) -> None:
    command = [program("openssl"), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
