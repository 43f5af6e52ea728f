// The volume of the boxes that are flush with two edges, as a function of one number.
//
//        N(s) = (1-s) a + s b           normal of the first face: moves along the arc from face a to face b of edge e1
//        Q(s) = +- N(s) x d2            normal of the second face: at right angles to N and to edge e2, within e2's arc
//        M(s) = N(s) x Q(s)             the third direction
//
//                     |Q|
//                  ___|___              With fixed supporting vertices p, q on the six faces the volume is
//            N <--|       |
//                 |_______|             V = (N.(p1-q1)) (Q.(p2-q2)) (M.(p3-q3)) / (|N|^2 |Q|^2)
//
// a quotient of two quartics in s. Since a width is the largest N.(p-q) over all q, V with any vertices is at most the
// volume of the real box: vertices that are not the supporting ones still give a lower bound.
//
// On an interval the quartics are kept in scaled Bernstein form, sum of c_k u^k (1-u)^(4-k): if no coefficient of
// numerator - bound * denominator is negative, no box of the interval is smaller than bound. That is the proof by which
// the search prunes. In x = u / (1-u) the same c_k are ordinary coefficients on x > 0, and Descartes' rule of signs
// on n' d - n d' (degree 6) counts the stationary points.
#pragma once

#include <array>
#include <cmath>

#include "core/vec.hpp"

namespace lnfast::obb {

using core::Vec3;

using Quartic = std::array<double, 5>;
using Sextic = std::array<double, 7>;

struct Segment {  // a vector that is linear in u
    Vec3 from, to;
    Vec3 at(double u) const { return (1 - u) * from + u * to; }
};

struct SupportGaps {  // differences of the supporting vertices along N, Q and M
    Vec3 first, second, third;
};

// Of two linear functions and a quadratic one.
inline Quartic product(double l0, double l1, double m0, double m1, double q0, double q1, double q2) {
    const double a = l0 * m0, b = l0 * m1 + l1 * m0, c = l1 * m1;
    return {a * q0, a * q1 + b * q0, a * q2 + b * q1 + c * q0, b * q2 + c * q1, c * q2};
}

struct FlushVolume {
    Quartic numerator, denominator;

    FlushVolume(const Segment& n, const Segment& q, const SupportGaps& gaps) {
        const Vec3 m0 = cross(n.from, q.from), m1 = cross(n.from, q.to) + cross(n.to, q.from), m2 = cross(n.to, q.to);
        numerator = product(dot(n.from, gaps.first), dot(n.to, gaps.first),
                            dot(q.from, gaps.second), dot(q.to, gaps.second),
                            dot(m0, gaps.third), dot(m1, gaps.third), dot(m2, gaps.third));
        const double n0 = dot(n.from, n.from), n1 = 2 * dot(n.from, n.to), n2 = dot(n.to, n.to);
        const double q0 = dot(q.from, q.from), q1 = 2 * dot(q.from, q.to), q2 = dot(q.to, q.to);
        denominator = {n0 * q0, n0 * q1 + n1 * q0, n0 * q2 + n1 * q1 + n2 * q0, n1 * q2 + n2 * q1, n2 * q2};
    }

    double at_from() const { return numerator[0] / denominator[0]; }
    double at_to() const { return numerator[4] / denominator[4]; }

    bool above(double bound) const {
        bool all = true;
        for (int k = 0; k < 5; ++k) all = all && numerator[k] - bound * denominator[k] >= 0;
        return all;
    }

    // The same where boxes as small as the bound, but for rounding, may stand at the ends.
    bool above_inside(double bound) const {
        bool all = true;
        for (int k = 0; k < 5; ++k)
            all = all && numerator[k] >= bound * (k % 4 == 0 ? 1 - 1e-12 : 1 + 1e-3) * denominator[k];
        return all;
    }

    // The numerator of the derivative: coefficients of n' d - n d' in x; what is only rounding noise is set to zero.
    Sextic slope() const {
        Sextic sum{}, scale{};
        for (int i = 0; i < 5; ++i)
            for (int j = 0; j < 5; ++j) {
                if (i == j) continue;
                const double term = (i - j) * numerator[i] * denominator[j];
                sum[i + j - 1] += term;
                scale[i + j - 1] += std::fabs(term);
            }
        for (int k = 0; k < 7; ++k)
            if (std::fabs(sum[k]) <= 1e-13 * scale[k]) sum[k] = 0;
        return sum;
    }
};

inline int sign_changes(const Sextic& polynomial) {
    int changes = 0;
    double last = 0;
    for (const double value : polynomial) {
        if (value == 0) continue;
        if (last != 0 && (value > 0) != (last > 0)) ++changes;
        last = value;
    }
    return changes;
}

inline double value_at(const Sextic& polynomial, double u) {
    double sum = 0, power = 1;
    for (int k = 6; k >= 0; --k) {  // Horner's scheme in u, with the powers of 1-u
        sum = sum * u + polynomial[k] * power;
        power *= 1 - u;
    }
    return sum;
}

// The u in (0, 1) where a polynomial with one change of sign is zero.
inline double single_root(const Sextic& polynomial) {
    double below = 0, above = 1;
    int first = 0;
    while (polynomial[first] == 0) ++first;
    const bool falls = polynomial[first] > 0;
    for (int step = 0; step < 60; ++step) {
        const double middle = 0.5 * (below + above);
        if ((value_at(polynomial, middle) > 0) == falls) below = middle;
        else above = middle;
    }
    return 0.5 * (below + above);
}

}  // namespace lnfast::obb
