// The arcs of outward normals: one for each edge of a polytope, from its left face to its right one.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "vec.hpp"
#include "vectorized.hpp"

namespace lnfast {

struct Arc {
    int from, to;          // normals, less than a right angle apart
    Vec3 direction;        // of the edge, unit
    int vertex, opposite;  // an end of the edge; the vertex farthest behind the middle of the arc
};

// The middles of all arcs as arrays, for a quick look at which arcs can hold directions at right angles: those
// whose middles are no farther from a right angle than both half arcs together.
class Middles {
public:
    Middles(const std::vector<Arc>& arcs, const std::vector<Vec3>& normals)
        : count_(arcs.size()), x_(count_), y_(count_), z_(count_), sin_(count_), cos_(count_), gap_(count_) {
        for (std::size_t k = 0; k < count_; ++k) {
            const Vec3 a = normals[arcs[k].from], b = normals[arcs[k].to], middle = unit(a + b);
            x_[k] = middle.x, y_[k] = middle.y, z_[k] = middle.z;
            sin_[k] = 0.5 * norm(b - a);
            cos_[k] = 0.5 * norm(a + b);
        }
    }

    void at_right_angles(std::size_t i, std::vector<int>& found) {
        vectorized([&](auto) {
            for (std::size_t k = i; k < count_; ++k) {
                const double cosine = x_[i] * x_[k] + y_[i] * y_[k] + z_[i] * z_[k];
                gap_[k] = std::fabs(cosine) - (sin_[i] * cos_[k] + cos_[i] * sin_[k]);
            }
        });
        found.clear();
        for (std::size_t k = i; k < count_; ++k)
            if (gap_[k] <= 1e-12) found.push_back(static_cast<int>(k));
    }

private:
    std::size_t count_;
    std::vector<double> x_, y_, z_, sin_, cos_, gap_;
};

}  // namespace lnfast
