// Linear interpolation along an axis between two grids whose outer edges coincide (half-pixel centres).
//
//     source  |  0  |  1  |  2  |        target voxel o has its centre at source index (o + 1/2) * in / out - 1/2;
//     target  | 0 | 1 | 2 | 3 | 4 |      beyond the first and last source centre the edge value holds
//
// value = first + weight * (second - first), always in this form and, over the axes, in the order x, y, z: so a target
// voxel has one value, whichever kernel computes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

namespace lnfast::grid {

// Voxels [begin, begin + size) of an axis of `grid` voxels.
struct Span {
    std::ptrdiff_t grid, begin, size;
};

// Where an array lies in a grid. It need not be all of it: a part has the values of the same part of the whole.
struct Part {
    Span z, y, x;

    static Part whole(const std::ptrdiff_t* size) {
        return {{size[0], 0, size[0]}, {size[1], 0, size[1]}, {size[2], 0, size[2]}};
    }
};

// From the source voxels of one span to those target voxels of another that can be interpolated from them:
//
//     source grid  |  0  |[ 1  |  2  ]|  3  |      with 1 and 2 alone: target voxels 3 to 4 have their centres between
//     target grid  | 0 | 1 | 2 |{3 | 4}| 5 | 6 |   those of 1 and 2; a neighbour of weight 0 may be missing
//
// A voxel's neighbours and weight are those that it has between whole grids.
template <class Real>
struct Axis {
    std::vector<std::int32_t> first, second;  // source neighbours of each target voxel, counted from the span's first
    std::vector<Real> weight;                 // of the second
    std::ptrdiff_t in;                        // source voxels
    std::ptrdiff_t begin, out;                // the first target voxel, counted from the span's first; how many

    Axis(Span source, Span target) : in(source.size), begin(0) {
        if (std::max(source.grid, target.grid) > std::numeric_limits<std::int32_t>::max())
            throw std::invalid_argument("an axis has more than 2147483647 voxels");
        first.reserve(static_cast<std::size_t>(target.size));
        second.reserve(static_cast<std::size_t>(target.size));
        weight.reserve(static_cast<std::size_t>(target.size));
        for (std::ptrdiff_t k = 0; k < target.size; ++k) {
            const auto o = static_cast<double>(target.begin + k);
            const double centre = (o + 0.5) * static_cast<double>(source.grid) / static_cast<double>(target.grid) - 0.5;
            const double clamped = std::min(std::max(centre, 0.0), static_cast<double>(source.grid - 1));
            const auto near = static_cast<std::ptrdiff_t>(clamped) - source.begin;
            const double share = clamped - std::floor(clamped);
            if (near < 0) begin = k + 1;
            else if (near + (share > 0 ? 1 : 0) < in) {
                first.push_back(static_cast<std::int32_t>(near));
                second.push_back(static_cast<std::int32_t>(std::min(near + 1, in - 1)));
                weight.push_back(static_cast<Real>(share));
            }
        }
        out = static_cast<std::ptrdiff_t>(first.size());
    }

    // Drop the source voxels that no target voxel needs; return how many were dropped before the first.
    std::ptrdiff_t trim() {
        const std::int32_t before = first.front();
        in = second.back() + 1 - before;
        for (std::int32_t& k : first) k -= before;
        for (std::int32_t& k : second) k -= before;
        return before;
    }
};

template <class Real>
struct Axes {
    Axis<Real> z, y, x;

    Axes(const Part& source, const Part& target)
        : z(source.z, target.z), y(source.y, target.y), x(source.x, target.x) {}
};

template <class Real>
void blend(const Real* __restrict first, const Real* __restrict second, Real weight, Real* __restrict out,
           std::ptrdiff_t count) {
    for (std::ptrdiff_t k = 0; k < count; ++k) out[k] = first[k] + weight * (second[k] - first[k]);
}

// Target indices [begin, end) of a row.
template <class Real>
void interpolate_row(const Axis<Real>& x, const Real* __restrict source, Real* __restrict out, std::ptrdiff_t begin,
                     std::ptrdiff_t end) {
    const std::int32_t *first = x.first.data(), *second = x.second.data();
    const Real* weight = x.weight.data();
    for (std::ptrdiff_t o = begin; o < end; ++o) {
        const Real value = source[first[o]];
        out[o] = value + weight[o] * (source[second[o]] - value);
    }
}

}  // namespace lnfast::grid
