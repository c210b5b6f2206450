// The file of an artifact, a zip archive with exactly one valid encoding, and the same files as a directory.
#ifndef VITRIFY_CONTAINER_HPP
#define VITRIFY_CONTAINER_HPP

#include <dirent.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bytes.hpp"

namespace vitrify::detail {

inline constexpr std::uint64_t map_alignment = 1 << 16;
inline constexpr std::size_t max_members = 4096;
inline constexpr std::size_t max_name = 200;
inline constexpr std::uint64_t max_archive = 0xffffffffu;
inline constexpr std::uint64_t max_directory = 1 << 20;

struct Entry {
    std::string name;
    std::uint64_t size = 0;
    std::uint32_t crc32 = 0;  // 0 in a directory, which keeps none
};

// Where a member lies.
struct Location {
    int fd;
    std::uint64_t start;
};

// One or two words of lower-case letters, digits, '.', '_' and '-', each beginning with a letter or digit.
inline bool is_member_name(std::string_view name) {
    int words = 1;
    bool begins = true;
    for (const char c : name) {
        const bool first = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (c == '/' && !begins) {
            words++;
            begins = true;
        } else if (first || (!begins && (c == '.' || c == '_' || c == '-'))) {
            begins = false;
        } else {
            return false;
        }
    }
    return !begins && words <= 2 && name.size() <= max_name;
}

inline void check_name(std::string_view name) {
    if (is_member_name(name)) return;
    throw ContainerError("'" + shortened(name) + "' cannot name a member", "",
                         "one or two words of lower-case letters, digits, '.', '_' and '-', joined by '/'");
}

// RaceError for a file that anybody may write to, and for a directory in which anybody may exchange files: what was
// checked there need not be what is used.
inline void check_writers(const struct stat &status, const std::string &path) {
    if (!(status.st_mode & S_IWOTH) || (S_ISDIR(status.st_mode) && status.st_mode & S_ISVTX)) return;
    throw RaceError("others can write here", path, "its owner and group alone can", "", "chmod o-w " + path);
}

// RaceError where anybody may exchange what is at `path`.
inline void check_place(const std::string &path) {
    std::string whole = path;
    while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
    const std::size_t slash = whole.find_last_of('/');
    const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : whole.substr(0, slash);
    struct stat found{};
    if (::stat(folder.c_str(), &found)) throw ContainerError("cannot be opened: " + system_message(), folder);
    check_writers(found, folder);
}

// The files of an artifact by name. What they hold is unread.
class Source {
 public:
    explicit Source(std::string path) : path_(std::move(path)) {}
    Source(const Source &) = delete;
    Source &operator=(const Source &) = delete;
    virtual ~Source() = default;

    virtual Location locate(const std::string &name) = 0;
    virtual bool keeps_checksums() const = 0;

    const std::string &path() const { return path_; }
    const std::map<std::string, Entry> &entries() const { return entries_; }
    bool has(const std::string &name) const { return entries_.count(name) != 0; }
    std::string member_path(const std::string &name) const { return path_ + "/" + name; }

    // All of a member; LimitError before anything is read where it has more than `limit` bytes.
    std::string read(const std::string &name, std::uint64_t limit = UINT64_MAX) {
        const std::uint64_t size = entries_.at(name).size;
        if (size > limit) {
            throw LimitError(name + " is too large", path_, "at most " + std::to_string(limit) + " bytes",
                             std::to_string(size));
        }
        const Location place = locate(name);
        return read_exactly(place.fd, place.start, size, member_path(name));
    }

 protected:
    std::string path_;
    std::map<std::string, Entry> entries_;
};

// An artifact's file; its layout is the one valid encoding of its entries. ContainerError for anything else,
// LimitError for more members or bytes than an archive has.
class Archive : public Source {
 public:
    explicit Archive(const std::string &path) : Source(path), fd_(open_regular(path)) {
        const std::string table = directory_bytes();
        const std::vector<Entry> entries = records(table);
        for (std::size_t i = 0; i < entries.size(); i++) {
            check_name(entries[i].name);
            if (i && entries[i - 1].name >= entries[i].name) {
                throw bad("members are not in the order of their names, or a name repeats", entries[i].name);
            }
            entries_[entries[i].name] = entries[i];
        }
        for (const Entry &entry : entries) {
            const std::size_t slash = entry.name.find('/');
            if (slash != std::string::npos && entries_.count(entry.name.substr(0, slash))) {
                throw ContainerError("a name is a member and a folder of members", path_, "", entry.name);
            }
        }
        const std::string expected = place(entries);
        if (start_ != end_of_members_) {
            throw bad("the directory is not where the members end", std::to_string(start_));
        }
        if (expected != table) throw bad("the directory differs from the one valid encoding");
        check_headers(entries);
    }

    Location locate(const std::string &name) override { return {fd_.get(), data_.at(name)}; }
    bool keeps_checksums() const override { return true; }

