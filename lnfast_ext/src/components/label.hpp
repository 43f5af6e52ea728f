// Connected components by runs and union-find.
//
// A run is a stretch of foreground in one row. Rows are visited in raster order; a new row is joined with the rows before
// it that touch it (o = the row being read, seen along x, so that every cell is a whole row):
//
//          slice z-1        slice z
//     y-1  [c] [ ] [ ]      [f]           26: every row shown, runs may also touch diagonally in x (reach 1)
//     y    [f]              [o]           18: f with reach 1, c (both z-1,y-1 and z-1,y+1) with reach 0
//     y+1  [c]                             6: f with reach 0
//
// The root of a set is its first run in raster order, so numbering the roots in order gives scipy.ndimage.label's
// numbers. Memory grows with the number of runs; no size is guessed in advance, so none can overflow.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/bits.hpp"
#include "components/runs.hpp"
#include "core/view.hpp"

namespace lnfast::components {

using core::first_one;
using core::vectorized;
using core::View3;

class Components {
public:
    Components() = default;

    template <class T>
    Components(const View3<T>& mask, int connectivity) : size_{mask.size[0], mask.size[1], mask.size[2]} {
        vectorized([&](auto isa) { read_runs(isa, mask); });
        parent_.resize(runs_.size());
        for (std::size_t run = 0; run < runs_.size(); ++run) parent_[run] = static_cast<std::uint32_t>(run);
        join_rows(connectivity);
        number_roots();
    }

    std::int32_t count() const { return count_; }

    // Write labels where there is foreground, 0 elsewhere; nothing when a label is too large for the type.
    template <class Label>
    void write(const View3<Label>& out, bool out_is_zero) const {
        if (static_cast<std::uint32_t>(count_) > std::numeric_limits<Label>::max())
            throw std::invalid_argument("out: can not hold " + std::to_string(count_) + " labels");
        for (std::ptrdiff_t z = 0; z < size_[0]; ++z)
            for (std::ptrdiff_t y = 0; y < size_[1]; ++y) {
                const std::ptrdiff_t row = z * size_[1] + y;
                char* target = out.row(z, y);
                if (!out_is_zero) out.fill(target, 0, size_[2], 0);
                for (std::size_t run = starts_[row]; run < starts_[row + 1]; ++run)
                    out.fill(target, runs_[run].begin, runs_[run].end, static_cast<Label>(label_[run]));
            }
    }

    // The same components as runs in the order of their labels.
    Runs runs() const {
        RunSorter sorter(size_, count_);
        sorter.reserve(runs_.size());
        for (std::ptrdiff_t z = 0; z < size_[0]; ++z)
            for (std::ptrdiff_t y = 0; y < size_[1]; ++y) {
                const std::ptrdiff_t row = z * size_[1] + y;
                for (std::size_t run = starts_[row]; run < starts_[row + 1]; ++run)
                    sorter.add(z, y, runs_[run].begin, runs_[run].end, label_[run]);
            }
        return sorter.sorted();
    }

private:
    struct Stretch {
        std::int32_t begin, end;  // x, end exclusive
    };

