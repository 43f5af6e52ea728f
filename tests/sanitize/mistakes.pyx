# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""One mistake for each of the checks, under the kernels' own directives and flags: it must be caught."""

cdef extern from *:
    """
    #include <cmath>
    #include <limits>
    #include <vector>

    static int heap(int size) {
        int* memory = new int[size]();
        const int past = memory[size];
        delete[] memory;
        return past;
    }

    static int overflow(int step) { return std::numeric_limits<int>::max() + step; }

    static int cast(int value) { return static_cast<int>(std::ldexp(value, 40)); }

    static int vector(int size) {
        const std::vector<int> values(size);
        return values[size];
    }

    static int reserve(int size) {
        std::vector<int> values;
        values.reserve(size);
        return *values.data();
    }
    """
    int c_heap "heap"(int size)
    int c_overflow "overflow"(int step)
    int c_cast "cast"(int value)
    int c_vector "vector"(int size)
    int c_reserve "reserve"(int size)


def heap(int size):
    return c_heap(size)


def overflow(int step):
    return c_overflow(step)


def cast(int value):
    return c_cast(value)


def vector(int size):
    return c_vector(size)


def reserve(int size):
    return c_reserve(size)


def index(bytes text, Py_ssize_t at):
    return text[at]
