// A convex polytope in millimetres, with whole faces and whole edges, as the box search needs it.
//
// The hull is found on the lattice, where coplanar and collinear are exact, and then mapped by an affine matrix, which
// keeps hulls. Coplanar triangles become one face; parts of one straight edge become one edge:
//
//      +---+---+           +-------+
//      | / | / |    ->     |       |      (most points of a voxel set's hull are on such faces)
//      +---+---+           +-------+
#pragma once

#include <array>
#include <map>
#include <utility>
#include <vector>

#include "obb/convex_hull.hpp"
#include "core/vec.hpp"

namespace lnfast::obb {

using core::Mat3;
using core::Vec3;

struct Polytope {
    struct Edge {
        int from, to;      // vertices
        int left, right;   // faces
        bool flat;         // between faces that are coplanar but for rounding
    };
    std::vector<Vec3> vertices, normals;  // normals: one for each face, unit, outward
    std::vector<Edge> edges;
    std::vector<int> link_starts, links;  // vertices next to vertex v: links[link_starts[v] .. link_starts[v + 1])

    bool solid() const { return !edges.empty(); }

    // The area of each face: a fan of triangles from one of its vertices to each of its edges.
    std::vector<double> areas() const {
        std::vector<double> area(normals.size(), 0.0);
        std::vector<int> hub(normals.size(), -1);
        for (const Edge& edge : edges)
            for (const int face : {edge.left, edge.right}) {
                if (hub[face] < 0) hub[face] = edge.from;
                const Vec3 centre = vertices[hub[face]];
                area[face] += 0.5 * norm(cross(vertices[edge.from] - centre, vertices[edge.to] - centre));
            }
        return area;
    }

    // The sum of the pyramids from a vertex to each face.
    double volume() const {
        const std::vector<double> area = areas();
        std::vector<double> height(normals.size(), 0.0);
        for (const Edge& edge : edges)
            for (const int face : {edge.left, edge.right})
                height[face] = dot(normals[face], vertices[edge.from] - vertices[0]);
        double sum = 0;
        for (std::size_t face = 0; face < normals.size(); ++face) sum += area[face] * height[face] / 3;
        return sum;
    }
};

inline Vec3 to_vec(const LatticePoint& p) {
    return {static_cast<double>(p.x), static_cast<double>(p.y), static_cast<double>(p.z)};
}

// The face (lowest triangle of the plane) of each live triangle.
template <class Wide>
std::vector<int> find_faces(const ConvexHull<Wide>& hull) {
    const auto& facets = hull.facets();
    std::vector<int> face(facets.size(), -1), stack;
    for (std::size_t seed = 0; seed < facets.size(); ++seed) {
        if (!facets[seed].alive || face[seed] >= 0) continue;
        face[seed] = static_cast<int>(seed);
        stack.push_back(static_cast<int>(seed));
        while (!stack.empty()) {
            const int at = stack.back();
            stack.pop_back();
            for (const int neighbour : facets[at].neighbour) {
                if (face[neighbour] >= 0) continue;
                bool coplanar = true;
                for (const int corner : facets[neighbour].corner)
                    coplanar = coplanar && facets[at].plane.height(hull.points()[corner]) == 0;
                if (!coplanar) continue;
                face[neighbour] = static_cast<int>(seed);
                stack.push_back(neighbour);
            }
        }
    }
    return face;
}

inline void link_vertices(Polytope& polytope) {
    polytope.link_starts.assign(polytope.vertices.size() + 1, 0);
    for (const auto& edge : polytope.edges) {
        ++polytope.link_starts[edge.from + 1];
        ++polytope.link_starts[edge.to + 1];
    }
    for (std::size_t v = 0; v < polytope.vertices.size(); ++v) polytope.link_starts[v + 1] += polytope.link_starts[v];
    polytope.links.resize(2 * polytope.edges.size());
    std::vector<int> next(polytope.link_starts.begin(), polytope.link_starts.end() - 1);
    for (const auto& edge : polytope.edges) {
        polytope.links[next[edge.from]++] = edge.to;
        polytope.links[next[edge.to]++] = edge.from;
    }
}

// Two faces of a convex polytope share at most one straight edge: its ends are the extremes along it. The result is not
// solid() when the points lie in one plane. vertices are to_mm * lattice, without a shift.
template <class Wide>
Polytope make_polytope(const std::vector<LatticePoint>& points, const Mat3& to_mm, double slack = 0) {
    const ConvexHull<Wide> hull(points, slack);
    Polytope polytope;
    if (!hull.solid()) return polytope;
    const std::vector<int> face = find_faces(hull);
    std::map<std::pair<int, int>, std::pair<int, int>> ends;
    for (std::size_t at = 0; at < face.size(); ++at) {
        if (face[at] < 0) continue;
        for (int side = 0; side < 3; ++side) {
            const int left = face[at], right = face[hull.facets()[at].neighbour[side]];
            if (left >= right) continue;
            int a = hull.facets()[at].corner[side], b = hull.facets()[at].corner[(side + 1) % 3];
            if (points[b] < points[a]) std::swap(a, b);  // lexicographic order is order along any one line
            auto& [first, last] = ends.try_emplace({left, right}, a, b).first->second;
            if (points[a] < points[first]) first = a;
            if (points[last] < points[b]) last = b;
        }
    }
    std::vector<int> vertex(points.size(), -1), normal(face.size(), -1);
    const auto vertex_of = [&](int point) {
        if (vertex[point] < 0) {
            vertex[point] = static_cast<int>(polytope.vertices.size());
            polytope.vertices.push_back(to_mm * to_vec(points[point]));
        }
        return vertex[point];
    };
    const auto normal_of = [&](int at) {
        if (normal[at] < 0) {
            const auto& plane = hull.facets()[at].plane;
            normal[at] = static_cast<int>(polytope.normals.size());
            const Vec3 n{static_cast<double>(plane.x), static_cast<double>(plane.y), static_cast<double>(plane.z)};
            polytope.normals.push_back(unit(to_mm.normal_image(unit(n))));
        }
        return normal[at];
    };
    for (const auto& [faces, corners] : ends)
        polytope.edges.push_back({vertex_of(corners.first), vertex_of(corners.second),
                                  normal_of(faces.first), normal_of(faces.second),
                                  hull.nearly_coplanar(hull.facets()[faces.first], hull.facets()[faces.second])});
    link_vertices(polytope);
    return polytope;
}

}  // namespace lnfast::obb
