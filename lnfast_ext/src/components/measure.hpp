// Measurements of each node. Index space is (x, y, z) with voxel centres at whole numbers; corners are kept as
// whole numbers too, shifted by a half: corner c lies at index origin + c - 1/2.
//
//      c=0   1   2   3          slice z of a node: for the hull only the first and the last corner
//     y=0    +---+              of each corner row matter (o), and of these only the convex ones
//            | # |
//        o---+---+---o
//        | # | # | # |
//        o---+---+---o
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "components/runs.hpp"
#include "core/threads.hpp"
#include "core/vec.hpp"
#include "obb/box_search.hpp"
#include "obb/planar_hull.hpp"

namespace lnfast::components {

using core::Mat3;
using core::Team;
using core::Vec3;
using obb::BoxSearch;
using obb::convex_hull;
using obb::extent;
using obb::LatticePoint;
using obb::make_polytope;
using obb::OrientedBox;
using obb::Polytope;
using obb::same_length;
using obb::Vec2;

struct Node {  // the record that the bindings return; the order is that of its numpy dtype
    std::int32_t label;
    std::int64_t voxels;
    std::int32_t slices;
    double volume_mm3, centroid_ras_mm[3], box_mm[3], box_centre_ras_mm[3], box_axes_ras[3][3];
    double axial_short_mm, axial_long_mm;
    bool slice_limited;
    std::int32_t bounds_zyx[3][2];
    double mean_intensity, mean_probability;
};

struct Affine {  // index -> RAS mm
    Mat3 to_mm;
    Vec3 shift;
};

struct Diameter {
    double along = 0, across = 0;
};

constexpr std::int32_t no_corner = INT32_MIN;

// First and last corner of each corner row of one slice, relative to the node's bounds; (no_corner, no_corner) if empty.
struct CornerRows {
    std::vector<std::int32_t> first, last;

    explicit CornerRows(std::size_t rows) : first(rows, no_corner), last(rows, no_corner) {}

    void widen(std::size_t row, std::int32_t begin, std::int32_t end) {
        first[row] = first[row] == no_corner ? begin : std::min(first[row], begin);
        last[row] = std::max(last[row], end);
    }

    void widen(const CornerRows& slice) {
        for (std::size_t row = 0; row < first.size(); ++row)
            if (slice.first[row] != no_corner) widen(row, slice.first[row], slice.last[row]);
    }

    std::vector<Vec2> hull() const {  // exact: whole numbers below 2^20 in double
        std::vector<Vec2> points;
        for (std::size_t row = 0; row < first.size(); ++row) {
            if (first[row] == no_corner) continue;
            points.push_back({static_cast<double>(first[row]), static_cast<double>(row)});
            points.push_back({static_cast<double>(last[row]), static_cast<double>(row)});
        }
        return points.empty() ? points : convex_hull(std::move(points));
    }
};

inline void store(double* out, Vec3 v) {
    out[0] = v.x;
    out[1] = v.y;
    out[2] = v.z;
}

// The longest distance between pixel corners of any slice, and the extent of the slice's corners at right angles to it.
// Diameters within 1e-9 of the longest count as equal, whichever slice they are in; then the smallest extent is taken,
// so the answer does not depend on the order of slices, rows or columns.
class AxialRule {
public:
    explicit AxialRule(const Mat3& to_mm) {
        const double x = norm(to_mm.x), along = dot(to_mm.x, to_mm.y) / x;
        x_ = {x, 0};
        y_ = {along, norm(to_mm.y - (along / x) * to_mm.x)};
    }

    void add(const std::vector<Vec2>& corners) {
        std::vector<Vec2> mm;
        for (const Vec2 c : corners) mm.push_back({c.x * x_.x + c.y * y_.x, c.y * y_.y});
        for (std::size_t a = 0; a < mm.size(); ++a)
            for (std::size_t b = a + 1; b < mm.size(); ++b) {
                const double length = std::hypot(mm[b].x - mm[a].x, mm[b].y - mm[a].y);
                if (length < longest_ * (1 - 1e-9)) continue;
                const Vec2 across{(mm[a].y - mm[b].y) / length, (mm[b].x - mm[a].x) / length};
                longest_ = std::max(longest_, length);
                diameters_.push_back({length, extent(mm, across).size()});
            }
    }

    Diameter get() const {
        Diameter best{longest_, longest_};
        for (const Diameter& d : diameters_)
            if (d.along >= longest_ * (1 - 1e-9)) best.across = std::min(best.across, d.across);
        return best;
    }

private:
    Vec2 x_, y_;
    double longest_ = 0;
    std::vector<Diameter> diameters_;
};

class NodeMeter {
public:
    NodeMeter(const Run* begin, const Run* end, const Affine& affine) : begin_(begin), end_(end), affine_(affine) {}

