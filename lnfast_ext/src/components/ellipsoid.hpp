// The ellipsoid rule: the short axis of the ellipsoid with the second moments of the network's probability.
//
// A mask says of a voxel that is 6 to 8 mm thick only whether the node fills half of it. The network says more: a
// probability for each voxel of its finer grid. So each of these voxels counts as a solid block, weighted with its
// probability, and the node is measured as the solid ellipsoid with the same second moments.
//
// The network voxels of a node (drawn along one axis, `o` its own, `+` those that touch one):
//
//     native voxels    |    .     |    #     |    #     |    .     |
//     network voxels   | .  | .  +|o   |o   |o   | o  | +  | .  | .  |
//
// A voxel is the node's own when its centre lies in one of the node's native voxels, or when it contains the centre of
// one. Another node's own voxels do not count, and a voxel that touches two nodes and belongs to neither counts half for
// each. Voxels outside the grid, or outside the part of it on which the network ran, do not count.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/half.hpp"
#include "core/view.hpp"
#include "grid/axis.hpp"

namespace lnfast::components {

using core::as_double;
using core::View3;
using grid::Part;

// A symmetric matrix, by cyclic Jacobi rotations, which keep small eigenvalues as accurate as large ones. Source: Golub
// and Van Loan, "Matrix computations", section 8.5.
inline double least_eigenvalue(double (&m)[3][3]) {
    constexpr int rounds = 32;  // six are enough: the rest off the diagonal is squared by each
    constexpr int pairs[3][2] = {{0, 1}, {0, 2}, {1, 2}};
    for (int round = 0; round < rounds; ++round) {
        bool diagonal = true;
        for (const auto& [p, q] : pairs) {
            if (std::fabs(m[p][q]) <= std::numeric_limits<double>::epsilon() * std::sqrt(std::fabs(m[p][p] * m[q][q])))
                continue;
            diagonal = false;
            const double ratio = (m[q][q] - m[p][p]) / (2 * m[p][q]);
            const double tangent = (ratio < 0 ? -1 : 1) / (std::fabs(ratio) + std::hypot(ratio, 1.0));
            const double cosine = 1 / std::hypot(tangent, 1.0), sine = tangent * cosine;
            for (int k = 0; k < 3; ++k) {
                const double a = m[k][p], b = m[k][q];
                m[k][p] = cosine * a - sine * b;
                m[k][q] = sine * a + cosine * b;
            }
            for (int k = 0; k < 3; ++k) {
                const double a = m[p][k], b = m[q][k];
                m[p][k] = cosine * a - sine * b;
                m[q][k] = sine * a + cosine * b;
            }
        }
        if (diagonal) break;
    }
    return std::min({m[0][0], m[1][1], m[2][2]});
}

// The zeroth, first and second moments of weights on a lattice.
class Moments {
public:
    void add(double weight, double z, double y, double x) {
        const double at[3] = {x, y, z};
        total_ += weight;
        for (int i = 0; i < 3; ++i) {
            first_[i] += weight * at[i];
            for (int k = i; k < 3; ++k) second_[i][k] += weight * at[i] * at[k];
        }
    }

