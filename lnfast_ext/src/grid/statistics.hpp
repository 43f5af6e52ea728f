// Minimum, maximum, mean, population standard deviation and percentiles of a volume, exactly. Mean and deviation may be
// those of the values after clipping to the lowest and the highest of the percentiles.
//
// Every voxel has a key, an unsigned integer in the order of the voxels (voxel_keys.hpp). One pass finds the least and
// the greatest key, a second counts keys in 65536 bins between them:
//
//     key - least   |  bin, up to 16 bits  |  rest, `shift` bits  |
//
// Without a rest (8 and 16 bit voxels, and others of a small range) the bins determine everything. Otherwise they
// determine in which bin a rank lies, and a third pass collects the few voxels of these bins and sorts them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "core/threads.hpp"
#include "core/vectorized.hpp"
#include "core/view.hpp"
#include "grid/percentiles.hpp"
#include "grid/voxel_keys.hpp"

namespace lnfast::grid {

using core::Team;
using core::vectorized;
using core::View3;

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
    double get() const { return std::isfinite(total_) ? total_ + rest_ : total_; }

private:
    double total_ = 0, rest_ = 0;
};

// Percentiles and moments of the voxels of all rows, by a histogram of their keys.
template <class Code>
class OrderStatistics {
public:
    using Key = typename Code::Key;
    // Writes the keys of a row's voxels that count, and returns how many these are: at most the row's width.
    using LoadRow = std::function<std::ptrdiff_t(std::ptrdiff_t, Key*)>;

    // n: the voxels that count, of all rows together; at least one.
    // ends: the least and the greatest key, where they are known already.
    OrderStatistics(std::ptrdiff_t rows, std::ptrdiff_t width, std::ptrdiff_t n, const LoadRow& load, const Percentiles& requested,
           Team& team, const std::pair<Key, Key>* ends = nullptr)
        : load_(load), requested_(requested), rows_(rows), width_(width), n_(n),
          chunk_(std::max<std::ptrdiff_t>(32768 / width, 1)), chunks_((rows + chunk_ - 1) / chunk_),
          team_(team), ends_(ends), workers_(static_cast<std::size_t>(team_.size())) {}

    // Percentiles alone, without a mean; returns how many greys there are, counted in 65536 bins.
    std::ptrdiff_t percentiles() {
        find_ends();
        count_bins();
        read();
        std::ptrdiff_t greys = 0;
        for (std::size_t bin = 0; bin < up_to_.size(); ++bin) greys += count(bin) != 0;
        return greys;
    }

    Moments moments() {
        find_ends();
        count_bins();
        read();
        const Clip clip = requested_.clip_range();
        const Spread spread = shift_ == 0 ? spread_of_bins(clip) : spread_of_voxels(clip);
        return {Code::decode(least_), Code::decode(greatest_), spread.mean, spread.std};
    }

private:
    using Counts = std::vector<std::int64_t>;

    void read() {
        if (shift_ == 0) requested_.read(n_, [&](std::ptrdiff_t rank) { return value_of_bin(bin_of_rank(rank)); });
        else read_from_voxels();
    }

    // use(worker, row, keys, their number) for every row; a worker is one thread's.
    template <class Use>
    void each_row(const Use& use) {
        team_.each(chunks_, [&](std::ptrdiff_t chunk, int worker) {
            std::vector<Key> keys(static_cast<std::size_t>(width_));
            vectorized([&](auto) {
                for (std::ptrdiff_t row = chunk * chunk_; row < std::min((chunk + 1) * chunk_, rows_); ++row) {
                    const std::ptrdiff_t width = load_(row, keys.data());
                    use(worker, row, static_cast<const Key*>(keys.data()), width);
                }
            });
        });
    }

    void find_ends() {
        if (ends_ == nullptr) read_ends();
        else std::tie(least_, greatest_) = *ends_;
        if (!Code::finite(least_, greatest_))
            throw std::invalid_argument("volume: holds non-finite values (NaN or infinity)");
        while (((greatest_ - least_) >> shift_) > 65535) ++shift_;
    }

    void read_ends() {
        std::vector<Key> least(workers_, std::numeric_limits<Key>::max()), greatest(workers_, 0);
        each_row([&](int worker, std::ptrdiff_t, const Key* keys, std::ptrdiff_t width) {
            Key low = least[worker], high = greatest[worker];
            for (std::ptrdiff_t x = 0; x < width; ++x) {
                low = std::min(low, keys[x]);
                high = std::max(high, keys[x]);
            }
            least[worker] = low;
            greatest[worker] = high;
        });
        least_ = *std::min_element(least.begin(), least.end());
        greatest_ = *std::max_element(greatest.begin(), greatest.end());
    }

    // Neighbours are often alike, and a counter that was just written is slow to read: they use two sets in turn.
    void count_bins() {
        const std::size_t bins = static_cast<std::size_t>((greatest_ - least_) >> shift_) + 1;
        std::vector<Counts> counts(workers_, Counts(2 * bins, 0));
        each_row([&](int worker, std::ptrdiff_t, const Key* keys, std::ptrdiff_t width) {
            std::int64_t *even = counts[worker].data(), *odd = even + bins;
            std::ptrdiff_t x = 0;
            for (; x + 2 <= width; x += 2) {
                ++even[bin_of(keys[x])];
                ++odd[bin_of(keys[x + 1])];
            }
            if (x < width) ++even[bin_of(keys[x])];
        });
        up_to_.assign(bins, 0);
        std::int64_t counted = 0;
        for (std::size_t bin = 0; bin < bins; ++bin) {
            for (const Counts& own : counts) counted += own[bin] + own[bins + bin];
            up_to_[bin] = counted;
        }
        if (counted != n_) throw std::runtime_error("volume: changed while it was measured");
    }

