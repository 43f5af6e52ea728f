// A volume into the network's input: clip, shift and scale each voxel, then trilinear resampling (axis.hpp).
//
// Separable, in one pass, without a full intermediate volume. A task is a band of target rows; it walks through z with
//
//     source row --x--> two wide rows --y--> plane (band x width)   the two planes around the current z are stored,
//                                            plane                  so each source slice is interpolated once a band
//                                              |  z
//                                              v
//                                            target row
//
// so the input is read once (but for one row where two bands meet) and the output is written once. Of an output that is
// a part of its grid, that part alone is computed, and the input under it alone is read.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "grid/axis.hpp"
#include "core/half.hpp"
#include "core/threads.hpp"
#include "core/vectorized.hpp"
#include "core/view.hpp"

namespace lnfast::grid {

using core::Half;
using core::Isa;
using core::Team;
using core::to_half;
using core::vectorized;
using core::View3;

struct IntensityWindow {
    double lo, hi, shift, scale;
};

// Writes the source row (z, y) into a buffer: (clip(v, lo, hi) - shift) * scale of each voxel. In double, since an int32
// with a large shift would lose its digits in float32. NaN stays NaN. A function that is called, not inlined, so that one
// band serves all types of voxels.
using LoadRow = std::function<void(std::ptrdiff_t, std::ptrdiff_t, float*)>;

template <class T>
LoadRow row_loader(const View3<T>& volume, const IntensityWindow& window) {
    return [=](std::ptrdiff_t z, std::ptrdiff_t y, float* row) {
        const double lo = window.lo, hi = window.hi, shift = window.shift, scale = window.scale;
        vectorized([&](auto) {
            volume.read_row(z, y, row, [=](T voxel) {
                double value = static_cast<double>(voxel);
                value = value < lo ? lo : value;
                value = value > hi ? hi : value;
                return static_cast<float>((value - shift) * scale);
            });
        });
    };
}

#if LNFAST_X86

// Sixteen target voxels at a time, for as long as their neighbours lie within 32 source voxels: these are two
// registers, and a permutation picks. `source` is padded by 32.
LNFAST_AVX512 inline void interpolate_row_avx512(const Axis<float>& x, const float* source, float* out) {
    std::ptrdiff_t o = 0;
    for (; o + 16 <= x.out; o += 16) {
        const std::int32_t base = x.first[o];
        if (x.first[o + 15] - base > 30) break;
        const __m512i near = _mm512_loadu_si512(&x.first[o]), far = _mm512_loadu_si512(&x.second[o]);
        const __m512i start = _mm512_set1_epi32(base);
        const __m512 low = _mm512_loadu_ps(source + base), high = _mm512_loadu_ps(source + base + 16);
        const __m512 first = _mm512_permutex2var_ps(low, _mm512_sub_epi32(near, start), high);
        const __m512 second = _mm512_permutex2var_ps(low, _mm512_sub_epi32(far, start), high);
        const __m512 step = _mm512_mul_ps(_mm512_loadu_ps(&x.weight[o]), _mm512_sub_ps(second, first));
        _mm512_storeu_ps(out + o, _mm512_add_ps(first, step));
    }
    interpolate_row(x, source, out, o, x.out);
}

// Eight at a time, as long as they lie within eight.
LNFAST_AVX2 inline void interpolate_row_avx2(const Axis<float>& x, const float* source, float* out) {
    std::ptrdiff_t o = 0;
    for (; o + 8 <= x.out; o += 8) {
        const std::int32_t base = x.first[o];
        if (x.first[o + 7] - base > 7) break;
        const __m256i near = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&x.first[o]));
        const __m256i pick = _mm256_sub_epi32(near, _mm256_set1_epi32(base));
        // At the far edge first + 1 is beyond the row: the weight is 0 there, and the padding repeats the last voxel.
        const __m256 first = _mm256_permutevar8x32_ps(_mm256_loadu_ps(source + base), pick);
        const __m256 second = _mm256_permutevar8x32_ps(_mm256_loadu_ps(source + base + 1), pick);
        const __m256 step = _mm256_mul_ps(_mm256_loadu_ps(&x.weight[o]), _mm256_sub_ps(second, first));
        _mm256_storeu_ps(out + o, _mm256_add_ps(first, step));
    }
    interpolate_row(x, source, out, o, x.out);
}

