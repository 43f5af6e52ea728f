// How bright the patient is, whatever lies around him: padding, flares and pile-ups in a tenth of the voxels move none of
// these numbers by more than a few percent, where mean and deviation of the whole volume become those of the artefact.
//
//     rows     -> padding          one value in long runs or at the ends of rows; left out of all that follows
//     voxels   -> floor            the 2nd percentile: air, or the darkest tissue where the field holds no air
//     cells    -> body and tissue  means of 4 x 4 pixels over some slices, in which noise is a few percent
//
//     cells, sorted    air air air air | tissue tissue tissue tissue organs      bright
//                                    level      ^ median                     ^ floor + 3 (tissue - floor)
//
// The level lies halfway between the 5th percentile of all cells, which is air if there is any, and the 30th of the cells in
// the middle of the plane, where a patient lies. Tissue is the median of the cells above the level, without those that
// are more than three times as bright as itself: a redescending estimate, which a bright artefact cannot pull along.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <unordered_map>
#include <vector>

#include "grid/statistics.hpp"
#include "core/threads.hpp"
#include "core/vectorized.hpp"
#include "core/view.hpp"

namespace lnfast::grid {

using core::Team;
using core::vectorized;
using core::View3;

struct BodyStatistics {
    double floor, tissue, level, spread;  // spread: the median distance of the cells that tissue is the median of, from it
    double low, median, high;             // percentiles 0.5, 50 and 99.5 of the voxels that are no padding
    double darkest_cells, central_cells;  // the two percentiles of cells that the level lies between
    double body, bright;                  // shares of all cells: at least the level; floor + 4 (tissue - floor) and more
    std::ptrdiff_t voxels, greys;         // that are no padding; different values among them, counted in 65536 bins
    std::ptrdiff_t bright_patch;          // cells of the largest patch of bright ones, edge to edge in one plane
    std::ptrdiff_t saturated;             // voxels of one bright value that lies in long runs and is no padding
};

struct PaddingValue {
    double value;
    std::ptrdiff_t voxels;
    bool at_rim;  // most of them lie in runs that touch the end of a row
};

namespace body {

constexpr std::ptrdiff_t long_run = 8;         // noise has no eight equal neighbours
constexpr std::ptrdiff_t fewest_padding = 64;  // voxels
constexpr double fewest_share = 0.0005, run_share = 0.5, rim_share = 0.8;
constexpr std::ptrdiff_t cell = 4, slab = 8;  // pixels along an edge; slices
constexpr double floor_percent = 2, darkest_percent = 5, central_percent = 30;
constexpr double cap_factor = 7;  // a voxel counts for no more than the 80th percentile and so many times its height
constexpr double tissue_factor = 3, bright_factor = 4;
constexpr double largest = 1e100;  // beyond it no sum of squares is finite

// The voxels in runs of one value: of eight and more, and of any length at either end of a row.
struct Runs {
    std::ptrdiff_t all = 0, rim = 0;
};

// linear between ranks, as numpy.percentile's default; `values` is put into another order
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

// One for each kind of keys, not for each type of voxels: rows are read through a function.
template <class Code>
class Measurement {
public:
    using Key = typename Code::Key;
    using ReadRow = std::function<void(std::ptrdiff_t, Key*)>;  // the keys of a row, counted through all slices

    Measurement(const std::ptrdiff_t (&size)[3], const ReadRow& read, int threads)
        : read_(read), depth_(size[0]), height_(size[1]), width_(size[2]), rows_(depth_ * height_),
          team_(threads, rows_) {}

    BodyStatistics measure() {
        find_padding();
        BodyStatistics found{};
        found.voxels = rows_ * width_;
        for (const PaddingValue& value : padding_) found.voxels -= value.voxels;
        if (found.voxels == 0) return found;
        const double percents[] = {0.5, floor_percent, 50, 80, 99.5};
        double at[5];
        const Percentiles wanted{percents, 5, at, false};
        found.greys = read(wanted, found.voxels);
        found.low = at[0], found.floor = at[1], found.median = at[2], found.high = at[4];
        found.tissue = found.level = found.darkest_cells = found.central_cells = found.floor;
        if (at[3] > found.floor && std::max(std::fabs(found.floor), std::fabs(at[3])) < largest)
            measure_cells(found.floor, at[3] + cap_factor * (at[3] - found.floor), found);
        return found;
    }

