// Logits on the network's grid into a mask on the native grid, without a float volume in between.
//
// A trilinear mean (axis.hpp) lies between its eight neighbours: where none of them is above the level, it is not. So
// the logits are read once, to find the segments of rows that hold anything above the level, and of a target row only
// those segments are interpolated that one of its four source rows can lift; the rest is 0.
//
//     source rows         segments along x
//     z0 y0  ........##......
//     z0 y1  .......####.....      target row   0000000####00000
//     z1 y0  ................
//     z1 y1  ........#.......
//
// Where only a part of the logits is given, the target voxels that can be interpolated from it are those of the whole,
// and all else is 0.
//
// All in double: the difference of two float32 cannot overflow there, and a constant field comes out as exactly itself.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "grid/axis.hpp"
#include "core/bits.hpp"
#include "core/half.hpp"
#include "core/threads.hpp"
#include "core/vectorized.hpp"
#include "core/view.hpp"

namespace lnfast::grid {

using core::as_double;
using core::as_float;
using core::bits_float;
using core::first_one;
using core::float_bits;
using core::Team;
using core::vectorized;
using core::View3;

using Segments = std::uint64_t;  // a bit for each segment of a row

inline std::ptrdiff_t segment_size(std::ptrdiff_t width) {
    std::ptrdiff_t size = 16;
    while (size * 64 < width) size *= 2;
    return size;
}

// One pass over all logits: are they finite, how large are they, where are they above `level`?
class Peaks {
public:
    template <class T>
    Peaks(const View3<T>& logits, float level, Team& team)
        : height_(logits.size[1]), size_(segment_size(logits.size[2])),
          segments_(static_cast<std::size_t>(logits.size[0] * logits.size[1]), 0) {
        std::atomic<std::uint32_t> largest{0};
        team.each(logits.size[0], [&](std::ptrdiff_t z, int) {
            std::uint32_t own = 0;
            vectorized([&](auto isa) { own = read_slice(isa, logits, z, level); });
            for (std::uint32_t old = largest; old < own && !largest.compare_exchange_weak(old, own);) {}
        });
        largest_ = bits_float(largest);
    }

    bool finite() const { return std::isfinite(largest_); }
    double largest() const { return largest_; }  // magnitude
    std::ptrdiff_t size() const { return size_; }
    Segments at(std::ptrdiff_t z, std::ptrdiff_t y) const { return segments_[static_cast<std::size_t>(z * height_ + y)]; }

private:
    // The largest magnitude, as bits: among these infinity and NaN are the largest numbers.
    template <class Tag, class T>
    std::uint32_t read_slice(Tag isa, const View3<T>& logits, std::ptrdiff_t z, float level) {
        const std::ptrdiff_t width = logits.size[2], blocks = (width + 63) / 64;
        // A packed row is read in place, but for a last block that is not full.
        const bool here = std::is_same_v<T, float> && logits.packed_rows();
        const std::ptrdiff_t last = here ? width / 64 * 64 : 64 * blocks;
        std::vector<float> copy(static_cast<std::size_t>(64 * blocks), -std::numeric_limits<float>::max());
        std::uint32_t largest = 0;
        for (std::ptrdiff_t y = 0; y < height_; ++y) {
            const float* row = copy.data();
            if (here) {
                row = reinterpret_cast<const float*>(logits.row(z, y));
                std::copy(row + last, row + width, copy.data());
            } else {
                logits.read_row(z, y, copy.data(), [](T value) { return as_float(value); });
            }
            for (std::ptrdiff_t x = 0; x < width; ++x) largest = std::max(largest, float_bits(row[x]) & 0x7fffffffu);
            for (std::ptrdiff_t x = 0; x < last; x += 64) mark(above(isa, row + x, level), x, z * height_ + y);
            if (last < width) mark(above(isa, copy.data(), level), last, z * height_ + y);
        }
        return largest;
    }

    template <class Tag>
    static std::uint64_t above(Tag isa, const float* values, float level) {
        std::uint8_t flags[64];
        for (int k = 0; k < 64; ++k) flags[k] = values[k] > level;
        return nonzero(isa, flags);
    }

    void mark(std::uint64_t word, std::ptrdiff_t x, std::ptrdiff_t row) {
        while (word != 0) {
            const std::ptrdiff_t segment = (x + first_one(word)) / size_, next = (segment + 1) * size_ - x;
            segments_[static_cast<std::size_t>(row)] |= Segments{1} << segment;
            word = next < 64 ? word & (~std::uint64_t{0} << next) : 0;
        }
    }

