// Where voxels are in the patient, as lnfast/geometry.py and lnfast/measure.py compute it: the headers take an affine and
// an array and do no more.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>

#include "nifti.hpp"
#include "core/view.hpp"

using Mat3x3 = std::array<std::array<double, 3>, 3>;

inline std::array<double, 3> spacing_of(const Mat4& affine) {
    std::array<double, 3> spacing;
    for (std::size_t k = 0; k < 3; ++k)
        spacing[k] = std::sqrt(affine[0][k] * affine[0][k] + affine[1][k] * affine[1][k] + affine[2][k] * affine[2][k]);
    return spacing;
}

// New axis i, in the order x, y, z, is old axis order[i], backwards where flip[i].
struct Turn {
    std::array<std::size_t, 3> order{0, 1, 2};
    std::array<bool, 3> flip;

    // orientation: as in the card, "LPS".
    Turn(const Mat4& affine, const std::string& orientation) {
        std::array<std::size_t, 3> world{}, axes{0, 1, 2};
        std::array<double, 3> sign{};
        for (std::size_t k = 0; k < 3; ++k) {
            const std::size_t at = std::string("RLAPSI").find(orientation[k]);
            world[k] = at / 2;
            sign[k] = at % 2 == 0 ? 1 : -1;
        }
        const std::array<double, 3> spacing = spacing_of(affine);
        const auto cosine = [&](std::size_t w, std::size_t axis) { return affine[w][axis] / spacing[axis]; };
        const auto rounded = [](double value) { return std::round(value * 1e6) / 1e6; };
        std::array<double, 3> best{-1, 0, 0};
        do {
            double total = 0, thickness = 0, turn = 0;
            for (std::size_t k = 0; k < 3; ++k) {
                const double along = cosine(world[k], axes[k]);
                total += std::fabs(along);
                turn += ((along > 0) - (along < 0)) * cosine((world[k] + 1) % 3, axes[k]);
                if (world[k] == 2) thickness = spacing[axes[k]];
            }
            const std::array<double, 3> nearness{rounded(total), rounded(thickness), rounded(turn)};
            if (nearness <= best) continue;
            best = nearness;
            order = axes;
        } while (std::next_permutation(axes.begin(), axes.end()));
        for (std::size_t k = 0; k < 3; ++k) flip[k] = cosine(world[k], order[k]) * sign[k] < 0;
    }

    // The same voxels seen along the new axes: sizes and strides change, nothing moves.
    template <class T>
    lnfast::core::View3<T> view(const T* first, const std::ptrdiff_t* size) const {
        std::ptrdiff_t stride[3] = {size[1] * size[2], size[2], 1}, sizes[3], strides[3];
        for (std::size_t k = 0; k < 3; ++k) {
            const std::size_t old = 2 - order[k];
            sizes[2 - k] = size[old];
            strides[2 - k] = (flip[k] ? -1 : 1) * stride[old] * static_cast<std::ptrdiff_t>(sizeof(T));
            if (flip[k]) first += (size[old] - 1) * stride[old];
        }
        lnfast::core::View3<T> oriented;
        oriented.bind(first, sizes, strides);
        return oriented;
    }

    Mat4 affine(const Mat4& native, const std::ptrdiff_t* size) const {
        Mat4 turned = native;
        for (std::size_t row = 0; row < 3; ++row)
            for (std::size_t k = 0; k < 3; ++k) {
                const double step = native[row][order[k]];
                turned[row][k] = flip[k] ? -step : step;
                if (flip[k]) turned[row][3] += step * static_cast<double>(size[2 - order[k]] - 1);
            }
        return turned;
    }
};

constexpr double header_noise = 2e-6;

// The nearest rotation or reflection, by Newton's iteration: half the sum of a matrix and its inverse transposed.
inline Mat3x3 right_angled(Mat3x3 m) {
    for (int round = 0; round < 20; ++round) {
        Mat3x3 cofactor;
        for (std::size_t i = 0; i < 3; ++i)
            for (std::size_t j = 0; j < 3; ++j)
                cofactor[i][j] = m[(i + 1) % 3][(j + 1) % 3] * m[(i + 2) % 3][(j + 2) % 3] -
                                 m[(i + 1) % 3][(j + 2) % 3] * m[(i + 2) % 3][(j + 1) % 3];
        const double determinant = m[0][0] * cofactor[0][0] + m[0][1] * cofactor[0][1] + m[0][2] * cofactor[0][2];
        for (std::size_t i = 0; i < 3; ++i)
            for (std::size_t j = 0; j < 3; ++j) m[i][j] = 0.5 * (m[i][j] + cofactor[i][j] / determinant);
    }
    return m;
}

// Sizes whose ratio to the smallest is a simple one but for float32 rounding get exactly that ratio.
inline std::array<double, 3> in_simple_ratios(const std::array<double, 3>& spacing) {
    std::array<double, 3> equal, sizes;
    for (std::size_t k = 0; k < 3; ++k) {
        double sum = 0, alike = 0;
        for (const double size : spacing)
            if (std::fabs(spacing[k] - size) <= header_noise * size) {
                sum += size;
                ++alike;
            }
        equal[k] = sum / alike;
    }
    const double unit = std::min({equal[0], equal[1], equal[2]});
    for (std::size_t k = 0; k < 3; ++k) {
        const double ratio = equal[k] / unit;
        double nearest = std::round(ratio);
        for (double denominator = 2; denominator <= 64; ++denominator) {
            const double fraction = std::round(ratio * denominator) / denominator;
            if (std::fabs(fraction - ratio) < std::fabs(nearest - ratio)) nearest = fraction;
        }
        sizes[k] = std::fabs(nearest * unit - equal[k]) <= header_noise * equal[k] ? nearest * unit : equal[k];
    }
    return sizes;
}

// The affine that a header means: `without_header_noise` of lnfast/measure.py, which gives the reasons.
inline Mat4 without_header_noise(Mat4 affine) {
    const std::array<double, 3> spacing = spacing_of(affine);
    Mat3x3 directions;
    for (std::size_t i = 0; i < 3; ++i)
        for (std::size_t k = 0; k < 3; ++k) directions[i][k] = affine[i][k] / spacing[k];
    for (std::size_t a = 0; a < 3; ++a)
        for (std::size_t b = 0; b < 3; ++b) {
            double cosine = a == b ? -1 : 0;
            for (std::size_t i = 0; i < 3; ++i) cosine += directions[i][a] * directions[i][b];
            if (std::fabs(cosine) > header_noise) return affine;
        }
    const Mat3x3 rotation = right_angled(directions);
    const std::array<double, 3> sizes = in_simple_ratios(spacing);
    for (std::size_t i = 0; i < 3; ++i)
        for (std::size_t k = 0; k < 3; ++k) affine[i][k] = rotation[i][k] * sizes[k];
    return affine;
}
