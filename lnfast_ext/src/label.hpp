// Connected components by runs and union-find.
//
// A run is a stretch of foreground in one row. Rows are visited in raster order; a new row looks at the rows before it
// that touch it (o = the row being read, seen along x, so that every cell is a whole row):
//
//          slice z-1        slice z
//     y-1  [c] [ ] [ ]      [f]           26: every row shown, runs may also touch diagonally in x (reach 1)
//     y    [f]              [o]           18: f with reach 1, c (both z-1,y-1 and z-1,y+1) with reach 0
//     y+1  [c]                             6: f with reach 0
//
// The root of a set is its first run in raster order, so numbering the roots in order gives scipy.ndimage.label's
// numbers. Memory grows with the runs that are there; nothing is guessed in advance, so nothing can overflow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "view.hpp"

namespace lnfast {

class RunLabeller {
public:
    template <class T>
    RunLabeller(const View3<T>& mask, int connectivity) : depth_(mask.size[0]), height_(mask.size[1]) {
        read_runs(mask);
        parent_.resize(runs_.size());
        for (std::size_t run = 0; run < runs_.size(); ++run) parent_[run] = static_cast<std::uint32_t>(run);
        join_rows(connectivity);
        number_roots();
    }

    std::int32_t count() const { return count_; }

    // Writes labels where there is foreground; the background must hold zeros already.
    template <class Label>
    void write(const View3<Label>& out) const {
        for (std::ptrdiff_t z = 0; z < depth_; ++z)
            for (std::ptrdiff_t y = 0; y < height_; ++y) {
                const std::ptrdiff_t row = z * height_ + y;
                char* target = out.row(z, y);
                for (std::size_t run = starts_[row]; run < starts_[row + 1]; ++run)
                    for (std::ptrdiff_t x = runs_[run].begin; x < runs_[run].end; ++x)
                        out.at(target, x) = static_cast<Label>(label_[run]);
            }
    }

private:
    struct Run {
        std::ptrdiff_t begin, end;  // x, end exclusive
    };

    template <class T>
    void read_runs(const View3<T>& mask) {
        starts_.reserve(static_cast<std::size_t>(depth_ * height_) + 1);
        starts_.push_back(0);
        for (std::ptrdiff_t z = 0; z < depth_; ++z)
            for (std::ptrdiff_t y = 0; y < height_; ++y) {
                char* row = mask.row(z, y);
                for (std::ptrdiff_t x = skip_zeros(mask, row, 0); x < mask.size[2]; x = skip_zeros(mask, row, x)) {
                    const std::ptrdiff_t begin = x;
                    while (x < mask.size[2] && mask.at(row, x) != 0) ++x;
                    runs_.push_back({begin, x});
                }
                starts_.push_back(runs_.size());
            }
        if (runs_.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
            throw std::overflow_error("mask has more runs than an int32 label can count");
    }

    void join_rows(int connectivity) {
        const int near = connectivity == 6 ? 0 : 1;  // reach towards the rows marked f
        for (std::ptrdiff_t z = 0; z < depth_; ++z)
            for (std::ptrdiff_t y = 0; y < height_; ++y) {
                const std::ptrdiff_t row = z * height_ + y;
                if (starts_[row] == starts_[row + 1]) continue;
                if (y > 0) join(row, row - 1, near);
                if (z == 0) continue;
                join(row, row - height_, near);
                if (connectivity == 6) continue;
                const int corner = connectivity == 26 ? 1 : 0;
                if (y > 0) join(row, row - height_ - 1, corner);
                if (y + 1 < height_) join(row, row - height_ + 1, corner);
            }
    }

    // Two sorted lists of runs, read like a zip: the one that ends first is passed.
    void join(std::ptrdiff_t row, std::ptrdiff_t other, int reach) {
        std::size_t a = starts_[row], b = starts_[other];
        while (a < starts_[row + 1] && b < starts_[other + 1]) {
            if (runs_[a].begin < runs_[b].end + reach && runs_[b].begin < runs_[a].end + reach) unite(a, b);
            if (runs_[a].end < runs_[b].end) ++a;
            else ++b;
        }
    }

    std::uint32_t root(std::size_t run) {
        std::uint32_t at = static_cast<std::uint32_t>(run);
        while (parent_[at] != at) at = parent_[at] = parent_[parent_[at]];
        return at;
    }

    void unite(std::size_t a, std::size_t b) {
        const std::uint32_t one = root(a), two = root(b);
        if (one < two) parent_[two] = one;
        else parent_[one] = two;
    }

    void number_roots() {
        label_.resize(runs_.size());
        for (std::size_t run = 0; run < runs_.size(); ++run)  // a parent comes before its children
            label_[run] = parent_[run] == run ? ++count_ : label_[parent_[run]];
    }

    std::ptrdiff_t depth_, height_;
    std::vector<Run> runs_;
    std::vector<std::size_t> starts_;  // first run of each row, and one past the last
    std::vector<std::uint32_t> parent_;
    std::vector<std::int32_t> label_;
    std::int32_t count_ = 0;
};

template <class T, class Label>
std::int32_t label_components(const View3<T>& mask, const View3<Label>& out, int connectivity, bool out_is_zero) {
    const RunLabeller labeller(mask, connectivity);  // the mask is not needed after this: out may be the same memory
    if (!out_is_zero)
        for (std::ptrdiff_t z = 0; z < out.size[0]; ++z)
            for (std::ptrdiff_t y = 0; y < out.size[1]; ++y) {
                char* row = out.row(z, y);
                for (std::ptrdiff_t x = 0; x < out.size[2]; ++x) out.at(row, x) = 0;
            }
    labeller.write(out);
    return labeller.count();
}

}  // namespace lnfast
