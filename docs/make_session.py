"""Run the README's Python session and put what it prints below it.

python docs/make_session.py
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

from lnfast.cli.demonstration import demonstration_phantom
from lnfast.cohort import add_case

SESSION = re.compile(r"```python\n(.*?)```", re.DOTALL)
PRINTED = re.compile(r"(<!-- session: begin -->\n).*?(<!-- session: end -->)", re.DOTALL)


def main(readme: Path) -> None:
    """Rewrite the block of the README with what the session prints."""
    text = readme.read_text(encoding="utf-8")
    session = SESSION.search(text)
    if session is None or PRINTED.search(text) is None:
        sys.exit(f"{readme} has no session, or no place for what it prints")
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        os.chdir(folder)
        add_case(Path("lnfast-demo/phantom"), demonstration_phantom())
        exec(session[1], {})
        os.chdir(readme.parent)
    block = f"```\n{printed.getvalue()}```\n"
    readme.write_text(PRINTED.sub(lambda match: match[1] + block + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).resolve().parent.parent / "README.md")
