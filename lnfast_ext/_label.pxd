# What other borders may know of a Components: its C++ half.

cdef extern from "label.hpp" namespace "lnfast" nogil:
    cdef cppclass Found "lnfast::Components":
        Found()
        int count()

cdef class Components:
    cdef Found found
    cdef readonly tuple shape