 private:
    static constexpr std::size_t local_bytes = 30, central_bytes = 46, end_bytes = 22;
    static constexpr std::uint16_t date = 1 << 5 | 1;  // 1980-01-01, the first that zip knows

    // The directory with the end record behind it, which has to lie at the end of the file.
    std::string directory_bytes() {
        const struct stat status = status_of(fd_.get(), path_);
        check_writers(status, path_);
        check_place(path_);
        size_ = static_cast<std::uint64_t>(status.st_size);
        if (size_ > max_archive) {
            throw LimitError("the file is too large", path_, "at most " + std::to_string(max_archive) + " bytes",
                             std::to_string(size_));
        }
        if (size_ < end_bytes) throw bad("the file is too short for an archive", std::to_string(size_) + " bytes");
        const std::string last = read_exactly(fd_.get(), size_ - end_bytes, end_bytes, path_);
        if (last.substr(0, 4) != std::string("PK\5\6", 4)) {
            throw bad("the file does not end with the end record of an archive");
        }
        const auto here = little<std::uint16_t>(last, 8), count = little<std::uint16_t>(last, 10);
        if (here == 0xffff || count == 0xffff || little<std::uint32_t>(last, 12) == 0xffffffff ||
            little<std::uint32_t>(last, 16) == 0xffffffff) {
            throw bad("the end record is that of a zip64 archive");
        }
        if (little<std::uint32_t>(last, 4) || little<std::uint16_t>(last, 20) || here != count) {
            throw bad("the end record speaks of other disks, or of a comment");
        }
        const std::uint64_t length = little<std::uint32_t>(last, 12);
        start_ = little<std::uint32_t>(last, 16);
        if (count > max_members || length > max_directory) {
            throw LimitError("too many members", path_, "at most 4096", std::to_string(count));
        }
        if (start_ + length + end_bytes != size_) {
            throw bad("the directory does not lie just before the end record");
        }
        return read_exactly(fd_.get(), start_, length + end_bytes, path_);
    }

    // What the records say besides names, sizes and checksums is compared later.
    std::vector<Entry> records(std::string_view table) const {
        std::vector<Entry> found;
        std::size_t at = 0;
        const std::size_t end = table.size() - end_bytes;
        while (at < end) {
            if (end - at < central_bytes || table.substr(at, 4) != std::string_view("PK\1\2", 4)) {
                throw bad("a record of the directory is cut off or has no mark");
            }
            const auto flags = little<std::uint16_t>(table, at + 8), method = little<std::uint16_t>(table, at + 10);
            const auto stored = little<std::uint32_t>(table, at + 20), size = little<std::uint32_t>(table, at + 24);
            const auto length = little<std::uint16_t>(table, at + 28);
            if (method || stored != size) throw bad("a member is compressed", "method " + std::to_string(method));
            if (flags || little<std::uint32_t>(table, at + 30)) {
                throw bad("a member has flags, extra fields or a comment", std::to_string(flags));
            }
            Entry entry;
            entry.crc32 = little<std::uint32_t>(table, at + 16);
            entry.size = size;
            at += central_bytes;
            entry.name = std::string(table.substr(at, std::min<std::size_t>(length, end - at)));
            at += entry.name.size();
            found.push_back(std::move(entry));
        }
        return found;
    }

    // Where everything lies; gives the directory and end record that this makes.
    std::string place(const std::vector<Entry> &entries) {
        std::uint64_t at = 0;
        std::string written;
        for (const Entry &entry : entries) {
            const std::uint64_t alignment = entry.name.compare(0, 8, "weights/") == 0 ? map_alignment : 1;
            const std::uint64_t header = local_bytes + entry.name.size();
            const std::uint64_t data = (at + header + alignment - 1) / alignment * alignment;
            data_[entry.name] = data;
            at = data + entry.size;
            written.append("PK\1\2", 4);
            put(written, std::uint16_t{3 << 8 | 20});  // made by: Unix, for the file's mode
            fields(written, entry);
            for (int i = 0; i < 4; i++) put(written, std::uint16_t{0});  // no extra, comment, disk, inner attributes
            put(written, std::uint32_t{0100644u << 16});
            put(written, static_cast<std::uint32_t>(data - header));
            written += entry.name;
        }
        end_of_members_ = at;
        const std::size_t length = written.size();
        written.append("PK\5\6", 4);
        put(written, std::uint32_t{0});
        put(written, static_cast<std::uint16_t>(entries.size()));
        put(written, static_cast<std::uint16_t>(entries.size()));
        put(written, static_cast<std::uint32_t>(length));
        put(written, static_cast<std::uint32_t>(at));
        put(written, std::uint16_t{0});
        return written;
    }

    // What both headers of a member have in common, up to the length of its name.
    static void fields(std::string &to, const Entry &entry) {
        put(to, std::uint16_t{10});  // stored members need version 1.0
        for (int i = 0; i < 3; i++) put(to, std::uint16_t{0});
        put(to, date);
        put(to, entry.crc32);
        put(to, static_cast<std::uint32_t>(entry.size));
        put(to, static_cast<std::uint32_t>(entry.size));
        put(to, static_cast<std::uint16_t>(entry.name.size()));
    }

