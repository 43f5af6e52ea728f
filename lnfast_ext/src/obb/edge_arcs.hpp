// The edge arcs of a polytope: the Gauss map sends a face to the point of the unit sphere that is its outward normal, and
// an edge to the arc of a great circle from the normal of its left face to that of its right face.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/bits.hpp"
#include "core/vec.hpp"
#include "core/vectorized.hpp"

namespace lnfast::obb {

using core::first_one;
using core::Vec3;
using core::vectorized;

struct EdgeArc {
    int from, to;          // normals, less than a right angle apart
    Vec3 direction;        // of the edge, unit
    int vertex, opposite;  // an end of the edge; the vertex farthest behind the middle of the arc
};

// The midpoints of all arcs as arrays, to find quickly which arcs can hold directions at right angles: those whose
// midpoints are no farther from a right angle than both half arcs together.
class ArcMidpoints {
public:
    ArcMidpoints(const std::vector<EdgeArc>& arcs, const std::vector<Vec3>& normals)
        : count_(arcs.size()), x_(count_), y_(count_), z_(count_), sin_(count_), cos_(count_),
          near_((count_ + 63) / 64 * 64, 0) {
        for (std::size_t k = 0; k < count_; ++k) {
            const Vec3 a = normals[arcs[k].from], b = normals[arcs[k].to], middle = unit(a + b);
            x_[k] = middle.x, y_[k] = middle.y, z_[k] = middle.z;
            sin_[k] = 0.5 * norm(b - a);
            cos_[k] = 0.5 * norm(a + b);
        }
    }

    // The arcs, from number i on, that can hold a direction at right angles to one on arc i.
    void find_orthogonal(std::size_t i, std::vector<int>& arcs) {
        arcs.clear();
        vectorized([&](auto isa) {
            const std::size_t start = i - i % 64;
            const double *__restrict x = x_.data(), *__restrict y = y_.data(), *__restrict z = z_.data();
            const double *__restrict sin = sin_.data(), *__restrict cos = cos_.data();
            const double ix = x[i], iy = y[i], iz = z[i], isin = sin[i], icos = cos[i];
            std::uint8_t* __restrict near = near_.data();
            for (std::size_t k = start; k < count_; ++k) {
                const double cosine = ix * x[k] + iy * y[k] + iz * z[k];
                near[k] = std::fabs(cosine) - (isin * cos[k] + icos * sin[k]) <= 1e-12;
            }
            for (std::size_t block = start; block < count_; block += 64) {
                std::uint64_t word = nonzero(isa, &near_[block]);
                if (block == start) word &= ~std::uint64_t{0} << i % 64;
                for (; word != 0; word &= word - 1) arcs.push_back(static_cast<int>(block) + first_one(word));
            }
        });
    }

private:
    std::size_t count_;
    std::vector<double> x_, y_, z_, sin_, cos_;
    std::vector<std::uint8_t> near_;
};

}  // namespace lnfast::obb
