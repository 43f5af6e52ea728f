// The area of a polytope's orthogonal projection along a direction: half the sum of its faces' areas, each times the
// cosine of its slant (Cauchy's formula).
//
//      \  |  /          Sums run in eight lanes, whatever the instruction set, so every set gives the same bits.
//       \ | /
//     ---***---
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "core/vec.hpp"
#include "core/vectorized.hpp"

namespace lnfast::obb {

using core::lanes;
using core::Lanes;
using core::lanes_of;
using core::Vec3;
using core::vectorized;

class ProjectedArea {
public:
    ProjectedArea(const std::vector<Vec3>& normals, const std::vector<double>& areas)
        : count_((normals.size() + lanes - 1) / lanes * lanes), x_(count_), y_(count_), z_(count_), half_(count_) {
        for (std::size_t face = 0; face < normals.size(); ++face) {
            x_[face] = normals[face].x, y_[face] = normals[face].y, z_[face] = normals[face].z;
            half_[face] = 0.5 * areas[face];
        }
    }

    double area(Vec3 direction) const { return std::fabs(dot(gradient(direction), direction)); }

    // By the direction. Times another direction it is at most the area of the projection along that one.
    Vec3 gradient(Vec3 direction) const {
        Vec3 sum;
        vectorized([&](auto) {
            const Lanes *nx = lanes_of(x_), *ny = lanes_of(y_), *nz = lanes_of(z_), *half = lanes_of(half_);
            Lanes x{}, y{}, z{};
            for (std::size_t k = 0; k < count_ / lanes; ++k) {
                const Lanes slant = nx[k] * direction.x + ny[k] * direction.y + nz[k] * direction.z;
                const Lanes part = slant < 0 ? -half[k] : half[k];
                x += part * nx[k];
                y += part * ny[k];
                z += part * nz[k];
            }
            for (std::size_t k = 0; k < lanes; ++k) sum = sum + Vec3{x[k], y[k], z[k]};
        });
        return sum;
    }

private:
    std::size_t count_;  // a multiple of lanes; what is beyond the last face has no area
    std::vector<double> x_, y_, z_, half_;
};

}  // namespace lnfast::obb
