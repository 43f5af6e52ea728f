// Values of a part of one grid at single voxels of another, interpolated as threshold_resample does it.
#pragma once

#include <cstddef>

#include "core/half.hpp"
#include "core/view.hpp"
#include "grid/axis.hpp"

namespace lnfast::grid {

using core::as_double;
using core::View3;

template <class T>
class Sampler {
public:
    // `size` is that of the grid whose voxels are sampled; `values` are the voxels of `part`.
    Sampler(const View3<T>& values, const Part& part, const std::ptrdiff_t* size)
        : values_(values), axes_(part, Part::whole(size)) {}

    // Whether all values are there that the voxels [begin, end) of a row need.
    bool covers(std::ptrdiff_t z, std::ptrdiff_t y, std::ptrdiff_t begin, std::ptrdiff_t end) const {
        return within(axes_.z, z, z + 1) && within(axes_.y, y, y + 1) && within(axes_.x, begin, end);
    }

    double operator()(std::ptrdiff_t z, std::ptrdiff_t y, std::ptrdiff_t x) const {
        const std::size_t at_z = index(axes_.z, z), at_y = index(axes_.y, y), at_x = index(axes_.x, x);
        const std::ptrdiff_t slices[2] = {axes_.z.first[at_z], axes_.z.second[at_z]};
        const std::ptrdiff_t rows[2] = {axes_.y.first[at_y], axes_.y.second[at_y]};
        double slice[2];
        for (int k = 0; k < 2; ++k) {
            double row[2];
            for (int i = 0; i < 2; ++i) {
                char* line = values_.row(slices[k], rows[i]);
                row[i] = mix(as_double(values_.at(line, axes_.x.first[at_x])),
                             as_double(values_.at(line, axes_.x.second[at_x])), axes_.x.weight[at_x]);
            }
            slice[k] = mix(row[0], row[1], axes_.y.weight[at_y]);
        }
        return mix(slice[0], slice[1], axes_.z.weight[at_z]);
    }

private:
    static bool within(const Axis<double>& axis, std::ptrdiff_t first, std::ptrdiff_t past) {
        return first >= axis.begin && past <= axis.begin + axis.out;
    }
    static std::size_t index(const Axis<double>& axis, std::ptrdiff_t voxel) {
        return static_cast<std::size_t>(voxel - axis.begin);
    }
    static double mix(double a, double b, double weight) { return a + weight * (b - a); }

    View3<T> values_;
    Axes<double> axes_;
};

}  // namespace lnfast::grid
