// Convex hull in the plane and the rectangles flush with its edges.
//
//        ________
//       |  _/\_  |      A rectangle of least area has a side on a hull edge
//       |_/    \_|      (Freeman and Shapira 1975), so it is among these.
//        --------
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace lnfast::obb {

struct Vec2 {
    double x, y;
};

inline double dot(Vec2 a, Vec2 b) { return a.x * b.x + a.y * b.y; }
inline double turn(Vec2 a, Vec2 b, Vec2 c) { return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x); }

// Andrew's monotone chain; counter-clockwise, no repeated point. Collinear input gives its two ends.
inline std::vector<Vec2> convex_hull(std::vector<Vec2> points) {
    std::sort(points.begin(), points.end(), [](Vec2 a, Vec2 b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
    const auto same = [](Vec2 a, Vec2 b) { return a.x == b.x && a.y == b.y; };
    points.erase(std::unique(points.begin(), points.end(), same), points.end());
    if (points.size() < 3) return points;
    std::vector<Vec2> hull;
    for (int pass = 0; pass < 2; ++pass) {
        const std::size_t base = hull.size();
        for (const Vec2 point : points) {
            while (hull.size() >= base + 2 && turn(hull[hull.size() - 2], hull.back(), point) <= 0) hull.pop_back();
            hull.push_back(point);
        }
        hull.pop_back();  // it begins the second chain
        std::reverse(points.begin(), points.end());
    }
    return hull;
}

struct Range {
    double low, high;
    double size() const { return high - low; }
    void widen(double at) {
        low = std::min(low, at);
        high = std::max(high, at);
    }
};

inline Range extent(const std::vector<Vec2>& points, Vec2 direction) {
    Range range{dot(points.front(), direction), dot(points.front(), direction)};
    for (const Vec2 point : points) range.widen(dot(point, direction));
    return range;
}

// Call visit(direction, along, across) for each hull edge's unit direction, with the extents along it and across.
template <class Visit>
void flush_rectangles(const std::vector<Vec2>& hull, const Visit& visit) {
    for (std::size_t k = 0; k < hull.size(); ++k) {
        const Vec2 a = hull[k], b = hull[(k + 1) % hull.size()];
        const double length = std::hypot(b.x - a.x, b.y - a.y);
        if (!(length > 0)) continue;
        const Vec2 direction{(b.x - a.x) / length, (b.y - a.y) / length};
        visit(direction, extent(hull, direction).size(), extent(hull, {-direction.y, direction.x}).size());
    }
}

}  // namespace lnfast::obb