// blend() past the caches: an output of many megabytes would only evict what is still needed, and a store that fills a
// whole line this way saves a read of memory. `out` is aligned to 64 bytes.
LNFAST_AVX512 inline void blend_past_avx512(const float* first, const float* second, float weight, float* out,
                                            std::ptrdiff_t count) {
    const __m512 part = _mm512_set1_ps(weight);
    std::ptrdiff_t k = 0;
    for (; k + 16 <= count; k += 16) {
        const __m512 a = _mm512_loadu_ps(first + k), b = _mm512_loadu_ps(second + k);
        _mm512_stream_ps(out + k, _mm512_add_ps(a, _mm512_mul_ps(part, _mm512_sub_ps(b, a))));
    }
    blend(first + k, second + k, weight, out + k, count - k);
}

LNFAST_AVX2 inline void blend_past_avx2(const float* first, const float* second, float weight, float* out,
                                        std::ptrdiff_t count) {
    const __m256 part = _mm256_set1_ps(weight);
    std::ptrdiff_t k = 0;
    for (; k + 8 <= count; k += 8) {
        const __m256 a = _mm256_loadu_ps(first + k), b = _mm256_loadu_ps(second + k);
        _mm256_stream_ps(out + k, _mm256_add_ps(a, _mm256_mul_ps(part, _mm256_sub_ps(b, a))));
    }
    blend(first + k, second + k, weight, out + k, count - k);
}

#endif

template <class Tag>
void blend_past(Tag, const float* first, const float* second, float weight, float* out, std::ptrdiff_t count) {
#if LNFAST_X86
    const auto beyond_line = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(out) % 64 / sizeof(float));
    const std::ptrdiff_t head = std::min(count, (16 - beyond_line) % 16);
    blend(first, second, weight, out, head);
    first += head, second += head, out += head, count -= head;
    if constexpr (Tag::value == Isa::avx512) return blend_past_avx512(first, second, weight, out, count);
    if constexpr (Tag::value == Isa::avx2) return blend_past_avx2(first, second, weight, out, count);
#endif
    blend(first, second, weight, out, count);
}

// Stores past the caches are in order with later ones of this thread only after this.
inline void settle_stores() {
#if LNFAST_X86
    _mm_sfence();
#endif
}

template <class Tag>
void interpolate_row(Tag, const Axis<float>& x, const float* source, float* out) {
#if LNFAST_X86
    if constexpr (Tag::value == Isa::avx512) return interpolate_row_avx512(x, source, out);
    if constexpr (Tag::value == Isa::avx2) return interpolate_row_avx2(x, source, out);
#endif
    interpolate_row(x, source, out, 0, x.out);
}

// One band of target rows.
template <class Out>
class Band {
public:
    Band(const Axes<float>& axes, std::ptrdiff_t begin, std::ptrdiff_t end, const LoadRow& load, const View3<Out>& out)
        : axes_(axes), begin_(begin), end_(end), load_(load), out_(out),
          source_(static_cast<std::size_t>(axes.x.in + padding)), result_(static_cast<std::size_t>(axes.x.out)) {
        for (int slot = 0; slot < 2; ++slot) {
            wide_[slot].resize(static_cast<std::size_t>(axes.x.out));
            plane_[slot].resize(static_cast<std::size_t>((end - begin) * axes.x.out));
        }
    }

