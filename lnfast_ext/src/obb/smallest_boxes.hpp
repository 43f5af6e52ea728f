// The smallest boxes that the search has evaluated so far (its incumbents), and the rule that selects among equal ones.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "core/vec.hpp"
#include "obb/oriented_box.hpp"

namespace lnfast::obb {

using core::Vec3;

// Boxes whose volumes differ by less than this fraction count as equal: far above rounding (1e-13), far below anything
// that is a difference in the patient.
constexpr double same_volume = 1e-9;
constexpr double same_length = 1e-8;

class SmallestBoxes {
public:
    // Is a box of this volume smaller than, or equal to, the best so far?
    bool accepts(double volume) const { return volume <= limit_; }
    double limit() const { return limit_; }
    double least_volume() const { return least_volume_; }

    // Does one of the boxes have these axes (unit, in any order)?
    bool has_orientation(const std::array<Vec3, 3>& axes) const {
        const auto same = [&](const OrientedBox& box) {
            return std::all_of(axes.begin(), axes.end(), [&](Vec3 direction) {
                return std::any_of(box.axes.begin(), box.axes.end(), [&](Vec3 axis) {
                    const Vec3 gap = direction - std::copysign(1.0, dot(axis, direction)) * axis;
                    return dot(gap, gap) < 1e-22;
                });
            });
        };
        return std::any_of(boxes_.begin(), boxes_.end(), same);
    }

    void add(const OrientedBox& box) {
        if (!accepts(box.volume)) return;
        if (box.volume < least_volume_) {
            least_volume_ = box.volume;
            limit_ = least_volume_ * (1 + same_volume);
            const auto larger = [&](const OrientedBox& old) { return old.volume > limit_; };
            boxes_.erase(std::remove_if(boxes_.begin(), boxes_.end(), larger), boxes_.end());
        }
        for (OrientedBox& old : boxes_)
            if (alike(old, box)) {
                if (box.volume < old.volume) old = box;
                return;
            }
        boxes_.push_back(box);
    }

    // Many lattice shapes have several smallest boxes. Of these, the ones with the shortest short edge, then the shortest
    // middle edge, so that a flip of the axes does not change the millimetres. Boxes equal in all three are all returned.
    std::vector<OrientedBox> select() const {
        if (boxes_.empty()) throw std::runtime_error("no finite box: sizes are beyond what float64 can multiply");
        std::vector<OrientedBox> selected = boxes_;
        for (int k = 0; k < 2; ++k) {
            double shortest = std::numeric_limits<double>::infinity();
            for (const OrientedBox& box : selected) shortest = std::min(shortest, box.extents[k]);
            const auto longer = [&](const OrientedBox& box) { return box.extents[k] > shortest * (1 + same_length); };
            selected.erase(std::remove_if(selected.begin(), selected.end(), longer), selected.end());
        }
        return selected;
    }

private:
    static bool alike(const OrientedBox& a, const OrientedBox& b) {
        for (int k = 0; k < 3; ++k) {
            if (std::fabs(a.extents[k] - b.extents[k]) > same_length * a.extents[2]) return false;
            if (std::fabs(dot(a.axes[k], b.axes[k])) < 1 - 1e-12) return false;
        }
        return true;
    }

    double least_volume_ = std::numeric_limits<double>::infinity(), limit_ = std::numeric_limits<double>::infinity();
    std::vector<OrientedBox> boxes_;
};

}  // namespace lnfast::obb
