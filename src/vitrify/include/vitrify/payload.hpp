// Native code between the file it lies in and the loader: copied, sealed against change, hashed, examined, loaded.
#ifndef VITRIFY_PAYLOAD_HPP
#define VITRIFY_PAYLOAD_HPP

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../vitrify.h"
#include "gate.hpp"
#include "leaks.hpp"
#include "machine.hpp"

namespace vitrify::detail {

// A native library in a file that cannot change any more, of which `digest` is the SHA-256. `location` is where the
// loader finds it; the descriptor stays open for as long as this object, since loaders remember libraries by name.
class Payload {
 public:
    Payload(const Location &place, const FileEntry &entry, std::string path)
        : digest(entry.sha256), path_(std::move(path)) {
        std::string image = read_exactly(place.fd, place.start, entry.size, path_);
        if (seal(image)) {
            location_ = "/proc/self/fd/" + std::to_string(fd_.get());
            image = read_exactly(fd_.get(), 0, entry.size, path_);
        } else {
            write_private(image);
        }
        const std::string found = sha256_hex(image);
        if (found != digest || static_cast<std::uint64_t>(status_of(fd_.get(), path_).st_size) != entry.size) {
            remove();
            throw IntegrityError("the payload is not the one that was signed", path_, digest, found, damaged);
        }
        image_ = std::move(image);
    }
    Payload(const Payload &) = delete;
    Payload &operator=(const Payload &) = delete;
    ~Payload() { remove(); }

    // PlatformError, NativeCodeError and LeakError for what the headers or the bytes say.
    void examine(const Target &target) const {
        examine_library(image_, target.os, target.architecture, target.exports, path_);
        scan_for_leaks(image_, path_);
    }

    // RaceError where the code at `address` is not mapped from this file.
    void check_mapped(const void *address) const {
        const struct stat found = status_of(fd_.get(), path_);
        std::ifstream maps("/proc/self/maps");
        for (std::string line; std::getline(maps, line);) {
            unsigned long long low = 0, high = 0, inode = 0;
            unsigned major = 0, minor = 0;
            if (std::sscanf(line.c_str(), "%llx-%llx %*s %*s %x:%x %llu", &low, &high, &major, &minor, &inode) != 5)
                continue;
            const auto place = reinterpret_cast<std::uintptr_t>(address);
            if (place < low || place >= high) continue;
            if (inode == found.st_ino && major == ::major(found.st_dev) && minor == ::minor(found.st_dev)) return;
            break;
        }
        throw RaceError("the loader mapped another file than the one that was checked", path_);
    }

    const std::string &path() const { return path_; }
    const std::string &location() const { return location_; }
    void forget_image() { std::string().swap(image_); }

    const std::string digest;

 private:
    static bool write_all(int fd, std::string_view data) {
        while (!data.empty()) {
            const ssize_t part = ::write(fd, data.data(), data.size());
            if (part < 0 && errno == EINTR) continue;
            if (part <= 0) return false;
            data.remove_prefix(static_cast<std::size_t>(part));
        }
        return true;
    }

    // Makes an anonymous file in memory with these bytes for ever; false where the system has none, or forbids them.
    bool seal(std::string_view image) {
        constexpr unsigned executable = 0x10;  // MFD_EXEC; before Linux 6.3 all of them can be mapped as code
        constexpr int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
        fd_ = Descriptor(::memfd_create("payload", flags | executable));
        if (!fd_) fd_ = Descriptor(::memfd_create("payload", flags));
        if (!fd_ || !write_all(fd_.get(), image) || ::fcntl(fd_.get(), F_ADD_SEALS, seals)) {
            fd_.close();
            return false;
        }
        if ((::fcntl(fd_.get(), F_GET_SEALS) & seals) != seals)
            throw RaceError("the copy in memory cannot be sealed", path_);
        return true;
    }

    // A new file in a directory that only its owner can enter: that owner's other processes are trusted then.
    void write_private(std::string_view image) {
        const char *base = std::getenv("TMPDIR");
        std::string folder = std::string(base && *base ? base : "/tmp") + "/vitrify-XXXXXX";
        if (!::mkdtemp(folder.data())) throw ContainerError("no copy can be made: " + system_message(), path_);
        folder_ = folder;
        location_ = folder_ + "/payload";
        fd_ = Descriptor(::open(location_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0500));
        if (!fd_ || !write_all(fd_.get(), image)) {
            const std::string why = system_message();
            remove();
            throw ContainerError("no copy can be made: " + why, path_);
        }
    }

    void remove() {
        if (folder_.empty()) return;
        ::unlink((folder_ + "/payload").c_str());
        ::rmdir(folder_.c_str());
        folder_.clear();
    }

