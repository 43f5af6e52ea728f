// Trilinear resampling between two grids whose outer edges coincide (half-pixel centres).
//
//     source  |  0  |  1  |  2  |        target voxel o has its centre at source index (o + 1/2) * in / out - 1/2;
//     target  | 0 | 1 | 2 | 3 | 4 |      beyond the first and last source centre the edge value holds
//
// Separable, in one pass, without a full intermediate volume. A task is a band of target rows; it walks through z with
//
//     source row --x--> two wide rows --y--> plane (band x width)   the two planes around the current z are kept,
//                                            plane                  so each source slice is interpolated once a band
//                                              |  z
//                                              v
//                                            target row
//
// Every target voxel goes through the same operations in the same order (x, y, z; first + weight * (second - first)),
// whatever the bands, threads or strides.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <vector>

#include "half.hpp"
#include "threads.hpp"
#include "view.hpp"

namespace lnfast {

template <class Real>
struct Axis {
    std::vector<std::ptrdiff_t> first, second;  // source neighbours of each target index
    std::vector<Real> weight;                   // of the second

    Axis(std::ptrdiff_t in, std::ptrdiff_t out) : first(out), second(out), weight(out) {
        for (std::ptrdiff_t o = 0; o < out; ++o) {
            const double centre = (o + 0.5) * static_cast<double>(in) / static_cast<double>(out) - 0.5;
            const double clamped = std::min(std::max(centre, 0.0), static_cast<double>(in - 1));
            first[o] = static_cast<std::ptrdiff_t>(clamped);
            second[o] = std::min(first[o] + 1, in - 1);
            weight[o] = static_cast<Real>(clamped - static_cast<double>(first[o]));
        }
    }
};

template <class Real>
struct Axes {
    Axis<Real> z, y, x;
    std::ptrdiff_t in_width, depth, height, width;

    Axes(const std::ptrdiff_t* in, const std::ptrdiff_t* out)
        : z(in[0], out[0]), y(in[1], out[1]), x(in[2], out[2]),
          in_width(in[2]), depth(out[0]), height(out[1]), width(out[2]) {}
};

template <class Real>
void blend(const Real* first, const Real* second, Real weight, Real* out, std::ptrdiff_t count) {
    for (std::ptrdiff_t k = 0; k < count; ++k) out[k] = first[k] + weight * (second[k] - first[k]);
}

// One band of target rows. load(z, y, row) delivers a source row, emit(z, y, row) takes a finished target row.
template <class Real, class Load, class Emit>
class Band {
public:
    Band(const Axes<Real>& axes, std::ptrdiff_t begin, std::ptrdiff_t end, const Load& load, const Emit& emit)
        : axes_(axes), begin_(begin), end_(end), load_(load), emit_(emit), source_(axes.in_width), result_(axes.width) {
        for (int slot = 0; slot < 2; ++slot) {
            wide_[slot].resize(axes.width);
            plane_[slot].resize((end - begin) * axes.width);
        }
    }

    void run() {
        for (std::ptrdiff_t z = 0; z < axes_.depth; ++z) {
            const Real* first = plane(axes_.z.first[z]);
            const Real* second = plane(axes_.z.second[z]);
            for (std::ptrdiff_t y = begin_; y < end_; ++y) {
                const std::ptrdiff_t offset = (y - begin_) * axes_.width;
                blend(first + offset, second + offset, axes_.z.weight[z], result_.data(), axes_.width);
                emit_(z, y, result_.data());
            }
        }
    }

private:
    // Neighbouring slices (and rows) differ in parity, so index & 1 never throws out the one that is still needed.
    const Real* plane(std::ptrdiff_t z) {
        const int slot = static_cast<int>(z & 1);
        if (plane_z_[slot] == z) return plane_[slot].data();
        wide_y_[0] = wide_y_[1] = -1;
        for (std::ptrdiff_t y = begin_; y < end_; ++y) {
            const Real* first = wide(z, axes_.y.first[y]);
            const Real* second = wide(z, axes_.y.second[y]);
            blend(first, second, axes_.y.weight[y], &plane_[slot][(y - begin_) * axes_.width], axes_.width);
        }
        plane_z_[slot] = z;
        return plane_[slot].data();
    }

