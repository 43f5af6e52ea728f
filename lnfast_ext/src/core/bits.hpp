// Which of 64 neighbouring elements of a row are not zero, as the bits of one word: element k is bit k.
//
//     0 0 7 7 7 0 0 9 ...   ->   ...10011100
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/vectorized.hpp"
#include "core/view.hpp"

namespace lnfast::core {

inline int first_one(std::uint64_t word) { return __builtin_ctzll(word); }

#if LNFAST_X86

LNFAST_AVX512 inline std::uint64_t nonzero_avx512(const std::uint8_t* bytes) {
    const __m512i block = _mm512_loadu_si512(bytes);
    return _mm512_test_epi8_mask(block, block);
}

LNFAST_AVX2 inline std::uint64_t nonzero_avx2(const std::uint8_t* bytes) {
    const __m256i zero = _mm256_setzero_si256();
    std::uint64_t zeros = 0;
    for (int half = 0; half < 2; ++half) {
        const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + 32 * half));
        const auto mask = static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(block, zero)));
        zeros |= static_cast<std::uint64_t>(mask) << (32 * half);
    }
    return ~zeros;
}

inline std::uint64_t nonzero_baseline(const std::uint8_t* bytes) {
    const __m128i zero = _mm_setzero_si128();
    std::uint64_t zeros = 0;
    for (int part = 0; part < 4; ++part) {
        const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 16 * part));
        const auto mask = static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(block, zero)));
        zeros |= static_cast<std::uint64_t>(mask) << (16 * part);
    }
    return ~zeros;
}

#else

inline std::uint64_t nonzero_baseline(const std::uint8_t* bytes) {
    std::uint8_t any = 0;
    for (int k = 0; k < 64; ++k) any |= bytes[k];
    if (any == 0) return 0;
    std::uint64_t word = 0;
    for (int k = 0; k < 64; ++k) word |= static_cast<std::uint64_t>(bytes[k] != 0) << k;
    return word;
}

#endif

template <class Tag>
std::uint64_t nonzero(Tag, const std::uint8_t* bytes) {
#if LNFAST_X86
    if constexpr (Tag::value == Isa::avx512) return nonzero_avx512(bytes);
    if constexpr (Tag::value == Isa::avx2) return nonzero_avx2(bytes);
#endif
    return nonzero_baseline(bytes);
}

// The elements from x on, at most 64, of one row; bits beyond the row are 0.
template <class Tag, class T>
std::uint64_t nonzero(Tag tag, const View3<T>& view, char* row, std::ptrdiff_t x) {
    const std::ptrdiff_t count = view.size[2] - x;
    std::uint8_t flags[64];
    if (view.packed_rows() && count >= 64) {
        const T* values = reinterpret_cast<const T*>(row) + x;
        if constexpr (sizeof(T) == 1) return nonzero(tag, reinterpret_cast<const std::uint8_t*>(values));
        for (int k = 0; k < 64; ++k) flags[k] = values[k] != 0;
        return nonzero(tag, flags);
    }
    std::memset(flags, 0, sizeof flags);
    for (std::ptrdiff_t k = 0; k < count && k < 64; ++k) flags[k] = view.at(row, x + k) != 0;
    return nonzero(tag, flags);
}

}  // namespace lnfast::core
