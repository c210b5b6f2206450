// Tensors: element type, dims, and contiguous memory that copies share.
#ifndef VITRIFY_TENSOR_HPP
#define VITRIFY_TENSOR_HPP

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

#include "error.hpp"
#include "tables.hpp"

namespace vitrify {

// Element types; the order is that of detail::types. C++ has no type for f16, bf16, the 8-bit floats and the integers
// of 4 and 2 bits (one to a byte): their raw bits are used.
enum class DType {
    f64,
    f32,
    f16,
    bf16,
    f8e4m3fn,
    f8e4m3fnuz,
    f8e5m2,
    f8e5m2fnuz,
    i64,
    i32,
    i16,
    i8,
    u64,
    u32,
    u16,
    u8,
    i4,
    u4,
    boolean,
    i2,
    u2
};

inline const char *name(DType type) {
    return detail::types[static_cast<int>(type)].name;
}
inline std::size_t item_size(DType type) {
    return detail::types[static_cast<int>(type)].size;
}

// The element type that a type of C++ is.
template <class T>
constexpr DType dtype_of() {
    static_assert(std::is_arithmetic_v<T>, "no element type");
    if constexpr (std::is_same_v<T, bool>) return DType::boolean;
    else if constexpr (std::is_same_v<T, double>) return DType::f64;
    else if constexpr (std::is_same_v<T, float>) return DType::f32;
    else if constexpr (std::is_signed_v<T>)
        return sizeof(T) == 8 ? DType::i64 : sizeof(T) == 4 ? DType::i32 : sizeof(T) == 2 ? DType::i16 : DType::i8;
    else return sizeof(T) == 8 ? DType::u64 : sizeof(T) == 4 ? DType::u32 : sizeof(T) == 2 ? DType::u16 : DType::u8;
}

using Dims = std::vector<std::int64_t>;

inline std::string shown(const Dims &dims) {
    std::string text = "[";
    for (const std::int64_t dim : dims) text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
    return text + "]";
}

class Tensor {
 public:
    // InvalidArgumentError for a negative dim and for more bytes than there are addresses.
    static Tensor zeros(DType type, Dims dims) {
        Tensor tensor(Unset{}, type, std::move(dims));
        std::fill(tensor.bytes(), tensor.bytes() + tensor.size_bytes(), '\0');
        return tensor;
    }
    // Memory that is not set, for who writes all of it.
    static Tensor empty(DType type, Dims dims) { return Tensor(Unset{}, type, std::move(dims)); }

    // A copy of `values`, as many as the dims say.
    template <class T>
    Tensor(Dims dims, const std::vector<T> &values) : Tensor(Unset{}, dtype_of<T>(), std::move(dims)) {
        if (values.size() != count_) {
            throw InvalidArgumentError("a tensor's values", "", std::to_string(count_) + " for dims " + shown(dims_),
                                       std::to_string(values.size()));
        }
        std::copy(values.begin(), values.end(), data<T>());
    }

    // Memory of the caller, which has to outlive all copies of the tensor; contiguous and aligned to its elements.
    static Tensor borrow(DType type, Dims dims, void *data) {
        Tensor tensor;
        tensor.type_ = type;
        tensor.count_ = product(dims, item_size(type));
        tensor.dims_ = std::move(dims);
        if (!data && tensor.count_) throw InvalidArgumentError("a tensor's memory", "", "an address", "a null pointer");
        tensor.memory_ = std::shared_ptr<char>(std::shared_ptr<char>(), static_cast<char *>(data));
        return tensor;
    }
    template <class T>
    static Tensor borrow(Dims dims, T *data) {
        return borrow(dtype_of<T>(), std::move(dims), data);
    }

    DType dtype() const { return type_; }
    const Dims &dims() const { return dims_; }
    std::size_t size() const { return count_; }  // elements
    std::size_t size_bytes() const { return count_ * item_size(type_); }
    char *bytes() const { return memory_.get(); }

    // The elements. InvalidArgumentError where they are of another type.
    template <class T>
    T *data() const {
        if (dtype_of<T>() != type_) {
            throw InvalidArgumentError("a tensor's elements", "", name(dtype_of<T>()), name(type_));
        }
        return reinterpret_cast<T *>(memory_.get());
    }
    template <class T>
    std::vector<T> values() const {
        const T *const first = data<T>();
        return std::vector<T>(first, first + count_);
    }

 private:
    Tensor() = default;
    struct Unset {};  // so that no call with braces means this one
    Tensor(Unset, DType type, Dims dims)
        : type_(type), dims_(std::move(dims)), count_(product(dims_, item_size(type))) {
        const std::size_t bytes = (size_bytes() + 63) / 64 * 64;
        char *const block = static_cast<char *>(std::aligned_alloc(64, bytes ? bytes : 64));
        if (!block) throw std::bad_alloc();
        memory_ = std::shared_ptr<char>(block, [](char *p) { std::free(p); });
    }

    // How many elements; refused where their bytes do not fit the address space.
    static std::size_t product(const Dims &dims, std::size_t item) {
        std::size_t count = 1;
        bool empty = false;
        for (const std::int64_t dim : dims) {
            if (dim < 0) throw InvalidArgumentError("a tensor's dims", "", "none below 0", shown(dims));
            empty = empty || dim == 0;
            if (dim && __builtin_mul_overflow(count, static_cast<std::size_t>(dim), &count)) count = SIZE_MAX;
            if (count > static_cast<std::size_t>(PTRDIFF_MAX) / item - 64) {
                throw InvalidArgumentError("a tensor's dims", "", "fewer elements", shown(dims));
            }
        }
        return empty ? 0 : count;
    }

    DType type_ = DType::f32;
    Dims dims_;
    std::size_t count_ = 0;
    std::shared_ptr<char> memory_;
};

}  // namespace vitrify

#endif