    template <class Tag, class T>
    void read_runs(Tag isa, const View3<T>& mask) {
        if (size_[2] > std::numeric_limits<std::int32_t>::max())
            throw std::invalid_argument("mask has rows of more than 2147483647 voxels");
        const std::ptrdiff_t rows = size_[0] * size_[1];
        starts_.assign(static_cast<std::size_t>(rows) + 1, 0);
        for (std::ptrdiff_t row = 0; row < rows; ++row) {
            const std::ptrdiff_t next = mask.contiguous() ? next_row(mask, row) : row;
            std::fill(starts_.begin() + row, starts_.begin() + next + 1, static_cast<std::uint32_t>(runs_.size()));
            if (next == rows) return;
            row = next;
            read_row(isa, mask, mask.row(row / size_[1], row % size_[1]));
            starts_[row + 1] = static_cast<std::uint32_t>(runs_.size());
            if (runs_.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
                throw std::overflow_error("mask has more runs than an int32 label can count");
        }
    }

    // The first row that may hold foreground. Most of a mask is empty; where rows lie end to end empty voxels are skipped
    // in blocks, across rows.
    template <class T>
    std::ptrdiff_t next_row(const View3<T>& mask, std::ptrdiff_t row) const {
        const T* values = reinterpret_cast<const T*>(mask.data);
        const std::ptrdiff_t end = size_[0] * size_[1] * size_[2];
        std::ptrdiff_t at = row * size_[2];
        for (; at + 256 <= end; at += 256) {
            T any = 0;
            for (int k = 0; k < 256; ++k) any = static_cast<T>(any | values[at + k]);
            if (any != 0) break;
        }
        return at / size_[2];
    }

    // A run may go on from one word of 64 voxels into the next.
    template <class Tag, class T>
    void read_row(Tag isa, const View3<T>& mask, char* row) {
        constexpr std::ptrdiff_t none = -1;
        std::ptrdiff_t begin = none;
        for (std::ptrdiff_t x = 0; x < size_[2]; x += 64) {
            std::uint64_t word = nonzero(isa, mask, row, x);
            int at = 0;  // bits below are done
            while (begin != none || word != 0) {
                if (begin == none) {
                    at = first_one(word);
                    begin = x + at;
                }
                const std::uint64_t zeros = ~word & (~std::uint64_t{0} << at);
                if (zeros == 0) break;
                at = first_one(zeros);
                add(begin, std::min(x + at, size_[2]));
                begin = none;
                word &= ~std::uint64_t{0} << at;
            }
        }
        if (begin != none) add(begin, size_[2]);
    }

    void add(std::ptrdiff_t begin, std::ptrdiff_t end) {
        runs_.push_back({static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end)});
    }

    void join_rows(int connectivity) {
        const int near = connectivity == 6 ? 0 : 1;  // reach towards the rows marked f
        const std::ptrdiff_t height = size_[1];
        for (std::ptrdiff_t z = 0; z < size_[0]; ++z)
            for (std::ptrdiff_t y = 0; y < height; ++y) {
                const std::ptrdiff_t row = z * height + y;
                if (starts_[row] == starts_[row + 1]) continue;
                if (y > 0) join(row, row - 1, near);
                if (z == 0) continue;
                join(row, row - height, near);
                if (connectivity == 6) continue;
                const int corner = connectivity == 26 ? 1 : 0;
                if (y > 0) join(row, row - height - 1, corner);
                if (y + 1 < height) join(row, row - height + 1, corner);
            }
    }

    // Two sorted lists of runs are merged: the run that ends first is passed.
    void join(std::ptrdiff_t row, std::ptrdiff_t neighbour, int reach) {
        std::size_t a = starts_[row], b = starts_[neighbour];
        while (a < starts_[row + 1] && b < starts_[neighbour + 1]) {
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
        if (parent_[a] == parent_[b]) return;
        const std::uint32_t root_a = root(a), root_b = root(b);
        if (root_a < root_b) parent_[root_b] = root_a;
        else parent_[root_a] = root_b;
    }

    void number_roots() {
        label_.resize(runs_.size());
        for (std::size_t run = 0; run < runs_.size(); ++run)  // a parent comes before its children
            label_[run] = parent_[run] == run ? ++count_ : label_[parent_[run]];
    }

    std::ptrdiff_t size_[3] = {0, 0, 0};
    std::vector<Stretch> runs_;
    std::vector<std::uint32_t> starts_{0};  // first run of each row, and one past the last
    std::vector<std::uint32_t> parent_;
    std::vector<std::int32_t> label_;
    std::int32_t count_ = 0;
};

template <class T>
Components find_components(const View3<T>& mask, int connectivity) {
    return Components(mask, connectivity);
}

template <class Label>
void write_labels(const Components& components, const View3<Label>& out, bool out_is_zero) {
    components.write(out, out_is_zero);
}

inline Runs runs_of(const Components& components) { return components.runs(); }

}  // namespace lnfast::components
