// The exact minimum-volume bounding box of a convex polytope.
//
// O'Rourke (1985): some smallest box has two adjacent faces that each hold an edge of the hull. So for every pair of
// edges, with n1 on the arc of outward normals of the first (from its left to its right face) and n2 on that of the
// second, n1 at right angles to n2, one number s moves the whole box (piece.hpp).
//
//      unit sphere of normals       a face is a point, an edge an arc, a vertex a region. n1 walks along the arc
//          a---n1---b               a--b; the great circle at right angles to n1 crosses the arc of e2 at n2. Where
//             :                     the region below -n1, -n2 or +-n3 changes, the box touches another vertex and V
//       a2----n2--b2                has a kink: the interval is split there, and V is smooth on each part.
//
// Every interval is (1) discarded because a lower bound proves that it holds nothing as small as the best box so far,
// or (2) split at a change of touching vertices, or (3) with the same touching vertices at both ends, looked at: its
// ends and all stationary points of that lower bound. Where the bound is no real box (another vertex touches in
// between), the interval is split again. (1) compares with the best volume times (1 + 1e-9), so equal boxes are found
// as well.
//
// What makes it fast is a good box to begin with (a few of those flush with a whole face, chosen by a lower bound:
// depth times area of the shadow) and a tight first bound: it knows which vertices touch in the middle of the interval.
// With E edges E^2 pairs are looked at, a few vector instructions each; about E^1.5 of them can be at right angles.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "obb/edge_arcs.hpp"
#include "obb/smallest_boxes.hpp"
#include "obb/flush_volume.hpp"
#include "obb/oriented_box.hpp"
#include "obb/polytope.hpp"
#include "obb/planar_hull.hpp"
#include "obb/projected_area.hpp"
#include "obb/support_map.hpp"

namespace lnfast::obb {

using core::any_perpendicular;
using core::Vec3;

class BoxSearch {
public:
    explicit BoxSearch(const Polytope& polytope)
        : hull_(polytope), points_(polytope.vertices), support_(polytope), shadow_(polytope.normals, polytope.areas()),
          normals_(polytope.normals), faces_(static_cast<int>(polytope.normals.size())) {
        flush_faces();
        if (found_.best() <= hull_.volume() * (1 + 1e-12)) return;  // no box is smaller than what it holds
        // A box flush with a flat edge is, but for rounding, flush with a face, and so with the face's other edges.
        for (const auto& edge : hull_.edges)
            if (!edge.flat) add_arcs(edge);
        Middles middles(arcs_, normals_);
        std::vector<int> near;
        for (std::size_t i = 0; i < arcs_.size(); ++i) {
            middles.at_right_angles(i, near);
            for (const int j : near) pair(arcs_[i], arcs_[j]);
        }
    }

    // Never empty; all equal in volume and extents.
    std::vector<Box> boxes() const { return found_.choose(); }

private:
    struct Touch {  // vertices that support -n1, -n2, +n3, -n3
        std::array<int, 4> at;
    };
    struct Sweep {  // one pair of edges, one sign of Q
        const Arc *one, *two;
        Ends n, q;
    };
    static constexpr double longest_arc = 0.7;  // rad: short arcs are bounded more tightly, many take longer
    static constexpr int first_faces = 4;

    // A longer arc (a sharp edge) is cut up, so that a straight line between its ends stays close to it.
    void add_arcs(const Polytope::Edge& edge) {
        Arc arc{edge.left, edge.left, unit(hull_.vertices[edge.to] - hull_.vertices[edge.from]), edge.from, edge.from};
        const Vec3 a = hull_.normals[edge.left], b = hull_.normals[edge.right];
        const double angle = std::atan2(norm(cross(a, b)), dot(a, b));
        Vec3 side = cross(arc.direction, a);
        if (dot(side, b) < 0) side = -1.0 * side;
        const int parts = static_cast<int>(std::ceil(angle / longest_arc));
        for (int part = 1; part <= std::max(parts, 1); ++part) {
            arc.from = arc.to;
            arc.to = edge.right;
            if (part < parts) {
                arc.to = static_cast<int>(normals_.size());
                normals_.push_back(std::cos(angle * part / parts) * a + std::sin(angle * part / parts) * side);
            }
            arc.opposite = support_.farthest(-1.0 * (normals_[arc.from] + normals_[arc.to]));
            if (!too_large(arc)) arcs_.push_back(arc);
        }
    }

