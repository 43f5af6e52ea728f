// An oriented box, and the tightest one with given axes around a set of points.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "core/vec.hpp"
#include "core/vectorized.hpp"
#include "obb/planar_hull.hpp"

namespace lnfast::obb {

using core::lanes;
using core::Lanes;
using core::lanes_of;
using core::Vec3;
using core::vectorized;

struct OrientedBox {
    Vec3 centre;
    std::array<Vec3, 3> axes;      // unit, right-handed, in the order of the extents
    std::array<double, 3> extents; // ascending
    double volume = 0;
};

// Of the two directions of an axis the one whose largest component (the first of several, with a margin for rounding) is
// positive.
inline Vec3 canonical_direction(Vec3 a) {
    const double components[3] = {a.x, a.y, a.z};
    const double largest = std::max({std::fabs(a.x), std::fabs(a.y), std::fabs(a.z)});
    for (const double value : components)
        if (std::fabs(value) > largest - 1e-9) return Vec3{} + (value < 0 ? -1.0 : 1.0) * a;  // 0 + -0 is 0
    return a;
}

// Points as three rows of numbers.
class PointSet {
public:
    // The last lanes repeat a point, which changes no extent.
    explicit PointSet(const std::vector<Vec3>& points)
        : count_((points.size() + lanes - 1) / lanes * lanes), x_(count_), y_(count_), z_(count_) {
        for (std::size_t k = 0; k < count_; ++k) {
            const Vec3& point = points[std::min(k, points.size() - 1)];
            x_[k] = point.x, y_[k] = point.y, z_[k] = point.z;
        }
    }

    Range extent(Vec3 direction) const {
        Range range{0, 0};
        vectorized([&](auto) {
            const Lanes *x = lanes_of(x_), *y = lanes_of(y_), *z = lanes_of(z_);
            Lanes low = x[0] * direction.x + y[0] * direction.y + z[0] * direction.z, high = low;
            for (std::size_t k = 1; k < count_ / lanes; ++k) {
                const Lanes height = x[k] * direction.x + y[k] * direction.y + z[k] * direction.z;
                low = height < low ? height : low;
                high = height > high ? height : high;
            }
            range = {low[0], high[0]};
            for (std::size_t k = 1; k < lanes; ++k) {
                range.low = std::min(range.low, low[k]);
                range.high = std::max(range.high, high[k]);
            }
        });
        return range;
    }

    // The tightest box with these axes (unit, at right angles) around the points.
    OrientedBox bounding_box(const std::array<Vec3, 3>& axes) const {
        std::array<Range, 3> range;
        std::array<double, 3> size;
        for (int k = 0; k < 3; ++k) {
            range[k] = extent(axes[k]);
            size[k] = range[k].size();
        }
        std::array<int, 3> order{0, 1, 2};
        std::sort(order.begin(), order.end(),
                  [&](int a, int b) { return size[a] != size[b] ? size[a] < size[b] : a < b; });
        OrientedBox box;
        for (int k = 0; k < 3; ++k) {
            box.extents[k] = size[order[k]];
            box.axes[k] = canonical_direction(axes[order[k]]);
            box.centre = box.centre + 0.5 * (range[k].low + range[k].high) * axes[k];
        }
        if (dot(cross(box.axes[0], box.axes[1]), box.axes[2]) < 0) box.axes[2] = Vec3{} - box.axes[2];
        box.volume = size[0] * size[1] * size[2];
        return box;
    }

private:
    std::size_t count_;  // a multiple of lanes
    std::vector<double> x_, y_, z_;
};

}  // namespace lnfast::obb
