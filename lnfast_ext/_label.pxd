# The C++ half of Components, for the other bindings.

cdef extern from "components/label.hpp" namespace "lnfast::components" nogil:
    cdef cppclass CComponents "lnfast::components::Components":
        CComponents()
        int count()

cdef class Components:
    cdef CComponents components
    cdef readonly tuple shape
