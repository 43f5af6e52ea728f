// One function body, compiled for several instruction sets; the best that the processor has is selected at run time.
//
//     vectorized([&](auto isa) { for (...) out[k] = a[k] + b[k]; });
//
// The body is inlined into one function for each set, where the compiler turns its loops into that set's vectors. So a
// wheel runs on any x86-64 and is fast on a new one; on ARM NEON is part of the baseline. Products and sums are never
// fused (-ffp-contract=off), so every set gives the same bits. Where the compiler does not see a loop as a vector
// operation, the body may call a function for its set: if constexpr (isa == Isa::avx512) ...
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#define LNFAST_X86 1
#include <immintrin.h>
#define LNFAST_AVX2 __attribute__((target("avx2,f16c,bmi,bmi2,lzcnt,popcnt")))
#define LNFAST_AVX512 \
    __attribute__((target("avx2,f16c,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512cd")))
#else
#define LNFAST_X86 0
#endif

namespace lnfast::core {

// Eight doubles side by side, whatever the registers: sums and extrema that run in them are the same in every set.
constexpr std::size_t lanes = 8;
typedef double Lanes __attribute__((vector_size(lanes * sizeof(double)), aligned(sizeof(double)), may_alias));

inline const Lanes* lanes_of(const std::vector<double>& values) {
    return reinterpret_cast<const Lanes*>(values.data());
}

enum class Isa { baseline, avx2, avx512 };

template <Isa isa>
using IsaTag = std::integral_constant<Isa, isa>;

#if LNFAST_X86

inline Isa best_isa() {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (!avx2) return Isa::baseline;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512cd");
    return avx512 ? Isa::avx512 : Isa::avx2;
}

template <class Body>
LNFAST_AVX512 __attribute__((flatten, noinline)) void run_avx512(const Body& body) {
    body(IsaTag<Isa::avx512>{});
}

template <class Body>
LNFAST_AVX2 __attribute__((flatten, noinline)) void run_avx2(const Body& body) {
    body(IsaTag<Isa::avx2>{});
}

#else

inline Isa best_isa() { return Isa::baseline; }

#endif

inline const char* name_of(Isa isa) {
    return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline";
}

// The best that the processor has, and no better than the environment variable LNFAST_ISA names: for comparing sets.
inline Isa isa_in_use() {
    static const Isa selected = [] {
        const Isa best = best_isa();
        const char* requested = std::getenv("LNFAST_ISA");
        for (const Isa lower : {Isa::baseline, Isa::avx2})
            if (requested != nullptr && std::strcmp(requested, name_of(lower)) == 0) return std::min(lower, best);
        return best;
    }();
    return selected;
}

template <class Body>
void vectorized(const Body& body) {
#if LNFAST_X86
    if (isa_in_use() == Isa::avx512) return run_avx512(body);
    if (isa_in_use() == Isa::avx2) return run_avx2(body);
#endif
    body(IsaTag<Isa::baseline>{});
}

}  // namespace lnfast::core
