// Minimum, maximum, mean, population standard deviation and percentiles of a volume, exactly. Mean and deviation may be
// asked of the values as they are after clipping to the lowest and the highest of the percentiles.
//
// Percentiles follow numpy's default ("linear"): rank = q / 100 * (n - 1), linear between its two neighbours
//
//     sorted   v0    v1    v2    v3    v4
//     rank     0     1     2  ^  3     4       q = 62.5: halfway between v2 and v3
//
// Every voxel has a key, an unsigned integer in the order of the voxels. One pass finds the least and the greatest key,
// a second counts keys in 65536 bins between them:
//
//     key - least   |  bin, up to 16 bits  |  rest, `shift` bits  |
//
// Without a rest (8 and 16 bit voxels, and others of a small range) the bins say everything. Otherwise they say in which
// bin a rank lies, and a third pass collects the few voxels of these bins and sorts them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/threads.hpp"
#include "core/vectorized.hpp"
#include "core/view.hpp"

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

struct Clip {
    double low, high;
    double operator()(double value) const { return std::min(std::max(value, low), high); }
};

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

enum class Kind { natural, whole, real };  // unsigned, signed, floating

// A type of voxels as keys: unsigned integers of the voxel's size, 32 bits at least, that are less where the voxel is
// less. Narrow integers use the 32 bits of wider ones.
template <class Key_, Kind kind>
struct Coding {
    using Key = Key_;
    static constexpr Key sign = Key{1} << (8 * sizeof(Key) - 1);

    template <class T>
    static Key encode(T value) {
        if constexpr (kind == Kind::natural) return value;
        if constexpr (kind == Kind::whole) return static_cast<Key>(value) ^ sign;
        if constexpr (kind == Kind::real) {
            Key bits;
            std::memcpy(&bits, &value, sizeof bits);
            return (bits & sign) != 0 ? ~bits : bits | sign;
        }
    }

    static double decode(Key key) {
        if constexpr (kind == Kind::natural) return static_cast<double>(key);
        if constexpr (kind == Kind::whole) return static_cast<double>(static_cast<std::make_signed_t<Key>>(key ^ sign));
        if constexpr (kind == Kind::real) {
            const Key bits = (key & sign) != 0 ? key ^ sign : ~key;
            std::conditional_t<sizeof(Key) == 8, double, float> value;
            std::memcpy(&value, &bits, sizeof value);
            return static_cast<double>(value);
        }
    }

    // Infinity and NaN lie outside the keys of finite numbers, on either side.
    static bool finite(Key least, Key greatest) {
        if constexpr (kind != Kind::real) return true;
        using Real = std::conditional_t<sizeof(Key) == 8, double, float>;
        constexpr Real largest = std::numeric_limits<Real>::max();
        return least >= encode(-largest) && greatest <= encode(largest);
    }
};

template <class T>
using CodingOf = Coding<std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>,
                        std::is_floating_point_v<T> ? Kind::real : std::is_signed_v<T> ? Kind::whole : Kind::natural>;

template <class Code>
class Survey {
public:
    using Key = typename Code::Key;
    // Writes the keys of a row's voxels that count, and says how many these are: at most the row's width.
    using LoadRow = std::function<std::ptrdiff_t(std::ptrdiff_t, Key*)>;

    // n: the voxels that count, of all rows together; at least one.
    // ends: the least and the greatest key, where they are known already.
    Survey(std::ptrdiff_t rows, std::ptrdiff_t width, std::ptrdiff_t n, const LoadRow& load, const Percentiles& wanted,
           Team& team, const std::pair<Key, Key>* ends = nullptr)
        : load_(load), wanted_(wanted), rows_(rows), width_(width), n_(n),
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
        const Clip clip = wanted_.clip_range();
        const Spread found = shift_ == 0 ? spread_of_bins(clip) : spread_of_voxels(clip);
        return {Code::decode(least_), Code::decode(greatest_), found.mean, found.std};
    }

