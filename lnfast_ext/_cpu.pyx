# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/core/vectorized.hpp."""

cdef extern from "core/vectorized.hpp" namespace "lnfast::core" nogil:
    cdef cppclass Isa:
        pass
    Isa isa_in_use()
    const char* name_of(Isa isa)


def instruction_set():
    """Return the instructions that the kernels use here: "avx512", "avx2" or "baseline" (SSE2 on x86-64, NEON on ARM).

    The best that the processor has; the environment variable LNFAST_ISA, read when a kernel first runs, names a lower
    one. Every set gives the same bits.
    """
    return name_of(isa_in_use()).decode("ascii")