    std::ptrdiff_t height_, size_;
    std::vector<Segments> segments_;  // of each row
    float largest_ = 0;
};

// One band of target rows. Planes and wide rows are those of resample.hpp, but computed segment by segment on demand.
template <class T>
class ThresholdBand {
public:
    ThresholdBand(const Axes<double>& axes, const Peaks& peaks, std::ptrdiff_t begin, std::ptrdiff_t end,
                  const View3<T>& logits, const View3<unsigned char>& out, double level)
        : axes_(axes), peaks_(peaks), begin_(begin), end_(end), logits_(logits), out_(out), level_(level),
          size_(segment_size(axes.x.out)), result_(static_cast<std::size_t>(axes.x.out)),
          flags_(static_cast<std::size_t>(axes.x.out)) {
        for (std::ptrdiff_t x = 0; x < axes.x.out; x += size_) {
            const std::ptrdiff_t last = std::min(x + size_, axes.x.out) - 1;
            Segments under = 0;
            for (std::ptrdiff_t k = axes.x.first[x] / peaks.size(); k <= axes.x.second[last] / peaks.size(); ++k)
                under |= Segments{1} << k;
            under_.push_back(under);
        }
        for (Plane& plane : planes_) {
            plane.values.resize(static_cast<std::size_t>((end - begin) * axes.x.out));
            for (Wide& wide : plane.wide) wide.values.resize(static_cast<std::size_t>(axes.x.out));
        }
    }

    // The count of ones.
    std::ptrdiff_t run() {
        std::ptrdiff_t ones = 0;
        for (std::ptrdiff_t z = 0; z < axes_.z.out; ++z)
            for (std::ptrdiff_t y = begin_; y < end_; ++y) {
                out_.fill(out_.row(z, y), 0, axes_.x.out, 0);
                const Segments needed = reach(z, y);
                if (needed != 0) ones += row(z, y, needed);
            }
        return ones;
    }

private:
    struct Wide {  // a source row, interpolated along x
        std::int32_t y = -1;
        Segments done = 0;
        std::vector<double> values;
    };
    struct Plane {  // a source slice, interpolated along x and y
        std::int32_t z = -1;
        std::vector<Segments> done;  // of each target row
        std::vector<double> values;
        Wide wide[2];
    };

    // The segments of a target row that its source rows can lift above the level.
    Segments reach(std::ptrdiff_t z, std::ptrdiff_t y) const {
        const std::int32_t z0 = axes_.z.first[z], z1 = axes_.z.second[z], y0 = axes_.y.first[y], y1 = axes_.y.second[y];
        const Segments above = peaks_.at(z0, y0) | peaks_.at(z0, y1) | peaks_.at(z1, y0) | peaks_.at(z1, y1);
        if (above == 0) return 0;
        Segments reached = 0;
        for (std::size_t segment = 0; segment < under_.size(); ++segment)
            if ((above & under_[segment]) != 0) reached |= Segments{1} << segment;
        return reached;
    }

    std::ptrdiff_t row(std::ptrdiff_t z, std::ptrdiff_t y, Segments needed) {
        const double* first = plane_row(axes_.z.first[z], y, needed);
        const double* second = plane_row(axes_.z.second[z], y, needed);
        std::ptrdiff_t ones = 0;
        for (Segments rest = needed; rest != 0; rest &= rest - 1) {
            const auto [begin, end] = range(rest);
            blend(first + begin, second + begin, axes_.z.weight[z], result_.data(), end - begin);
            for (std::ptrdiff_t k = 0; k < end - begin; ++k) flags_[k] = result_[k] > level_;
            for (std::ptrdiff_t k = 0; k < end - begin; ++k) ones += flags_[k];
            out_.write(out_.row(z, y), begin, end, flags_.data());
        }
        return ones;
    }

    // Neighbouring slices (and rows) differ in parity, so index & 1 never evicts the one that is still needed.
    const double* plane_row(std::int32_t z, std::ptrdiff_t y, Segments needed) {
        Plane& plane = planes_[z & 1];
        if (plane.z != z) {
            plane.z = z;
            plane.done.assign(static_cast<std::size_t>(end_ - begin_), 0);
            plane.wide[0].y = plane.wide[1].y = -1;
        }
        double* values = &plane.values[static_cast<std::size_t>((y - begin_) * axes_.x.out)];
        Segments& done = plane.done[static_cast<std::size_t>(y - begin_)];
        if ((needed & ~done) == 0) return values;
        const double* first = wide_row(plane, axes_.y.first[y], needed & ~done);
        const double* second = wide_row(plane, axes_.y.second[y], needed & ~done);
        for (Segments rest = needed & ~done; rest != 0; rest &= rest - 1) {
            const auto [begin, end] = range(rest);
            blend(first + begin, second + begin, axes_.y.weight[y], values + begin, end - begin);
        }
        done |= needed;
        return values;
    }

