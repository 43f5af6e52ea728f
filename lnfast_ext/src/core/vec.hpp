// Vectors and matrices of three dimensions.
#pragma once

#include <algorithm>
#include <cmath>

namespace lnfast::core {

struct Vec3 {
    double x = 0, y = 0, z = 0;
};

inline Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vec3 operator*(double s, Vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
inline double dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Vec3 cross(Vec3 a, Vec3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
inline double norm(Vec3 a) { return std::sqrt(dot(a, a)); }
inline Vec3 unit(Vec3 a) { return (1.0 / norm(a)) * a; }

// A unit vector at right angles to the unit vector a: cross with the coordinate axis that a is farthest from.
inline Vec3 any_perpendicular(Vec3 a) {
    const double x = std::fabs(a.x), y = std::fabs(a.y), z = std::fabs(a.z);
    if (x <= y && x <= z) return unit(cross(a, {1, 0, 0}));
    return unit(cross(a, y <= z ? Vec3{0, 1, 0} : Vec3{0, 0, 1}));
}

// Columns are the images of the index axes x, y, z.
struct Mat3 {
    Vec3 x, y, z;

    Vec3 operator*(Vec3 v) const { return v.x * x + v.y * y + v.z * z; }
    double determinant() const { return dot(x, cross(y, z)); }

    // The image of a plane's outward normal (inverse transpose up to a positive factor), so outward stays outward even
    // when the matrix mirrors.
    Vec3 normal_image(Vec3 n) const {
        const Vec3 image = n.x * cross(y, z) + n.y * cross(z, x) + n.z * cross(x, y);
        return determinant() < 0 ? -1.0 * image : image;
    }
};

}  // namespace lnfast::core
