"""Declare the extension modules, one for each ``lnfast_ext/_*.pyx``; everything else stands in pyproject.toml.

They are compiled several at a time, as many as there are cores: an editable install does not read that from
pyproject.toml. Cython is not made for threads: it translates all of them first.
"""

import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("lnfast_ext")
# GCC's and Clang's. Products and sums are not fused, so that every processor gives the same bits. Many a Python was
# built with -g and hands it on: debug sections would be four fifths of the size.
COMPILE = ["-std=c++17", "-O3", "-pthread", "-ffp-contract=off", "-fno-trapping-math", "-g0"]
LINK = ["-pthread"]


def extensions() -> list[Extension]:
    """Return one extension for each border; a change to any header or declaration compiles all of them again."""
    depends = sorted(path.as_posix() for pattern in ("*.pxd", "src/**/*.hpp") for path in PACKAGE.glob(pattern))
    return [
        Extension(
            f"{PACKAGE.name}.{source.stem}",
            [source.as_posix()],
            include_dirs=[(PACKAGE / "src").as_posix()],
            depends=depends,
            extra_compile_args=list(COMPILE),
            extra_link_args=list(LINK),
            language="c++",
        )
        for source in sorted(PACKAGE.glob("_*.pyx"))
    ]


class TranslateFirst(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or True

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            sys.exit("lnfast_ext: got Microsoft's compiler, wanted GCC or Clang: the kernels use their vector types")
        cythonize(self.extensions)
        super().build_extensions()


setup(ext_modules=extensions(), cmdclass={"build_ext": TranslateFirst})
