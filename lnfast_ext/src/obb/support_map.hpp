// The supporting vertex of a polytope in a direction: the one that is farthest along it.
//
// Found by climbing from any vertex always to the farthest of its neighbours: one that no neighbour surpasses is the
// farthest of all, since the polytope is convex. A climb starts near its end: the supporting vertices of the middles of
// the cells of a cube around the origin (a cube map) are its starts.
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

#include "core/vec.hpp"
#include "obb/polytope.hpp"

namespace lnfast::obb {

using core::Vec3;

class SupportMap {
public:
    explicit SupportMap(const Polytope& polytope) : polytope_(polytope) {
        neighbours_.reserve(polytope_.links.size());
        for (const int vertex : polytope_.links) neighbours_.push_back(polytope_.vertices[vertex]);
        const double root = std::sqrt(static_cast<double>(polytope_.vertices.size()));
        side_ = std::clamp(static_cast<int>(root / 2), 4, 64);
        starts_.resize(static_cast<std::size_t>(6 * side_ * side_));
        int last = 0;
        for (std::size_t cell = 0; cell < starts_.size(); ++cell)
            starts_[cell] = last = climb(middle_of(static_cast<int>(cell)), last);
    }

    int supporting_vertex(Vec3 direction) const { return climb(direction, guess(direction)); }

    // The supporting vertex, found from any other one.
    int climb(Vec3 direction, int vertex) const {
        double best = dot(polytope_.vertices[vertex], direction);
        for (int from = -1; from != vertex;) {
            from = vertex;
            for (int k = polytope_.link_starts[from]; k < polytope_.link_starts[from + 1]; ++k) {
                const double height = dot(neighbours_[k], direction);
                vertex = height > best ? polytope_.links[k] : vertex;
                best = std::max(height, best);
            }
        }
        return vertex;
    }

    // A vertex that is the supporting one, or not far from it.
    int guess(Vec3 direction) const {
        const double x = std::fabs(direction.x), y = std::fabs(direction.y), z = std::fabs(direction.z);
        if (x >= y && x >= z) return start_of(0, direction.x, direction.y, direction.z);
        if (y >= z) return start_of(2, direction.y, direction.z, direction.x);
        return start_of(4, direction.z, direction.x, direction.y);
    }

private:
    int start_of(int face, double largest, double a, double b) const {
        if (!(std::fabs(largest) > 0)) return 0;
        const double scale = 0.5 * side_ / std::fabs(largest);
        const int row = std::min(static_cast<int>(a * scale + 0.5 * side_), side_ - 1);
        const int column = std::min(static_cast<int>(b * scale + 0.5 * side_), side_ - 1);
        return starts_[static_cast<std::size_t>(((face + (largest < 0)) * side_ + row) * side_ + column)];
    }

    Vec3 middle_of(int cell) const {
        const int face = cell / (side_ * side_);
        const double a = (2 * (cell / side_ % side_) + 1.0) / side_ - 1, b = (2 * (cell % side_) + 1.0) / side_ - 1;
        const double sign = face % 2 == 0 ? 1.0 : -1.0;
        if (face < 2) return {sign, a, b};
        return face < 4 ? Vec3{b, sign, a} : Vec3{a, b, sign};
    }

    const Polytope& polytope_;
    std::vector<Vec3> neighbours_;  // the vertices of polytope_.links
    int side_;
    std::vector<int> starts_;
};

}  // namespace lnfast::obb
