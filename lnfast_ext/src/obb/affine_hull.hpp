// The affine hull of a set of points: how many dimensions they span, and axes laid into them.
//
//     point .     line --------     plane  /______/     space
//
// The axes come from p0, the point farthest from it, the point farthest from that line, the point farthest from that
// plane. Distances below 64 ulp of the largest coordinate are 0.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "core/vec.hpp"

namespace lnfast::obb {

using core::any_perpendicular;
using core::Vec3;

struct AffineHull {
    Vec3 origin;                                                       // a point of the set
    std::array<Vec3, 3> axes{Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}};  // the first `dimension` of them span it
    int dimension = 0;

    explicit AffineHull(const std::vector<Vec3>& points) {
        double largest = 0;
        for (const Vec3& p : points) largest = std::max({largest, std::fabs(p.x), std::fabs(p.y), std::fabs(p.z)});
        const double zero = 64 * std::numeric_limits<double>::epsilon() * largest;
        origin = points.front();
        Vec3 reach = longest(points, [&](Vec3 p) { return p; });
        if (norm(reach) <= zero) return;
        origin = origin + reach;  // an extreme point, so that the next reach (nearly) is the diameter
        reach = longest(points, [&](Vec3 p) { return p; });
        axes[0] = unit(reach);
        dimension = 1;
        reach = longest(points, [&](Vec3 p) { return p - dot(p, axes[0]) * axes[0]; });
        axes[1] = any_perpendicular(axes[0]);
        axes[2] = cross(axes[0], axes[1]);
        if (norm(reach) <= zero) return;
        axes[1] = unit(reach - dot(reach, axes[0]) * axes[0]);
        axes[2] = cross(axes[0], axes[1]);
        dimension = 2;
        reach = longest(points, [&](Vec3 p) { return dot(p, axes[2]) * axes[2]; });
        if (norm(reach) > zero) dimension = 3;
    }

private:
    // The longest part(p - origin).
    template <class Part>
    Vec3 longest(const std::vector<Vec3>& points, const Part& part) const {
        Vec3 best;
        for (const Vec3& p : points) {
            const Vec3 reach = part(p - origin);
            if (dot(reach, reach) > dot(best, best)) best = reach;
        }
        return best;
    }
};

}  // namespace lnfast::obb
