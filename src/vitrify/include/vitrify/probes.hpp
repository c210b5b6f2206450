// Probes: what an artifact's payload makes of the inputs it carries, beside what it says has to come out.
#ifndef VITRIFY_PROBES_HPP
#define VITRIFY_PROBES_HPP

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "bytes.hpp"
#include "manifest.hpp"
#include "tensor.hpp"

namespace vitrify::detail {

inline constexpr char other_machine[] =
    "this machine computes something else than the one that built the artifact; build it again, or report this";

// A float of 16 bits or fewer: bits of exponent and fraction, the exponent's bias, and which codes are no numbers.
struct Narrow {
    int exponents, fractions, bias;
    enum { ieee, only_nan, unsigned_zero } special;
};

inline double narrow_value(std::uint32_t code, const Narrow &form) {
    const std::uint32_t fraction = code & ((1u << form.fractions) - 1);
    const int top = (1 << form.exponents) - 1, exponent = static_cast<int>(code >> form.fractions) & top;
    const std::uint32_t sign = code >> (form.exponents + form.fractions) & 1;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (form.special == Narrow::ieee && exponent == top) return fraction ? nan : sign ? -INFINITY : INFINITY;
    if (form.special == Narrow::only_nan && exponent == top && fraction == (1u << form.fractions) - 1) return nan;
    if (form.special == Narrow::unsigned_zero && sign && !exponent && !fraction) return nan;
    const double significand = (exponent ? 1.0 : 0.0) + std::ldexp(static_cast<double>(fraction), -form.fractions);
    const double value = std::ldexp(significand, std::max(exponent, 1) - form.bias);
    return sign ? -value : value;
}

template <class T>
double number_at(const char *data, std::size_t index) {
    T value;
    std::memcpy(&value, data + index * sizeof(T), sizeof(T));
    return static_cast<double>(value);
}

// An element as f64.
inline double number(DType type, const char *data, std::size_t i) {
    const auto byte = [&] { return static_cast<std::uint32_t>(static_cast<unsigned char>(data[i])); };
    const auto word = [&] { return little<std::uint16_t>(std::string_view(data + 2 * i, 2), 0); };
    switch (type) {
        case DType::f64: return number_at<double>(data, i);
        case DType::f32: return number_at<float>(data, i);
        case DType::f16: return narrow_value(word(), {5, 10, 15, Narrow::ieee});
        case DType::bf16: return narrow_value(word(), {8, 7, 127, Narrow::ieee});
        case DType::f8e4m3fn: return narrow_value(byte(), {4, 3, 7, Narrow::only_nan});
        case DType::f8e4m3fnuz: return narrow_value(byte(), {4, 3, 8, Narrow::unsigned_zero});
        case DType::f8e5m2: return narrow_value(byte(), {5, 2, 15, Narrow::ieee});
        case DType::f8e5m2fnuz: return narrow_value(byte(), {5, 2, 16, Narrow::unsigned_zero});
        case DType::i64: return number_at<std::int64_t>(data, i);
        case DType::i32: return number_at<std::int32_t>(data, i);
        case DType::i16: return number_at<std::int16_t>(data, i);
        case DType::i8:
        case DType::i4:
        case DType::i2: return number_at<std::int8_t>(data, i);
        case DType::u64: return number_at<std::uint64_t>(data, i);
        case DType::u32: return number_at<std::uint32_t>(data, i);
        case DType::u16: return number_at<std::uint16_t>(data, i);
        case DType::u8:
        case DType::u4:
        case DType::u2:
        case DType::boolean: return number_at<std::uint8_t>(data, i);
    }
    return std::numeric_limits<double>::quiet_NaN();
}

// Whether an element is farther than `tolerance` times the largest finite element from the one expected. Infinities
// equal themselves, a NaN nothing.
inline bool differs(const Tensor &found, const char *expected, double tolerance) {
    const DType type = found.dtype();
    const bool exact = name(type)[0] != 'f';  // 64-bit integers may be equal as floats and differ
    double scale = 0;
    for (std::size_t i = 0; i < found.size(); i++) {
        const double value = std::fabs(number(type, expected, i));
        if (std::isfinite(value)) scale = std::max(scale, value);
    }
    if (scale == 0) scale = 1;
    for (std::size_t i = 0; i < found.size(); i++) {
        const double ours = number(type, found.bytes(), i), theirs = number(type, expected, i);
        const double apart = ours == theirs ? 0 : std::fabs(ours - theirs) / scale;
        if (!(apart <= tolerance)) return true;
        const std::size_t size = item_size(type);
        if (exact && std::memcmp(found.bytes() + i * size, expected + i * size, size) != 0) return true;
    }
    return false;
}

// ProbeError where an output is not what was recorded; `recorded` is the array's file where there is one.
inline void compare_output(const ProbeArray &awaited, const Tensor &found, const std::string &recorded,
                           const std::string &where, const std::string &path) {
    if (found.dims() != awaited.dims) {
        throw ProbeError(where + " has another shape", path, shown(awaited.dims), shown(found.dims()), other_machine);
    }
    if (!awaited.file) {
        const std::string digest = sha256_hex(std::string_view(found.bytes(), found.size_bytes()));
        if (digest != *awaited.sha256) {
            throw ProbeError(where + " is another", path, "bytes with SHA-256 " + *awaited.sha256, digest,
                             other_machine);
        }
    } else if (differs(found, recorded.data(), std::strtod(awaited.tolerance->c_str(), nullptr))) {
        throw ProbeError(where + " is another", path,
                         "what was recorded, within " + *awaited.tolerance + " of its largest element",
                         "other elements", other_machine);
    }
}

}  // namespace vitrify::detail

#endif