    // V is at least width times area of the shadow. Along N = (1-u) from + u to both are at least linear functions of u
    // (the width between fixed vertices, the shadow of the faces that look to the same side as in the middle), so V
    // |N|^2 is at least a quadratic, and its Bernstein coefficients say whether any box here can be small enough.
    bool too_large(const Arc& arc) const {
        const Vec3 &n0 = normals_[arc.from], &n1 = normals_[arc.to];
        const Vec3 width = hull_.vertices[arc.vertex] - hull_.vertices[arc.opposite], shadow = shadow_.gradient(n0 + n1);
        const double w0 = dot(n0, width), w1 = dot(n1, width), s0 = dot(n0, shadow), s1 = dot(n1, shadow);
        const double limit = found_.limit();
        return w0 * s0 > limit && w1 * s1 > limit && 0.5 * (w0 * s1 + w1 * s0) > limit * dot(n0, n1);
    }

    // A box flush with a face is at least as large as the face's depth times the area of the shadow along its normal.
    // The few faces where that is least give the first boxes; those of all others are ends of sweeps.
    void flush_faces() {
        std::vector<std::pair<double, int>> promise;
        promise.reserve(static_cast<std::size_t>(faces_));
        for (int face = 0; face < faces_; ++face)
            promise.push_back({points_.extent(normals_[face]).size() * shadow_.area(normals_[face]), face});
        const auto few = promise.begin() + std::min(first_faces, faces_);
        std::partial_sort(promise.begin(), few, promise.end());
        for (auto at = promise.begin(); at != few && found_.wants(at->first); ++at) flush_face(normals_[at->second]);
    }

    // Boxes with a whole face on a face of the hull: the rectangles around the shadow along its normal.
    void flush_face(Vec3 normal) {
        const Vec3 right = any_perpendicular(normal), up = cross(normal, right);
        std::vector<Vec2> outline;
        outline.reserve(hull_.vertices.size());
        for (const Vec3& vertex : hull_.vertices) outline.push_back({dot(vertex, right), dot(vertex, up)});
        const double depth = points_.extent(normal).size();
        flush_rectangles(convex_hull(std::move(outline)), [&](Vec2 along, double length, double width) {
            if (!found_.wants(depth * length * width)) return;
            const Vec3 axis = along.x * right + along.y * up;
            found_.offer(points_.box({normal, axis, cross(normal, axis)}));
        });
    }

    // n1.n2 is bilinear on the two arcs. Where n1.(from of arc two) and n1.(to of arc two), linear on arc one, differ in
    // sign, arc two holds a direction at right angles to n1.
    void pair(const Arc& one, const Arc& two) {
        const Vec3 &n0 = normals_[one.from], &n1 = normals_[one.to];
        const Range left{dot(n0, normals_[two.from]), dot(n1, normals_[two.from])};
        const Range right{dot(n0, normals_[two.to]), dot(n1, normals_[two.to])};
        if ((left.low > 0 && left.high > 0 && right.low > 0 && right.high > 0) ||
            (left.low < 0 && left.high < 0 && right.low < 0 && right.high < 0))
            return;
        double cuts[4] = {0, 1, 1, 1};
        int count = 1;
        for (const Range& line : {left, right})
            if ((line.low < 0) != (line.high < 0)) cuts[count++] = line.low / (line.low - line.high);
        if (count == 3 && cuts[2] < cuts[1]) std::swap(cuts[1], cuts[2]);
        cuts[count] = 1;
        for (int k = 0; k < count; ++k) {
            if (!(cuts[k + 1] - cuts[k] > 1e-13)) continue;
            const double middle = 0.5 * (cuts[k] + cuts[k + 1]);
            const double l = left.low + middle * (left.high - left.low);
            const double r = right.low + middle * (right.high - right.low);
            if ((l > 0 && r > 0) || (l < 0 && r < 0)) continue;
            // On arc two, at right angles to n1(middle):
            const Vec3 inside = std::fabs(r) * normals_[two.from] + std::fabs(l) * normals_[two.to];
            sweep(one, two, cuts[k], cuts[k + 1], inside);
        }
    }

