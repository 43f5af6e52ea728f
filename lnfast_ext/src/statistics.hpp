// Minimum, maximum, mean, population standard deviation and percentiles of a volume, exactly. Mean and deviation may be
// asked of the values as they are after clipping to the lowest and the highest of the percentiles.
//
// Percentiles follow numpy's default ("linear"): rank = q / 100 * (n - 1), linear between its two neighbours
//
//     sorted   v0    v1    v2    v3    v4
//     rank     0     1     2  ^  3     4       q = 62.5: halfway between v2 and v3
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "view.hpp"

namespace lnfast {

struct Moments {
    double min, max, mean, std;
};

struct Spread {
    double mean, std;
};

// Neumaier's sum: the error does not grow with the number of voxels.
class Sum {
public:
    void add(double value) {
        const double next = total_ + value;
        rest_ += std::fabs(total_) >= std::fabs(value) ? (total_ - next) + value : (value - next) + total_;
        total_ = next;
    }
    double get() const { return total_ + rest_; }

private:
    double total_ = 0, rest_ = 0;
};

struct Clip {
    double low, high;
};

// each(f) calls f(value, how often) for all n values.
template <class Each>
Spread spread(std::ptrdiff_t n, Clip range, const Each& each) {
    const auto clip = [range](double value) { return std::min(std::max(value, range.low), range.high); };
    Sum sum, squares;
    each([&](double value, double times) { sum.add(times * clip(value)); });
    const double mean = sum.get() / static_cast<double>(n);
    each([&](double value, double times) { squares.add(times * (clip(value) - mean) * (clip(value) - mean)); });
    return {mean, std::sqrt(squares.get() / static_cast<double>(n))};
}

// numpy's own order of operations, so that the last bit agrees.
inline double between(double low, double high, double part) {
    const double step = high - low;
    return part >= 0.5 ? high - step * (1.0 - part) : low + step * part;
}

// Which percentiles are wanted, where they go, and whether mean and deviation are of values clipped to them.
struct Percentiles {
    const double* percents;
    std::ptrdiff_t count;
    double* out;
    bool clipped;

    // at(rank) is called with ascending ranks, except that of a percentile's upper neighbour.
    template <class At>
    void read(std::ptrdiff_t n, const At& at) const {
        std::vector<std::ptrdiff_t> order(count);
        for (std::ptrdiff_t k = 0; k < count; ++k) order[k] = k;
        const auto less = [&](std::ptrdiff_t a, std::ptrdiff_t b) { return percents[a] < percents[b]; };
        std::sort(order.begin(), order.end(), less);
        for (const std::ptrdiff_t k : order) {
            const double rank = percents[k] / 100.0 * static_cast<double>(n - 1);
            const std::ptrdiff_t below = std::min(static_cast<std::ptrdiff_t>(rank), n - 1);
            const std::ptrdiff_t above = std::min(below + 1, n - 1);
            const double low = at(below);
            out[k] = between(low, at(above), rank - static_cast<double>(below));
        }
    }

    // After read().
    Clip clip_range() const {
        constexpr double all = std::numeric_limits<double>::infinity();
        if (!clipped || count == 0) return {-all, all};
        const auto ends = std::minmax_element(out, out + count);
        return {*ends.first, *ends.second};
    }
};

// 8 and 16 bit integers: 256 or 65536 counters say everything.
template <class T>
Moments statistics_by_histogram(const View3<T>& volume, const Percentiles& wanted) {
    constexpr int lowest = std::numeric_limits<T>::min();
    std::vector<std::int64_t> histogram(static_cast<std::size_t>(std::numeric_limits<T>::max() - lowest + 1), 0);
    for (std::ptrdiff_t z = 0; z < volume.size[0]; ++z)
        for (std::ptrdiff_t y = 0; y < volume.size[1]; ++y) {
            char* row = volume.row(z, y);
            for (std::ptrdiff_t x = 0; x < volume.size[2]; ++x)
                ++histogram[static_cast<int>(volume.at(row, x)) - lowest];
        }
    const int bins = static_cast<int>(histogram.size());
    int first = 0, last = bins - 1;
    while (histogram[first] == 0) ++first;
    while (histogram[last] == 0) --last;
    std::int64_t n = 0;
    for (int bin = first; bin <= last; ++bin) n += histogram[bin];
    int bin = first;
    std::int64_t seen = histogram[first];
    wanted.read(n, [&](std::ptrdiff_t rank) {
        // The neighbour above one percentile may lie beyond the rank of the next: step back when asked to.
        while (rank < seen - histogram[bin]) seen -= histogram[bin--];
        while (rank >= seen) seen += histogram[++bin];
        return static_cast<double>(bin + lowest);
    });
    const Spread found = spread(n, wanted.clip_range(), [&](const auto& use) {
        for (int at = first; at <= last; ++at) use(at + lowest, static_cast<double>(histogram[at]));
    });
    return {static_cast<double>(first + lowest), static_cast<double>(last + lowest), found.mean, found.std};
}

template <class T>
Moments statistics_by_selection(const View3<T>& volume, const Percentiles& wanted) {
    std::vector<T> values;
    values.reserve(static_cast<std::size_t>(volume.size[0] * volume.size[1] * volume.size[2]));
    for (std::ptrdiff_t z = 0; z < volume.size[0]; ++z)
        for (std::ptrdiff_t y = 0; y < volume.size[1]; ++y) {
            char* row = volume.row(z, y);
            for (std::ptrdiff_t x = 0; x < volume.size[2]; ++x) {
                const T value = volume.at(row, x);
                if constexpr (std::is_floating_point_v<T>)
                    if (!std::isfinite(value))
                        throw std::invalid_argument("volume: holds non-finite values (NaN or infinity)");
                values.push_back(value);
            }
        }
    const std::ptrdiff_t n = static_cast<std::ptrdiff_t>(values.size());
    const auto ends = std::minmax_element(values.begin(), values.end());
    const double low = static_cast<double>(*ends.first), high = static_cast<double>(*ends.second);
    // Everything before `settled` is in its final place, so each selection works on what is left.
    std::ptrdiff_t settled = 0;
    wanted.read(n, [&](std::ptrdiff_t rank) {
        if (rank >= settled) {
            std::nth_element(values.begin() + settled, values.begin() + rank, values.end());
            settled = rank + 1;
        }
        return static_cast<double>(values[rank]);
    });
    const Spread found = spread(n, wanted.clip_range(), [&](const auto& use) {
        for (const T value : values) use(static_cast<double>(value), 1.0);
    });
    return {low, high, found.mean, found.std};
}

template <class T>
Moments intensity_statistics(const View3<T>& volume, const Percentiles& wanted) {
    if constexpr (std::is_integral_v<T> && sizeof(T) <= 2)
        return statistics_by_histogram(volume, wanted);
    else
        return statistics_by_selection(volume, wanted);
}

}  // namespace lnfast
