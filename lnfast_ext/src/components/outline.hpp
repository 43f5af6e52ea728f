// The marks of a network as nodes: what holds several is taken apart, and each is outlined at its half maximum.
//
//     brightness      ___                a node blurred by the image looks the same on every scanner: its edge lies
//     bright   . . ./. . .\. . .         where the image is halfway between the node and what surrounds it; the network
//     halfway  ----/-------\-----        says where nodes are, and in which voxels there is any doubt
//     around   ___/         \___
//                 |  node  |
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "components/runs.hpp"
#include "core/view.hpp"
#include "grid/axis.hpp"
#include "grid/sampler.hpp"

namespace lnfast::components {

// Logits above which a voxel may join a node, is a seed of one, and stays in it whatever the image says.
struct OutlineLevels {
    double join, seed, sure;
};

using Labels = View3<std::uint16_t>;

struct Voxel {
    std::int32_t z, y, x;
};

// A box of voxels with a value each, some of which may lie beyond the volume.
template <class T>
class Box {
public:
    Box(const Voxel& first, const Voxel& last, T value)
        : first_(first), depth_(last.z - first.z + 1), height_(last.y - first.y + 1), width_(last.x - first.x + 1),
          values_(static_cast<std::size_t>(depth_) * static_cast<std::size_t>(height_) *
                      static_cast<std::size_t>(width_), value) {}

    bool holds(const Voxel& at) const {
        return at.z >= first_.z && at.z < first_.z + depth_ && at.y >= first_.y && at.y < first_.y + height_ &&
               at.x >= first_.x && at.x < first_.x + width_;
    }
    T& operator[](const Voxel& at) { return values_[index(at)]; }
    const T& operator[](const Voxel& at) const { return values_[index(at)]; }
    T of(const Voxel& at, T beyond) const { return holds(at) ? (*this)[at] : beyond; }

    // use(voxel) in raster order.
    template <class Use>
    void each(const Use& use) const {
        for (std::int32_t z = first_.z; z < first_.z + depth_; ++z)
            for (std::int32_t y = first_.y; y < first_.y + height_; ++y)
                for (std::int32_t x = first_.x; x < first_.x + width_; ++x) use(Voxel{z, y, x});
    }

private:
    std::size_t index(const Voxel& at) const {
        return (static_cast<std::size_t>(at.z - first_.z) * static_cast<std::size_t>(height_) +
                static_cast<std::size_t>(at.y - first_.y)) * static_cast<std::size_t>(width_) +
               static_cast<std::size_t>(at.x - first_.x);
    }

    Voxel first_;
    std::int32_t depth_, height_, width_;
    std::vector<T> values_;
};

// use(neighbour) for the voxels that are up to `slices`, `pixels`, `pixels` away, but not for the voxel itself.
template <class Use>
void each_neighbour(const Voxel& at, std::int32_t slices, std::int32_t pixels, const Use& use) {
    for (std::int32_t z = -slices; z <= slices; ++z)
        for (std::int32_t y = -pixels; y <= pixels; ++y)
            for (std::int32_t x = -pixels; x <= pixels; ++x)
                if (z != 0 || y != 0 || x != 0) use(Voxel{at.z + z, at.y + y, at.x + x});
}

// The 26-connected part of what is not zero that a voxel belongs to is set to zero; returns its voxels.
inline std::vector<Voxel> take_part(Box<unsigned char>& of, const Voxel& start) {
    std::vector<Voxel> part{start};
    of[start] = 0;
    for (std::size_t k = 0; k < part.size(); ++k) {
        const Voxel at = part[k];  // a copy: the vector grows
        each_neighbour(at, 1, 1, [&](const Voxel& next) {
            if (of.of(next, 0) == 0) return;
            of[next] = 0;
            part.push_back(next);
        });
    }
    return part;
}

// One volume whose marks become nodes.
template <class T, class Logit>
class Outliner {
public:
    // The numbers of the rule.
    static constexpr double kBright = 0.9;             // a node's brightness is this percentile of its voxels
    static constexpr std::size_t kLeastVoxels = 3;     // fewer are a speck: neither a seed nor a piece of a node
    static constexpr std::int32_t kNear = 2, kFar = 4; // what surrounds a node lies further than the one, up to the other
    static constexpr std::size_t kRingVoxels = 6;      // fewer say nothing about what surrounds it
    static constexpr int kBeside = 3;                  // a voxel joins beside as many in its slice: noise comes alone

