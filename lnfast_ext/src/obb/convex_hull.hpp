// Convex hull of lattice points, by quickhull in exact integer arithmetic.
//
//              p  apex, the farthest point outside facet f
//             /|\                         visible facets (strictly below p) are removed,
//            / | \                        the horizon h (their common border) stays,
//        ---h--+--h---                    one new triangle for each edge of h and p
//          \  f  /
//
// Exact signs make the textbook algorithm right without tolerances: a facet is not visible from a point on its plane, a
// new triangle can not be degenerate, and coplanar triangles are known to be so.
//
// With a slack, points that stick out by no more than about so many lattice steps are left out: rounded points of one
// plane would otherwise make a face with a hundred bumps. The result is the exact hull of the points that remain. Whether
// a point remains needs no exact arithmetic then, only an error far below the slack.
//
// Wide must hold 6 * (2 * range)^3 for coordinates within [0, range]: int64 up to 2^19, int128 up to 2^40.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lnfast::obb {

__extension__ typedef __int128 Int128;

struct LatticePoint {
    std::int64_t x, y, z;
};

inline bool operator==(const LatticePoint& a, const LatticePoint& b) { return a.x == b.x && a.y == b.y && a.z == b.z; }
inline bool operator<(const LatticePoint& a, const LatticePoint& b) {
    if (a.z != b.z) return a.z < b.z;
    return a.y != b.y ? a.y < b.y : a.x < b.x;
}

template <class Wide>
struct Plane {
    Wide x = 0, y = 0, z = 0;  // outward normal, not normalised
    LatticePoint origin{0, 0, 0};

    Plane() = default;
    Plane(const LatticePoint& a, const LatticePoint& b, const LatticePoint& c) : origin(a) {
        const Wide ux = b.x - a.x, uy = b.y - a.y, uz = b.z - a.z, vx = c.x - a.x, vy = c.y - a.y, vz = c.z - a.z;
        x = uy * vz - uz * vy;
        y = uz * vx - ux * vz;
        z = ux * vy - uy * vx;
    }
    bool degenerate() const { return x == 0 && y == 0 && z == 0; }
    Wide height(const LatticePoint& p) const {
        return x * (p.x - origin.x) + y * (p.y - origin.y) + z * (p.z - origin.z);
    }
};

template <class Wide>
class ConvexHull {
public:
    struct Facet {
        std::array<int, 3> corner;    // counter-clockwise seen from outside
        std::array<int, 3> neighbour; // across corner[i] -> corner[i + 1]
        Plane<Wide> plane;
        double x = 0, y = 0, z = 0, slack = 0;  // the plane's normal rounded, and the slack in its unit
        std::vector<int> outside;     // points above this facet that are not yet in the hull
        bool alive = true;
    };

    // solid() is false when all points lie in one plane; then there are no facets.
    explicit ConvexHull(const std::vector<LatticePoint>& points, double slack = 0)
        : points_(points), slack_(slack), cone_facet_at_(points.size(), -1) {
        solid_ = start();
        while (solid_ && !pending_.empty()) {
            const int facet = pending_.back();
            pending_.pop_back();
            if (facets_[facet].alive && !facets_[facet].outside.empty()) expand(facet);
        }
    }

    bool solid() const { return solid_; }
    const std::vector<Facet>& facets() const { return facets_; }
    const std::vector<LatticePoint>& points() const { return points_; }

    // Are two facets coplanar but for rounding? Their normals differ by no more than the lattice does: then every
    // direction between them is as good as either. (That both lie on each other's planes is not enough: slivers do at any
    // angle.) Without a slack coplanar facets are known exactly, and this is never so.
    bool nearly_coplanar(const Facet& a, const Facet& b) const {
        const double x = a.y * b.z - a.z * b.y, y = a.z * b.x - a.x * b.z, z = a.x * b.y - a.y * b.x;
        const double size = std::sqrt(a.x * a.x + a.y * a.y + a.z * a.z) * std::sqrt(b.x * b.x + b.y * b.y + b.z * b.z);
        const double cosine = a.x * b.x + a.y * b.y + a.z * b.z;
        return slack_ > 0 && cosine > 0 && std::sqrt(x * x + y * y + z * z) <= 5e-11 * size;
    }

private:
    // A first tetrahedron: two extreme points, the third farthest off their line, the fourth farthest off their plane. It
    // must be a fat one: above the facets of a sliver there is hardly anything, and with a slack nothing.
    bool start() {
        const int n = static_cast<int>(points_.size());
        if (n < 4) return false;
        const int a = static_cast<int>(std::min_element(points_.begin(), points_.end()) - points_.begin());
        const int b = static_cast<int>(std::max_element(points_.begin(), points_.end()) - points_.begin());
        int c = farthest_off_line(a, b);
        if (Plane<Wide>(points_[a], points_[b], points_[c]).degenerate()) c = 0;  // too near for float64
        while (c < n && Plane<Wide>(points_[a], points_[b], points_[c]).degenerate()) ++c;
        if (c == n) return false;
        const Plane<Wide> base(points_[a], points_[b], points_[c]);
        int d = a;
        Wide best = 0;
        for (int p = 0; p < n; ++p) {
            const Wide height = base.height(points_[p]);
            if ((height < 0 ? -height : height) > (best < 0 ? -best : best)) best = height, d = p;
        }
        if (best == 0) return false;
        tetrahedron(a, b, c, d, best > 0);
        return true;
    }

