"""``python -m lnfast``."""

from lnfast.cli import main

main()