    void sweep(const Arc& one, const Arc& two, double begin, double end, Vec3 inside) {
        const Ends whole{normals_[one.from], normals_[one.to]};
        Sweep s{&one, &two, {whole.at(begin), whole.at(end)}, {}};
        // For edges at right angles n2 is e1's direction all along, and the general form would pass through 0 / 0.
        const bool square = std::fabs(dot(one.direction, two.direction)) < 1e-12;
        const auto second = [&](Vec3 n) { return square ? one.direction : cross(n, two.direction); };
        const Vec3 n_middle = s.n.at(0.5), q_middle = second(n_middle);
        const double sign = dot(q_middle, inside) < 0 ? -1.0 : 1.0;
        s.q = {sign * second(s.n.from), sign * second(s.n.to)};
        const Vec3 m_middle = cross(n_middle, sign * q_middle);
        splits_ = 0;
        // The third direction's vertices are guessed first: any vertices make a valid bound, most often a good one.
        Touch near{{one.opposite, two.opposite, support_.near(m_middle), support_.near(-1.0 * m_middle)}};
        if (discarded(s, s.n, s.q, near)) return;
        near.at[2] = support_.farthest(m_middle, near.at[2]);
        near.at[3] = support_.farthest(-1.0 * m_middle, near.at[3]);
        if (discarded(s, s.n, s.q, near)) return;
        refine(s, s.n, s.q, touch(s.n.from, s.q.from, near), touch(s.n.to, s.q.to, near), 0);
    }

    Touch touch(Vec3 n, Vec3 q, const Touch& near) const {
        const Vec3 m = cross(n, q);
        return {{support_.farthest(-1.0 * n, near.at[0]), support_.farthest(-1.0 * q, near.at[1]),
                 support_.farthest(m, near.at[2]), support_.farthest(-1.0 * m, near.at[3])}};
    }

    Quotient quotient(const Sweep& s, const Ends& n, const Ends& q, const Touch& t) const {
        const auto& v = hull_.vertices;
        return Quotient(n, q, {v[s.one->vertex] - v[t.at[0]], v[s.two->vertex] - v[t.at[1]], v[t.at[2]] - v[t.at[3]]});
    }

    // The box itself, measured over all vertices: nothing but real boxes is ever compared with.
    void offer(Vec3 n, Vec3 q) {
        const double length = norm(q);
        if (!(length > 1e-9)) return;  // n1 along e2: another pair, or a flush face, has this box
        const Vec3 first = unit(n), second = unit((1 / length) * q - dot((1 / length) * q, first) * first);
        const std::array<Vec3, 3> axes{first, second, cross(first, second)};
        if (!found_.knows(axes)) found_.offer(points_.box(axes));
    }

    // Does the bound with these touching vertices prove that nothing better is in the interval? Most intervals have an
    // end with the best box of all, one flush with a face. Once that has been offered it is enough that the bound is no
    // lower than the best there, and above it beside it.
    bool discarded(const Sweep& s, const Ends& n, const Ends& q, const Touch& touching) {
        const Quotient bound = quotient(s, n, q, touching);
        if (bound.above(found_.limit())) return true;
        if (!bound.above_inside(found_.best())) return false;
        offer_ends(n, q, bound);
        return true;
    }

    void offer_ends(const Ends& n, const Ends& q, const Quotient& bound) {
        if (found_.wants(bound.at_from())) offer(n.from, q.from);
        if (found_.wants(bound.at_to())) offer(n.to, q.to);
    }

    // An interval is split a few times, some dozen where many vertices pass. Only rounding asks for more: needles, whose
    // widths are differences of numbers a million times as large, would be split to the end of all digits.
    bool spent(int depth) { return depth > 60 || ++splits_ > 500; }

    // Split [n.from, n.to] until the touching vertices agree at both ends.
    void refine(const Sweep& s, const Ends& n, const Ends& q, Touch from, Touch to, int depth) {
        if (discarded(s, n, q, from) || discarded(s, n, q, to)) return;
        double cut = 0.5;
        if (settle(n, q, from, to, cut)) return stationary(s, n, q, from, depth);
        if (spent(depth) || norm(n.to - n.from) < 1e-13) {
            offer(n.from, q.from);
            offer(n.to, q.to);
            return;
        }
        const Vec3 n_cut = n.at(cut), q_cut = q.at(cut);
        const Touch middle = touch(n_cut, q_cut, from);
        refine(s, {n.from, n_cut}, {q.from, q_cut}, from, middle, depth + 1);
        refine(s, {n_cut, n.to}, {q_cut, q.to}, middle, to, depth + 1);
    }

