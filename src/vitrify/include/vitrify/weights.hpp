// Weights: mapped where they lie, and compared with their list of digests before a run first reads them.
#ifndef VITRIFY_WEIGHTS_HPP
#define VITRIFY_WEIGHTS_HPP

#include <sys/mman.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "machine.hpp"

namespace vitrify::detail {

inline constexpr std::uint64_t leaf_bytes = 1 << 16;

class Weights {
 public:
    // `size` bytes of an open file from `start` on (a multiple of a page). Nothing is compared yet.
    Weights(int fd, std::uint64_t start, std::uint64_t size, std::string expected, std::string path)
        : path_(std::move(path)), expected_(std::move(expected)), size_(size), fd_(::fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
        if (!fd_) throw ContainerError("cannot be opened again: " + system_message(), path_);
        state_ = status_of(fd_.get(), path_);
        const std::uint64_t leaves = (size + leaf_bytes - 1) / leaf_bytes;
        if (expected_.size() != leaves * 32 || static_cast<std::uint64_t>(state_.st_size) < start + size) {
            throw IntegrityError("the weights are not as long as their list of digests", path_,
                                 std::to_string(expected_.size() / 32) + " leaves", std::to_string(size) + " bytes",
                                 damaged);
        }
        if (!size) return;
        data_ = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd_.get(), static_cast<off_t>(start));
        if (data_ == MAP_FAILED) {
            data_ = nullptr;
            throw OutOfMemoryError("the weights cannot be mapped: " + system_message(), path_);
        }
        ::madvise(data_, size, MADV_HUGEPAGE);  // a kernel without them says so, which changes nothing
    }
    Weights(const Weights &) = delete;
    Weights &operator=(const Weights &) = delete;
    ~Weights() {
        if (data_) ::munmap(data_, size_);
    }

    const char *data() const { return static_cast<const char *>(data_); }
    std::uint64_t size() const { return size_; }

    // Compares every leaf, the first time; threads that come meanwhile wait.
    void check() {
        if (checked_.load(std::memory_order_acquire)) return;
        const std::lock_guard<std::mutex> guard(lock_);
        if (checked_.load(std::memory_order_relaxed)) return;
        if (changed()) throw RaceError("the file was changed since it was opened", path_);
        const std::size_t count = expected_.size() / 32;
        const std::size_t wrong = first_wrong(count);
        if (wrong != count) {
            throw IntegrityError("the SHA-256 of leaf " + std::to_string(wrong) + " (65536 bytes from " +
                                     std::to_string(wrong * leaf_bytes) + ") differs",
                                 path_, hex(std::string_view(expected_).substr(wrong * 32, 32)), "", damaged);
        }
        if (changed()) throw RaceError("the file was changed while it was examined", path_);
        checked_.store(true, std::memory_order_release);
    }

 private:
    bool changed() const {
        const struct stat now = status_of(fd_.get(), path_);
        return now.st_size != state_.st_size || now.st_mtim.tv_sec != state_.st_mtim.tv_sec ||
               now.st_mtim.tv_nsec != state_.st_mtim.tv_nsec;
    }

    // The first leaf that differs, `count` where none does. Hashed on several threads where there is enough to do.
    std::size_t first_wrong(std::size_t count) const {
        std::atomic<std::size_t> next{0}, done{0}, wrong{count};
        const auto work = [&]() noexcept {
            for (std::size_t i; (i = next.fetch_add(1)) < count;) {
                bool same = false;
                try {
                    const std::string_view all(data(), size_);
                    same = sha256(all.substr(i * leaf_bytes, leaf_bytes)) ==
                           std::string_view(expected_).substr(i * 32, 32);
                } catch (...) {
                    same = false;  // what could not be hashed is not what was signed
                }
                if (!same) {
                    std::size_t least = wrong.load();
                    while (i < least && !wrong.compare_exchange_weak(least, i)) {
                    }
                    return;
                }
                done.fetch_add(1);
            }
        };
        const std::size_t threads = std::min({count / 32, std::size_t{8}, affinity().size()});
        std::vector<std::thread> others;
        try {
            for (std::size_t i = 1; i < threads; i++) others.emplace_back(work);
        } catch (const std::system_error &) {
            // no thread could be started: what there is to do is done by the others
        }
        work();
        for (std::thread &other : others) other.join();
        return wrong.load() == count && done.load() != count ? 0 : wrong.load();
    }

    std::string path_, expected_;
    std::uint64_t size_;
    Descriptor fd_;
    struct stat state_{};
    void *data_ = nullptr;
    std::atomic<bool> checked_{false};
    std::mutex lock_;
};

}  // namespace vitrify::detail

#endif