    void measure(Node& node) {
        count(node);
        const std::vector<std::vector<Vec2>> slices = read_slices(node);
        const Diameter axial = axial_.get();
        node.axial_long_mm = axial.along;
        node.axial_short_mm = axial.across;
        std::vector<LatticePoint> corners;
        for (std::size_t z = 0; z < slices.size(); ++z)
            for (const Vec2 c : slices[z])
                corners.push_back({static_cast<std::int64_t>(c.x), static_cast<std::int64_t>(c.y),
                                   static_cast<std::int64_t>(z)});
        const Polytope polytope = make_polytope<std::int64_t>(corners, affine_.to_mm);
        write_box(node, BoxSearch(polytope).boxes());
    }

private:
    void count(Node& node) {
        std::int64_t voxels = 0, sum[3] = {0, 0, 0};
        std::int32_t low[3] = {begin_->z, begin_->y, begin_->begin}, high[3] = {begin_->z, begin_->y, begin_->begin};
        for (const Run* run = begin_; run != end_; ++run) {
            const std::int64_t length = run->end - run->begin;
            const std::int32_t first[3] = {run->z, run->y, run->begin}, past[3] = {run->z + 1, run->y + 1, run->end};
            for (int axis = 0; axis < 3; ++axis) {
                low[axis] = std::min(low[axis], first[axis]);
                high[axis] = std::max(high[axis], past[axis]);
            }
            voxels += length;
            sum[0] += length * run->z;
            sum[1] += length * run->y;
            sum[2] += length * (run->begin + run->end - 1);  // twice the sum of x
        }
        const double n = static_cast<double>(voxels);
        const Vec3 mean{0.5 * static_cast<double>(sum[2]) / n, static_cast<double>(sum[1]) / n,
                        static_cast<double>(sum[0]) / n};
        store(node.centroid_ras_mm, affine_.to_mm * mean + affine_.shift);
        node.voxels = voxels;
        node.volume_mm3 = n * std::fabs(affine_.to_mm.determinant());
        for (int axis = 0; axis < 3; ++axis) {
            node.bounds_zyx[axis][0] = low[axis];
            node.bounds_zyx[axis][1] = high[axis];
        }
        origin_ = {low[2] - 0.5, low[1] - 0.5, low[0] - 0.5};
    }

    // The convex hull of the corners in each corner plane z; each slice is added to the axial rule. Runs come in raster
    // order.
    std::vector<std::vector<Vec2>> read_slices(Node& node) {
        const std::int32_t z0 = node.bounds_zyx[0][0], y0 = node.bounds_zyx[1][0], x0 = node.bounds_zyx[2][0];
        const std::size_t rows = static_cast<std::size_t>(node.bounds_zyx[1][1] - y0) + 1;
        std::vector<std::vector<Vec2>> planes;
        CornerRows below(rows);  // the slice under the plane
        node.slices = 0;
        const Run* run = begin_;
        for (std::int32_t z = z0; z < node.bounds_zyx[0][1]; ++z) {
            CornerRows slice(rows);
            if (run != end_ && run->z == z) ++node.slices;
            for (; run != end_ && run->z == z; ++run)
                for (std::size_t side = 0; side < 2; ++side)
                    slice.widen(static_cast<std::size_t>(run->y - y0) + side, run->begin - x0, run->end - x0);
            axial_.add(slice.hull());
            below.widen(slice);
            planes.push_back(below.hull());
            below = std::move(slice);
        }
        planes.push_back(below.hull());
        return planes;
    }

    // Among equal boxes the one whose short edge is nearest to the slice normal: the warning must not depend on the order
    // in which they were found. Edges as short as the shortest count as short.
    void write_box(Node& node, const std::vector<OrientedBox>& boxes) const {
        const Vec3 normal = unit(cross(affine_.to_mm.x, affine_.to_mm.y));
        const OrientedBox* best = &boxes.front();
        double steepest = -1;
        for (const OrientedBox& box : boxes) {
            double cosine = 0;
            for (int k = 0; k < 3; ++k)
                if (box.extents[k] <= box.extents[0] * (1 + same_length))
                    cosine = std::max(cosine, std::fabs(dot(box.axes[k], normal)));
            if (cosine > steepest + 1e-9) {
                steepest = cosine;
                best = &box;
            }
        }
        constexpr double cos_30 = 0.86602540378443864676;
        node.slice_limited = steepest >= cos_30 - 1e-9 && best->extents[0] <= 2 * norm(affine_.to_mm.z) + 1e-6;
        store(node.box_centre_ras_mm, best->centre + affine_.to_mm * origin_ + affine_.shift);
        for (int k = 0; k < 3; ++k) {
            node.box_mm[k] = best->extents[k];
            store(node.box_axes_ras[k], best->axes[k]);
        }
    }

    const Run *begin_, *end_;
    const Affine& affine_;
    AxialRule axial_{affine_.to_mm};
    Vec3 origin_;
};

// affine: 16 numbers, rows of the 4x4 matrix index (x, y, z, 1) -> RAS mm. out: one Node for each label.
inline void measure_nodes(const Runs& runs, const double* affine, Node* out, int threads) {
    const auto column = [&](int k) { return Vec3{affine[k], affine[4 + k], affine[8 + k]}; };
    const Affine to_ras{{column(0), column(1), column(2)}, column(3)};
    // Large nodes first, so that the last task is a short one.
    std::vector<std::ptrdiff_t> order(static_cast<std::size_t>(runs.labels()));
    std::iota(order.begin(), order.end(), 1);
    std::stable_sort(order.begin(), order.end(), [&](std::ptrdiff_t a, std::ptrdiff_t b) {
        return runs.end(a) - runs.begin(a) > runs.end(b) - runs.begin(b);
    });
    Team(threads, runs.labels()).each(runs.labels(), [&](std::ptrdiff_t task, int) {
        const std::ptrdiff_t label = order[static_cast<std::size_t>(task)];
        out[label - 1].label = static_cast<std::int32_t>(label);
        NodeMeter(runs.begin(label), runs.end(label), to_ras).measure(out[label - 1]);
    });
}

}  // namespace lnfast::components
