"""node.toml: what it says, every problem of it found at once, and the one that an installation begins with.

settings.py     what it may say, as values
reading.py      from the file to these values
toml_table.py   its tables, key by key
address.py      ``AET@HOST:PORT``
templates.py    node.toml and lnfast-node.service, as text
"""

from __future__ import annotations

from lnfast.node.config.reading import examine_config, read_config
from lnfast.node.config.settings import NodeConfig, Peer, Receive, Target, Tls

__all__ = ["NodeConfig", "Peer", "Receive", "Target", "Tls", "examine_config", "read_config"]