    int farthest_off_line(int a, int b) const {
        int farthest = a;
        double most = 0;
        for (int p = 0; p < static_cast<int>(points_.size()); ++p) {
            const Plane<Wide> plane(points_[a], points_[b], points_[p]);
            const double x = static_cast<double>(plane.x), y = static_cast<double>(plane.y), z = static_cast<double>(plane.z);
            if (x * x + y * y + z * z > most) most = x * x + y * y + z * z, farthest = p;
        }
        return farthest;
    }

    void tetrahedron(int a, int b, int c, int d, bool above) {
        if (above) std::swap(b, c);  // now d is below the plane a, b, c
        add({a, b, c}, {3, 2, 1});
        add({a, c, d}, {0, 2, 3});
        add({d, c, b}, {1, 0, 3});
        add({a, d, b}, {1, 2, 0});
        std::vector<int> all(points_.size());
        for (std::size_t p = 0; p < all.size(); ++p) all[p] = static_cast<int>(p);
        distribute(all, 0);
    }

    int add(std::array<int, 3> corner, std::array<int, 3> neighbour) {
        Facet facet;
        facet.corner = corner;
        facet.neighbour = neighbour;
        facet.plane = Plane<Wide>(points_[corner[0]], points_[corner[1]], points_[corner[2]]);
        facet.x = static_cast<double>(facet.plane.x);
        facet.y = static_cast<double>(facet.plane.y);
        facet.z = static_cast<double>(facet.plane.z);
        facet.slack = slack_ * std::sqrt(facet.x * facet.x + facet.y * facet.y + facet.z * facet.z);
        facets_.push_back(std::move(facet));
        return static_cast<int>(facets_.size()) - 1;
    }

    // How far a point is above a facet, in the unit of that facet's normal.
    double height(const Facet& facet, int point) const {
        const LatticePoint &p = points_[point], &o = facet.plane.origin;
        if (slack_ == 0) return static_cast<double>(facet.plane.height(p));
        return facet.x * static_cast<double>(p.x - o.x) + facet.y * static_cast<double>(p.y - o.y) +
               facet.z * static_cast<double>(p.z - o.z);
    }

    // Positive only for points that must be in the hull.
    double rise(const Facet& facet, int point) const { return height(facet, point) - facet.slack; }

    // The first facet from `begin` on that is visible from a point. A point that sees none of them is inside for good;
    // but with a slack, one that is above some by less may be above an older facet by more.
    std::size_t visible_facet(int point, std::size_t begin) const {
        bool above = false;
        for (std::size_t facet = begin; facet < facets_.size(); ++facet) {
            if (rise(facets_[facet], point) > 0) return facet;
            above = above || (slack_ > 0 && height(facets_[facet], point) > 0);
        }
        if (above)
            for (std::size_t facet = 0; facet < begin; ++facet)
                if (facets_[facet].alive && rise(facets_[facet], point) > 0) return facet;
        return facets_.size();
    }

    void distribute(const std::vector<int>& orphans, std::size_t begin) {
        for (const int point : orphans) {
            const std::size_t facet = visible_facet(point, begin);
            if (facet == facets_.size()) continue;
            if (facets_[facet].outside.empty()) pending_.push_back(static_cast<int>(facet));
            facets_[facet].outside.push_back(point);
        }
    }

    // Add the farthest point outside a facet to the hull.
    void expand(int seed) {
        int apex = -1;
        double highest = 0;
        for (const int point : facets_[seed].outside) {
            const double height = rise(facets_[seed], point);
            if (height > highest) highest = height, apex = point;
        }
        std::vector<int> visible{seed}, orphans;
        facets_[seed].alive = false;
        const std::size_t first_new = facets_.size();
        for (std::size_t next = 0; next < visible.size(); ++next) {
            const int at = visible[next];
            for (const int point : facets_[at].outside)
                if (point != apex) orphans.push_back(point);
            facets_[at].outside = {};
            for (int side = 0; side < 3; ++side) cross_edge(at, side, apex, static_cast<int>(first_new), visible);
        }
        link_cone(static_cast<int>(first_new));
        distribute(orphans, first_new);
    }

    // The facet across an edge is visible too, or the edge is on the horizon and gets a new triangle.
    void cross_edge(int at, int side, int apex, int first_new, std::vector<int>& visible) {
        const int across = facets_[at].neighbour[side];
        if (across >= first_new || !facets_[across].alive) return;
        if (facets_[across].plane.height(points_[apex]) > 0) {
            facets_[across].alive = false;
            visible.push_back(across);
            return;
        }
        const int from = facets_[at].corner[side], to = facets_[at].corner[(side + 1) % 3];
        const int facet = add({from, to, apex}, {across, -1, -1});
        for (int k = 0; k < 3; ++k)
            if (facets_[across].corner[k] == to) facets_[across].neighbour[k] = facet;
        cone_facet_at_[from] = facet;
    }

    // The horizon is one closed loop, so each of its points begins exactly one new triangle.
    void link_cone(int first_new) {
        for (int facet = first_new; facet < static_cast<int>(facets_.size()); ++facet) {
            const int next = cone_facet_at_[facets_[facet].corner[1]];
            facets_[facet].neighbour[1] = next;
            facets_[next].neighbour[2] = facet;
        }
    }

    std::vector<LatticePoint> points_;
    double slack_;
    std::vector<Facet> facets_;
    std::vector<int> pending_, cone_facet_at_;
    bool solid_ = false;
};

}  // namespace lnfast::obb