    template <class Tag>
    void run(Tag isa) {
        for (std::ptrdiff_t z = 0; z < axes_.z.out; ++z) {
            const float* first = plane(isa, axes_.z.first[z]);
            const float* second = plane(isa, axes_.z.second[z]);
            for (std::ptrdiff_t y = begin_; y < end_; ++y) {
                const std::ptrdiff_t offset = (y - begin_) * axes_.x.out;
                store(isa, first + offset, second + offset, axes_.z.weight[z], reinterpret_cast<Out*>(out_.row(z, y)));
            }
        }
        settle_stores();
    }

private:
    static constexpr std::ptrdiff_t padding = 32;

    template <class Tag>
    void store(Tag isa, const float* first, const float* second, float weight, float* out) {
        if (large_) blend_past(isa, first, second, weight, out, axes_.x.out);
        else blend(first, second, weight, out, axes_.x.out);
    }

    template <class Tag>
    void store(Tag, const float* first, const float* second, float weight, Half* __restrict out) {
        float* __restrict row = result_.data();
        blend(first, second, weight, row, axes_.x.out);
        for (std::ptrdiff_t x = 0; x < axes_.x.out; ++x) out[x] = to_half(row[x]);
    }

    // Neighbouring slices (and rows) differ in parity, so index & 1 never throws out the one that is still needed.
    template <class Tag>
    const float* plane(Tag isa, std::int32_t z) {
        const int slot = z & 1;
        if (plane_z_[slot] == z) return plane_[slot].data();
        wide_y_[0] = wide_y_[1] = -1;
        for (std::ptrdiff_t y = begin_; y < end_; ++y) {
            const float* first = wide(isa, z, axes_.y.first[y]);
            const float* second = wide(isa, z, axes_.y.second[y]);
            blend(first, second, axes_.y.weight[y], &plane_[slot][(y - begin_) * axes_.x.out], axes_.x.out);
        }
        plane_z_[slot] = z;
        return plane_[slot].data();
    }

    template <class Tag>
    const float* wide(Tag isa, std::int32_t z, std::int32_t y) {
        const int slot = y & 1;
        if (wide_y_[slot] == y) return wide_[slot].data();
        load_(z, y, source_.data());
        std::fill(source_.end() - padding, source_.end(), source_[static_cast<std::size_t>(axes_.x.in - 1)]);
        interpolate_row(isa, axes_.x, source_.data(), wide_[slot].data());
        wide_y_[slot] = y;
        return wide_[slot].data();
    }

    const Axes<float>& axes_;
    std::ptrdiff_t begin_, end_;
    const LoadRow& load_;
    const View3<Out>& out_;
    const bool large_ = axes_.z.out * axes_.y.out * axes_.x.out > (std::ptrdiff_t{1} << 20);  // beyond a core's caches
    std::vector<float> source_, result_, wide_[2], plane_[2];
    std::int32_t wide_y_[2] = {-1, -1}, plane_z_[2] = {-1, -1};
};

template <class Out>
void resample_rows(const Axes<float>& axes, const LoadRow& load, const View3<Out>& out, int threads) {
    constexpr std::ptrdiff_t rows = 16;  // two planes of 16 x 256 float32 are 32 KB: they stay in the nearest cache
    const std::ptrdiff_t bands = (axes.y.out + rows - 1) / rows;
    Team(threads, bands).each(bands, [&](std::ptrdiff_t task, int) {
        const std::ptrdiff_t begin = task * rows, end = std::min(begin + rows, axes.y.out);
        Band<Out> band(axes, begin, end, load, out);
        vectorized([&](auto isa) { band.run(isa); });
    });
}

// out: C-contiguous, not empty; `part` says where it lies in its grid.
template <class T, class Out>
void resample_normalize(const View3<T>& volume, const View3<Out>& out, const Part& part, const IntensityWindow& window,
                        int threads) {
    Axes<float> axes(Part::whole(volume.size), part);
    const std::ptrdiff_t z = axes.z.trim(), y = axes.y.trim(), x = axes.x.trim();
    const View3<T> under = volume.part(z, y, x, axes.z.in, axes.y.in, axes.x.in);
    resample_rows(axes, row_loader(under, window), out, threads);
}

}  // namespace lnfast::grid