    // The short axis of the solid ellipsoid with the second moments of the voxels as solid blocks; NaN without weight.
    // step: (3, 3) in C order, whose columns are the edges of a voxel along x, y and z.
    double short_axis(const double* step) const {
        if (!(total_ > 0)) return std::numeric_limits<double>::quiet_NaN();
        double spread[3][3], moments[3][3] = {};
        for (int i = 0; i < 3; ++i)
            for (int k = 0; k < 3; ++k) {
                const double second = second_[std::min(i, k)][std::max(i, k)] / total_;
                // A solid block adds its own second moment, a twelfth of its edge squared.
                spread[i][k] = second - first_[i] / total_ * (first_[k] / total_) + (i == k ? 1.0 / 12 : 0);
            }
        for (int row = 0; row < 3; ++row)
            for (int column = 0; column < 3; ++column)
                for (int i = 0; i < 3; ++i)
                    for (int k = 0; k < 3; ++k)
                        moments[row][column] += step[3 * row + i] * spread[i][k] * step[3 * column + k];
        constexpr double of_a_solid = 5;  // along an axis of half length a it is a^2 / 5
        return 2 * std::sqrt(of_a_solid * std::max(least_eigenvalue(moments), 0.0));
    }

private:
    double total_ = 0, first_[3] = {}, second_[3][3] = {};
};

// `weights` are not negative: how much of each voxel counts.
template <class Real>
double equivalent_short_axis(const View3<Real>& weights, const double* step) {
    Moments moments;
    const double z = 0.5 * static_cast<double>(weights.size[0]), y = 0.5 * static_cast<double>(weights.size[1]),
                 x = 0.5 * static_cast<double>(weights.size[2]);  // sums about the middle lose no digits
    for (std::ptrdiff_t k = 0; k < weights.size[0]; ++k)
        for (std::ptrdiff_t j = 0; j < weights.size[1]; ++j)
            for (std::ptrdiff_t i = 0; i < weights.size[2]; ++i)
                moments.add(static_cast<double>(weights.at(k, j, i)), static_cast<double>(k) - z,
                            static_cast<double>(j) - y, static_cast<double>(i) - x);
    return moments.short_axis(step);
}

template <class Label, class Logit>
class EllipsoidMeter {
public:
    // affine: (4, 4) in C order, of `labels`; `part` says where the logits lie in their grid.
    EllipsoidMeter(const View3<Label>& labels, const View3<Logit>& logits, const Part& part, const double* affine)
        : labels_(labels), logits_(logits), spans_{part.z, part.y, part.x} {
        for (int axis = 0; axis < 3; ++axis) {
            // else every native voxel contains the centre of a network voxel
            finer_ = finer_ || labels.size[axis] > spans_[axis].grid;
            const double share = static_cast<double>(labels.size[axis]) / static_cast<double>(spans_[axis].grid);
            for (int row = 0; row < 3; ++row) step_[3 * row + 2 - axis] = affine[4 * row + 2 - axis] * share;
        }
    }

    // bounds: of the label along z, y and x, first voxel and one past the last.
    double short_axis(std::int64_t label, const std::int32_t* bounds) {
        enclose(bounds);
        if (size_[0] <= 0 || size_[1] <= 0 || size_[2] <= 0) return std::numeric_limits<double>::quiet_NaN();
        mark(label);
        near_ = marks_;
        for (int axis = 0; axis < 3; ++axis) spread(axis);
        return weighted().short_axis(step_);
    }

private:
    using Mark = std::uint8_t;
    static constexpr Mark own = 1, others = 2;
    // Those that touch a node, and beyond them the voxels of another node.
    static constexpr std::ptrdiff_t around = 2;

    // The voxel of an axis of `other` voxels that contains the centre of one of `size`.
    static std::ptrdiff_t containing(std::ptrdiff_t index, std::ptrdiff_t size, std::ptrdiff_t other) {
        return (2 * index + 1) * other / (2 * size);
    }
    static std::ptrdiff_t up(std::ptrdiff_t a, std::ptrdiff_t b) { return (a + b - 1) / b; }

    // The box of network voxels in which the node is measured.
    void enclose(const std::int32_t* bounds) {
        for (int axis = 0; axis < 3; ++axis) {
            const auto [grid, begin, size] = spans_[axis];
            const std::ptrdiff_t native = labels_.size[axis], first = bounds[2 * axis], past = bounds[2 * axis + 1];
            start_[axis] = std::clamp(first * grid / native - around, begin, begin + size);
            size_[axis] = std::clamp(up(past * grid, native) + around, begin, begin + size) - start_[axis];
        }
    }

    void mark(std::int64_t label) {
        const auto mark_of = [label](Label value) -> Mark {
            if (!(value > 0)) return 0;
            return static_cast<std::int64_t>(value) == label ? own : others;
        };
        marks_.clear();
        for (std::ptrdiff_t z = 0; z < size_[0]; ++z)
            for (std::ptrdiff_t y = 0; y < size_[1]; ++y) {
                char* row = labels_.row(native(0, z), native(1, y));
                for (std::ptrdiff_t x = 0; x < size_[2]; ++x) marks_.push_back(mark_of(labels_.at(row, native(2, x))));
            }
        if (finer_) mark_centres(mark_of);
        for (Mark& value : marks_)
            if ((value & own) != 0) value = own;
    }

    std::ptrdiff_t native(int axis, std::ptrdiff_t index) const {
        return containing(start_[axis] + index, spans_[axis].grid, labels_.size[axis]);
    }

