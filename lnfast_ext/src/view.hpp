// A strided window on somebody else's array: a pointer, three sizes, three strides.
//
//     z (slices)        strides are in BYTES and may be negative or no multiple of the element,
//     |   y (rows)      as a flipped or transposed numpy view, or a field of a structured array, has them
//     |  /
//     | /
//     +------- x
#pragma once

#include <cstddef>

namespace lnfast {

template <class T>
struct View3 {
    char* data = nullptr;
    std::ptrdiff_t size[3] = {0, 0, 0};    // z, y, x
    std::ptrdiff_t stride[3] = {0, 0, 0};  // z, y, x in bytes

    // The border shows read-only memory too: kernels write only through a view that they call a target or out.
    void look_at(const void* first, const std::ptrdiff_t* sizes, const std::ptrdiff_t* strides) {
        data = const_cast<char*>(static_cast<const char*>(first));
        for (int axis = 0; axis < 3; ++axis) {
            size[axis] = sizes[axis];
            stride[axis] = strides[axis];
        }
    }
    char* row(std::ptrdiff_t z, std::ptrdiff_t y) const { return data + z * stride[0] + y * stride[1]; }
    T& at(char* row_start, std::ptrdiff_t x) const { return *reinterpret_cast<T*>(row_start + x * stride[2]); }
    T& at(std::ptrdiff_t z, std::ptrdiff_t y, std::ptrdiff_t x) const { return at(row(z, y), x); }
    bool packed_rows() const { return stride[2] == static_cast<std::ptrdiff_t>(sizeof(T)); }
};

// First x in [x, width) whose element is not zero. Most of a mask is empty, so packed rows are looked at sixteen
// elements at a time: a fixed count that the compiler turns into vector ORs.
template <class T>
std::ptrdiff_t skip_zeros(const View3<T>& view, char* row, std::ptrdiff_t x) {
    const std::ptrdiff_t width = view.size[2];
    if (view.packed_rows()) {
        const T* values = reinterpret_cast<const T*>(row);
        for (; x + 16 <= width; x += 16) {
            T any = 0;
            for (int k = 0; k < 16; ++k) any = static_cast<T>(any | values[x + k]);
            if (any != 0) break;
        }
    }
    while (x < width && view.at(row, x) == 0) ++x;
    return x;
}

}  // namespace lnfast