private:
    using Counts = std::vector<std::int64_t>;

    void read() {
        if (shift_ == 0) wanted_.read(n_, [&](std::ptrdiff_t rank) { return value_of_bin(bin_of_rank(rank)); });
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
        if (ends_ == nullptr) look_for_ends();
        else std::tie(least_, greatest_) = *ends_;
        if (!Code::finite(least_, greatest_))
            throw std::invalid_argument("volume: holds non-finite values (NaN or infinity)");
        while (((greatest_ - least_) >> shift_) > 65535) ++shift_;
    }

    void look_for_ends() {
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
        std::int64_t seen = 0;
        for (std::size_t bin = 0; bin < bins; ++bin) {
            for (const Counts& own : counts) seen += own[bin] + own[bins + bin];
            up_to_[bin] = seen;
        }
        if (seen != n_) throw std::runtime_error("volume: changed while it was measured");
    }

    // The array may be another thread's, which writes where it was read a moment ago: no bin lies outside.
    std::size_t bin_of(Key key) const { return std::min<Key>((key - least_) >> shift_, (greatest_ - least_) >> shift_); }
    std::size_t bin_of_rank(std::ptrdiff_t rank) const {
        return static_cast<std::size_t>(std::upper_bound(up_to_.begin(), up_to_.end(), rank) - up_to_.begin());
    }
    std::int64_t before(std::size_t bin) const { return bin == 0 ? 0 : up_to_[bin - 1]; }
    std::int64_t count(std::size_t bin) const { return up_to_[bin] - before(bin); }
    double value_of_bin(std::size_t bin) const { return Code::decode(least_ + static_cast<Key>(bin)); }

    void read_from_voxels() {
        std::vector<char> needed(up_to_.size(), 0);
        wanted_.read(n_, [&](std::ptrdiff_t rank) {
            needed[bin_of_rank(rank)] = 1;
            return 0.0;
        });
        std::vector<Key> few = collect(needed);
        std::vector<std::int64_t> skipped(up_to_.size(), 0);  // voxels of bins that are not needed, before each bin
        for (std::size_t bin = 1; bin < skipped.size(); ++bin)
            skipped[bin] = skipped[bin - 1] + (needed[bin - 1] ? 0 : count(bin - 1));
        // Everything before `settled` is in its final place, so each selection works on what is left.
        std::ptrdiff_t settled = 0;
        wanted_.read(n_, [&](std::ptrdiff_t rank) {
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
        std::vector<std::vector<Key>> found(workers_);
        each_row([&](int worker, std::ptrdiff_t, const Key* keys, std::ptrdiff_t width) {
            for (std::ptrdiff_t x = 0; x < width; ++x)
                if (needed[bin_of(keys[x])]) found[worker].push_back(keys[x]);
        });
        for (std::size_t worker = 1; worker < workers_; ++worker)
            found[0].insert(found[0].end(), found[worker].begin(), found[worker].end());
        return std::move(found[0]);
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
    const Percentiles& wanted_;
    const std::ptrdiff_t rows_, width_, n_, chunk_, chunks_;
    Team& team_;
    const std::pair<Key, Key>* const ends_;
    const std::size_t workers_;
    Key least_ = 0, greatest_ = 0;
    int shift_ = 0;
    std::vector<std::int64_t> up_to_;  // voxels in this bin and those before
};

// The keys of a row of a volume; rows are counted through all slices.
template <class Code, class T>
void read_keys(const View3<T>& volume, std::ptrdiff_t row, typename Code::Key* keys) {
    const std::ptrdiff_t height = volume.size[1];
    vectorized([&](auto) {
        volume.read_row(row / height, row % height, keys, [](T value) { return Code::encode(value); });
    });
}

template <class T>
Moments intensity_statistics(const View3<T>& volume, const Percentiles& wanted, int threads) {
    using Code = CodingOf<T>;
    const std::ptrdiff_t height = volume.size[1];
    const typename Survey<Code>::LoadRow load = [&](std::ptrdiff_t row, typename Code::Key* keys) {
        read_keys<Code>(volume, row, keys);
        return volume.size[2];
    };
    const std::ptrdiff_t rows = volume.size[0] * height;
    Team team(threads, rows);
    return Survey<Code>(rows, volume.size[2], rows * volume.size[2], load, wanted, team).moments();
}

}  // namespace lnfast::grid
