// Means over the voxels of every label: of an image, and of the network's probability.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "components/runs.hpp"
#include "core/view.hpp"
#include "grid/axis.hpp"
#include "grid/sampler.hpp"

namespace lnfast::components {

using core::View3;
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
    const grid::Sampler<T> logit(logits, part, runs.size());
    for (std::ptrdiff_t label = 1; label <= runs.labels(); ++label) {
        double sum = 0;
        std::int64_t voxels = 0;
        for (const Run* run = runs.begin(label); run != runs.end(label); ++run) {
            if (!logit.covers(run->z, run->y, run->begin, run->end))
                throw std::invalid_argument("label " + std::to_string(label) + " has voxels beyond the logits");
            for (std::ptrdiff_t x = run->begin; x < run->end; ++x)
                sum += 1.0 / (1.0 + std::exp(-logit(run->z, run->y, x)));
            voxels += run->end - run->begin;
        }
        write_mean(out, record, label, sum, voxels);
    }
}

}  // namespace lnfast::components
