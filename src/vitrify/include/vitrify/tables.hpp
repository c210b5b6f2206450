// What this loader knows in common with Python's. Written by vitrify.codegen.c.headers; do not edit.
#ifndef VITRIFY_TABLES_HPP
#define VITRIFY_TABLES_HPP

#include <cstddef>
#include <cstdint>

namespace vitrify::detail {

struct TypeRow {
    const char *name;
    std::size_t size;
    const char *shown;
};

// Element types; a type's code is its index.
inline constexpr TypeRow types[] = {
    {"f64", 8, "tensor(double)"},
    {"f32", 4, "tensor(float)"},
    {"f16", 2, "tensor(float16)"},
    {"bf16", 2, "tensor(bfloat16)"},
    {"f8e4m3fn", 1, "tensor(float8e4m3fn)"},
    {"f8e4m3fnuz", 1, "tensor(float8e4m3fnuz)"},
    {"f8e5m2", 1, "tensor(float8e5m2)"},
    {"f8e5m2fnuz", 1, "tensor(float8e5m2fnuz)"},
    {"i64", 8, "tensor(int64)"},
    {"i32", 4, "tensor(int32)"},
    {"i16", 2, "tensor(int16)"},
    {"i8", 1, "tensor(int8)"},
    {"u64", 8, "tensor(uint64)"},
    {"u32", 4, "tensor(uint32)"},
    {"u16", 2, "tensor(uint16)"},
    {"u8", 1, "tensor(uint8)"},
    {"i4", 1, "tensor(int4)"},
    {"u4", 1, "tensor(uint4)"},
    {"bool", 1, "tensor(bool)"},
    {"i2", 1, "tensor(int2)"},
    {"u2", 1, "tensor(uint2)"},
};

struct TargetRow {
    const char *name;
    const char *features;
};

// Targets with the CPU features they imply, the better ones later.
inline constexpr TargetRow targets[] = {
    {"x86-64-v3", "abm avx avx2 bmi1 bmi2 f16c fma movbe"},
    {"x86-64-v4", "abm avx avx2 avx512bw avx512cd avx512dq avx512f avx512vl bmi1 bmi2 f16c fma movbe"},
    {"aarch64", "asimd"},
};

// Folders of local paths, which no artifact names.
inline constexpr const char *local_folders[] = {
    "home",
    "root",
    "Users",
    "tmp",
    "work",
    "workspace",
    "workspaces",
    "builds",
    "opt",
    "mnt",
    "Volumes",
    "private/var",
    "private/tmp",
    "var/cache",
    "var/folders",
    "var/home",
    "var/jenkins",
    "var/lib",
    "var/local",
    "var/log",
    "var/mnt",
    "var/opt",
    "var/root",
    "var/run",
    "var/spool",
    "var/srv",
    "var/tmp",
    "var/www",
};

// Ed25519 points whose order divides 8, as y coordinates: signatures under such keys can be forged.
inline constexpr const char *weak_points[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

// Seconds since 1970: no clock that says less is right.
inline constexpr std::int64_t built = 1795219200;

}  // namespace vitrify::detail

#endif
