"""Everything else stands in pyproject.toml. Extensions are compiled several at a time, and Cython is not made for
threads: it translates all of them first.
"""

from Cython.Build import cythonize
from setuptools import setup
from setuptools.command.build_ext import build_ext


class TranslateFirst(build_ext):
    def build_extensions(self) -> None:
        cythonize(self.extensions)
        super().build_extensions()


setup(cmdclass={"build_ext": TranslateFirst})
