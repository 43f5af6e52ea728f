// The exact minimum-volume bounding box of a convex polytope.
//
// O'Rourke (1985): some smallest box has two adjacent faces that are each flush with an edge of the hull. So for every
// pair of edges, with n1 on the edge arc of the first (from the normal of its left face to that of its right one) and
// n2 on that of the second, n1 at right angles to n2, one number s moves the whole box (flush_volume.hpp).
//
//      unit sphere of normals       a face is a point, an edge an arc, a vertex a region (Gauss map). n1 moves along
//          a---n1---b               the arc a--b; the great circle at right angles to n1 crosses the arc of e2 at n2.
//             :                     Where the region below -n1, -n2 or +-n3 changes, the supporting vertex changes and
//       a2----n2--b2                V has a kink: the interval is split there, and V is smooth on each part.
//
// Every interval is (1) pruned because a lower bound proves that it holds nothing as small as the best box so far, or
// (2) split at a change of supporting vertices, or (3) with the same supporting vertices at both ends, evaluated: at
// its ends and at all stationary points of that lower bound. Where the bound is no real box (another vertex supports it
// in between), the interval is split again. (1) compares with the best volume times (1 + 1e-9), so equal boxes are
// found as well.
//
// What makes it fast is a good box to begin with (a few of those flush with a whole face, chosen by a lower bound:
// depth times projected area) and a tight first bound: it knows the supporting vertices in the middle of the interval.
// With E edges E^2 pairs are tested, a few vector instructions each; about E^1.5 of them can be at right angles.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "core/vec.hpp"
#include "obb/edge_arcs.hpp"
#include "obb/flush_volume.hpp"
#include "obb/oriented_box.hpp"
#include "obb/planar_hull.hpp"
#include "obb/polytope.hpp"
#include "obb/projected_area.hpp"
#include "obb/smallest_boxes.hpp"
#include "obb/support_map.hpp"
#include "obb/supporting_vertices.hpp"

namespace lnfast::obb {

using core::any_perpendicular;
using core::Vec3;

class BoxSearch {
public:
    explicit BoxSearch(const Polytope& polytope)
        : polytope_(polytope), points_(polytope.vertices), support_(polytope),
          projection_(polytope.normals, polytope.areas()), normals_(polytope.normals),
          faces_(static_cast<int>(polytope.normals.size())) {
        search_flush_faces();
        if (best_.least_volume() <= polytope_.volume() * (1 + 1e-12)) return;  // no box is smaller than what it holds
        // A box flush with a flat edge is, but for rounding, flush with a face, and so with the face's other edges.
        for (const auto& edge : polytope_.edges)
            if (!edge.flat) add_arcs(edge);
        ArcMidpoints midpoints(arcs_, normals_);
        std::vector<int> orthogonal;
        for (std::size_t i = 0; i < arcs_.size(); ++i) {
            midpoints.find_orthogonal(i, orthogonal);
            for (const int j : orthogonal) search_pair(arcs_[i], arcs_[j]);
        }
    }

    // Never empty; all equal in volume and extents.
    std::vector<OrientedBox> boxes() const { return best_.select(); }

private:
    struct Sweep {  // one pair of edges, an interval of the first one's arc, one sign of Q
        const EdgeArc *first, *second;
        Segment n, q;
    };
    static constexpr double longest_arc = 0.7;  // rad: short arcs are bounded more tightly, many take longer
    static constexpr int first_faces = 4;

    // A longer arc (of a sharp edge) is divided, so that a straight line between its ends stays close to it.
    void add_arcs(const Polytope::Edge& edge) {
        const Vec3 direction = unit(polytope_.vertices[edge.to] - polytope_.vertices[edge.from]);
        EdgeArc arc{edge.left, edge.left, direction, edge.from, edge.from};
        const Vec3 a = polytope_.normals[edge.left], b = polytope_.normals[edge.right];
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
            arc.opposite = support_.supporting_vertex(-1.0 * (normals_[arc.from] + normals_[arc.to]));
            if (!too_large(arc)) arcs_.push_back(arc);
        }
    }

    // V is at least width times projected area. Along N = (1-u) from + u to both are at least linear functions of u
    // (the width between fixed vertices, the projection of the faces that look to the same side as in the middle), so V
    // |N|^2 is at least a quadratic, and its Bernstein coefficients decide whether any box here can be small enough.
    bool too_large(const EdgeArc& arc) const {
        const Vec3 &n0 = normals_[arc.from], &n1 = normals_[arc.to];
        const Vec3 width = polytope_.vertices[arc.vertex] - polytope_.vertices[arc.opposite];
        const Vec3 area = projection_.gradient(n0 + n1);
        const double w0 = dot(n0, width), w1 = dot(n1, width), a0 = dot(n0, area), a1 = dot(n1, area);
        const double limit = best_.limit();
        return w0 * a0 > limit && w1 * a1 > limit && 0.5 * (w0 * a1 + w1 * a0) > limit * dot(n0, n1);
    }

