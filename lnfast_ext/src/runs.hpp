// The voxels of every label as runs, sorted by label, in raster order within a label. One pass over the volume.
//
//     row z, y:   . . 2 2 2 . . 1 1 .        runs  {2: x 2..5}  {1: x 7..9}
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "threshold.hpp"
#include "view.hpp"

namespace lnfast {

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

// Takes runs in raster order, hands them out label by label.
class RunSorter {
public:
    RunSorter(const std::ptrdiff_t* size, std::ptrdiff_t count)
        : size_{size[0], size[1], size[2]}, starts_(static_cast<std::size_t>(count) + 1, 0) {
        for (int axis = 0; axis < 3; ++axis)  // the hull's exact int64 arithmetic holds for 2^19 voxels along an axis
            if (size[axis] > (1 << 19) - 2)
                throw std::invalid_argument("labels has an axis of more than 524286 voxels");
    }

    void reserve(std::size_t runs) {
        found_.reserve(runs);
        label_.reserve(runs);
    }

    void add(std::ptrdiff_t z, std::ptrdiff_t y, std::ptrdiff_t begin, std::ptrdiff_t end, std::int64_t label) {
        found_.push_back({static_cast<std::int32_t>(z), static_cast<std::int32_t>(y),
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
        std::vector<Run> runs(found_.size());
        for (std::size_t k = 0; k < found_.size(); ++k) runs[next[static_cast<std::size_t>(label_[k]) - 1]++] = found_[k];
        return {size_, std::move(runs), std::move(starts_)};
    }

private:
    std::ptrdiff_t size_[3];
    std::vector<Run> found_;
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

inline void write_mean(double* out, std::size_t record, std::ptrdiff_t label, double sum, std::int64_t voxels) {
    const double mean = sum / static_cast<double>(voxels);
    if (!std::isfinite(mean)) throw std::invalid_argument("non-finite values within label " + std::to_string(label));
    *reinterpret_cast<double*>(reinterpret_cast<char*>(out) + static_cast<std::size_t>(label - 1) * record) = mean;
}

// Mean of the voxels of `image` under each label; out steps by `record` bytes.
template <class T>
void mean_intensity(const Runs& runs, const View3<T>& image, double* out, std::size_t record) {
    for (std::ptrdiff_t label = 1; label <= runs.labels(); ++label) {
        double sum = 0;
        std::int64_t voxels = 0;
        for (const Run* run = runs.begin(label); run != runs.end(label); ++run) {
            char* row = image.row(run->z, run->y);
            for (std::ptrdiff_t x = run->begin; x < run->end; ++x) sum += static_cast<double>(image.at(row, x));
            voxels += run->end - run->begin;
        }
        write_mean(out, record, label, sum, voxels);
    }
}

// Mean of 1 / (1 + exp(-logit)), the logit interpolated as threshold_resample does it. `part` says where the logits lie in
// their grid; they must be enough for every voxel.
template <class T>
void mean_probability(const Runs& runs, const View3<T>& logits, const Part& part, double* out, std::size_t record) {
    const Axes<double> axes(part, Part::whole(runs.size()));
    const auto holds = [](const Axis<double>& axis, std::ptrdiff_t first, std::ptrdiff_t past) {
        return first >= axis.begin && past <= axis.begin + axis.out;
    };
    const auto mix = [](double a, double b, double weight) { return a + weight * (b - a); };
    for (std::ptrdiff_t label = 1; label <= runs.labels(); ++label) {
        double sum = 0;
        std::int64_t voxels = 0;
        for (const Run* run = runs.begin(label); run != runs.end(label); ++run) {
            if (!holds(axes.z, run->z, run->z + 1) || !holds(axes.y, run->y, run->y + 1) ||
                !holds(axes.x, run->begin, run->end))
                throw std::invalid_argument("label " + std::to_string(label) + " has voxels beyond the logits");
            const std::ptrdiff_t slice_at = run->z - axes.z.begin, row_at = run->y - axes.y.begin;
            const std::ptrdiff_t z[2] = {axes.z.first[slice_at], axes.z.second[slice_at]};
            const std::ptrdiff_t y[2] = {axes.y.first[row_at], axes.y.second[row_at]};
            for (std::ptrdiff_t x = run->begin - axes.x.begin; x < run->end - axes.x.begin; ++x) {
                double slice[2];
                for (int k = 0; k < 2; ++k) {
                    double row[2];
                    for (int i = 0; i < 2; ++i) {
                        char* line = logits.row(z[k], y[i]);
                        row[i] = mix(as_double(logits.at(line, axes.x.first[x])),
                                     as_double(logits.at(line, axes.x.second[x])), axes.x.weight[x]);
                    }
                    slice[k] = mix(row[0], row[1], axes.y.weight[row_at]);
                }
                sum += 1.0 / (1.0 + std::exp(-mix(slice[0], slice[1], axes.z.weight[slice_at])));
            }
            voxels += run->end - run->begin;
        }
        write_mean(out, record, label, sum, voxels);
    }
}

}  // namespace lnfast
