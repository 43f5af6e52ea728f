"""The spool: what came and what was made of it, on the disk, and what a start and the passing of time do with it.

spool.py       the folders: instances are stored durably, results placed whole
disk.py        how much room there is, and on what
recovery.py    what a start does with what a kill, a power cut or a damaged ledger left behind
retention.py   what is deleted after its time
"""

from __future__ import annotations

from lnfast.node.spool.spool import Spool, Stored, instance_name, is_running

__all__ = ["Spool", "Stored", "instance_name", "is_running"]