    // Another thread may write into the array between two passes: no bin lies outside.
    std::size_t bin_of(Key key) const { return std::min<Key>((key - least_) >> shift_, (greatest_ - least_) >> shift_); }
    std::size_t bin_of_rank(std::ptrdiff_t rank) const {
        return static_cast<std::size_t>(std::upper_bound(up_to_.begin(), up_to_.end(), rank) - up_to_.begin());
    }
    std::int64_t before(std::size_t bin) const { return bin == 0 ? 0 : up_to_[bin - 1]; }
    std::int64_t count(std::size_t bin) const { return up_to_[bin] - before(bin); }
    double value_of_bin(std::size_t bin) const { return Code::decode(least_ + static_cast<Key>(bin)); }

    void read_from_voxels() {
        std::vector<char> needed(up_to_.size(), 0);
        requested_.read(n_, [&](std::ptrdiff_t rank) {
            needed[bin_of_rank(rank)] = 1;
            return 0.0;
        });
        std::vector<Key> few = collect(needed);
        std::vector<std::int64_t> skipped(up_to_.size(), 0);  // voxels of bins that are not needed, before each bin
        for (std::size_t bin = 1; bin < skipped.size(); ++bin)
            skipped[bin] = skipped[bin - 1] + (needed[bin - 1] ? 0 : count(bin - 1));
        // Everything before `settled` is in its final place, so each selection works on what is left.
        std::ptrdiff_t settled = 0;
        requested_.read(n_, [&](std::ptrdiff_t rank) {
            const std::ptrdiff_t place = rank - skipped[bin_of_rank(rank)];
            if (place < 0 || place >= static_cast<std::ptrdiff_t>(few.size()))
                throw std::runtime_error("volume: changed while it was measured");
            if (place >= settled) {
                std::nth_element(few.begin() + settled, few.begin() + place, few.end());
                settled = place + 1;
            }
            return Code::decode(few[static_cast<std::size_t>(place)]);
        });
    }

    std::vector<Key> collect(const std::vector<char>& needed) {
        std::vector<std::vector<Key>> matches(workers_);
        each_row([&](int worker, std::ptrdiff_t, const Key* keys, std::ptrdiff_t width) {
            for (std::ptrdiff_t x = 0; x < width; ++x)
                if (needed[bin_of(keys[x])]) matches[worker].push_back(keys[x]);
        });
        for (std::size_t worker = 1; worker < workers_; ++worker)
            matches[0].insert(matches[0].end(), matches[worker].begin(), matches[worker].end());
        return std::move(matches[0]);
    }

    Spread spread_of_bins(const Clip& clip) const {
        return spread([&](const auto& part) {
            Sum sum;
            for (std::size_t bin = 0; bin < up_to_.size(); ++bin)
                sum.add(static_cast<double>(count(bin)) * part(clip(value_of_bin(bin))));
            return sum.get();
        });
    }

    // Plain sums within a row, eight side by side, and Neumaier's over rows: the threads do not change the result.
    Spread spread_of_voxels(const Clip& clip) {
        std::vector<double> of_row(static_cast<std::size_t>(rows_));
        return spread([&](const auto& part) {
            each_row([&](int, std::ptrdiff_t row, const Key* keys, std::ptrdiff_t width) {
                double lane[8] = {0, 0, 0, 0, 0, 0, 0, 0}, rest = 0;
                std::ptrdiff_t x = 0;
                for (; x + 8 <= width; x += 8)
                    for (int k = 0; k < 8; ++k) lane[k] += part(clip(Code::decode(keys[x + k])));
                for (; x < width; ++x) rest += part(clip(Code::decode(keys[x])));
                for (int k = 0; k < 8; ++k) rest += lane[k];
                of_row[row] = rest;
            });
            Sum sum;
            for (const double row : of_row) sum.add(row);
            return sum.get();
        });
    }

    // sum_of(part) is the sum of part(value) over all clipped voxels.
    template <class SumOf>
    Spread spread(const SumOf& sum_of) const {
        const double n = static_cast<double>(n_), mean = sum_of([](double value) { return value; }) / n;
        // Squares of what is smaller would vanish; a power of two changes no digit.
        const double largest = std::max(Code::decode(greatest_) - mean, mean - Code::decode(least_));
        const double up = largest < 0x1p-400 ? 0x1p600 : 1.0;
        const auto square = [mean, up](double value) { return (value - mean) * up * ((value - mean) * up); };
        return {mean, std::sqrt(sum_of(square) / n) / up};
    }

    const LoadRow& load_;
    const Percentiles& requested_;
    const std::ptrdiff_t rows_, width_, n_, chunk_, chunks_;
    Team& team_;
    const std::pair<Key, Key>* const ends_;
    const std::size_t workers_;
    Key least_ = 0, greatest_ = 0;
    int shift_ = 0;
    std::vector<std::int64_t> up_to_;  // voxels in this bin and those before
};

template <class T>
Moments intensity_statistics(const View3<T>& volume, const Percentiles& requested, int threads) {
    using Code = CodingOf<T>;
    const std::ptrdiff_t height = volume.size[1];
    const typename OrderStatistics<Code>::LoadRow load = [&](std::ptrdiff_t row, typename Code::Key* keys) {
        read_keys<Code>(volume, row, keys);
        return volume.size[2];
    };
    const std::ptrdiff_t rows = volume.size[0] * height;
    Team team(threads, rows);
    return OrderStatistics<Code>(rows, volume.size[2], rows * volume.size[2], load, requested, team).moments();
}

}  // namespace lnfast::grid
