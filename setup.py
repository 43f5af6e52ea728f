"""Everything else stands in pyproject.toml. Extensions are compiled several at a time, as many as there are cores: an
editable install does not read that there. Cython is not made for threads: it translates all of them first.
"""

from Cython.Build import cythonize
from setuptools import setup
from setuptools.command.build_ext import build_ext


class TranslateFirst(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or True

    def build_extensions(self) -> None:
        cythonize(self.extensions)
        super().build_extensions()


setup(cmdclass={"build_ext": TranslateFirst})