    const std::vector<PaddingValue>& padding() const { return padding_; }

private:
    using RunsOf = std::unordered_map<Key, Runs>;

    struct Run {
        Key key;
        std::ptrdiff_t length;
        bool rim;
    };

    // What one thread saw. Voxels are summed by a hash of their value as well: of noise, which begins and ends each row
    // with another value, no sum is large, and its runs are not looked at again.
    struct Seen {
        static std::size_t hash(Key key) { return static_cast<std::size_t>((key ^ (key >> 13)) % buckets); }
        void add(Key key, std::ptrdiff_t length, bool rim) {
            runs.push_back({key, length, rim});
            voxels[hash(key)] += length;
        }
        void look(const Key* keys, std::ptrdiff_t width) {
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

    void find_padding() {
        std::vector<Seen> seen(static_cast<std::size_t>(team_.size()));
        const std::ptrdiff_t chunk = std::max<std::ptrdiff_t>(32768 / width_, 1), chunks = (rows_ + chunk - 1) / chunk;
        team_.each(chunks, [&](std::ptrdiff_t task, int worker) {
            std::vector<Key> keys(static_cast<std::size_t>(width_));
            Seen& own = seen[static_cast<std::size_t>(worker)];
            for (std::ptrdiff_t row = task * chunk; row < std::min((task + 1) * chunk, rows_); ++row) {
                read_(row, keys.data());
                count_runs(keys.data(), own);
                vectorized([&](auto) { own.look(keys.data(), width_); });
            }
        });
        const double share = fewest_share * static_cast<double>(rows_ * width_);
        const auto enough = [share](std::ptrdiff_t voxels) {
            return voxels >= fewest_padding && static_cast<double>(voxels) >= share;
        };
        ends_ = {std::numeric_limits<Key>::max(), 0};
        for (const Seen& of : seen) ends_ = {std::min(ends_.first, of.least), std::max(ends_.second, of.greatest)};
        for (std::size_t worker = 1; worker < seen.size(); ++worker)
            for (std::size_t k = 0; k < Seen::buckets; ++k) seen[0].voxels[k] += seen[worker].voxels[k];
        RunsOf runs;
        for (const Seen& of : seen)
            for (const Run& run : of.runs) {
                if (!enough(seen[0].voxels[Seen::hash(run.key)])) continue;
                Runs& sum = runs[run.key];
                sum.all += run.length;
                if (run.rim) sum.rim += run.length;
            }
        std::vector<Key> candidates;
        for (const auto& [key, of] : runs)
            if (enough(of.all)) candidates.push_back(key);
        std::sort(candidates.begin(), candidates.end());
        if (!candidates.empty()) choose(candidates, runs);
    }

    // A row of noise costs a comparison for every four voxels.
    void count_runs(const Key* keys, Seen& seen) const {
        std::ptrdiff_t head = 1, tail = 1;
        while (head < width_ && keys[head] == keys[0]) ++head;
        seen.add(keys[0], head, true);
        if (head == width_) return;
        while (keys[width_ - 1 - tail] == keys[width_ - 1]) ++tail;
        seen.add(keys[width_ - 1], tail, true);
        // A run of eight holds a place whose number is a multiple of four, and the four after it.
        for (std::ptrdiff_t x = (head + 3) / 4 * 4; x + 4 < width_ - tail; x += 4) {
            const Key key = keys[x];
            if (keys[x + 4] != key || keys[x + 1] != key || keys[x + 2] != key || keys[x + 3] != key) continue;
            std::ptrdiff_t begin = x, end = x + 5;
            while (keys[begin - 1] == key) --begin;  // stops at the head, which is another value
            while (keys[end] == key) ++end;          // and at the tail
            if (end - begin >= long_run) seen.add(key, end - begin, false);
            x = (end - 1) / 4 * 4;
        }
    }

    // Of the values with runs: those that lie in little else, and below all other voxels or at the ends of rows.
    void choose(const std::vector<Key>& candidates, const RunsOf& runs) {
        const std::vector<std::ptrdiff_t> counts = count(candidates);
        std::vector<Key> in_runs;
        std::vector<PaddingValue> values;
        for (std::size_t k = 0; k < candidates.size(); ++k) {
            const Runs& of = runs.at(candidates[k]);
            if (static_cast<double>(of.all) < run_share * static_cast<double>(counts[k])) continue;
            const bool at_rim = static_cast<double>(of.rim) >= rim_share * static_cast<double>(of.all);
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
        const Percentiles wanted{&floor_percent, 1, &floor, false};
        read(wanted, left);
        return floor;
    }

    std::vector<std::ptrdiff_t> count(const std::vector<Key>& values) const {
        std::vector<std::ptrdiff_t> counts(values.size(), 0);
        std::vector<Key> keys(static_cast<std::size_t>(width_));
        for (std::ptrdiff_t row = 0; row < rows_; ++row) {
            read_(row, keys.data());
            for (std::size_t k = 0; k < values.size(); ++k)
                counts[k] += std::count(keys.begin(), keys.end(), values[k]);
        }
        return counts;
    }

    bool is_padding(Key key) const {
        for (const Key value : excluded_)
            if (key == value) return true;
        return false;
    }

    // The keys of a row without those of padding.
    std::ptrdiff_t rest_of(std::ptrdiff_t row, Key* keys) const {
        read_(row, keys);
        if (excluded_.empty()) return width_;
        return std::remove_if(keys, keys + width_, [this](Key key) { return is_padding(key); }) - keys;
    }

    void measure_cells(double floor, double cap, BodyStatistics& found) {
        const std::ptrdiff_t slabs = std::max<std::ptrdiff_t>(depth_ / slab, 1);
        const std::ptrdiff_t down = (height_ + cell - 1) / cell, across = (width_ + cell - 1) / cell;
        std::vector<double> cells(static_cast<std::size_t>(slabs * down * across));
        team_.each(slabs * down, [&](std::ptrdiff_t task, int) {
            // The first slabs are a slice thicker where the slices do not come out even, as numpy.array_split has it.
            const std::ptrdiff_t s = task / down, y = task % down, thick = depth_ / slabs, more = depth_ % slabs;
            const std::ptrdiff_t from = s * thick + std::min(s, more), to = from + thick + (s < more);
            fill_cells(from, to, y * cell, std::min((y + 1) * cell, height_), {floor, cap}, &cells[task * across]);
        });
        std::vector<double> all, central;
        const std::ptrdiff_t top = down / 5, left = across / 5;
        for (std::ptrdiff_t k = 0; k < slabs * down * across; ++k) {
            if (std::isnan(cells[k])) continue;
            all.push_back(cells[k]);
            const std::ptrdiff_t y = k / across % down, x = k % across;
            if (y >= top && y < down - top && x >= left && x < across - left) central.push_back(cells[k]);
        }
        if (all.empty() || central.empty()) return;
        found.darkest_cells = percentile(all, darkest_percent);
        found.central_cells = percentile(central, central_percent);
        found.level = found.darkest_cells + 0.5 * (found.central_cells - found.darkest_cells);
        find_tissue(all, floor, found);
        const double count = static_cast<double>(cells.size()), bright = floor + bright_factor * (found.tissue - floor);
        const auto share = [&](double from) {
            return std::count_if(all.begin(), all.end(), [from](double value) { return value >= from; }) / count;
        };
        found.body = share(found.level);
        found.bright = share(bright);
        for (const PaddingValue& value : flat_)
            if (value.value >= bright) found.saturated += value.voxels;
        for (std::ptrdiff_t s = 0; s < slabs && found.bright > 0; ++s) {
            const std::ptrdiff_t patch = largest_patch(&cells[s * down * across], down, across, bright);
            found.bright_patch = std::max(found.bright_patch, patch);
        }
    }

    // Cells of at least this brightness that share edges.
    static std::ptrdiff_t largest_patch(const double* cells, std::ptrdiff_t down, std::ptrdiff_t across, double from) {
        std::vector<char> open(static_cast<std::size_t>(down * across));
        for (std::ptrdiff_t k = 0; k < down * across; ++k) open[k] = cells[k] >= from;
        std::ptrdiff_t largest = 0;
        std::vector<std::ptrdiff_t> stack;
        for (std::ptrdiff_t first = 0; first < down * across; ++first) {
            std::ptrdiff_t size = 0;
            const auto visit = [&](std::ptrdiff_t k) {
                if (!open[k]) return;
                open[k] = 0;
                stack.push_back(k);
            };
            for (visit(first); !stack.empty(); ++size) {
                const std::ptrdiff_t k = stack.back(), x = k % across;
                stack.pop_back();
                if (k >= across) visit(k - across);
                if (k + across < down * across) visit(k + across);
                if (x > 0) visit(k - 1);
                if (x + 1 < across) visit(k + 1);
            }
            largest = std::max(largest, size);
        }
        return largest;
    }

    // Means of cells of 4 x 4 pixels over some slices; NaN where less than half of one is no padding.
    void fill_cells(std::ptrdiff_t from, std::ptrdiff_t to, std::ptrdiff_t top, std::ptrdiff_t bottom, const Clip& clip,
                    double* cells) const {
        std::vector<Key> keys(static_cast<std::size_t>(width_));
        std::vector<double> sums(static_cast<std::size_t>(width_), 0.0), voxels(static_cast<std::size_t>(width_), 0.0);
        double* __restrict sum = sums.data();
        for (std::ptrdiff_t z = from; z < to; ++z)
            for (std::ptrdiff_t y = top; y < bottom; ++y) {
                const Key* __restrict key = keys.data();
                read_(z * height_ + y, keys.data());
                if (excluded_.empty()) {
                    vectorized([&](auto) {
                        for (std::ptrdiff_t x = 0; x < width_; ++x) sum[x] += clip(Code::decode(key[x]));
                    });
                    continue;
                }
                for (std::ptrdiff_t x = 0; x < width_; ++x) {
                    if (is_padding(key[x])) continue;
                    sum[x] += clip(Code::decode(key[x]));
                    voxels[x] += 1;
                }
            }
        const double rows = static_cast<double>((to - from) * (bottom - top));
        if (excluded_.empty()) std::fill(voxels.begin(), voxels.end(), rows);
        for (std::ptrdiff_t x = 0; x < width_; x += cell) {
            const std::ptrdiff_t end = std::min(x + cell, width_);
            double total = 0, held = 0;
            for (std::ptrdiff_t k = x; k < end; ++k) total += sums[k], held += voxels[k];
            const bool enough = 2 * held >= rows * static_cast<double>(end - x);
            cells[x / cell] = enough ? total / held : std::numeric_limits<double>::quiet_NaN();
        }
    }

    static void find_tissue(const std::vector<double>& cells, double floor, BodyStatistics& found) {
        std::vector<double> body, near;
        for (const double value : cells)
            if (value >= found.level) body.push_back(value);
        if (body.empty()) return;
        near = body;
        found.tissue = percentile(near, 50);
        for (int round = 0; round < 8; ++round) {
            const double before = found.tissue, most = floor + tissue_factor * (before - floor);
            near.clear();
            for (const double value : body)
                if (value <= most) near.push_back(value);
            if (near.empty()) break;
            found.tissue = percentile(near, 50);
            if (found.tissue == before) break;
        }
        for (double& value : near) value = std::fabs(value - found.tissue);
        if (!near.empty()) found.spread = percentile(near, 50);
    }

    // The 2nd percentile and the like, of the voxels that are no padding, `voxels` in number.
    std::ptrdiff_t read(const Percentiles& wanted, std::ptrdiff_t voxels) {
        const typename Survey<Code>::LoadRow load = [this](std::ptrdiff_t row, Key* keys) { return rest_of(row, keys); };
        const std::pair<Key, Key>* ends = excluded_.empty() ? &ends_ : nullptr;
        return Survey<Code>(rows_, width_, voxels, load, wanted, team_, ends).percentiles();
    }

    const ReadRow& read_;
    const std::ptrdiff_t depth_, height_, width_, rows_;
    Team team_;
    std::pair<Key, Key> ends_{};
    std::vector<Key> excluded_;
    std::vector<PaddingValue> padding_, flat_;
};

}  // namespace body

template <class T>
BodyStatistics body_statistics(const View3<T>& volume, int threads, std::vector<PaddingValue>& padding) {
    using Code = CodingOf<T>;
    const typename body::Measurement<Code>::ReadRow read = [&](std::ptrdiff_t row, typename Code::Key* keys) {
        read_keys<Code>(volume, row, keys);
    };
    body::Measurement<Code> measurement(volume.size, read, threads);
    const BodyStatistics found = measurement.measure();
    padding = measurement.padding();
    return found;
}

}  // namespace lnfast::grid
