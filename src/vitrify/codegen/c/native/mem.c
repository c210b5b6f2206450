/* The four memory functions that a freestanding compiler may call. */
#include <stddef.h>
#include <stdint.h>

#define LOAD(type, at) (*(const type *)(at))
#define STORE(type, at, value) (*(type *)(at) = (value))
typedef uint64_t __attribute__((aligned(1), may_alias)) word8;
typedef uint32_t __attribute__((aligned(1), may_alias)) word4;
typedef uint16_t __attribute__((aligned(1), may_alias)) word2;
typedef uint8_t vector16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint8_t vector64 __attribute__((vector_size(64), aligned(1), may_alias));

/* Up to 64 bytes: both ends are read before either is written, so overlap is harmless. */
static inline void copy_small(char *to, const char *from, size_t n) {
    if (n >= 32) {
        vector16 a = LOAD(vector16, from), b = LOAD(vector16, from + 16);
        vector16 c = LOAD(vector16, from + n - 32), d = LOAD(vector16, from + n - 16);
        STORE(vector16, to, a), STORE(vector16, to + 16, b);
        STORE(vector16, to + n - 32, c), STORE(vector16, to + n - 16, d);
    } else if (n >= 16) {
        vector16 a = LOAD(vector16, from), b = LOAD(vector16, from + n - 16);
        STORE(vector16, to, a), STORE(vector16, to + n - 16, b);
    } else if (n >= 8) {
        word8 a = LOAD(word8, from), b = LOAD(word8, from + n - 8);
        STORE(word8, to, a), STORE(word8, to + n - 8, b);
    } else if (n >= 4) {
        word4 a = LOAD(word4, from), b = LOAD(word4, from + n - 4);
        STORE(word4, to, a), STORE(word4, to + n - 4, b);
    } else if (n >= 2) {
        word2 a = LOAD(word2, from), b = LOAD(word2, from + n - 2);
        STORE(word2, to, a), STORE(word2, to + n - 2, b);
    } else if (n) {
        *to = *from;
    }
}

/* The tail is read first and written last: correct when `to` lies before an overlapping `from`. */
static inline void copy_forward(char *to, const char *from, size_t n) {
    vector64 tail = LOAD(vector64, from + n - 64);
    char *last = to + n - 64;
    for (; to < last; to += 64, from += 64) STORE(vector64, to, LOAD(vector64, from));
    STORE(vector64, last, tail);
}

static inline void copy_backward(char *to, const char *from, size_t n) {
    vector64 head = LOAD(vector64, from);
    for (size_t left = n; left > 64; left -= 64) STORE(vector64, to + left - 64, LOAD(vector64, from + left - 64));
    STORE(vector64, to, head);
}

void *memmove(void *to, const void *from, size_t n) {
    if (n <= 64)
        copy_small(to, from, n);
    else if ((uintptr_t)to - (uintptr_t)from >= n)
        copy_forward(to, from, n);
    else
        copy_backward(to, from, n);
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
    if (n <= 64)
        copy_small(to, from, n);
    else
        copy_forward(to, from, n);
    return to;
}

void *memset(void *to, int value, size_t n) {
    char *at = to;
    if (n < 16) {
        for (volatile char *end = at + n, *p = at; p < end; p++) *p = (char)value;
        return to;
    }
    vector16 v = (vector16){0} + (uint8_t)value;
    char *last = at + n - 16;
    for (; at < last; at += 16) STORE(vector16, at, v);
    STORE(vector16, last, v);
    return to;
}

int memcmp(const void *a, const void *b, size_t n) {
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    return 0;
}

int bcmp(const void *a, const void *b, size_t n) { return memcmp(a, b, n); }
