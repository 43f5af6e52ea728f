// IEEE 754 binary16 by integer and float32 arithmetic alone: no hardware support is assumed.
//
//     sign | exponent 5 | mantissa 10
#pragma once

#include <cstdint>
#include <cstring>

namespace lnfast::core {

using Half = std::uint16_t;  // the bits: no kernel reads both halves and uint16 numbers

inline std::uint32_t float_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float bits_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Round to nearest, ties to even. The float adder does the rounding: adding 2^(e+13) to a number with exponent e pushes
// all but ten mantissa bits out of the sum. Below 2^-14 the addend stays at 2^-1: that rounds to the subnormal step,
// 2^-24.
inline Half to_half(float value) {
    const std::uint32_t bits = float_bits(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<Half>(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return static_cast<Half>(sign | 0x7c00u);  // 65520 rounds to infinity
    std::uint32_t exponent = magnitude & 0x7f800000u;
    const bool tiny = exponent < 0x38800000u;
    if (tiny) exponent = 0x38800000u;
    const std::uint32_t addend = exponent + (13u << 23);
    const std::uint32_t sum = float_bits(bits_float(magnitude) + bits_float(addend));
    // sum - addend counts steps of 2^(e-10); the implicit leading one, 1024 steps, carries into the exponent by itself.
    const std::uint32_t steps = sum - addend;
    const std::uint32_t base = ((exponent >> 23) - 113u) << 10;
    return static_cast<Half>(sign | (base + steps));
}

inline float to_float(Half half) {
    const std::uint32_t sign = (half & 0x8000u) << 16;
    const std::uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    // Shifting puts the number 112 exponents too low; one exact multiplication corrects normals and subnormals alike.
    const float value = bits_float(magnitude << 13) * bits_float(0x77800000u);
    return bits_float(sign | float_bits(value));
}

// A voxel of either type as a number.
inline float as_float(float value) { return value; }
inline float as_float(Half value) { return to_float(value); }
inline double as_double(float value) { return value; }
inline double as_double(Half value) { return to_float(value); }

}  // namespace lnfast::core
