"""Run the kernels' tests on kernels that check every access: ``python tests/sanitize [arguments of pytest]``.

AddressSanitizer, UndefinedBehaviorSanitizer, the assertions of libstdc++ and Cython's own checks are compiled in, in a
temporary folder. Before the tests run, each check must catch a deliberate mistake, so that none is off unnoticed.
Leaks are not checked: Python itself leaves many. Needs GCC; $CXX says which one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, STDOUT
from tempfile import TemporaryDirectory

import build.env

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Each mistake of mistakes.pyx, and a part of the message of the check that must catch it.
CAUGHT = {
    "heap(4)": "heap-buffer-overflow",
    "overflow(1)": "signed integer overflow",
    "cast(1)": "outside the range of representable values",
    "vector(4)": "__n < this->size()",
    "reserve(4)": "container-overflow",
    "index(b'four', 4)": "IndexError",
    "index(b'four', -1)": "IndexError",
}
# wraparound stays off: a negative index is then an error, and not the last element.
CHECKS_OFF = re.compile(r"\b((?:boundscheck|initializedcheck)[=(])False\b")
NO_TESTS = 5  # pytest's exit code when -k leaves nothing of a file
# The folder of the build comes first on sys.path; whatever else is installed, its kernels are the ones under test.
TESTS = """
import sys
import lnfast_ext, pytest
assert lnfast_ext.__file__.startswith(sys.argv[1]), f"not the sanitized kernels: {lnfast_ext.__file__}"
sys.exit(pytest.main(sys.argv[2:]))
"""


def runtime() -> str:
    """Return LD_PRELOAD: Python is not linked with AddressSanitizer, which needs libstdc++ to intercept exceptions."""
    compiler = shlex.split(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")
    libraries = []
    for name in ("libasan.so", "libubsan.so", "libstdc++.so"):
        try:
            printed = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout
        except OSError:
            printed = ""
        path = Path(printed.strip())
        if not path.is_absolute():
            raise SystemExit(f"{compiler[0]} has no {name}: the sanitizers need GCC on Linux, $CXX says which")
        libraries.append(str(path.resolve()))
    return " ".join(libraries)


def compile_into(folder: Path) -> None:
    """Compile the kernels and the mistakes into ``folder``, with the files that a build needs and no more."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    compiled = shutil.ignore_patterns("_*.cpp", "*.so", "__pycache__")
    shutil.copytree(ROOT / "lnfast_ext", folder / "lnfast_ext", ignore=compiled)
    shutil.copy(HERE / "mistakes.pyx", folder)
    for path in folder.rglob("*.pyx"):  # in the text: a directive in a file stands above one that is handed to Cython
        path.write_text(CHECKS_OFF.sub(r"\1True", path.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stderr.write("compiling the kernels with checks\n")
    with build.env.DefaultIsolatedEnv() as tools:
        tools.install(build.ProjectBuilder(folder).build_system_requires)
        command: list[str | Path] = [tools.python_executable, HERE / "checked_build.py"]
        process = subprocess.run(command, cwd=folder, stdout=PIPE, stderr=STDOUT, text=True)
    if process.returncode != 0:
        raise SystemExit(process.stdout)


def prove(folder: Path, environment: dict[str, str]) -> None:
    """Check that each mistake, in a process of its own, is caught."""
    for mistake, message in CAUGHT.items():
        command = [sys.executable, "-c", f"import mistakes; mistakes.{mistake}"]
        process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if process.returncode == 0 or message not in process.stderr:
            raise SystemExit(f"mistakes.{mistake} was not caught; wanted '{message}', got\n{process.stderr}")
    sys.stderr.write(f"{len(CAUGHT)} of {len(CAUGHT)} mistakes were caught\n")


def run_tests(folder: Path, environment: dict[str, str]) -> int:
    """One pytest for each file, as many at a time as there are cores; return the first exit code that is a failure."""
    # Output at the file level is not captured: a sanitizer writes there just before the process ends.
    options = [f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", "-p", "no:cacheprovider"]
    command = [sys.executable, "-c", TESTS, str(folder), *options, "--capture=sys", *sys.argv[1:]]

    def run(path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, str(path)], cwd=folder, env=environment, stdout=PIPE, stderr=STDOUT, text=True)

    codes = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for process in pool.map(run, sorted((ROOT / "tests" / "kernels").glob("test_*.py"))):
            sys.stdout.write(process.stdout)
            sys.stdout.flush()
            codes.append(process.returncode)
    return next((code for code in codes if code not in (0, NO_TESTS)), min(codes))


def main() -> int:
    preload = runtime()
    with TemporaryDirectory(prefix="lnfast-sanitize-") as name:
        folder = Path(name).resolve()
        compile_into(folder)
        # abort_on_error: on that signal pytest shows the lines of Python as well.
        environment = os.environ | {
            "LD_PRELOAD": preload,
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1:abort_on_error=1",
            "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": name,
        }
        prove(folder, environment)
        return run_tests(folder, environment)


if __name__ == "__main__":
    sys.exit(main())