    Outliner(const View3<T>& image, const View3<Logit>& logits, const grid::Part& part, const Labels& labels,
             const OutlineLevels& levels, const double* spacing_mm, double floor)
        : image_(image), logit_(logits, part, labels.size), labels_(labels), levels_(levels), floor_(floor) {
        for (std::int32_t z = -1; z <= 1; ++z)
            for (std::int32_t y = -1; y <= 1; ++y)
                for (std::int32_t x = -1; x <= 1; ++x) {
                    const double dz = z * spacing_mm[0], dy = y * spacing_mm[1], dx = x * spacing_mm[2];
                    // Whole micrometres: sums of them do not depend on their order, so there are no ties by rounding.
                    const double length_mm = std::sqrt(dz * dz + dy * dy + dx * dx);
                    step_[z + 1][y + 1][x + 1] = static_cast<std::int64_t>(std::floor(length_mm * 1000 + 0.5));
                }
    }

    // Labels 1 to count in, in any order 1 to the returned count out.
    std::ptrdiff_t run(std::ptrdiff_t count) {
        const Runs runs = read_runs(labels_, count);
        for (std::ptrdiff_t label = 1; label <= count; ++label) {
            std::vector<Voxel> voxels;
            for (const Run* run = runs.begin(label); run != runs.end(label); ++run)
                for (std::int32_t x = run->begin; x < run->end; ++x) voxels.push_back({run->z, run->y, x});
            take_apart(std::move(voxels));
        }
        if (nodes_.size() > std::numeric_limits<std::uint16_t>::max())
            throw std::invalid_argument("more than 65535 nodes");
        for (std::size_t k = 0; k < nodes_.size(); ++k) write(nodes_[k], k + 1);
        std::vector<std::vector<Voxel>> outlined;
        for (std::size_t k = 0; k < nodes_.size(); ++k) outlined.push_back(outline(nodes_[k], k + 1));
        for (const std::vector<Voxel>& node : nodes_) write(node, 0);
        for (std::size_t k = 0; k < nodes_.size(); ++k) write(outlined[k], k + 1);
        return static_cast<std::ptrdiff_t>(nodes_.size());
    }

private:
    using Mask = Box<unsigned char>;

    // A mark that has several seeds, of which the network is sure, becomes as many nodes: a voxel is of the seed that is
    // nearest within the mark, the earlier one where two are.
    void take_apart(std::vector<Voxel> mark) {
        const auto [first, last] = bounds(mark, 0, 0);
        const auto is_sure = [this](const Voxel& at) { return exceeds(at, levels_.sure); };
        Mask seeded(first, last, 0);
        for (const Voxel& voxel : mark) seeded[voxel] = exceeds(voxel, levels_.seed);
        using Waiting = std::tuple<std::int64_t, std::size_t, std::int32_t, std::int32_t, std::int32_t>;
        std::priority_queue<Waiting, std::vector<Waiting>, std::greater<Waiting>> waiting;
        std::size_t seeds = 0;
        for (const Voxel& voxel : mark) {
            if (seeded[voxel] == 0) continue;
            const std::vector<Voxel> seed = take_part(seeded, voxel);
            if (seed.size() < kLeastVoxels || std::none_of(seed.begin(), seed.end(), is_sure)) continue;
            for (const Voxel& at : seed) waiting.emplace(0, seeds, at.z, at.y, at.x);
            ++seeds;
        }
        if (seeds < 2) {
            nodes_.push_back(std::move(mark));
            return;
        }
        constexpr std::int64_t unreached = std::numeric_limits<std::int64_t>::max();
        Box<std::int64_t> nearest(first, last, -1);  // -1: not of the mark, or of a node already
        for (const Voxel& voxel : mark) nearest[voxel] = unreached;
        std::vector<std::vector<Voxel>> nodes(seeds);
        std::size_t reached = 0;
        while (!waiting.empty()) {
            const auto [far, seed, z, y, x] = waiting.top();
            waiting.pop();
            const Voxel voxel{z, y, x};
            if (nearest[voxel] < 0) continue;
            nearest[voxel] = -1;
            nodes[seed].push_back(voxel);
            ++reached;
            each_neighbour(voxel, 1, 1, [&, distance = far, number = seed](const Voxel& next) {
                const std::int64_t there =
                    distance + step_[next.z - voxel.z + 1][next.y - voxel.y + 1][next.x - voxel.x + 1];
                if (there > nearest.of(next, -1)) return;
                nearest[next] = there;
                waiting.emplace(there, number, next.z, next.y, next.x);
            });
        }
        if (reached != mark.size()) throw std::invalid_argument("labels has a mark that is not connected");
        for (std::vector<Voxel>& node : nodes) nodes_.push_back(std::move(node));
    }

