"""Make ``docs/images/report-page.png``, the README's picture: the report page of the demo's digital patient.

python docs/make_picture.py        # needs Chromium
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lnfast
from lnfast.cli.demonstration import demonstration_phantom
from lnfast.cohort import add_case

WIDTH, HEIGHT = 1240, 760
PICTURE = Path(__file__).parent / "images" / "report-page.png"


def main(picture: Path) -> None:
    """Run the model on the phantom and photograph its page once everything is drawn."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("the picture needs chromium on the path")
    with tempfile.TemporaryDirectory() as name, lnfast.Engine(precision="fp32") as engine:
        folder = Path(name)
        add_case(folder, demonstration_phantom())
        (study,) = folder.glob("imagesTr/*.nii.gz")
        page = engine.run(study).write(folder / "out") / "report.html"
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        # The page decodes its slices after it is loaded.
        command += [f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=10000", f"--screenshot={picture}"]
        subprocess.run([*command, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PICTURE)
