"""Who may send: AE titles and addresses.

An AE title is no proof of anything, and an address little; who needs proof sets ``ca`` in ``[tls]``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from lnfast.node.config.settings import Peer
from lnfast.node.transport import contexts
from lnfast.node.transport.acceptor_pdu import (
    APPLICATION_CONTEXT_REJECTED,
    CALLED_AE_TITLE_REJECTED,
    CALLING_AE_TITLE_REJECTED,
    VERSION_REJECTED,
    AssociateRequest,
    Rejection,
)

_VERSION_1 = 1
_LONGEST_TITLE = 16


class Access:
    """The rules of one receiver.

    Args:
        aet: the node's own AE title, which a peer must call.
        allow: who may send; empty takes whoever connects from this machine.
    """

    def __init__(self, aet: str, allow: Sequence[Peer]) -> None:
        self._aet = aet
        self._allow = tuple(allow)
        self._titles = frozenset(peer.aet for peer in allow if peer.aet)

    def check(self, request: AssociateRequest, address: str) -> Rejection | None:
        """Return why a request is rejected, or None.

        Args:
            request: of the peer.
            address: from which it connected.
        """
        if not request.version & _VERSION_1:
            return VERSION_REJECTED
        if request.application_context != contexts.APPLICATION_CONTEXT:
            return APPLICATION_CONTEXT_REJECTED
        if request.called != self._aet:
            return CALLED_AE_TITLE_REJECTED
        if not _is_title(request.calling) or not self._allowed(request.calling, address):
            return CALLING_AE_TITLE_REJECTED
        return None

    def shown(self, title: str, address: str) -> str:
        """Return how a log calls a peer.

        Without its AE title, unless that stands in the configuration: it may be anything, also a patient's name.
        """
        return f"{title}@{address}" if title in self._titles else address

    def _allowed(self, title: str, address: str) -> bool:
        host = ipaddress.ip_address(address.partition("%")[0])  # an IPv6 address may name its interface
        if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped:
            host = host.ipv4_mapped
        if not self._allow:
            return host.is_loopback
        return any(
            (peer.aet is None or peer.aet == title)
            and (peer.host is None or host in ipaddress.ip_network(peer.host, strict=False))
            for peer in self._allow
        )


def _is_title(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_TITLE and text.isascii() and text.isprintable() and "\\" not in text
