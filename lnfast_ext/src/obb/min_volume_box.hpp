// The minimum-volume bounding box of any set of points, whatever the dimension of their affine hull.
//
// In space the axes of the affine hull are each cut into 2^40 steps (an affine map, so the hull stays the hull, and a
// thin solid is not coarser across than along); the convex hull is then exact on that lattice.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/vec.hpp"
#include "obb/affine_hull.hpp"
#include "obb/box_search.hpp"

namespace lnfast::obb {

using core::Mat3;
using core::Vec3;

// The extents are taken from the points as they came, not from the lattice; a direction beyond the dimension has none.
inline OrientedBox box_along(const std::vector<Vec3>& points, const AffineHull& hull, const std::array<Vec3, 3>& axes,
                             int dimension) {
    std::vector<Vec3> centred;
    centred.reserve(points.size());
    for (const Vec3& p : points) centred.push_back(p - hull.origin);
    OrientedBox box = PointSet(centred).bounding_box(axes);
    for (int k = 0; k < 3 - dimension; ++k) box.extents[k] = 0;
    box.centre = box.centre + hull.origin;
    return box;
}

// Of points in a plane: their least rectangle.
inline OrientedBox planar_box(const std::vector<Vec3>& points, const AffineHull& hull) {
    const std::array<Vec3, 3>& axes = hull.axes;
    std::vector<Vec2> plane;
    for (const Vec3& p : points) plane.push_back({dot(p - hull.origin, axes[0]), dot(p - hull.origin, axes[1])});
    SmallestBoxes boxes;
    flush_rectangles(convex_hull(plane), [&](Vec2 along, double length, double width) {
        const Vec3 axis = along.x * axes[0] + along.y * axes[1];
        OrientedBox box;
        box.volume = length * width;
        box.axes = {axes[2], axis, cross(axes[2], axis)};
        box.extents = {0, std::min(length, width), std::max(length, width)};
        boxes.add(box);
    });
    return box_along(points, hull, boxes.select().front().axes, 2);
}

// The convex hull of the points, rounded to the lattice.
inline Polytope lattice_polytope(const std::vector<Vec3>& points, const AffineHull& hull) {
    constexpr double steps = 1099511627775.0;  // 2^40 - 1
    double low[3], high[3];
    for (int k = 0; k < 3; ++k) {
        low[k] = high[k] = 0;
        for (const Vec3& p : points) {
            low[k] = std::min(low[k], dot(p - hull.origin, hull.axes[k]));
            high[k] = std::max(high[k], dot(p - hull.origin, hull.axes[k]));
        }
    }
    const auto step = [&](Vec3 p, int k) {
        const double at = (dot(p - hull.origin, hull.axes[k]) - low[k]) / (high[k] - low[k]);
        return static_cast<std::int64_t>(std::llround(std::min(std::max(at, 0.0), 1.0) * steps));
    };
    std::vector<LatticePoint> lattice;
    lattice.reserve(points.size());
    for (const Vec3& p : points) lattice.push_back({step(p, 0), step(p, 1), step(p, 2)});
    const Mat3 to_mm{((high[0] - low[0]) / steps) * hull.axes[0], ((high[1] - low[1]) / steps) * hull.axes[1],
                     ((high[2] - low[2]) / steps) * hull.axes[2]};
    return make_polytope<Int128>(lattice, to_mm, 16);
}

inline OrientedBox smallest_box(const std::vector<Vec3>& points) {
    const AffineHull hull(points);
    if (hull.dimension == 3) {
        const Polytope polytope = lattice_polytope(points, hull);
        if (polytope.solid()) return box_along(points, hull, BoxSearch(polytope).boxes().front().axes, 3);
    }
    if (hull.dimension == 2) return planar_box(points, hull);
    return box_along(points, hull, hull.axes, hull.dimension);
}

// points: (n, 3) float64 with any strides (bytes). Writes centre[3], axes[9] (rows), extents[3].
inline void min_volume_box(const char* data, std::ptrdiff_t n, const std::ptrdiff_t* stride, double* centre,
                           double* axes, double* extents) {
    std::vector<Vec3> points(static_cast<std::size_t>(n));
    for (std::ptrdiff_t k = 0; k < n; ++k) {
        const char* row = data + k * stride[0];
        const auto at = [&](int column) { return *reinterpret_cast<const double*>(row + column * stride[1]); };
        points[k] = {at(0), at(1), at(2)};
    }
    // Products of six lengths must neither over- nor underflow: all is done at a size about 1. A power of two is exact.
    double largest = 0;
    for (const Vec3& p : points) largest = std::max({largest, std::fabs(p.x), std::fabs(p.y), std::fabs(p.z)});
    int exponent = 0;
    std::frexp(largest, &exponent);
    for (Vec3& p : points) p = {std::ldexp(p.x, -exponent), std::ldexp(p.y, -exponent), std::ldexp(p.z, -exponent)};
    const OrientedBox box = smallest_box(points);
    centre[0] = std::ldexp(box.centre.x, exponent);
    centre[1] = std::ldexp(box.centre.y, exponent);
    centre[2] = std::ldexp(box.centre.z, exponent);
    for (int k = 0; k < 3; ++k) {
        axes[3 * k] = box.axes[k].x;
        axes[3 * k + 1] = box.axes[k].y;
        axes[3 * k + 2] = box.axes[k].z;
        extents[k] = std::ldexp(box.extents[k], exponent);
    }
}

}  // namespace lnfast::obb