    // The voxels of a node when its edge lies where the image is halfway between it and what surrounds it. Only voxels
    // that touch it join it, and none that touches another node; only voxels at its border are taken from it, and none
    // where that would leave nothing, or parts that are more than specks.
    std::vector<Voxel> outline(const std::vector<Voxel>& node, std::size_t label) const {
        const auto [first, last] = bounds(node, 1, kFar);
        double level;
        if (!halfway(node, first, last, label, level)) return node;

        Mask mine(first, last, 0), kept(first, last, 0);
        for (const Voxel& voxel : node) mine[voxel] = 1;
        std::size_t stay = 0;
        for (const Voxel& voxel : node) {
            kept[voxel] = value(voxel) >= level || !at_border(mine, voxel) || exceeds(voxel, levels_.sure);
            stay += kept[voxel];
        }
        std::vector<Voxel> candidates, joined;
        const auto consider = [&](const Voxel& at) {
            if (!inside(at) || kept[at] != 0 || labels_.at(at.z, at.y, at.x) != 0) return;
            if (value(at) < level || !exceeds(at, levels_.join) || near_another(at, 1, 1, label)) return;
            kept[at] = 1;
            candidates.push_back(at);
        };
        for (const Voxel& voxel : node) {
            each_neighbour(voxel, 0, 1, consider);
            consider({voxel.z - 1, voxel.y, voxel.x});
            consider({voxel.z + 1, voxel.y, voxel.x});
        }
        // All are counted before any is dropped, so their order does not matter.
        for (const Voxel& voxel : candidates) {
            int beside = 0;
            each_neighbour(voxel, 0, 1, [&](const Voxel& next) { beside += kept.of(next, 0); });
            if (beside >= kBeside) joined.push_back(voxel);
        }
        for (const Voxel& voxel : candidates) kept[voxel] = 0;
        for (const Voxel& voxel : joined) kept[voxel] = 1;
        // A dark hilum is no edge: what kept voxels enclose in their slice stays too.
        const Mask outside = reached_from_beyond(kept, first, last);
        for (const Voxel& voxel : node)
            if (outside[voxel] == 0) kept[voxel] = 1;

        std::vector<std::vector<Voxel>> parts;
        kept.each([&](const Voxel& at) {
            if (kept[at] != 0) parts.push_back(take_part(kept, at));
        });
        std::stable_sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
        if (stay > 0 && (parts.size() == 1 || parts[1].size() < kLeastVoxels)) return std::move(parts[0]);
        std::vector<Voxel> whole = node;
        whole.insert(whole.end(), joined.begin(), joined.end());
        return whole;
    }

    // Whether a neighbour in its slice, or the voxel above or below, is not of the node.
    static bool at_border(const Mask& mine, const Voxel& at) {
        bool found = mine.of({at.z - 1, at.y, at.x}, 0) == 0 || mine.of({at.z + 1, at.y, at.x}, 0) == 0;
        each_neighbour(at, 0, 1, [&](const Voxel& next) { found = found || mine.of(next, 0) == 0; });
        return found;
    }

    // Where the image is halfway; false where a node is no brighter than what surrounds it, or nothing does.
    bool halfway(const std::vector<Voxel>& node, const Voxel& first, const Voxel& last, std::size_t label,
                 double& level) const {
        Mask ring(first, last, 0);
        std::vector<double> within, around;
        const auto set = [&](unsigned char to) { return [&ring, to](const Voxel& at) { ring[at] = to; }; };
        for (const Voxel& voxel : node) {
            within.push_back(value(voxel));
            each_neighbour(voxel, 0, kFar, set(1));
        }
        for (const Voxel& voxel : node) {
            ring[voxel] = 0;
            each_neighbour(voxel, 0, kNear, set(0));
        }
        ring.each([&](const Voxel& at) {
            if (ring[at] != 0 && inside(at) && !near_another(at, 0, kNear, label)) around.push_back(value(at));
        });
        if (around.size() < kRingVoxels) return false;
        std::sort(within.begin(), within.end());
        std::sort(around.begin(), around.end());
        const double background = around[(around.size() - 1) / 2];
        const double bright = within[static_cast<std::size_t>(kBright * static_cast<double>(within.size() - 1) + 0.5)];
        // Never more than the median, so that a few voxels, however bright, do not outweigh the others.
        level = std::min(background / 2 + bright / 2, within[(within.size() - 1) / 2]);
        return bright > background;
    }