    // Every member's header, and the zeros before it.
    void check_headers(const std::vector<Entry> &entries) const {
        std::uint64_t at = 0;
        for (const Entry &entry : entries) {
            const std::uint64_t data = data_.at(entry.name);
            std::string expected(data - at - local_bytes - entry.name.size(), '\0');
            expected.append("PK\3\4", 4);
            fields(expected, entry);
            put(expected, std::uint16_t{0});
            expected += entry.name;
            if (read_exactly(fd_.get(), at, data - at, path_) != expected) {
                throw bad("what precedes " + entry.name + " differs from the one valid encoding");
            }
            at = data + entry.size;
        }
    }

    ContainerError bad(const std::string &message, const std::string &actual = {}) const {
        return ContainerError(message, path_, "", shortened(actual), damaged);
    }

    Descriptor fd_;
    std::uint64_t size_ = 0, start_ = 0, end_of_members_ = 0;
    std::map<std::string, std::uint64_t> data_;
};

// An artifact's directory: every file below it by name, each opened when it is first asked for. ContainerError for
// links (hard ones too), pipes, devices, deeper directories and names that no member has.
class Folder : public Source {
 public:
    explicit Folder(const std::string &path)
        : Source(path), fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) {
        if (!fd_) throw ContainerError("cannot be opened: " + system_message(), path_, "a directory that is no link");
        check_place(path_);
        list(fd_.get(), "");
    }

    Location locate(const std::string &name) override {
        auto found = files_.find(name);
        if (found == files_.end()) {
            const std::size_t slash = name.find('/');
            Descriptor file = slash == std::string::npos
                                  ? open_regular(name, fd_.get())
                                  : open_regular(name.substr(slash + 1), inner(fd_.get(), name.substr(0, slash)).get());
            const struct stat status = status_of(file.get(), member_path(name));
            if (status.st_nlink != 1 || static_cast<std::uint64_t>(status.st_size) != entries_.at(name).size) {
                throw RaceError("the file was exchanged since the directory was read", member_path(name));
            }
            check_writers(status, member_path(name));
            found = files_.emplace(name, std::move(file)).first;
        }
        return {found->second.get(), 0};
    }
    bool keeps_checksums() const override { return false; }

 private:
    static Descriptor inner(int folder, const std::string &name) {
        Descriptor fd(::openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd) throw ContainerError("cannot be opened: " + system_message(), name);
        return fd;
    }

    void list(int folder, const std::string &prefix) {
        check_writers(status_of(folder, path_), member_path(prefix));
        const int copy = ::fcntl(folder, F_DUPFD_CLOEXEC, 0);
        const std::unique_ptr<DIR, int (*)(DIR *)> items(copy < 0 ? nullptr : ::fdopendir(copy), ::closedir);
        if (!items) {
            if (copy >= 0) ::close(copy);
            throw ContainerError("cannot be listed: " + system_message(), path_);
        }
        ::rewinddir(items.get());
        while (const dirent *item = ::readdir(items.get())) {
            const std::string last = item->d_name;
            if (last == "." || last == "..") continue;
            const std::string name = prefix + last;
            struct stat found{};
            if (::fstatat(folder, last.c_str(), &found, AT_SYMLINK_NOFOLLOW)) {
                if (errno == ENOENT) throw RaceError("a file went while the directory was read", member_path(name));
                throw ContainerError("cannot be examined: " + system_message(), member_path(name));
            }
            check_name(prefix.empty() ? last : name);
            if (S_ISDIR(found.st_mode) && prefix.empty()) {
                list(inner(folder, last).get(), last + "/");
                continue;
            }
            if (!S_ISREG(found.st_mode) || found.st_nlink != 1) {
                throw ContainerError("not a regular file with one name", member_path(name), "", "", damaged);
            }
            check_writers(found, member_path(name));
            entries_[name] = Entry{name, static_cast<std::uint64_t>(found.st_size), 0};
            if (entries_.size() > max_members) throw LimitError("too many files", path_, "at most 4096");
        }
    }

    Descriptor fd_;
    std::map<std::string, Descriptor> files_;
};

inline std::unique_ptr<Source> open_source(const std::string &path) {
    struct stat found{};
    if (::stat(path.c_str(), &found)) {
        throw ContainerError("cannot be opened: " + system_message(), path, "", "", "check the path");
    }
    if (!S_ISDIR(found.st_mode)) return std::make_unique<Archive>(path);
    struct stat manifest{};
    if (::lstat((path + "/manifest.json").c_str(), &manifest)) {
        throw ContainerError("not an artifact: there is no manifest.json in it", path);
    }
    return std::make_unique<Folder>(path);
}

}  // namespace vitrify::detail

#endif