    // Native voxels that are smaller than the network's lie between their centres.
    template <class MarkOf>
    void mark_centres(const MarkOf& mark_of) {
        std::ptrdiff_t low[3], high[3];
        for (int axis = 0; axis < 3; ++axis) {
            low[axis] = start_[axis] * labels_.size[axis] / spans_[axis].grid;
            high[axis] = up((start_[axis] + size_[axis]) * labels_.size[axis], spans_[axis].grid);
        }
        const auto network = [this](int axis, std::ptrdiff_t index) {
            return containing(index, labels_.size[axis], spans_[axis].grid) - start_[axis];
        };
        const auto within = [this](int axis, std::ptrdiff_t index) { return index >= 0 && index < size_[axis]; };
        for (std::ptrdiff_t z = low[0]; z < high[0]; ++z)
            for (std::ptrdiff_t y = low[1]; y < high[1]; ++y) {
                const std::ptrdiff_t k = network(0, z), j = network(1, y);
                if (!within(0, k) || !within(1, j)) continue;
                char* row = labels_.row(z, y);
                for (std::ptrdiff_t x = low[2]; x < high[2]; ++x) {
                    const std::ptrdiff_t i = network(2, x);
                    if (within(2, i)) marks_[index(k, j, i)] |= mark_of(labels_.at(row, x));
                }
            }
    }

    // Add to every voxel the marks of its two neighbours along an axis; over all axes, of its 26 neighbours.
    void spread(int axis) {
        std::ptrdiff_t stride = 1, blocks = 1;
        for (int k = axis + 1; k < 3; ++k) stride *= size_[k];
        for (int k = 0; k < axis; ++k) blocks *= size_[k];
        const std::ptrdiff_t line = stride * size_[axis];
        before_ = near_;
        for (std::ptrdiff_t block = 0; block < blocks; ++block)
            for (std::ptrdiff_t k = block * line; k < (block + 1) * line - stride; ++k) {
                near_[k] |= before_[k + stride];
                near_[k + stride] |= before_[k];
            }
    }

    Moments weighted() const {
        Moments moments;
        const double middle[3] = {0.5 * static_cast<double>(size_[0]), 0.5 * static_cast<double>(size_[1]),
                                  0.5 * static_cast<double>(size_[2])};
        for (std::ptrdiff_t z = 0; z < size_[0]; ++z)
            for (std::ptrdiff_t y = 0; y < size_[1]; ++y) {
                char* row = logits_.row(start_[0] - spans_[0].begin + z, start_[1] - spans_[1].begin + y);
                for (std::ptrdiff_t x = 0; x < size_[2]; ++x) {
                    const std::size_t at = index(z, y, x);
                    if ((near_[at] & own) == 0 || marks_[at] == others) continue;
                    const double logit = as_double(logits_.at(row, start_[2] - spans_[2].begin + x));
                    const bool shared = marks_[at] != own && (near_[at] & others) != 0;
                    moments.add((shared ? 0.5 : 1) / (1 + std::exp(-logit)), static_cast<double>(z) - middle[0],
                                static_cast<double>(y) - middle[1], static_cast<double>(x) - middle[2]);
                }
            }
        return moments;
    }

    std::size_t index(std::ptrdiff_t z, std::ptrdiff_t y, std::ptrdiff_t x) const {
        return static_cast<std::size_t>((z * size_[1] + y) * size_[2] + x);
    }

    const View3<Label> labels_;
    const View3<Logit> logits_;
    const grid::Span spans_[3];
    bool finer_ = false;
    double step_[9];
    std::ptrdiff_t start_[3], size_[3];
    std::vector<Mark> marks_, near_, before_;
};

// out[i]: the short axis of label i + 1, in mm; NaN where it has no probability at all. bounds: six numbers for each label,
// along z, y and x its first voxel and one past its last.
template <class Label, class Logit>
void ellipsoid_short_axes(const View3<Label>& labels, const std::int32_t* bounds, std::ptrdiff_t count,
                          const View3<Logit>& logits, const Part& part, const double* affine, double* out) {
    EllipsoidMeter<Label, Logit> meter(labels, logits, part, affine);
    for (std::ptrdiff_t k = 0; k < count; ++k) out[k] = meter.short_axis(k + 1, bounds + 6 * k);
}

}  // namespace lnfast::components
