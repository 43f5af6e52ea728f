// The boxes that are the smallest so far, and the rule that chooses among equals.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "core/vec.hpp"

namespace lnfast::obb {

using core::Vec3;

struct Box {
    Vec3 centre;
    std::array<Vec3, 3> axes;      // unit, right-handed, in the order of the extents
    std::array<double, 3> extents; // ascending
    double volume = 0;
};

// Boxes whose volumes differ by less than this fraction count as equal: far above rounding (1e-13), far below anything
// that is a difference in the patient.
constexpr double same_volume = 1e-9;
constexpr double same_length = 1e-8;

class Candidates {
public:
    // Worth a closer look: smaller than, or equal to, the best so far.
    bool wants(double volume) const { return volume <= limit_; }
    double limit() const { return limit_; }
    double best() const { return best_; }

    // Is a box with these directions (unit, in any order) among the best?
    bool knows(const std::array<Vec3, 3>& directions) const {
        const auto among = [&](const Box& box) {
            return std::all_of(directions.begin(), directions.end(), [&](Vec3 direction) {
                return std::any_of(box.axes.begin(), box.axes.end(), [&](Vec3 axis) {
                    const Vec3 gap = direction - std::copysign(1.0, dot(axis, direction)) * axis;
                    return dot(gap, gap) < 1e-22;
                });
            });
        };
        return std::any_of(boxes_.begin(), boxes_.end(), among);
    }

    void offer(const Box& box) {
        if (!wants(box.volume)) return;
        if (box.volume < best_) {
            best_ = box.volume;
            limit_ = best_ * (1 + same_volume);
            const auto larger = [&](const Box& old) { return old.volume > limit_; };
            boxes_.erase(std::remove_if(boxes_.begin(), boxes_.end(), larger), boxes_.end());
        }
        for (Box& old : boxes_)
            if (alike(old, box)) {
                if (box.volume < old.volume) old = box;
                return;
            }
        boxes_.push_back(box);
    }

    // Many lattice shapes have several smallest boxes. Of these the one with the shortest short edge, then the shortest
    // middle edge, so that a flip of the axes does not change the millimetres. Boxes equal in all three come together.
    std::vector<Box> choose() const {
        if (boxes_.empty()) throw std::runtime_error("no finite box: sizes are beyond what float64 can multiply");
        std::vector<Box> chosen = boxes_;
        for (int k = 0; k < 2; ++k) {
            double shortest = std::numeric_limits<double>::infinity();
            for (const Box& box : chosen) shortest = std::min(shortest, box.extents[k]);
            const auto longer = [&](const Box& box) { return box.extents[k] > shortest * (1 + same_length); };
            chosen.erase(std::remove_if(chosen.begin(), chosen.end(), longer), chosen.end());
        }
        return chosen;
    }

private:
    static bool alike(const Box& a, const Box& b) {
        for (int k = 0; k < 3; ++k) {
            if (std::fabs(a.extents[k] - b.extents[k]) > same_length * a.extents[2]) return false;
            if (std::fabs(dot(a.axes[k], b.axes[k])) < 1 - 1e-12) return false;
        }
        return true;
    }

    double best_ = std::numeric_limits<double>::infinity(), limit_ = std::numeric_limits<double>::infinity();
    std::vector<Box> boxes_;
};

}  // namespace lnfast::obb
