# Where an array lies in a grid.

cdef extern from "grid/axis.hpp" namespace "lnfast::grid" nogil:
    cdef struct Span:
        Py_ssize_t grid, begin, size
    cdef struct Part:
        Span z, y, x


# grid, start, shape: three numbers each, as _check.part returns them.
cdef inline Part part_of(grid, start, shape):
    cdef Part part
    part.z = Span(grid[0], start[0], shape[0])
    part.y = Span(grid[1], start[1], shape[1])
    part.x = Span(grid[2], start[2], shape[2])
    return part
