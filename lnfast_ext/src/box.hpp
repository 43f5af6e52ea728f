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
// or (2) split at a change of touching vertices, or (3) with the same touching vertices at both ends, searched for all
// stationary points of that lower bound: where the bound is no real box (another vertex touches in between), the
// interval is split again. (1) compares with the best volume times (1 + 1e-9), so equal boxes are found as well.
// Boxes flush with a whole face are tried first: they are good bounds, and they are the ends of every sweep.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "candidates.hpp"
#include "piece.hpp"
#include "polytope.hpp"
#include "rectangle.hpp"

namespace lnfast {

class BoxSearch {
public:
    explicit BoxSearch(const Polytope& polytope) : hull_(polytope), normals_(polytope.normals) {
        for (std::size_t face = 0; face < hull_.normals.size(); ++face) flush_face(normals_[face]);
        for (const auto& edge : hull_.edges) add_arcs(edge);
        std::vector<double> from(normals_.size()), to(normals_.size());
        for (std::size_t i = 0; i < arcs_.size(); ++i) {
            for (std::size_t k = 0; k < normals_.size(); ++k) {
                from[k] = dot(normals_[arcs_[i].from], normals_[k]);
                to[k] = dot(normals_[arcs_[i].to], normals_[k]);
            }
            for (std::size_t j = i; j < arcs_.size(); ++j) {
                // n1.n2 is bilinear on the two arcs: it has a zero only if its corner values differ in sign.
                const double a = from[arcs_[j].from], b = from[arcs_[j].to], c = to[arcs_[j].from], d = to[arcs_[j].to];
                if ((a > 0 && b > 0 && c > 0 && d > 0) || (a < 0 && b < 0 && c < 0 && d < 0)) continue;
                pair(arcs_[i], arcs_[j], {a, c}, {b, d});
            }
        }
    }

    // Never empty; all equal in volume and extents.
    std::vector<Box> boxes() const { return found_.choose(); }

private:
    struct Arc {
        int from, to;          // normals, less than 1.6 rad apart
        Vec3 direction;        // of the edge, unit
        int vertex, opposite;  // an end of the edge; the vertex farthest behind the middle of the arc
        int ahead, behind;     // farthest along the edge's direction and against it
    };
    struct Touch {  // vertices that support -n1, -n2, +n3, -n3
        std::array<int, 4> at;
        bool operator==(const Touch& other) const { return at == other.at; }
    };
    struct Sweep {  // one pair of edges, one sign of Q
        const Arc *one, *two;
        Ends n, q;
    };

    int climb(Vec3 direction, int vertex) const {
        double best = dot(hull_.vertices[vertex], direction);
        for (bool better = true; better;) {
            better = false;
            for (int k = hull_.link_starts[vertex]; k < hull_.link_starts[vertex + 1]; ++k) {
                const double height = dot(hull_.vertices[hull_.links[k]], direction);
                if (height > best) {
                    best = height;
                    vertex = hull_.links[k];
                    better = true;
                    break;
                }
            }
        }
        return vertex;
    }

    // An arc of more than 1.6 rad (a sharp edge) is cut up, so that a straight line between its ends stays far from 0.
    void add_arcs(const Polytope::Edge& edge) {
        Arc arc{edge.left, edge.left, unit(hull_.vertices[edge.to] - hull_.vertices[edge.from]), edge.from, 0, 0, 0};
        arc.ahead = climb(arc.direction, 0);
        arc.behind = climb(-1.0 * arc.direction, 0);
        const Vec3 a = hull_.normals[edge.left], b = hull_.normals[edge.right];
        const double angle = std::atan2(norm(cross(a, b)), dot(a, b));
        Vec3 side = cross(arc.direction, a);
        if (dot(side, b) < 0) side = -1.0 * side;
        const int parts = static_cast<int>(std::ceil(angle / 1.6));
        for (int part = 1; part <= std::max(parts, 1); ++part) {
            arc.from = arc.to;
            arc.to = edge.right;
            if (part < parts) {
                arc.to = static_cast<int>(normals_.size());
                normals_.push_back(std::cos(angle * part / parts) * a + std::sin(angle * part / parts) * side);
            }
            arc.opposite = climb(-1.0 * (normals_[arc.from] + normals_[arc.to]), arc.behind);
            arcs_.push_back(arc);
        }
    }

