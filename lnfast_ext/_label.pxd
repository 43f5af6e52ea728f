# What other borders may know of a Components: its C++ half.

cdef extern from "components/label.hpp" namespace "lnfast::components" nogil:
    cdef cppclass Found "lnfast::components::Components":
        Found()
        int count()

cdef class Components:
    cdef Found found
    cdef readonly tuple shape