    const Real* wide(std::ptrdiff_t z, std::ptrdiff_t y) {
        const int slot = static_cast<int>(y & 1);
        if (wide_y_[slot] == y) return wide_[slot].data();
        load_(z, y, source_.data());
        for (std::ptrdiff_t x = 0; x < axes_.width; ++x) {
            const Real value = source_[axes_.x.first[x]];
            wide_[slot][x] = value + axes_.x.weight[x] * (source_[axes_.x.second[x]] - value);
        }
        wide_y_[slot] = y;
        return wide_[slot].data();
    }

    const Axes<Real>& axes_;
    std::ptrdiff_t begin_, end_;
    const Load& load_;
    const Emit& emit_;
    std::vector<Real> source_, result_, wide_[2], plane_[2];
    std::ptrdiff_t wide_y_[2] = {-1, -1}, plane_z_[2] = {-1, -1};
};

template <class Real, class Load, class Emit>
void interpolate(const Axes<Real>& axes, int threads, const Load& load, const Emit& emit) {
    constexpr std::ptrdiff_t rows = 32;  // two planes of 32 x 256 float32 are 64 KB: they stay in the cache
    parallel_for((axes.height + rows - 1) / rows, threads, [&](std::ptrdiff_t task) {
        const std::ptrdiff_t begin = task * rows;
        Band<Real, Load, Emit>(axes, begin, std::min(begin + rows, axes.height), load, emit).run();
    });
}

struct Window {
    double lo, hi, shift, scale;
};

inline void store(float* out, float value) { *out = value; }
inline void store(Half* out, float value) { *out = to_half(value); }

// (clip(v, lo, hi) - shift) * scale for each source voxel, in double (an int32 with a large shift would lose its
// digits in float32), then trilinear in float32. NaN stays NaN.
template <class T, class Out>
void resample_normalize(const View3<T>& volume, const View3<Out>& out, const Window& window, int threads) {
    const Axes<float> axes(volume.size, out.size);
    const auto load = [&](std::ptrdiff_t z, std::ptrdiff_t y, float* row) {
        char* source = volume.row(z, y);
        for (std::ptrdiff_t x = 0; x < volume.size[2]; ++x) {
            double value = static_cast<double>(volume.at(source, x));
            value = value < window.lo ? window.lo : value;
            value = value > window.hi ? window.hi : value;
            row[x] = static_cast<float>((value - window.shift) * window.scale);
        }
    };
    const auto emit = [&](std::ptrdiff_t z, std::ptrdiff_t y, const float* row) {
        Out* target = reinterpret_cast<Out*>(out.row(z, y));
        for (std::ptrdiff_t x = 0; x < out.size[2]; ++x) store(target + x, row[x]);
    };
    interpolate(axes, threads, load, emit);
}

inline double as_double(float value) { return value; }
inline double as_double(Half value) { return to_float(value); }

template <class T>
bool all_finite(const View3<T>& volume, int threads) {
    std::atomic<bool> finite{true};
    parallel_for(volume.size[0], threads, [&](std::ptrdiff_t z) {
        bool good = true;
        for (std::ptrdiff_t y = 0; y < volume.size[1]; ++y) {
            char* row = volume.row(z, y);
            for (std::ptrdiff_t x = 0; x < volume.size[2]; ++x) good &= std::isfinite(as_double(volume.at(row, x)));
        }
        if (!good) finite = false;
    });
    return finite;
}

// 1 where the interpolated logit is greater than level, else 0 (so equal is 0); returns the count of ones. In double:
// the difference of two float32 cannot overflow there, and a constant field comes out as exactly itself.
template <class T>
std::ptrdiff_t threshold_resample(const View3<T>& logits, const View3<unsigned char>& out, double level, int threads) {
    const Axes<double> axes(logits.size, out.size);
    std::atomic<std::ptrdiff_t> ones{0};
    const auto load = [&](std::ptrdiff_t z, std::ptrdiff_t y, double* row) {
        char* source = logits.row(z, y);
        for (std::ptrdiff_t x = 0; x < logits.size[2]; ++x) row[x] = as_double(logits.at(source, x));
    };
    const auto emit = [&](std::ptrdiff_t z, std::ptrdiff_t y, const double* row) {
        char* target = out.row(z, y);
        std::ptrdiff_t count = 0;
        for (std::ptrdiff_t x = 0; x < out.size[2]; ++x) {
            const unsigned char one = row[x] > level;
            out.at(target, x) = one;
            count += one;
        }
        if (count != 0) ones += count;
    };
    interpolate(axes, threads, load, emit);
    return ones;
}

}  // namespace lnfast
