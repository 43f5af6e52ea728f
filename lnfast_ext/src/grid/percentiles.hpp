// Percentiles by numpy's default ("linear"): rank = q / 100 * (n - 1), linear between its two neighbours
//
//     sorted   v0    v1    v2    v3    v4
//     rank     0     1     2  ^  3     4       q = 62.5: halfway between v2 and v3
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

namespace lnfast::grid {

struct Clip {
    double low, high;
    double operator()(double value) const { return std::min(std::max(value, low), high); }
};

// numpy's own order of operations, so that the last bit agrees.
inline double between(double low, double high, double part) {
    const double step = high - low;
    return part >= 0.5 ? high - step * (1.0 - part) : low + step * part;
}

// Of a list of values, which is reordered.
inline double percentile(std::vector<double>& values, double percent) {
    const std::ptrdiff_t n = static_cast<std::ptrdiff_t>(values.size());
    const double rank = percent / 100.0 * static_cast<double>(n - 1);
    const std::ptrdiff_t below = std::min(static_cast<std::ptrdiff_t>(rank), n - 1);
    const auto place = values.begin() + below;
    std::nth_element(values.begin(), place, values.end());
    const double low = *place;
    const double high = below + 1 < n ? *std::min_element(place + 1, values.end()) : low;
    return between(low, high, rank - static_cast<double>(below));
}

// The requested percentiles, where they are written, and whether mean and deviation are of values clipped to them.
struct Percentiles {
    const double* percents;
    std::ptrdiff_t count;
    double* out;
    bool clipped;

    // Call at(rank) with ascending ranks, except that of a percentile's upper neighbour.
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

    // The range from the lowest to the highest percentile; after read().
    Clip clip_range() const {
        constexpr double all = std::numeric_limits<double>::infinity();
        if (!clipped || count == 0) return {-all, all};
        const auto ends = std::minmax_element(out, out + count);
        return {*ends.first, *ends.second};
    }
};

}  // namespace lnfast::grid
