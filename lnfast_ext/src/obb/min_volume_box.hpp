// The smallest box around any points: finds out first how many dimensions they have.
//
//     point .     line --------     plane  /______/     solid
//
// A frame of their own is laid into the points: p0, the point farthest from it, the point farthest from that line, the
// point farthest from that plane. Distances below 64 ulp of the largest coordinate are 0. For a solid the frame is cut
// into 2^40 steps along each of its axes by itself (an affine map, so the hull stays the hull, and a thin solid is not
// coarser across than along); the hull is then exact on that lattice.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "obb/box_search.hpp"

namespace lnfast::obb {

using core::any_perpendicular;
using core::Mat3;
using core::Vec3;

class Cloud {
public:
    explicit Cloud(const std::vector<Vec3>& points) : points_(points) {
        double largest = 0;
        for (const Vec3& p : points) largest = std::max({largest, std::fabs(p.x), std::fabs(p.y), std::fabs(p.z)});
        const double zero = 64 * std::numeric_limits<double>::epsilon() * largest;
        origin_ = points.front();
        Vec3 reach = farthest([&](Vec3 p) { return p; });
        if (norm(reach) <= zero) return;
        origin_ = origin_ + reach;  // an extreme point, so that the next one spans (nearly) the diameter
        reach = farthest([&](Vec3 p) { return p; });
        axes_[0] = unit(reach);
        rank_ = 1;
        reach = farthest([&](Vec3 p) { return p - dot(p, axes_[0]) * axes_[0]; });
        axes_[1] = any_perpendicular(axes_[0]);
        axes_[2] = cross(axes_[0], axes_[1]);
        if (norm(reach) <= zero) return;
        axes_[1] = unit(reach - dot(reach, axes_[0]) * axes_[0]);
        axes_[2] = cross(axes_[0], axes_[1]);
        rank_ = 2;
        reach = farthest([&](Vec3 p) { return dot(p, axes_[2]) * axes_[2]; });
        if (norm(reach) > zero) rank_ = 3;
    }

    Box box() const {
        if (rank_ == 3) {
            Polytope polytope = solid();
            if (polytope.solid()) return moved(BoxSearch(polytope).boxes().front().axes, 3);
        }
        if (rank_ == 2) return flat();
        return moved({axes_[0], axes_[1], axes_[2]}, rank_);
    }

private:
    // The longest part(p - origin).
    template <class Part>
    Vec3 farthest(const Part& part) const {
        Vec3 best;
        for (const Vec3& p : points_) {
            const Vec3 reach = part(p - origin_);
            if (dot(reach, reach) > dot(best, best)) best = reach;
        }
        return best;
    }

    // The extents are taken from the points as they came, not from the lattice; a direction beyond the rank has none.
    Box moved(const std::array<Vec3, 3>& axes, int rank) const {
        std::vector<Vec3> near;
        near.reserve(points_.size());
        for (const Vec3& p : points_) near.push_back(p - origin_);
        Box box = PointSet(near).box(axes);
        for (int k = 0; k < 3 - rank; ++k) box.extents[k] = 0;
        box.centre = box.centre + origin_;
        return box;
    }

    Box flat() const {
        std::vector<Vec2> plane;
        for (const Vec3& p : points_) plane.push_back({dot(p - origin_, axes_[0]), dot(p - origin_, axes_[1])});
        Candidates found;
        flush_rectangles(convex_hull(plane), [&](Vec2 along, double length, double width) {
            const Vec3 axis = along.x * axes_[0] + along.y * axes_[1];
            Box box;
            box.volume = length * width;
            box.axes = {axes_[2], axis, cross(axes_[2], axis)};
            box.extents = {0, std::min(length, width), std::max(length, width)};
            found.offer(box);
        });
        return moved(found.choose().front().axes, 2);
    }

    Polytope solid() const {
        constexpr double steps = 1099511627775.0;  // 2^40 - 1
        double low[3], high[3];
        for (int k = 0; k < 3; ++k) {
            low[k] = high[k] = 0;
            for (const Vec3& p : points_) {
                low[k] = std::min(low[k], dot(p - origin_, axes_[k]));
                high[k] = std::max(high[k], dot(p - origin_, axes_[k]));
            }
        }
        const auto step = [&](Vec3 p, int k) {
            const double at = (dot(p - origin_, axes_[k]) - low[k]) / (high[k] - low[k]);
            return static_cast<std::int64_t>(std::llround(std::min(std::max(at, 0.0), 1.0) * steps));
        };
        std::vector<LatticePoint> lattice;
        lattice.reserve(points_.size());
        for (const Vec3& p : points_) lattice.push_back({step(p, 0), step(p, 1), step(p, 2)});
        const Mat3 to_mm{((high[0] - low[0]) / steps) * axes_[0], ((high[1] - low[1]) / steps) * axes_[1],
                         ((high[2] - low[2]) / steps) * axes_[2]};
        return make_polytope<Int128>(lattice, to_mm, 16);
    }

    const std::vector<Vec3>& points_;
    Vec3 origin_;
    std::array<Vec3, 3> axes_{Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}};
    int rank_ = 0;
};

// points: (n, 3) float64 with any strides (bytes). Writes centre[3], axes[9] (rows), extents[3].
inline void min_volume_box(const char* data, std::ptrdiff_t n, const std::ptrdiff_t* stride, double* centre,
                           double* axes, double* extents) {
    std::vector<Vec3> points(static_cast<std::size_t>(n));
    for (std::ptrdiff_t k = 0; k < n; ++k) {
        const char* row = data + k * stride[0];
        const auto part = [&](int column) { return *reinterpret_cast<const double*>(row + column * stride[1]); };
        points[k] = {part(0), part(1), part(2)};
    }
    // Products of six lengths must neither over- nor underflow: all is done at a size about 1. A power of two is exact.
    double largest = 0;
    for (const Vec3& p : points) largest = std::max({largest, std::fabs(p.x), std::fabs(p.y), std::fabs(p.z)});
    int size = 0;
    std::frexp(largest, &size);
    for (Vec3& p : points) p = {std::ldexp(p.x, -size), std::ldexp(p.y, -size), std::ldexp(p.z, -size)};
    Box box = Cloud(points).box();
    box.centre = {std::ldexp(box.centre.x, size), std::ldexp(box.centre.y, size), std::ldexp(box.centre.z, size)};
    for (double& extent : box.extents) extent = std::ldexp(extent, size);
    const Vec3 rows[4] = {box.centre, box.axes[0], box.axes[1], box.axes[2]};
    for (int row = 0; row < 4; ++row) {
        double* out = row == 0 ? centre : axes + 3 * (row - 1);
        out[0] = rows[row].x;
        out[1] = rows[row].y;
        out[2] = rows[row].z;
    }
    for (int k = 0; k < 3; ++k) extents[k] = box.extents[k];
}

}  // namespace lnfast::obb
