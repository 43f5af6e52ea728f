// Means over the voxels of every label: of an image, and of the network's probability.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "components/runs.hpp"
#include "core/half.hpp"
#include "core/view.hpp"
#include "grid/axis.hpp"

namespace lnfast::components {

using core::as_double;
using core::View3;
using grid::Axes;
using grid::Axis;
using grid::Part;

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
    const auto covers = [](const Axis<double>& axis, std::ptrdiff_t first, std::ptrdiff_t past) {
        return first >= axis.begin && past <= axis.begin + axis.out;
    };
    const auto mix = [](double a, double b, double weight) { return a + weight * (b - a); };
    for (std::ptrdiff_t label = 1; label <= runs.labels(); ++label) {
        double sum = 0;
        std::int64_t voxels = 0;
        for (const Run* run = runs.begin(label); run != runs.end(label); ++run) {
            if (!covers(axes.z, run->z, run->z + 1) || !covers(axes.y, run->y, run->y + 1) ||
                !covers(axes.x, run->begin, run->end))
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

}  // namespace lnfast::components
