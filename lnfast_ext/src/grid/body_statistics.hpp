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
#include <limits>
#include <vector>

#include "grid/padding.hpp"
#include "grid/percentiles.hpp"
#include "grid/voxel_keys.hpp"
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

constexpr std::ptrdiff_t cell = 4, slab = 8;  // pixels along an edge; slices
constexpr double darkest_percent = 5, central_percent = 30;
constexpr double cap_factor = 7;  // a voxel counts for no more than the 80th percentile and so many times its height
constexpr double tissue_factor = 3, bright_factor = 4;
constexpr double largest_grey = 1e100;  // beyond it no sum of squares is finite

// The cells of a volume; one for each kind of keys, as Padding.
template <class Code>
class BodyMeter {
public:
    using Key = typename Code::Key;
    using ReadRow = typename Padding<Code>::ReadRow;

    BodyMeter(const std::ptrdiff_t (&size)[3], const ReadRow& read, int threads)
        : read_(read), depth_(size[0]), height_(size[1]), width_(size[2]), team_(threads, depth_ * height_),
          padding_(depth_ * height_, width_, read, team_) {}

    BodyStatistics measure() {
        BodyStatistics result{};
        result.voxels = depth_ * height_ * width_;
        for (const PaddingValue& value : padding_.values()) result.voxels -= value.voxels;
        if (result.voxels == 0) return result;
        const double percents[] = {0.5, floor_percent, 50, 80, 99.5};
        double at[5];
        result.greys = padding_.percentiles({percents, 5, at, false}, result.voxels);
        result.low = at[0], result.floor = at[1], result.median = at[2], result.high = at[4];
        result.tissue = result.level = result.darkest_cells = result.central_cells = result.floor;
        if (at[3] > result.floor && std::max(std::fabs(result.floor), std::fabs(at[3])) < largest_grey)
            measure_cells(result.floor, at[3] + cap_factor * (at[3] - result.floor), result);
        return result;
    }

    const std::vector<PaddingValue>& padding() const { return padding_.values(); }

private:
    void measure_cells(double floor, double cap, BodyStatistics& result) {
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
        result.darkest_cells = percentile(all, darkest_percent);
        result.central_cells = percentile(central, central_percent);
        result.level = result.darkest_cells + 0.5 * (result.central_cells - result.darkest_cells);
        find_tissue(all, floor, result);
        const double count = static_cast<double>(cells.size()), bright = floor + bright_factor * (result.tissue - floor);
        const auto share = [&](double from) {
            return std::count_if(all.begin(), all.end(), [from](double value) { return value >= from; }) / count;
        };
        result.body = share(result.level);
        result.bright = share(bright);
        for (const PaddingValue& value : padding_.flat())
            if (value.value >= bright) result.saturated += value.voxels;
        for (std::ptrdiff_t s = 0; s < slabs && result.bright > 0; ++s) {
            const std::ptrdiff_t patch = largest_patch(&cells[s * down * across], down, across, bright);
            result.bright_patch = std::max(result.bright_patch, patch);
        }
    }

    // The size of the largest patch of cells of at least this brightness that share edges.
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
                if (padding_.empty()) {
                    vectorized([&](auto) {
                        for (std::ptrdiff_t x = 0; x < width_; ++x) sum[x] += clip(Code::decode(key[x]));
                    });
                    continue;
                }
                for (std::ptrdiff_t x = 0; x < width_; ++x) {
                    if (padding_.contains(key[x])) continue;
                    sum[x] += clip(Code::decode(key[x]));
                    voxels[x] += 1;
                }
            }
        const double rows = static_cast<double>((to - from) * (bottom - top));
        if (padding_.empty()) std::fill(voxels.begin(), voxels.end(), rows);
        for (std::ptrdiff_t x = 0; x < width_; x += cell) {
            const std::ptrdiff_t end = std::min(x + cell, width_);
            double total = 0, count = 0;
            for (std::ptrdiff_t k = x; k < end; ++k) total += sums[k], count += voxels[k];
            const bool enough = 2 * count >= rows * static_cast<double>(end - x);
            cells[x / cell] = enough ? total / count : std::numeric_limits<double>::quiet_NaN();
        }
    }

    static void find_tissue(const std::vector<double>& cells, double floor, BodyStatistics& result) {
        std::vector<double> body, near;
        for (const double value : cells)
            if (value >= result.level) body.push_back(value);
        if (body.empty()) return;
        near = body;
        result.tissue = percentile(near, 50);
        for (int round = 0; round < 8; ++round) {
            const double before = result.tissue, most = floor + tissue_factor * (before - floor);
            near.clear();
            for (const double value : body)
                if (value <= most) near.push_back(value);
            if (near.empty()) break;
            result.tissue = percentile(near, 50);
            if (result.tissue == before) break;
        }
        for (double& value : near) value = std::fabs(value - result.tissue);
        if (!near.empty()) result.spread = percentile(near, 50);
    }

    const ReadRow& read_;
    const std::ptrdiff_t depth_, height_, width_;
    Team team_;
    const Padding<Code> padding_;
};

template <class T>
BodyStatistics body_statistics(const View3<T>& volume, int threads, std::vector<PaddingValue>& padding) {
    using Code = CodingOf<T>;
    const typename BodyMeter<Code>::ReadRow read = [&](std::ptrdiff_t row, typename Code::Key* keys) {
        read_keys<Code>(volume, row, keys);
    };
    BodyMeter<Code> meter(volume.size, read, threads);
    const BodyStatistics result = meter.measure();
    padding = meter.padding();
    return result;
}

}  // namespace lnfast::grid
