"""Compile the kernels and ``mistakes.pyx`` of the working folder in place, under the sanitizers.

Runs where setuptools and Cython are. The list of kernels, with their sources and flags, is that of setup.py.
"""

from __future__ import annotations

from setuptools import Extension  # isort: skip  # first: it brings the distutils that newer Pythons do not have
from distutils.core import run_setup

COMPILE = [
    "-O1",  # -O0 compiles in half the time and then takes three times as long to run
    "-g1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize=null,object-size,vptr",  # a seventh of the time to compile, for what AddressSanitizer sees too
    "-fno-sanitize-recover=all",
    "-fno-wrapv",  # many a Python was built with -fwrapv and hands it on: then no signed overflow is a mistake
    "-D_GLIBCXX_ASSERTIONS",
    "-D_GLIBCXX_SANITIZE_VECTOR",  # what a vector has reserved and does not use is out of bounds too
]
LINK = ["-fsanitize=address,undefined"]


def main() -> None:
    project = run_setup("setup.py", stop_after="config")
    kernels: list[Extension] = project.ext_modules
    mistakes = Extension("mistakes", ["mistakes.pyx"], extra_compile_args=list(kernels[0].extra_compile_args))
    # By name the largest come last, and the last of all would compile beside an idle core.
    project.ext_modules = [*reversed(kernels), mistakes]
    for extension in project.ext_modules:
        extension.extra_compile_args += COMPILE
        extension.extra_link_args += LINK
    project.get_command_obj("build_ext").inplace = True
    project.run_command("build_ext")


if __name__ == "__main__":
    main()
