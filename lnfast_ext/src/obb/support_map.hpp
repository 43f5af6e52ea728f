// Which vertex of a polytope is farthest in a direction?
//
// From any vertex always to the farthest of its neighbours: one that none of them betters is the farthest of all, since
// the polytope is convex. A climb begins near its end: the answers for the middles of the cells of a cube around the
// origin are signposts.
//
//        +--+--+
//        |  |  |   a direction belongs to the side of the cube that its largest component points at, and to the cell
//        +--+--+   that the other two, divided by it, fall into
//        |  |  |
//        +--+--+
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "obb/polytope.hpp"
#include "core/vec.hpp"

namespace lnfast::obb {

using core::Vec3;

class Support {
public:
    explicit Support(const Polytope& polytope) : hull_(polytope) {
        neighbours_.reserve(hull_.links.size());
        for (const int vertex : hull_.links) neighbours_.push_back(hull_.vertices[vertex]);
        side_ = std::clamp(static_cast<int>(std::sqrt(static_cast<double>(hull_.vertices.size())) / 2), 4, 64);
        signposts_.resize(static_cast<std::size_t>(6 * side_ * side_));
        int last = 0;
        for (std::size_t cell = 0; cell < signposts_.size(); ++cell)
            signposts_[cell] = last = farthest(middle_of(static_cast<int>(cell)), last);
    }

    int farthest(Vec3 direction) const { return farthest(direction, near(direction)); }

    int farthest(Vec3 direction, int vertex) const {
        double best = dot(hull_.vertices[vertex], direction);
        for (int from = -1; from != vertex;) {
            from = vertex;
            for (int k = hull_.link_starts[from]; k < hull_.link_starts[from + 1]; ++k) {
                const double height = dot(neighbours_[k], direction);
                vertex = height > best ? hull_.links[k] : vertex;
                best = std::max(height, best);
            }
        }
        return vertex;
    }

    // A vertex that is among the farthest, or not far from them.
    int near(Vec3 direction) const {
        const double x = std::fabs(direction.x), y = std::fabs(direction.y), z = std::fabs(direction.z);
        if (x >= y && x >= z) return signpost(0, direction.x, direction.y, direction.z);
        if (y >= z) return signpost(2, direction.y, direction.z, direction.x);
        return signpost(4, direction.z, direction.x, direction.y);
    }

private:
    int signpost(int face, double largest, double a, double b) const {
        if (!(std::fabs(largest) > 0)) return 0;
        const double scale = 0.5 * side_ / std::fabs(largest);
        const int row = std::min(static_cast<int>(a * scale + 0.5 * side_), side_ - 1);
        const int column = std::min(static_cast<int>(b * scale + 0.5 * side_), side_ - 1);
        return signposts_[static_cast<std::size_t>(((face + (largest < 0)) * side_ + row) * side_ + column)];
    }

    Vec3 middle_of(int cell) const {
        const int face = cell / (side_ * side_);
        const double a = (2 * (cell / side_ % side_) + 1.0) / side_ - 1, b = (2 * (cell % side_) + 1.0) / side_ - 1;
        const double sign = face % 2 == 0 ? 1.0 : -1.0;
        if (face < 2) return {sign, a, b};
        return face < 4 ? Vec3{b, sign, a} : Vec3{a, b, sign};
    }

    const Polytope& hull_;
    std::vector<Vec3> neighbours_;  // hull_.links as they stand
    int side_;
    std::vector<int> signposts_;
};

}  // namespace lnfast::obb