    // A box flush with a face is at least as large as the face's depth times the projected area along its normal. The
    // few faces where that is least give the first boxes; those of all other faces are ends of intervals.
    void search_flush_faces() {
        std::vector<std::pair<double, int>> bounds;
        bounds.reserve(static_cast<std::size_t>(faces_));
        for (int face = 0; face < faces_; ++face)
            bounds.push_back({points_.extent(normals_[face]).size() * projection_.area(normals_[face]), face});
        const auto few = bounds.begin() + std::min(first_faces, faces_);
        std::partial_sort(bounds.begin(), few, bounds.end());
        for (auto at = bounds.begin(); at != few && best_.accepts(at->first); ++at) search_face(normals_[at->second]);
    }

    // Boxes flush with a whole face of the hull: the flush rectangles around the projection along its normal.
    void search_face(Vec3 normal) {
        const Vec3 right = any_perpendicular(normal), up = cross(normal, right);
        std::vector<Vec2> outline;
        outline.reserve(polytope_.vertices.size());
        for (const Vec3& vertex : polytope_.vertices) outline.push_back({dot(vertex, right), dot(vertex, up)});
        const double depth = points_.extent(normal).size();
        flush_rectangles(convex_hull(std::move(outline)), [&](Vec2 along, double length, double width) {
            if (!best_.accepts(depth * length * width)) return;
            const Vec3 axis = along.x * right + along.y * up;
            best_.add(points_.bounding_box({normal, axis, cross(normal, axis)}));
        });
    }

