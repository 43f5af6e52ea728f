// Linear interpolation along an axis between two grids whose outer edges coincide (half-pixel centres).
//
//     source  |  0  |  1  |  2  |        target voxel o has its centre at source index (o + 1/2) * in / out - 1/2;
//     target  | 0 | 1 | 2 | 3 | 4 |      beyond the first and last source centre the edge value holds
//
// value = first + weight * (second - first), always in this form and, over the axes, in the order x, y, z: so a target
// voxel has one value, whoever computes it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

namespace lnfast {

template <class Real>
struct Axis {
    std::vector<std::int32_t> first, second;  // source neighbours of each target index
    std::vector<Real> weight;                 // of the second
    std::ptrdiff_t in, out;

    Axis(std::ptrdiff_t source, std::ptrdiff_t target)
        : first(target), second(target), weight(target), in(source), out(target) {
        if (std::max(in, out) > std::numeric_limits<std::int32_t>::max())
            throw std::invalid_argument("an axis has more than 2147483647 voxels");
        for (std::ptrdiff_t o = 0; o < out; ++o) {
            const double centre = (o + 0.5) * static_cast<double>(in) / static_cast<double>(out) - 0.5;
            const double clamped = std::min(std::max(centre, 0.0), static_cast<double>(in - 1));
            first[o] = static_cast<std::int32_t>(clamped);
            second[o] = static_cast<std::int32_t>(std::min<std::ptrdiff_t>(first[o] + 1, in - 1));
            weight[o] = static_cast<Real>(clamped - static_cast<double>(first[o]));
        }
    }
};

template <class Real>
struct Axes {
    Axis<Real> z, y, x;

    Axes(const std::ptrdiff_t* in, const std::ptrdiff_t* out)
        : z(in[0], out[0]), y(in[1], out[1]), x(in[2], out[2]) {}
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

}  // namespace lnfast