    // Boxes with a whole face on a face of the hull: the rectangles around the shadow along its normal.
    void flush_face(Vec3 normal) {
        const Vec3 right = any_perpendicular(normal), up = cross(normal, right);
        shadow_.clear();
        Range depth{dot(hull_.vertices[0], normal), dot(hull_.vertices[0], normal)};
        for (const Vec3& vertex : hull_.vertices) {
            shadow_.push_back({dot(vertex, right), dot(vertex, up)});
            depth.low = std::min(depth.low, dot(vertex, normal));
            depth.high = std::max(depth.high, dot(vertex, normal));
        }
        flush_rectangles(convex_hull(shadow_), [&](Vec2 along, double length, double width) {
            if (!found_.wants(depth.size() * length * width)) return;
            const Vec3 axis = along.x * right + along.y * up;
            found_.offer(fit_box(hull_.vertices, {normal, axis, cross(normal, axis)}));
        });
    }

    // left and right: n1.(from of arc two) and n1.(to of arc two) at both ends of arc one; linear in between.
    void pair(const Arc& one, const Arc& two, Range left, Range right) {
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
        const double sign = dot(second(whole.at(0.5 * (begin + end))), inside) < 0 ? -1.0 : 1.0;
        s.q = {sign * second(s.n.from), sign * second(s.n.to)};
        Touch guess{{one.opposite, two.opposite, two.ahead, two.behind}};
        const Vec3 third = cross(s.n.from, s.q.from) + cross(s.n.to, s.q.to);
        if (dot(third, two.direction) < 0) std::swap(guess.at[2], guess.at[3]);
        if (quotient(s, s.n, s.q, guess).above(found_.limit())) return;
        const Touch from = touch(s.n.from, s.q.from, guess);
        const Touch to = touch(s.n.to, s.q.to, from);
        offer(s.n.from, s.q.from);
        offer(s.n.to, s.q.to);
        refine(s, s.n, s.q, from, to, 0);
    }

    Touch touch(Vec3 n, Vec3 q, const Touch& near) const {
        const Vec3 m = cross(n, q);
        return {{climb(-1.0 * n, near.at[0]), climb(-1.0 * q, near.at[1]),
                 climb(m, near.at[2]), climb(-1.0 * m, near.at[3])}};
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
        const Box box = fit_box(hull_.vertices, {first, second, cross(first, second)});
        found_.offer(box);
    }

    // Split [n.from, n.to] until the touching vertices agree at both ends.
    void refine(const Sweep& s, const Ends& n, const Ends& q, Touch from, Touch to, int depth) {
        if (quotient(s, n, q, from).above(found_.limit()) || quotient(s, n, q, to).above(found_.limit())) return;
        double cut = 0.5;
        const bool smooth = settle(n, q, from, to, cut);
        if (smooth) return stationary(s, n, q, from, depth);
        if (depth > 60 || norm(n.to - n.from) < 1e-13) return;
        const Vec3 n_cut = n.at(cut), q_cut = q.at(cut);
        const Touch middle = touch(n_cut, q_cut, from);
        offer(n_cut, q_cut);
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

    // All local minima of the lower bound inside an interval at whose ends it is the real volume (and was looked at).
    void stationary(const Sweep& s, const Ends& n, const Ends& q, const Touch& t, int depth) {
        const Quotient value = quotient(s, n, q, t);
        if (value.above(found_.limit())) return;
        const Sextic slope = value.slope();
        const int changes = sign_changes(slope);
        if (changes == 0) return;
        if (changes == 1) {
            const double u = single_root(slope);
            return verify(s, n, q, t, u, depth);
        }
        const Vec3 n_cut = n.at(0.5), q_cut = q.at(0.5);
        offer(n_cut, q_cut);
        if (depth > 60 || norm(n.to - n.from) < 1e-9) return;
        stationary(s, {n.from, n_cut}, {q.from, q_cut}, t, depth + 1);
        stationary(s, {n_cut, n.to}, {q_cut, q.to}, t, depth + 1);
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
        if (!sticks_out || depth > 60) return;
        refine(s, {n.from, n_cut}, {q.from, q_cut}, t, real, depth + 1);
        refine(s, {n_cut, n.to}, {q_cut, q.to}, real, t, depth + 1);
    }

    const Polytope& hull_;
    std::vector<Vec3> normals_;  // of the faces, then of the cuts in long arcs
    std::vector<Arc> arcs_;
    std::vector<Vec2> shadow_;
    Candidates found_;
};

}  // namespace lnfast
