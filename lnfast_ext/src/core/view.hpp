// A strided view of an array that is owned elsewhere: a pointer, three sizes, three strides.
//
//     z (slices)        strides are in BYTES and may be negative or no multiple of the element,
//     |   y (rows)      as a flipped or transposed numpy view, or a field of a structured array, has them
//     |  /
//     | /
//     +------- x
#pragma once

#include <algorithm>
#include <cstddef>

namespace lnfast::core {

template <class T>
struct View3 {
    char* data = nullptr;
    std::ptrdiff_t size[3] = {0, 0, 0};    // z, y, x
    std::ptrdiff_t stride[3] = {0, 0, 0};  // z, y, x in bytes

    // The bindings pass read-only memory too: kernels write only through a view that they call a target or out.
    void bind(const void* first, const std::ptrdiff_t* sizes, const std::ptrdiff_t* strides) {
        data = const_cast<char*>(static_cast<const char*>(first));
        for (int axis = 0; axis < 3; ++axis) {
            size[axis] = sizes[axis];
            stride[axis] = strides[axis];
        }
    }
    // The box of depth x height x width voxels that begins at (z, y, x).
    View3 part(std::ptrdiff_t z, std::ptrdiff_t y, std::ptrdiff_t x, std::ptrdiff_t depth, std::ptrdiff_t height,
               std::ptrdiff_t width) const {
        return {row(z, y) + x * stride[2], {depth, height, width}, {stride[0], stride[1], stride[2]}};
    }
    char* row(std::ptrdiff_t z, std::ptrdiff_t y) const { return data + z * stride[0] + y * stride[1]; }
    T& at(char* row_start, std::ptrdiff_t x) const { return *reinterpret_cast<T*>(row_start + x * stride[2]); }
    T& at(std::ptrdiff_t z, std::ptrdiff_t y, std::ptrdiff_t x) const { return at(row(z, y), x); }
    // out[x] = use(voxel x) for a whole row; a row stored backwards is read in memory order and then reversed.
    template <class Out, class Use>
    void read_row(std::ptrdiff_t z, std::ptrdiff_t y, Out* __restrict out, const Use& use) const {
        char* start = row(z, y);
        const std::ptrdiff_t width = size[2];
        if (packed_rows() || backward_rows()) {
            const T* __restrict values = &at(start, backward_rows() ? width - 1 : 0);
            for (std::ptrdiff_t x = 0; x < width; ++x) out[x] = use(values[x]);
            if (backward_rows()) std::reverse(out, out + width);
        } else {
            for (std::ptrdiff_t x = 0; x < width; ++x) out[x] = use(at(start, x));
        }
    }

    // Voxels [begin, end) of a row.
    void write(char* row_start, std::ptrdiff_t begin, std::ptrdiff_t end, const T* values) const {
        if (packed_rows()) std::copy(values, values + (end - begin), &at(row_start, begin));
        else if (backward_rows()) std::reverse_copy(values, values + (end - begin), &at(row_start, end - 1));
        else
            for (std::ptrdiff_t x = begin; x < end; ++x) at(row_start, x) = values[x - begin];
    }
    void fill(char* row_start, std::ptrdiff_t begin, std::ptrdiff_t end, T value) const {
        if (packed_rows() || backward_rows()) {
            T* values = &at(row_start, backward_rows() ? end - 1 : begin);
            std::fill(values, values + (end - begin), value);
        } else {
            for (std::ptrdiff_t x = begin; x < end; ++x) at(row_start, x) = value;
        }
    }
    bool contiguous() const {
        return packed_rows() && stride[1] == size[2] * stride[2] && stride[0] == size[1] * stride[1];
    }
    bool backward_rows() const { return stride[2] == -static_cast<std::ptrdiff_t>(sizeof(T)); }
    bool packed_rows() const { return stride[2] == static_cast<std::ptrdiff_t>(sizeof(T)); }
};

// First x in [x, width) whose element is not zero. Most of a label volume is empty, so packed rows are tested 64
// elements at a time: a fixed count that the compiler turns into vector ORs.
template <class T>
std::ptrdiff_t skip_zeros(const View3<T>& view, char* row, std::ptrdiff_t x) {
    const std::ptrdiff_t width = view.size[2];
    if (view.packed_rows()) {
        const T* values = reinterpret_cast<const T*>(row);
        for (; x + 64 <= width; x += 64) {
            T any = 0;
            for (int k = 0; k < 64; ++k) any = static_cast<T>(any | values[x + k]);
            if (any != 0) break;
        }
    }
    while (x < width && view.at(row, x) == 0) ++x;
    return x;
}

}  // namespace lnfast::core