    // Whether a voxel, or one of its neighbours, is of another node.
    bool near_another(const Voxel& at, std::int32_t slices, std::int32_t pixels, std::size_t label) const {
        const auto other = [&](const Voxel& voxel) {
            if (!inside(voxel)) return false;
            const std::uint16_t of = labels_.at(voxel.z, voxel.y, voxel.x);
            return of != 0 && of != label;
        };
        bool found = other(at);
        each_neighbour(at, slices, pixels, [&](const Voxel& next) { found = found || other(next); });
        return found;
    }

    // What is not kept and can be reached from the border of each slice, from face to face.
    static Mask reached_from_beyond(const Mask& kept, const Voxel& first, const Voxel& last) {
        Mask reached(first, last, 0);
        std::vector<Voxel> waiting;
        const auto reach = [&](const Voxel& at) {
            if (!kept.holds(at) || kept[at] != 0 || reached[at] != 0) return;
            reached[at] = 1;
            waiting.push_back(at);
        };
        kept.each([&](const Voxel& at) {
            if (at.y == first.y || at.y == last.y || at.x == first.x || at.x == last.x) reach(at);
        });
        while (!waiting.empty()) {
            const Voxel at = waiting.back();
            waiting.pop_back();
            reach({at.z, at.y - 1, at.x});
            reach({at.z, at.y + 1, at.x});
            reach({at.z, at.y, at.x - 1});
            reach({at.z, at.y, at.x + 1});
        }
        return reached;
    }

    static std::pair<Voxel, Voxel> bounds(const std::vector<Voxel>& voxels, std::int32_t slices, std::int32_t pixels) {
        Voxel first = voxels.front(), last = first;
        for (const Voxel& at : voxels) {
            first = {std::min(first.z, at.z), std::min(first.y, at.y), std::min(first.x, at.x)};
            last = {std::max(last.z, at.z), std::max(last.y, at.y), std::max(last.x, at.x)};
        }
        return {{first.z - slices, first.y - pixels, first.x - pixels},
                {last.z + slices, last.y + pixels, last.x + pixels}};
    }

    bool inside(const Voxel& at) const {
        return at.z >= 0 && at.z < labels_.size[0] && at.y >= 0 && at.y < labels_.size[1] && at.x >= 0 &&
               at.x < labels_.size[2];
    }
    double value(const Voxel& at) const {
        const auto value = static_cast<double>(image_.at(at.z, at.y, at.x));
        if (!std::isfinite(value)) throw std::invalid_argument("image has non-finite values at a node");
        return std::max(value, floor_);
    }
    bool exceeds(const Voxel& at, double level) const {
        return logit_.covers(at.z, at.y, at.x, at.x + 1) && logit_(at.z, at.y, at.x) > level;
    }
    void write(const std::vector<Voxel>& voxels, std::size_t label) const {
        for (const Voxel& at : voxels) labels_.at(at.z, at.y, at.x) = static_cast<std::uint16_t>(label);
    }

    View3<T> image_;
    grid::Sampler<Logit> logit_;
    Labels labels_;
    OutlineLevels levels_;
    double floor_;
    std::int64_t step_[3][3][3];
    std::vector<std::vector<Voxel>> nodes_;
};

// Take marks apart and outline the nodes, in place; returns how many there are now, numbered in no certain order. All
// arrays have the same axes, axis 0 counts slices; `spacing_mm` is that of z, y, x; darker values of the image than
// `floor` count as it.
template <class T, class Logit>
std::ptrdiff_t outline_nodes(const View3<T>& image, const View3<Logit>& logits, const grid::Part& part,
                             const Labels& labels, std::ptrdiff_t count, const OutlineLevels& levels,
                             const double* spacing_mm, double floor) {
    return Outliner<T, Logit>(image, logits, part, labels, levels, spacing_mm, floor).run(count);
}

// Number nodes in the raster order of their first voxels.
inline void number_nodes(const Labels& labels, std::ptrdiff_t count) {
    std::vector<std::uint16_t> number(static_cast<std::size_t>(count) + 1, 0);
    std::uint16_t last = 0;
    for (std::ptrdiff_t z = 0; z < labels.size[0]; ++z)
        for (std::ptrdiff_t y = 0; y < labels.size[1]; ++y) {
            char* row = labels.row(z, y);
            const std::ptrdiff_t width = labels.size[2];
            for (std::ptrdiff_t x = skip_zeros(labels, row, 0); x < width; x = skip_zeros(labels, row, x + 1)) {
                std::uint16_t& voxel = labels.at(row, x);
                std::uint16_t& of = number[voxel];
                if (of == 0) of = ++last;
                voxel = of;
            }
        }
}

}  // namespace lnfast::components
