// Padding: values that fill what was not acquired. A value of at least 64 and 0.05 % of the voxels, half of which or
// more lie in runs along x of eight and more, or of any length at the ends of rows; and it lies below the 2nd percentile
// of all other voxels, or at the ends of rows for the most part.
//
//     row    0 0 0 0 0 0 21 34 19 40 33 18 0 0 0 0      0: two runs that touch the ends of the row
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/threads.hpp"
#include "core/vectorized.hpp"
#include "grid/percentiles.hpp"
#include "grid/statistics.hpp"

namespace lnfast::grid {

using core::Team;
using core::vectorized;

struct PaddingValue {
    double value;
    std::ptrdiff_t voxels;
    bool at_rim;  // most of them lie in runs that touch the end of a row
};

constexpr std::ptrdiff_t long_run = 8;         // noise has no eight equal neighbours
constexpr std::ptrdiff_t fewest_padding = 64;  // voxels
constexpr double fewest_share = 0.0005, run_share = 0.5, rim_share = 0.8;
constexpr double floor_percent = 2;

// The padding of a volume, and the voxels that are none. One for each kind of keys, not for each type of voxels: rows are
// read through a function.
template <class Code>
class Padding {
public:
    using Key = typename Code::Key;
    using ReadRow = std::function<void(std::ptrdiff_t, Key*)>;  // the keys of a row, counted through all slices

    Padding(std::ptrdiff_t rows, std::ptrdiff_t width, const ReadRow& read, Team& team)
        : read_(read), rows_(rows), width_(width), team_(team) {
        find();
    }

    const std::vector<PaddingValue>& values() const { return padding_; }
    // Values that lie in long runs for the most part and are no padding.
    const std::vector<PaddingValue>& flat() const { return flat_; }
    bool empty() const { return excluded_.empty(); }

    bool contains(Key key) const {
        for (const Key value : excluded_)
            if (key == value) return true;
        return false;
    }

    // Percentiles of the voxels that are no padding, `voxels` in number; returns how many greys they have, counted in
    // 65536 bins.
    std::ptrdiff_t percentiles(const Percentiles& requested, std::ptrdiff_t voxels) const {
        using LoadRow = typename OrderStatistics<Code>::LoadRow;
        const LoadRow load = [this](std::ptrdiff_t row, Key* keys) { return rest_of(row, keys); };
        const std::pair<Key, Key>* ends = excluded_.empty() ? &ends_ : nullptr;
        return OrderStatistics<Code>(rows_, width_, voxels, load, requested, team_, ends).percentiles();
    }

private:
    // The voxels in runs of one value: of eight and more, and of any length at either end of a row.
    struct Runs {
        std::ptrdiff_t all = 0, rim = 0;
    };

    using RunsOf = std::unordered_map<Key, Runs>;

    struct Run {
        Key key;
        std::ptrdiff_t length;
        bool rim;
    };

    // The runs that one thread has read. Voxels are summed by a hash of their value as well: of noise, which begins and
    // ends each row with another value, no sum is large, and its runs are not examined again.
    struct Tally {
        static std::size_t hash(Key key) { return static_cast<std::size_t>((key ^ (key >> 13)) % buckets); }
        void add(Key key, std::ptrdiff_t length, bool rim) {
            runs.push_back({key, length, rim});
            voxels[hash(key)] += length;
        }
        void widen(const Key* keys, std::ptrdiff_t width) {
            Key low = least, high = greatest;
            for (std::ptrdiff_t x = 0; x < width; ++x) {
                low = std::min(low, keys[x]);
                high = std::max(high, keys[x]);
            }
            least = low;
            greatest = high;
        }
        static constexpr std::size_t buckets = 4093;
        Key least = std::numeric_limits<Key>::max(), greatest = 0;
        std::vector<Run> runs;
        std::vector<std::ptrdiff_t> voxels = std::vector<std::ptrdiff_t>(buckets, 0);
    };

    void find() {
        std::vector<Tally> tallies(static_cast<std::size_t>(team_.size()));
        each_row([&](std::size_t worker, const Key* keys) {
            count_runs(keys, tallies[worker]);
            vectorized([&](auto) { tallies[worker].widen(keys, width_); });
        });
        const double share = fewest_share * static_cast<double>(rows_ * width_);
        const auto enough = [share](std::ptrdiff_t voxels) {
            return voxels >= fewest_padding && static_cast<double>(voxels) >= share;
        };
        ends_ = {std::numeric_limits<Key>::max(), 0};
        for (const Tally& tally : tallies)
            ends_ = {std::min(ends_.first, tally.least), std::max(ends_.second, tally.greatest)};
        for (std::size_t worker = 1; worker < tallies.size(); ++worker)
            for (std::size_t k = 0; k < Tally::buckets; ++k) tallies[0].voxels[k] += tallies[worker].voxels[k];
        RunsOf runs;
        for (const Tally& tally : tallies)
            for (const Run& run : tally.runs) {
                if (!enough(tallies[0].voxels[Tally::hash(run.key)])) continue;
                Runs& sum = runs[run.key];
                sum.all += run.length;
                if (run.rim) sum.rim += run.length;
            }
        std::vector<Key> candidates;
        for (const auto& [key, sum] : runs)
            if (enough(sum.all)) candidates.push_back(key);
        std::sort(candidates.begin(), candidates.end());
        if (!candidates.empty()) select(candidates, runs);
    }

