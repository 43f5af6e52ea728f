// Voxels as keys: unsigned integers of the voxel's size, 32 bits at least, that are less where the voxel is less. Narrow
// integers use the 32 bits of wider ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "core/vectorized.hpp"
#include "core/view.hpp"

namespace lnfast::grid {

using core::vectorized;
using core::View3;

enum class Kind { natural, whole, real };  // unsigned, signed, floating

template <class Key_, Kind kind>
struct Coding {
    using Key = Key_;
    static constexpr Key sign = Key{1} << (8 * sizeof(Key) - 1);

    template <class T>
    static Key encode(T value) {
        if constexpr (kind == Kind::natural) return value;
        if constexpr (kind == Kind::whole) return static_cast<Key>(value) ^ sign;
        if constexpr (kind == Kind::real) {
            Key bits;
            std::memcpy(&bits, &value, sizeof bits);
            return (bits & sign) != 0 ? ~bits : bits | sign;
        }
    }

    static double decode(Key key) {
        if constexpr (kind == Kind::natural) return static_cast<double>(key);
        if constexpr (kind == Kind::whole) return static_cast<double>(static_cast<std::make_signed_t<Key>>(key ^ sign));
        if constexpr (kind == Kind::real) {
            const Key bits = (key & sign) != 0 ? key ^ sign : ~key;
            std::conditional_t<sizeof(Key) == 8, double, float> value;
            std::memcpy(&value, &bits, sizeof value);
            return static_cast<double>(value);
        }
    }

    // Infinity and NaN lie outside the keys of finite numbers, on either side.
    static bool finite(Key least, Key greatest) {
        if constexpr (kind != Kind::real) return true;
        using Real = std::conditional_t<sizeof(Key) == 8, double, float>;
        constexpr Real largest = std::numeric_limits<Real>::max();
        return least >= encode(-largest) && greatest <= encode(largest);
    }
};

template <class T>
using CodingOf = Coding<std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>,
                        std::is_floating_point_v<T> ? Kind::real : std::is_signed_v<T> ? Kind::whole : Kind::natural>;

// The keys of a row of a volume; rows are counted through all slices.
template <class Code, class T>
void read_keys(const View3<T>& volume, std::ptrdiff_t row, typename Code::Key* keys) {
    const std::ptrdiff_t height = volume.size[1];
    vectorized([&](auto) {
        volume.read_row(row / height, row % height, keys, [](T value) { return Code::encode(value); });
    });
}

}  // namespace lnfast::grid
