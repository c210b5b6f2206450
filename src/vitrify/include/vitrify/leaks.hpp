// Paths of the machine that built an artifact: none may leave it. The same paths are found as by the expressions of
// vitrify.artifact.leaks, which explains them.
#ifndef VITRIFY_LEAKS_HPP
#define VITRIFY_LEAKS_HPP

#include <string>
#include <string_view>

#include "error.hpp"
#include "tables.hpp"

namespace vitrify::detail {

class LeakScanner {
 public:
    explicit LeakScanner(std::string_view data) : data_(data) {}

    // Where a local path begins; npos without one.
    std::size_t find() const {
        for (std::size_t i = 0; i < data_.size(); i++) {
            const char c = data_[i];
            if ((c == '/' && posix(i)) || (c == ':' && drive(i)) || (c == '\\' && share(i))) return i;
        }
        return std::string_view::npos;
    }

 private:
    // The byte at `at`, or one that is in no class and no literal beyond the ends.
    int byte(std::size_t at) const { return at < data_.size() ? static_cast<unsigned char>(data_[at]) : -1; }
    int before(std::size_t at, std::size_t back) const { return at >= back ? byte(at - back) : -1; }

    static bool letter(int c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
    static bool word(int c) { return letter(c) || (c >= '0' && c <= '9') || c == '_'; }
    static bool in(int c, std::string_view set) {
        return c >= 0 && set.find(static_cast<char>(c)) != std::string_view::npos;
    }
    static bool named(int c) { return c > 32 && c != 127 && !in(c, "\"'<>|*?:;,/\\)}]"); }
    static bool goes_on(int c) { return word(c) || in(c, ".~*@])-"); }  // behind it no path begins
    static bool of_name(int c) { return word(c) || in(c, ".+@~$ -"); }

    // Bytes of a folder's name and the slash behind it at `at`, each `width` bytes long; 0 without one.
    std::size_t folder(std::size_t at, std::size_t width) const {
        for (const char *name : local_folders) {
            std::size_t i = 0;
            const std::string_view whole(name);
            const auto same = [&](char c) {
                return byte(at + i * width) == static_cast<unsigned char>(c) &&
                       (width == 1 || byte(at + i * width + 1) == 0);
            };
            while (i < whole.size() && same(whole[i])) i++;
            if (i == whole.size() && same('/')) return (i + 1) * width;
        }
        return 0;
    }

    bool posix(std::size_t i) const {
        const int last = before(i, 1), other = before(i, 2);
        const bool option = other == '-' && in(last, "ILFB");
        const bool inside = goes_on(last) || (last == '/' && i >= 2 && other != '/');
        if (option || !inside) {
            const std::size_t size = folder(i + 1, 1);
            if (size && named(byte(i + 1 + size))) return true;
        }
        if (byte(i + 1) != 0 || (last == 0 && (goes_on(other) || other == '/'))) return false;
        const std::size_t size = folder(i + 2, 2);
        return size && named(byte(i + 2 + size)) && byte(i + 3 + size) == 0;
    }

    bool drive(std::size_t i) const {
        if (byte(i + 1) == 0) {
            return before(i, 1) == 0 && letter(before(i, 2)) && in(byte(i + 2), "\\/") && byte(i + 3) == 0 &&
                   of_name(byte(i + 4)) && byte(i + 5) == 0 && of_name(byte(i + 6)) && byte(i + 7) == 0;
        }
        if (!letter(before(i, 1)) || word(before(i, 2))) return false;
        std::size_t at = i + 2;
        if (byte(i + 1) == '\\') {
            if (byte(at) == '\\') at++;
        } else if (byte(i + 1) != '/' || byte(at) == '/') {
            return false;
        }
        for (std::size_t n = 0; n < 5; n++) {
            const int c = byte(at + n);
            if (!of_name(c) && (n < 3 || !in(c, "\\/"))) return false;
        }
        return true;
    }

    bool share(std::size_t i) const {
        const auto host = [](int c) { return word(c) || in(c, ".-"); };
        const auto rest = [](int c) { return word(c) || in(c, "$.-"); };
        if (byte(i + 1) == 0) {
            if (byte(i + 2) != '\\' || byte(i + 3) != 0) return false;
            std::size_t at = i + 4, count = 0;
            for (; count < 64 && host(byte(at)) && byte(at + 1) == 0; at += 2) count++;
            return count >= 2 && byte(at) == '\\' && byte(at + 1) == 0 && rest(byte(at + 2)) && byte(at + 3) == 0 &&
                   rest(byte(at + 4)) && byte(at + 5) == 0;
        }
        if (byte(i + 1) != '\\') return false;
        const bool doubled = byte(i + 2) == '\\' && byte(i + 3) == '\\';
        std::size_t at = i + (doubled ? 4 : 2), count = 0;
        for (; count < 64 && host(byte(at)); at++) count++;
        if (count < 2 || byte(at) != '\\' || (doubled && byte(at + 1) != '\\')) return false;
        at += doubled ? 2 : 1;
        return rest(byte(at)) && rest(byte(at + 1)) && (rest(byte(at + 2)) || byte(at + 2) == '\\');
    }

    std::string_view data_;
};

// LeakError where `data`, the contents of `name`, holds a local absolute path.
inline void scan_for_leaks(std::string_view data, const std::string &name) {
    const std::size_t at = LeakScanner(data).find();
    if (at == std::string_view::npos) return;
    std::string shown;
    for (const char c : data.substr(at, 120)) {
        if (c == 0) continue;
        if (c < 32 || std::string_view("\"'<>|*?").find(c) != std::string_view::npos) break;
        shown.push_back(c);
    }
    throw LeakError("a local path at byte " + std::to_string(at), name, "no absolute paths of the machine that builds",
                    shown, "rename it in the model, or build from a relative path");
}

}  // namespace vitrify::detail

#endif