    // n1.n2 is bilinear on the two arcs. Where n1.(from of the second arc) and n1.(to of the second arc), linear on the
    // first arc, differ in sign, the second arc holds a direction at right angles to n1.
    void search_pair(const EdgeArc& first, const EdgeArc& second) {
        const Vec3 &n0 = normals_[first.from], &n1 = normals_[first.to];
        const Range left{dot(n0, normals_[second.from]), dot(n1, normals_[second.from])};
        const Range right{dot(n0, normals_[second.to]), dot(n1, normals_[second.to])};
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
            // On the second arc, at right angles to n1(middle):
            const Vec3 inside = std::fabs(r) * normals_[second.from] + std::fabs(l) * normals_[second.to];
            search_interval(first, second, cuts[k], cuts[k + 1], inside);
        }
    }

    void search_interval(const EdgeArc& first, const EdgeArc& second, double begin, double end, Vec3 inside) {
        const Segment whole{normals_[first.from], normals_[first.to]};
        Sweep s{&first, &second, {whole.at(begin), whole.at(end)}, {}};
        // For edges at right angles n2 is e1's direction all along, and the general form would pass through 0 / 0.
        const bool square = std::fabs(dot(first.direction, second.direction)) < 1e-12;
        const auto q_of = [&](Vec3 n) { return square ? first.direction : cross(n, second.direction); };
        const Vec3 n_middle = s.n.at(0.5), q_middle = q_of(n_middle);
        const double sign = dot(q_middle, inside) < 0 ? -1.0 : 1.0;
        s.q = {sign * q_of(s.n.from), sign * q_of(s.n.to)};
        const Vec3 m_middle = cross(n_middle, sign * q_middle);
        splits_ = 0;
        // The third direction's vertices are guessed first: any vertices make a valid bound, most often a good one.
        Supports near{
            {first.opposite, second.opposite, support_.guess(m_middle), support_.guess(-1.0 * m_middle)}};
        if (pruned(s, s.n, s.q, near)) return;
        near.at[2] = support_.climb(m_middle, near.at[2]);
        near.at[3] = support_.climb(-1.0 * m_middle, near.at[3]);
        if (pruned(s, s.n, s.q, near)) return;
        const Supports from = supporting_vertices(s.n.from, s.q.from, near);
        refine(s, s.n, s.q, from, supporting_vertices(s.n.to, s.q.to, near), 0);
    }

    // Found by climbing from vertices that are near.
    Supports supporting_vertices(Vec3 n, Vec3 q, const Supports& near) const {
        const Vec3 m = cross(n, q);
        return {{support_.climb(-1.0 * n, near.at[0]), support_.climb(-1.0 * q, near.at[1]),
                 support_.climb(m, near.at[2]), support_.climb(-1.0 * m, near.at[3])}};
    }

    FlushVolume flush_volume(const Sweep& s, const Segment& n, const Segment& q, const Supports& t) const {
        const auto& v = polytope_.vertices;
        const Vec3 first = v[s.first->vertex] - v[t.at[0]], second = v[s.second->vertex] - v[t.at[1]];
        return FlushVolume(n, q, {first, second, v[t.at[2]] - v[t.at[3]]});
    }

    // The box itself, measured over all vertices: the best boxes are real ones, never bounds.
    void evaluate(Vec3 n, Vec3 q) {
        const double length = norm(q);
        if (!(length > 1e-9)) return;  // n1 along e2: another pair, or a flush face, has this box
        const Vec3 first = unit(n), second = unit((1 / length) * q - dot((1 / length) * q, first) * first);
        const std::array<Vec3, 3> axes{first, second, cross(first, second)};
        if (!best_.has_orientation(axes)) best_.add(points_.bounding_box(axes));
    }

    // Does the bound with these supporting vertices prove that nothing better is in the interval? Most intervals have
    // an end with the best box of all, one flush with a face. Once that has been evaluated it is enough that the bound
    // is no lower than the best there, and above it beside it.
    bool pruned(const Sweep& s, const Segment& n, const Segment& q, const Supports& vertices) {
        const FlushVolume bound = flush_volume(s, n, q, vertices);
        if (bound.above(best_.limit())) return true;
        if (!bound.above_inside(best_.least_volume())) return false;
        evaluate_ends(n, q, bound);
        return true;
    }

    void evaluate_ends(const Segment& n, const Segment& q, const FlushVolume& bound) {
        if (best_.accepts(bound.at_from())) evaluate(n.from, q.from);
        if (best_.accepts(bound.at_to())) evaluate(n.to, q.to);
    }

    // An interval is split a few times, some dozen where many vertices pass. Only rounding needs more: needles, whose
    // widths are differences of numbers a million times as large, would be split to the last digit.
    bool exhausted(int depth) { return depth > 60 || ++splits_ > 500; }

    // Split [n.from, n.to] until the supporting vertices agree at both ends.
    void refine(const Sweep& s, const Segment& n, const Segment& q, Supports from, Supports to, int depth) {
        if (pruned(s, n, q, from) || pruned(s, n, q, to)) return;
        double cut = 0.5;
        if (same_vertices(n, q, from, to, cut)) return search_stationary(s, n, q, from, depth);
        if (exhausted(depth) || norm(n.to - n.from) < 1e-13) {
            evaluate(n.from, q.from);
            evaluate(n.to, q.to);
            return;
        }
        const Vec3 n_cut = n.at(cut), q_cut = q.at(cut);
        const Supports middle = supporting_vertices(n_cut, q_cut, from);
        refine(s, {n.from, n_cut}, {q.from, q_cut}, from, middle, depth + 1);
        refine(s, {n_cut, n.to}, {q_cut, q.to}, middle, to, depth + 1);
    }

    // Give both ends the same vertex where both vertices support one end alike. True if nothing differs then; otherwise
    // `cut` is where the first vertices that differ are level, so that each half has one of them.
    bool same_vertices(const Segment& n, const Segment& q, Supports& from, Supports& to, double& cut) const {
        for (int k = 0; k < 4; ++k) {
            if (from.at[k] == to.at[k]) continue;
            const Vec3 gap = polytope_.vertices[to.at[k]] - polytope_.vertices[from.at[k]];
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

    // All local minima of an interval with the same supporting vertices at both ends.
    void search_stationary(const Sweep& s, const Segment& n, const Segment& q, const Supports& t, int depth) {
        const FlushVolume value = flush_volume(s, n, q, t);
        evaluate_ends(n, q, value);
        const Sextic slope = value.slope();
        const int changes = sign_changes(slope);
        if (changes == 0) return;
        if (changes == 1) {
            const double u = single_root(slope);
            return verify(s, n, q, t, u, depth);
        }
        if (exhausted(depth) || norm(n.to - n.from) < 1e-9) return;
        const Vec3 n_cut = n.at(0.5), q_cut = q.at(0.5);
        const Segment n_half[2] = {{n.from, n_cut}, {n_cut, n.to}}, q_half[2] = {{q.from, q_cut}, {q_cut, q.to}};
        for (int half = 0; half < 2; ++half)
            if (!pruned(s, n_half[half], q_half[half], t)) search_stationary(s, n_half[half], q_half[half], t, depth + 1);
    }

    // At u the bound is stationary. If its vertices support the box there, it is the volume of a real box. If another
    // vertex sticks out, it is not, and the smallest real box may be at a kink to either side.
    void verify(const Sweep& s, const Segment& n, const Segment& q, const Supports& t, double u, int depth) {
        const Vec3 n_cut = n.at(u), q_cut = q.at(u), m_cut = cross(n_cut, q_cut);
        evaluate(n_cut, q_cut);
        const Supports real = supporting_vertices(n_cut, q_cut, t);
        const Vec3 directions[4] = {-1.0 * n_cut, -1.0 * q_cut, m_cut, -1.0 * m_cut};
        bool sticks_out = false;
        for (int k = 0; k < 4; ++k) {
            const Vec3 gap = polytope_.vertices[real.at[k]] - polytope_.vertices[t.at[k]];
            sticks_out = sticks_out || dot(gap, directions[k]) > 1e-12 * norm(gap) * norm(directions[k]);
        }
        if (!sticks_out || exhausted(depth)) return;
        refine(s, {n.from, n_cut}, {q.from, q_cut}, t, real, depth + 1);
        refine(s, {n_cut, n.to}, {q_cut, q.to}, real, t, depth + 1);
    }

    const Polytope& polytope_;
    const PointSet points_;
    const SupportMap support_;
    const ProjectedArea projection_;
    std::vector<Vec3> normals_;  // of the faces, then of the cuts in long arcs
    int faces_, splits_ = 0;
    std::vector<EdgeArc> arcs_;
    SmallestBoxes best_;
};

}  // namespace lnfast::obb
