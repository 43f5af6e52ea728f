// The voxels of every label as runs, sorted by label, in raster order within a label. One pass over the volume.
//
//     row z, y:   . . 2 2 2 . . 1 1 .        runs  {2: x 2..5}  {1: x 7..9}
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/view.hpp"

namespace lnfast::components {

using core::skip_zeros;
using core::View3;

struct Run {
    std::int32_t z, y, begin, end;  // x, end exclusive
};

class Runs {
public:
    Runs() = default;
    Runs(const std::ptrdiff_t* size, std::vector<Run> runs, std::vector<std::size_t> starts)
        : size_{size[0], size[1], size[2]}, runs_(std::move(runs)), starts_(std::move(starts)) {}

    std::ptrdiff_t labels() const { return static_cast<std::ptrdiff_t>(starts_.size()) - 1; }
    const std::ptrdiff_t* size() const { return size_; }
    const Run* begin(std::ptrdiff_t label) const { return runs_.data() + starts_[label - 1]; }
    const Run* end(std::ptrdiff_t label) const { return runs_.data() + starts_[label]; }

private:
    std::ptrdiff_t size_[3] = {0, 0, 0};
    std::vector<Run> runs_;
    std::vector<std::size_t> starts_{0};
};

// Takes runs in raster order and returns them label by label.
class RunSorter {
public:
    RunSorter(const std::ptrdiff_t* size, std::ptrdiff_t count)
        : size_{size[0], size[1], size[2]}, starts_(static_cast<std::size_t>(count) + 1, 0) {
        for (int axis = 0; axis < 3; ++axis)  // the hull's exact int64 arithmetic holds for 2^19 voxels along an axis
            if (size[axis] > (1 << 19) - 2)
                throw std::invalid_argument("labels has an axis of more than 524286 voxels");
    }

    void reserve(std::size_t runs) {
        runs_.reserve(runs);
        label_.reserve(runs);
    }

    void add(std::ptrdiff_t z, std::ptrdiff_t y, std::ptrdiff_t begin, std::ptrdiff_t end, std::int64_t label) {
        runs_.push_back({static_cast<std::int32_t>(z), static_cast<std::int32_t>(y),
                          static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end)});
        label_.push_back(label);
        ++starts_[static_cast<std::size_t>(label)];
    }

    Runs sorted() {
        for (std::size_t k = 1; k < starts_.size(); ++k) {
            if (starts_[k] == 0) throw std::invalid_argument("labels has no voxel of label " + std::to_string(k));
            starts_[k] += starts_[k - 1];  // starts_[k]: one past the last run of label k
        }
        std::vector<std::size_t> next(starts_);
        std::vector<Run> sorted(runs_.size());
        for (std::size_t k = 0; k < runs_.size(); ++k) sorted[next[static_cast<std::size_t>(label_[k]) - 1]++] = runs_[k];
        return {size_, std::move(sorted), std::move(starts_)};
    }

private:
    std::ptrdiff_t size_[3];
    std::vector<Run> runs_;
    std::vector<std::int64_t> label_;
    std::vector<std::size_t> starts_;
};

// The runs of a label volume; labels 1 to count must all be there and no others.
template <class T>
Runs read_runs(const View3<T>& labels, std::ptrdiff_t count) {
    RunSorter sorter(labels.size, count);
    const std::ptrdiff_t width = labels.size[2];
    for (std::ptrdiff_t z = 0; z < labels.size[0]; ++z)
        for (std::ptrdiff_t y = 0; y < labels.size[1]; ++y) {
            char* row = labels.row(z, y);
            for (std::ptrdiff_t x = skip_zeros(labels, row, 0); x < width; x = skip_zeros(labels, row, x)) {
                const std::ptrdiff_t begin = x;
                const T value = labels.at(row, x);
                if (value < 0 || static_cast<std::uint64_t>(value) > static_cast<std::uint64_t>(count))
                    throw std::invalid_argument("labels holds " + std::to_string(value) +
                                                ", wanted 0 to count = " + std::to_string(count));
                while (x < width && labels.at(row, x) == value) ++x;
                sorter.add(z, y, begin, x, static_cast<std::int64_t>(value));
            }
        }
    return sorter.sorted();
}

}  // namespace lnfast::components
