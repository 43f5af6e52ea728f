"""The watch folder: a subfolder that some program fills is taken in as if a scanner had sent it.

watch.py           which subfolder is complete, and its way into the spool
watched_files.py   files that another program may still be writing
dicom_file.py      which instance a file is
"""

from __future__ import annotations

from lnfast.node.watch.watch import EXAMS, POLL_S, WatchFolder

__all__ = ["EXAMS", "POLL_S", "WatchFolder"]
