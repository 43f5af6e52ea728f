# Voxel types of every kernel, and the C++ view of an array.

ctypedef fused voxel_t:
    signed char
    unsigned char
    short
    unsigned short
    int
    unsigned int
    long long
    unsigned long long
    float
    double

ctypedef fused integer_t:
    signed char
    unsigned char
    short
    unsigned short
    int
    unsigned int
    long long
    unsigned long long

# float32, or the bits of a float16
ctypedef fused logit_t:
    float
    unsigned short

cdef extern from "core/view.hpp" namespace "lnfast::core" nogil:
    cdef cppclass View3[T]:
        void bind(const void* first, const Py_ssize_t* sizes, const Py_ssize_t* strides)
