// The four supporting vertices of a box that is flush with two edges, and where on an interval they change.
//
//      farther along a direction that moves with u:      ____ vertex q
//                                                  _____/
//      vertex p __________________________________/_________
//                                                 ^ u where both are level: the supporting vertex changes
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "core/vec.hpp"
#include "obb/flush_volume.hpp"

namespace lnfast::obb {

using core::Vec3;

struct Supports {  // along -N, -Q, +M, -M
    std::array<int, 4> at;
};

// How much farther one vertex is than another along one of the four directions, in Bernstein form of degree 2. gap: the
// difference of the vertices, for the directions N, Q and M.
inline std::array<double, 3> lead_of(const Segment& n, const Segment& q, int direction, Vec3 gap) {
    if (direction < 2) {
        const Segment& line = direction == 0 ? n : q;
        const double a = dot(line.from, gap), b = dot(line.to, gap);
        return {a, a + b, b};
    }
    const Vec3 middle = cross(n.from, q.to) + cross(n.to, q.from);
    return {dot(cross(n.from, q.from), gap), dot(middle, gap), dot(cross(n.to, q.to), gap)};
}

// Where a (1-u)^2 + b u (1-u) + c u^2 changes sign, a <= 0 <= c, and a zero at an end does not count; the middle if
// it does not.
inline double crossing(const std::array<double, 3>& lead) {
    double below = 0, above = 1;
    if (lead[0] == 0 && lead[1] < 0) return lead[1] / (lead[1] - lead[2]);
    if (lead[2] == 0 && lead[1] > 0) return lead[0] / (lead[0] - lead[1]);
    if (!(lead[0] < 0 && lead[2] > 0)) return 0.5;
    for (int step = 0; step < 50; ++step) {
        const double u = 0.5 * (below + above), v = 1 - u;
        if (lead[0] * v * v + lead[1] * u * v + lead[2] * u * u < 0) below = u;
        else above = u;
    }
    return std::min(std::max(0.5 * (below + above), 1e-9), 1 - 1e-9);
}

}  // namespace lnfast::obb