    // Give both ends the same vertex where one end touches both alike. True if nothing differs then; otherwise `cut` is
    // where the first vertices that differ are level, so that each half has one of them.
    bool settle(const Ends& n, const Ends& q, Touch& from, Touch& to, double& cut) const {
        for (int k = 0; k < 4; ++k) {
            if (from.at[k] == to.at[k]) continue;
            const Vec3 gap = hull_.vertices[to.at[k]] - hull_.vertices[from.at[k]];
            const double sign = k == 2 ? 1.0 : -1.0;
            const std::array<double, 3> lead = lead_of(n, q, k, sign * gap);  // of `to` over `from`
            const double level = 1e-13 * norm(gap);
            const bool level_from = std::fabs(lead[0]) <= level, level_to = std::fabs(lead[2]) <= level;
            if (level_from && (level_to ? lead[1] > 0 : lead[1] >= -level)) from.at[k] = to.at[k];
            else if (level_to && (level_from || lead[1] <= level)) to.at[k] = from.at[k];
            else {
                cut = crossing({level_from ? 0 : lead[0], lead[1], level_to ? 0 : lead[2]});
                return false;
            }
        }
        return true;
    }

    static std::array<double, 3> lead_of(const Ends& n, const Ends& q, int k, Vec3 gap) {
        if (k < 2) {
            const Ends& line = k == 0 ? n : q;
            const double a = dot(line.from, gap), b = dot(line.to, gap);
            return {a, a + b, b};
        }
        const Vec3 middle = cross(n.from, q.to) + cross(n.to, q.from);
        return {dot(cross(n.from, q.from), gap), dot(middle, gap), dot(cross(n.to, q.to), gap)};
    }

    // Where a (1-u)^2 + b u (1-u) + c u^2 changes sign, a <= 0 <= c, and a zero at an end does not count; the middle if
    // it does not.
    static double crossing(const std::array<double, 3>& lead) {
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

    // All local minima of an interval at whose ends the same vertices touch.
    void stationary(const Sweep& s, const Ends& n, const Ends& q, const Touch& t, int depth) {
        const Quotient value = quotient(s, n, q, t);
        offer_ends(n, q, value);
        const Sextic slope = value.slope();
        const int changes = sign_changes(slope);
        if (changes == 0) return;
        if (changes == 1) {
            const double u = single_root(slope);
            return verify(s, n, q, t, u, depth);
        }
        if (spent(depth) || norm(n.to - n.from) < 1e-9) return;
        const Vec3 n_cut = n.at(0.5), q_cut = q.at(0.5);
        const Ends n_half[2] = {{n.from, n_cut}, {n_cut, n.to}}, q_half[2] = {{q.from, q_cut}, {q_cut, q.to}};
        for (int half = 0; half < 2; ++half)
            if (!discarded(s, n_half[half], q_half[half], t)) stationary(s, n_half[half], q_half[half], t, depth + 1);
    }

    // At u the bound is stationary. If t touches there, it is the volume of a real box. If another vertex sticks out,
    // it is not, and the smallest real box may be at a kink to either side.
    void verify(const Sweep& s, const Ends& n, const Ends& q, const Touch& t, double u, int depth) {
        const Vec3 n_cut = n.at(u), q_cut = q.at(u), m_cut = cross(n_cut, q_cut);
        offer(n_cut, q_cut);
        const Touch real = touch(n_cut, q_cut, t);
        const Vec3 directions[4] = {-1.0 * n_cut, -1.0 * q_cut, m_cut, -1.0 * m_cut};
        bool sticks_out = false;
        for (int k = 0; k < 4; ++k) {
            const Vec3 gap = hull_.vertices[real.at[k]] - hull_.vertices[t.at[k]];
            sticks_out = sticks_out || dot(gap, directions[k]) > 1e-12 * norm(gap) * norm(directions[k]);
        }
        if (!sticks_out || spent(depth)) return;
        refine(s, {n.from, n_cut}, {q.from, q_cut}, t, real, depth + 1);
        refine(s, {n_cut, n.to}, {q_cut, q.to}, real, t, depth + 1);
    }

    const Polytope& hull_;
    const PointSet points_;
    const Support support_;
    const Shadow shadow_;
    std::vector<Vec3> normals_;  // of the faces, then of the cuts in long arcs
    int faces_, splits_ = 0;
    std::vector<Arc> arcs_;
    Candidates found_;
};

}  // namespace lnfast::obb