    // A row of noise costs a comparison for every four voxels.
    void count_runs(const Key* keys, Tally& tally) const {
        std::ptrdiff_t head = 1, tail = 1;
        while (head < width_ && keys[head] == keys[0]) ++head;
        tally.add(keys[0], head, true);
        if (head == width_) return;
        while (keys[width_ - 1 - tail] == keys[width_ - 1]) ++tail;
        tally.add(keys[width_ - 1], tail, true);
        // A run of eight holds a place whose number is a multiple of four, and the four after it.
        for (std::ptrdiff_t x = (head + 3) / 4 * 4; x + 4 < width_ - tail; x += 4) {
            const Key key = keys[x];
            if (keys[x + 4] != key || keys[x + 1] != key || keys[x + 2] != key || keys[x + 3] != key) continue;
            std::ptrdiff_t begin = x, end = x + 5;
            while (keys[begin - 1] == key) --begin;  // stops at the head, which is another value
            while (keys[end] == key) ++end;          // and at the tail
            if (end - begin >= long_run) tally.add(key, end - begin, false);
            x = (end - 1) / 4 * 4;
        }
    }

    // Of the values with runs: those that lie in hardly anything else, and below all other voxels or at the ends of rows.
    void select(const std::vector<Key>& candidates, const RunsOf& runs) {
        const std::vector<std::ptrdiff_t> counts = count(candidates);
        std::vector<Key> in_runs;
        std::vector<PaddingValue> values;
        for (std::size_t k = 0; k < candidates.size(); ++k) {
            const Runs& in_value = runs.at(candidates[k]);
            if (static_cast<double>(in_value.all) < run_share * static_cast<double>(counts[k])) continue;
            const bool at_rim = static_cast<double>(in_value.rim) >= rim_share * static_cast<double>(in_value.all);
            in_runs.push_back(candidates[k]);
            values.push_back({Code::decode(candidates[k]), counts[k], at_rim});
        }
        excluded_ = in_runs;
        const double floor = floor_of_rest(values);
        excluded_.clear();
        for (std::size_t k = 0; k < values.size(); ++k) {
            if (!values[k].at_rim && !(values[k].value <= floor)) {
                flat_.push_back(values[k]);
                continue;
            }
            excluded_.push_back(in_runs[k]);
            padding_.push_back(values[k]);
        }
    }

    // Of the voxels without any value that has runs; below everything where there are none.
    double floor_of_rest(const std::vector<PaddingValue>& values) {
        std::ptrdiff_t left = rows_ * width_;
        for (const PaddingValue& value : values) left -= value.voxels;
        if (left == 0 || values.empty()) return -std::numeric_limits<double>::infinity();
        double floor;
        percentiles({&floor_percent, 1, &floor, false}, left);
        return floor;
    }

    std::vector<std::ptrdiff_t> count(const std::vector<Key>& values) const {
        std::vector<std::vector<std::ptrdiff_t>> counts(static_cast<std::size_t>(team_.size()));
        for (std::vector<std::ptrdiff_t>& own : counts) own.assign(values.size(), 0);
        each_row([&](std::size_t worker, const Key* keys) {
            vectorized([&](auto) {
                for (std::size_t k = 0; k < values.size(); ++k) {
                    Key equal = 0;  // as wide as the keys, so that it is counted in their vectors
                    for (std::ptrdiff_t x = 0; x < width_; ++x) equal += keys[x] == values[k];
                    counts[worker][k] += static_cast<std::ptrdiff_t>(equal);
                }
            });
        });
        for (std::size_t worker = 1; worker < counts.size(); ++worker)
            for (std::size_t k = 0; k < values.size(); ++k) counts[0][k] += counts[worker][k];
        return counts[0];
    }

    // use(worker, keys) for every row.
    template <class Use>
    void each_row(const Use& use) const {
        const std::ptrdiff_t chunk = std::max<std::ptrdiff_t>(32768 / width_, 1), chunks = (rows_ + chunk - 1) / chunk;
        team_.each(chunks, [&](std::ptrdiff_t task, int worker) {
            std::vector<Key> keys(static_cast<std::size_t>(width_));
            for (std::ptrdiff_t row = task * chunk; row < std::min((task + 1) * chunk, rows_); ++row) {
                read_(row, keys.data());
                use(static_cast<std::size_t>(worker), static_cast<const Key*>(keys.data()));
            }
        });
    }

    // The keys of a row without those of padding.
    std::ptrdiff_t rest_of(std::ptrdiff_t row, Key* keys) const {
        read_(row, keys);
        if (excluded_.empty()) return width_;
        return std::remove_if(keys, keys + width_, [this](Key key) { return contains(key); }) - keys;
    }

    const ReadRow& read_;
    const std::ptrdiff_t rows_, width_;
    Team& team_;
    std::pair<Key, Key> ends_{};
    std::vector<Key> excluded_;
    std::vector<PaddingValue> padding_, flat_;
};

}  // namespace lnfast::grid