    std::string path_, location_, folder_, image_;
    Descriptor fd_;
};

// ---- what payloads call: functions of exactly the types that vt_os says

inline int os_memalign(void **block, std::size_t alignment, std::size_t bytes) {
    return ::posix_memalign(block, alignment, bytes);
}
inline void os_free(void *block) {
    ::free(block);
}
inline int os_madvise(void *address, std::size_t bytes, int advice) {
    return ::madvise(address, bytes, advice);
}
inline int os_thread(std::uintptr_t *thread, const void *attributes, void *(*start)(void *), void *argument) {
    pthread_t made{};
    const int failed = ::pthread_create(&made, static_cast<const pthread_attr_t *>(attributes), start, argument);
    *thread = static_cast<std::uintptr_t>(made);
    return failed;
}
inline int os_detach(std::uintptr_t thread) {
    return ::pthread_detach(static_cast<pthread_t>(thread));
}
inline int os_mutex(void *mutex, const void *attributes) {
    return ::pthread_mutex_init(static_cast<pthread_mutex_t *>(mutex),
                                static_cast<const pthread_mutexattr_t *>(attributes));
}
inline int os_lock(void *mutex) {
    return ::pthread_mutex_lock(static_cast<pthread_mutex_t *>(mutex));
}
inline int os_unlock(void *mutex) {
    return ::pthread_mutex_unlock(static_cast<pthread_mutex_t *>(mutex));
}
inline int os_cond(void *cond, const void *attributes) {
    return ::pthread_cond_init(static_cast<pthread_cond_t *>(cond),
                               static_cast<const pthread_condattr_t *>(attributes));
}
inline int os_wait(void *cond, void *mutex) {
    return ::pthread_cond_wait(static_cast<pthread_cond_t *>(cond), static_cast<pthread_mutex_t *>(mutex));
}
inline int os_signal(void *cond) {
    return ::pthread_cond_signal(static_cast<pthread_cond_t *>(cond));
}
inline int os_yield() {
    return ::sched_yield();
}
inline int os_clock(int clock, void *time) {
    return ::clock_gettime(clock, static_cast<timespec *>(time));
}

inline const vt_os &os_table() {
    static const vt_os table{os_memalign, os_free, os_madvise, os_thread, os_detach, os_mutex, os_lock,
                             os_unlock,   os_cond, os_wait,    os_signal, os_yield,  os_clock};
    return table;
}

// A payload, opened once however many sessions use it.
class Library {
 public:
    explicit Library(std::unique_ptr<Payload> payload) : payload_(std::move(payload)) {
        const std::string &path = payload_->path();
        handle_ = ::dlopen(payload_->location().c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!handle_) {
            const char *why = ::dlerror();
            throw PlatformError(std::string("the system cannot load it: ") + (why ? why : "no reason given"), path);
        }
        try {
            void *found = ::dlsym(handle_, "vt_payload");
            if (!found) throw SchemaError("not a payload: vt_payload is not in it", path);
            table_ = static_cast<const vt_payload_table *>(found);
            if (table_->abi != VT_ABI_VERSION || table_->size != sizeof(vt_payload_table)) {
                throw SchemaError(
                    "made for another runtime", path,
                    "interface " + std::to_string(VT_ABI_VERSION) + " of " + std::to_string(sizeof(vt_payload_table)) +
                        " bytes",
                    "interface " + std::to_string(table_->abi) + " of " + std::to_string(table_->size) + " bytes",
                    "compile the model again with this version");
            }
            payload_->check_mapped(found);
        } catch (...) {
            ::dlclose(handle_);
            throw;
        }
        payload_->forget_image();
    }
    Library(const Library &) = delete;
    Library &operator=(const Library &) = delete;
    ~Library() { ::dlclose(handle_); }

    const vt_payload_table &table() const { return *table_; }

    // SchemaError unless the payload's arguments are those of the manifest.
    void check(const std::vector<Port> &inputs, const std::vector<Port> &outputs) const {
        const vt_model &model = *table_->model;
        if (!same(model.inputs, model.n_inputs, inputs) || !same(model.outputs, model.n_outputs, outputs)) {
            throw SchemaError("payload and manifest disagree on inputs and outputs", payload_->path(), "", "",
                              "compile the model again");
        }
    }

 private:
    static bool same(const vt_arg *args, std::int32_t count, const std::vector<Port> &ports) {
        bool equal = count >= 0 && static_cast<std::size_t>(count) == ports.size();
        for (std::size_t i = 0; equal && i < ports.size(); i++) {
            const int code = dtype_code(ports[i].dtype);
            equal = ports[i].name == args[i].name && args[i].dtype == code &&
                    static_cast<std::size_t>(args[i].itemsize) == types[code].size && args[i].rank >= 0 &&
                    static_cast<std::size_t>(args[i].rank) == ports[i].dims.size();
            for (std::size_t axis = 0; equal && args[i].dims && axis < ports[i].dims.size(); axis++) {
                const std::int64_t *number = std::get_if<std::int64_t>(&ports[i].dims[axis]);
                equal = std::max<std::int64_t>(args[i].dims[axis], -1) == (number ? *number : -1);
            }
        }
        return equal;
    }

    std::unique_ptr<Payload> payload_;
    void *handle_ = nullptr;
    const vt_payload_table *table_ = nullptr;
};

// What all sessions of a process share: loaded libraries, and the pool, whose code is the first library's. That one is
// never unloaded, since the pool's threads live as long as the process.
class Process {
 public:
    static Process &shared() {
        static Process *const process = new Process;  // never destroyed, for the same reason
        return *process;
    }

    // The library of an examined payload, loaded if it is not.
    std::shared_ptr<Library> load(std::unique_ptr<Payload> payload) {
        const std::lock_guard<std::mutex> guard(lock_);
        std::weak_ptr<Library> &known = libraries_[payload->digest];
        std::shared_ptr<Library> library = known.lock();
        if (!library) known = library = std::make_shared<Library>(std::move(payload));
        if (!provider_) {
            pool_ = library->table().provide(&os_table(), nullptr, available_cpus());
            if (!pool_) throw OutOfMemoryError("no memory for the thread pool");
            provider_ = library;
            // a forked child has none of the pool's threads, and no lock that another thread held
            ::pthread_atfork([] { shared().lock_.lock(); }, [] { shared().lock_.unlock(); },
                             [] {
                                 shared().provider_->table().pool_reset(shared().pool_);
                                 shared().lock_.unlock();
                             });
        }
        return library;
    }

    vt_parallel_for parallel_for() const { return provider_->table().parallel_for; }
    void *pool() const { return pool_; }

 private:
    std::mutex lock_;
    std::map<std::string, std::weak_ptr<Library>> libraries_;
    std::shared_ptr<Library> provider_;
    void *pool_ = nullptr;
};

}  // namespace vitrify::detail

#endif