    const double* wide_row(Plane& plane, std::int32_t y, Segments needed) {
        Wide& wide = plane.wide[y & 1];
        if (wide.y != y) {
            wide.y = y;
            wide.done = 0;
        }
        char* source = logits_.row(plane.z, y);
        for (Segments rest = needed & ~wide.done; rest != 0; rest &= rest - 1) {
            const auto [begin, end] = range(rest);
            for (std::ptrdiff_t x = begin; x < end; ++x) {
                const double value = as_double(logits_.at(source, axes_.x.first[x]));
                const double next = as_double(logits_.at(source, axes_.x.second[x]));
                wide.values[x] = value + axes_.x.weight[x] * (next - value);
            }
        }
        wide.done |= needed;
        return wide.values.data();
    }

    struct Stretch {
        std::ptrdiff_t begin, end;
    };

    // Of the lowest segment.
    Stretch range(Segments segments) const {
        const std::ptrdiff_t begin = first_one(segments) * size_;
        return {begin, std::min(begin + size_, axes_.x.out)};
    }

    const Axes<double>& axes_;
    const Peaks& peaks_;
    std::ptrdiff_t begin_, end_;
    const View3<T>& logits_;
    const View3<unsigned char>& out_;
    double level_;
    std::ptrdiff_t size_;
    std::vector<Segments> under_;  // of each target segment: the source segments that it is interpolated from
    std::vector<double> result_;
    std::vector<unsigned char> flags_;
    Plane planes_[2];
};

struct Thresholded {
    bool finite;
    std::ptrdiff_t ones;
};

// Write 0 into the target voxels that cannot be interpolated from the source.
inline void clear_around(const View3<unsigned char>& out, const Axes<double>& axes, Team& team) {
    const auto holds = [](const Axis<double>& axis, std::ptrdiff_t k) {
        return k >= axis.begin && k < axis.begin + axis.out;
    };
    team.each(out.size[0], [&](std::ptrdiff_t z, int) {
        for (std::ptrdiff_t y = 0; y < out.size[1]; ++y) {
            const bool crossed = holds(axes.z, z) && holds(axes.y, y);
            out.fill(out.row(z, y), 0, crossed ? axes.x.begin : out.size[2], 0);
            if (crossed) out.fill(out.row(z, y), axes.x.begin + axes.x.out, out.size[2], 0);
        }
    });
}

// Write 1 where the interpolated logit is greater than level, else 0 (so equal is 0). `part`: where the logits lie in
// their grid; 0 where they are not enough. If a logit is not finite nothing is written.
template <class T>
Thresholded threshold_resample(const View3<T>& logits, const Part& part, const View3<unsigned char>& out, double level,
                               int threads) {
    // Rounding can lift a mean above its neighbours by some 1e-15 of the largest logit. That is not known before the
    // pass, so the pass supposes a size that logits of a network have, and is repeated for larger ones.
    const auto below = [level](double largest) {
        const double least = std::max(level - 1e-14 * largest, -static_cast<double>(std::numeric_limits<float>::max()));
        return std::nextafter(static_cast<float>(std::min(least, 3e38)), -std::numeric_limits<float>::infinity());
    };
    constexpr double usual = 1e6;
    constexpr std::ptrdiff_t rows = 16;
    Team team(threads, std::max(logits.size[0], (out.size[1] + rows - 1) / rows));
    Peaks peaks(logits, below(usual), team);
    if (!peaks.finite()) return {false, 0};
    if (out.size[0] * out.size[1] * out.size[2] == 0) return {true, 0};
    if (peaks.largest() > usual) peaks = Peaks(logits, below(peaks.largest()), team);
    const Axes<double> axes(part, Part::whole(out.size));
    const std::ptrdiff_t interpolated = axes.z.out * axes.y.out * axes.x.out;
    if (interpolated != out.size[0] * out.size[1] * out.size[2]) clear_around(out, axes, team);
    if (interpolated == 0) return {true, 0};
    const View3<unsigned char> inner =
        out.part(axes.z.begin, axes.y.begin, axes.x.begin, axes.z.out, axes.y.out, axes.x.out);
    std::atomic<std::ptrdiff_t> ones{0};
    team.each((axes.y.out + rows - 1) / rows, [&](std::ptrdiff_t task, int) {
        const std::ptrdiff_t begin = task * rows, end = std::min(begin + rows, axes.y.out);
        ThresholdBand<T> band(axes, peaks, begin, end, logits, inner, level);
        vectorized([&](auto) { ones += band.run(); });
    });
    return {true, ones};
}

}  // namespace lnfast::grid
