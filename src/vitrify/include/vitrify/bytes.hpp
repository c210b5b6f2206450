// Bytes: descriptors, bounded reads, digests and their spellings.
#ifndef VITRIFY_BYTES_HPP
#define VITRIFY_BYTES_HPP

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "error.hpp"

namespace vitrify::detail {

// A file descriptor, closed with its owner.
class Descriptor {
 public:
    Descriptor() = default;
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor &operator=(Descriptor &&other) noexcept {
        if (this != &other) {
            close();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~Descriptor() { close(); }
    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

 private:
    int fd_ = -1;
};

inline std::string system_message() {
    return std::strerror(errno);
}

inline struct stat status_of(int fd, const std::string &path) {
    struct stat found{};
    if (::fstat(fd, &found)) throw ContainerError("cannot be examined: " + system_message(), path);
    return found;
}

// `size` bytes from `start` on. RaceError where there are fewer.
inline std::string read_exactly(int fd, std::uint64_t start, std::uint64_t size, const std::string &path) {
    std::string data(size, '\0');
    std::uint64_t done = 0;
    while (done < size) {
        const ssize_t part = ::pread(fd, data.data() + done, size - done, static_cast<off_t>(start + done));
        if (part < 0 && errno == EINTR) continue;
        if (part < 0) throw ContainerError("cannot be read: " + system_message(), path);
        if (part == 0) throw RaceError("the file became shorter while it was read", path);
        done += static_cast<std::uint64_t>(part);
    }
    return data;
}

// The regular file at `path` itself, relative to the directory `folder`: no link, pipe or device.
inline Descriptor open_regular(const std::string &path, int folder = AT_FDCWD) {
    Descriptor fd(::openat(folder, path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    if (!fd) {
        throw ContainerError("cannot be opened: " + system_message(), path, "a regular file that is no link");
    }
    if (!S_ISREG(status_of(fd.get(), path).st_mode)) throw ContainerError("not a regular file", path);
    return fd;
}

// An unsigned number of `T` at `at`, in the byte order of all formats here; the caller has checked the bounds.
template <class T>
T little(std::string_view data, std::size_t at) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); i++) {
        value =
            static_cast<T>(value | static_cast<T>(static_cast<T>(static_cast<unsigned char>(data[at + i])) << 8 * i));
    }
    return value;
}

template <class T>
void put(std::string &to, T value) {
    for (std::size_t i = 0; i < sizeof(T); i++) to.push_back(static_cast<char>(value >> 8 * i & 0xff));
}

inline std::string hex(std::string_view data) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (const char byte : data) {
        text.push_back(digits[static_cast<unsigned char>(byte) >> 4]);
        text.push_back(digits[static_cast<unsigned char>(byte) & 15]);
    }
    return text;
}

inline int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

// The bytes of lower-case hexadecimal digits, which the caller has checked.
inline std::string unhex(std::string_view text) {
    std::string data;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
        data.push_back(static_cast<char>(hex_digit(text[i]) << 4 | hex_digit(text[i + 1])));
    }
    return data;
}

inline bool is_hex(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return hex_digit(c) >= 0; });
}

inline std::string base64(std::string_view data) {
    std::string text((data.size() + 2) / 3 * 4 + 1, '\0');
    const int size =
        EVP_EncodeBlock(reinterpret_cast<unsigned char *>(text.data()),
                        reinterpret_cast<const unsigned char *>(data.data()), static_cast<int>(data.size()));
    text.resize(static_cast<std::size_t>(size));
    return text;
}

// The bytes whose one base64 spelling is `text`; documents with base64 are far below 2 GiB.
inline std::optional<std::string> unbase64(std::string_view text) {
    if (text.size() % 4) return std::nullopt;
    std::string data(text.size() / 4 * 3 + 1, '\0');
    const int size =
        EVP_DecodeBlock(reinterpret_cast<unsigned char *>(data.data()),
                        reinterpret_cast<const unsigned char *>(text.data()), static_cast<int>(text.size()));
    if (size < 0) return std::nullopt;
    std::size_t padding = 0;
    while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') padding++;
    data.resize(static_cast<std::size_t>(size) - padding);
    if (base64(data) != text) return std::nullopt;
    return data;
}

// SHA-256, all at once or piece by piece.
class Sha256 {
 public:
    Sha256() : context_(EVP_MD_CTX_new()) {
        if (!context_) throw std::bad_alloc();
        if (EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) != 1) {
            EVP_MD_CTX_free(context_);
            throw IntegrityError("libcrypto has no SHA-256");
        }
    }
    Sha256(const Sha256 &) = delete;
    Sha256 &operator=(const Sha256 &) = delete;
    ~Sha256() { EVP_MD_CTX_free(context_); }

    void update(std::string_view data) {
        if (EVP_DigestUpdate(context_, data.data(), data.size()) != 1) throw IntegrityError("SHA-256 failed");
    }
    std::string digest() {
        std::string found(32, '\0');
        unsigned size = 0;
        if (EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char *>(found.data()), &size) != 1 || size != 32) {
            throw IntegrityError("SHA-256 failed");
        }
        return found;
    }

 private:
    EVP_MD_CTX *context_;
};

// The checksum of zip archives.
inline std::uint32_t crc32(std::string_view data) {
    std::uint32_t sum = 0xffffffff;
    for (const char byte : data) {
        sum ^= static_cast<unsigned char>(byte);
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum;
}

inline std::string sha256(std::string_view data) {
    Sha256 hash;
    hash.update(data);
    return hash.digest();
}

inline std::string sha256_hex(std::string_view data) {
    return hex(sha256(data));
}

// At most a few words of what came, for messages.
inline std::string shortened(std::string_view text) {
    std::string shown;
    for (const char c : text.substr(0, 80)) shown.push_back(c >= 32 && c < 127 ? c : '?');
    if (text.size() > 80) shown += "...";
    return shown;
}

}  // namespace vitrify::detail

#endif
