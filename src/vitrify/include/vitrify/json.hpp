// Canonical JSON (RFC 8785) without floats: one spelling for a document, and nothing else is read.
#ifndef VITRIFY_JSON_HPP
#define VITRIFY_JSON_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bytes.hpp"

namespace vitrify::detail {

inline constexpr std::size_t document_bytes = std::size_t{1} << 20;
inline constexpr int json_depth = 16;
inline constexpr std::int64_t json_integer = (std::int64_t{1} << 53) - 1;

// A value; `keys` and `items` belong together in an object.
struct Json {
    enum class Kind { null, boolean, integer, text, list, object };
    Kind kind = Kind::null;
    bool truth = false;
    std::int64_t number = 0;
    std::string text;
    std::vector<std::string> keys;
    std::vector<Json> items;

    const Json *find(std::string_view key) const {
        for (std::size_t i = 0; i < keys.size(); i++) {
            if (keys[i] == key) return &items[i];
        }
        return nullptr;
    }
};

// Whether `a` comes before `b` in the order of their UTF-16 units, which differs from that of UTF-8's bytes in that
// surrogate pairs come before U+E000. Both are valid UTF-8.
inline bool units_before(std::string_view a, std::string_view b) {
    const std::size_t shorter = std::min(a.size(), b.size());
    for (std::size_t i = 0; i < shorter; i++) {
        const auto x = static_cast<unsigned char>(a[i]), y = static_cast<unsigned char>(b[i]);
        if (x == y) continue;
        if (x >= 0xf0 && (y == 0xee || y == 0xef)) return true;
        if (y >= 0xf0 && (x == 0xee || x == 0xef)) return false;
        return x < y;
    }
    return a.size() < b.size();
}

inline void write_string(std::string &to, std::string_view text) {
    static constexpr char digits[] = "0123456789abcdef";
    to.push_back('"');
    for (const char c : text) {
        switch (c) {
            case '"': to += "\\\""; break;
            case '\\': to += "\\\\"; break;
            case '\b': to += "\\b"; break;
            case '\f': to += "\\f"; break;
            case '\n': to += "\\n"; break;
            case '\r': to += "\\r"; break;
            case '\t': to += "\\t"; break;
            default:
                if (static_cast<unsigned char>(c) < 0x20) {
                    to += "\\u00";
                    to.push_back(digits[c >> 4]);
                    to.push_back(digits[c & 15]);
                } else {
                    to.push_back(c);
                }
        }
    }
    to.push_back('"');
}

// Bytes of the character at `at` in valid UTF-8 (no surrogates, no longer spelling than needed), 0 where there is none.
inline std::size_t utf8_length(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) {
        return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
    };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xc2 && first < 0xe0   ? 2
                               : first >= 0xe0 && first < 0xf0 ? 3
                               : first >= 0xf0 && first < 0xf5 ? 4
                                                               : 0;
    for (std::size_t i = 1; i < length; i++) {
        if ((byte(i) & 0xc0) != 0x80) return 0;
    }
    const unsigned second = byte(1);
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
        (first == 0xf4 && second > 0x8f)) {
        return 0;
    }
    return length;
}

// Reads canonical bytes alone: whatever is spelt otherwise than the writer would is refused where it stands.
class JsonReader {
 public:
    JsonReader(std::string_view text, std::string what) : text_(text), what_(std::move(what)) {}

    Json document() {
        Json value = read(0);
        if (at_ != text_.size()) refuse("the end of the document");
        return value;
    }

 private:
    [[noreturn]] void refuse(const std::string &expected) const {
        throw ManifestError(what_ + " is not canonical JSON at byte " + std::to_string(at_), "", expected,
                            "'" + shortened(text_.substr(std::min(at_, text_.size()), 40)) + "'",
                            "members are sorted and unique, nothing is spaced, and numbers are integers (RFC 8785)");
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    bool skip(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    Json read(int depth) {
        Json value;
        const char c = peek();
        if (c == '{' || c == '[') {
            if (depth == json_depth) {
                throw LimitError(what_ + " is nested too deeply", "", "at most 16 levels");
            }
            at_++;
            value.kind = c == '{' ? Json::Kind::object : Json::Kind::list;
            members(value, c == '{' ? '}' : ']', depth);
        } else if (c == '"') {
            value.kind = Json::Kind::text;
            value.text = string();
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            value.kind = Json::Kind::integer;
            value.number = integer();
        } else if (skip("true") || skip("false")) {
            value.kind = Json::Kind::boolean;
            value.truth = c == 't';
        } else if (!skip("null")) {
            refuse("a value");
        }
        return value;
    }

    void members(Json &value, char end, int depth) {
        if (peek() == end) {
            at_++;
            return;
        }
        for (;;) {
            if (value.kind == Json::Kind::object) {
                const std::size_t start = at_;
                std::string key = string();
                if (!value.keys.empty() && !units_before(value.keys.back(), key)) {
                    at_ = start;
                    refuse("members in the order of their names, each once");
                }
                value.keys.push_back(std::move(key));
                if (!skip(":")) refuse("':'");
            }
            value.items.push_back(read(depth + 1));
            if (peek() == end) {
                at_++;
                return;
            }
            if (!skip(",")) refuse(std::string("',' or '") + end + "'");
        }
    }

    std::int64_t integer() {
        const std::size_t start = at_;
        if (peek() == '-') at_++;
        const std::size_t digits = at_;
        while (peek() >= '0' && peek() <= '9') at_++;
        const std::size_t count = at_ - digits;
        if (count == 0 || (text_[digits] == '0' && (count > 1 || digits != start))) refuse("an integer");
        if (peek() == '.' || peek() == 'e' || peek() == 'E') refuse("integers alone");
        std::int64_t value = 0;
        for (std::size_t i = digits; i < at_ && value <= json_integer; i++) value = value * 10 + (text_[i] - '0');
        if (value > json_integer) {
            throw LimitError("an integer is too large", "", "at most " + std::to_string(json_integer),
                             std::to_string(count) + " digits");
        }
        return digits == start ? value : -value;
    }

    std::string string() {
        if (!skip("\"")) refuse("a string");
        std::string value;
        for (;;) {
            const char c = peek();
            if (at_ >= text_.size() || static_cast<unsigned char>(c) < 0x20) refuse("a string that ends");
            if (c == '"') {
                at_++;
                return value;
            }
            if (c == '\\') {
                value.push_back(escaped());
                continue;
            }
            const std::size_t length = utf8_length(text_, at_);
            if (!length) refuse("UTF-8");
            value.append(text_.substr(at_, length));
            at_ += length;
        }
    }

    // A character that has to be escaped, in the one way that it is.
    char escaped() {
        for (int c = 0; c < 128; c++) {
            if (c >= 0x20 && c != '"' && c != '\\') continue;
            const char character = static_cast<char>(c);
            std::string spelt;
            write_string(spelt, std::string_view(&character, 1));
            if (skip(std::string_view(spelt).substr(1, spelt.size() - 2))) return character;
        }
        refuse("an escape that is needed, in its shortest form");
    }

    std::string_view text_;
    std::string what_;
    std::size_t at_ = 0;
};

// The document whose canonical form is `encoded`. LimitError for more than `limit` bytes, 16 levels, or integers
// beyond 2^53 - 1; ManifestError for anything but canonical JSON.
inline Json read_json(std::string_view encoded, const std::string &what, std::size_t limit) {
    if (encoded.size() > limit) {
        throw LimitError(what + " is too large", "", "at most " + std::to_string(limit) + " bytes",
                         std::to_string(encoded.size()));
    }
    return JsonReader(encoded, what).document();
}

// Whether a text is a JSON object as Python reads one: spaces, floats, repeated members and NaN are fine.
class LooseJson {
 public:
    static bool is_object(std::string_view text) {
        LooseJson reader(text);
        reader.spaces();
        if (reader.peek() != '{' || !reader.value(0)) return false;
        reader.spaces();
        return reader.at_ == text.size();
    }

 private:
    explicit LooseJson(std::string_view text) : text_(text) {}

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void spaces() {
        while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) at_++;
    }
    bool skip(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }
    bool digits() {
        const std::size_t start = at_;
        while (peek() >= '0' && peek() <= '9') at_++;
        return at_ > start;
    }

    bool value(int depth) {
        spaces();
        const char c = peek();
        if (c == '{' || c == '[') return depth < 500 && container(c == '{', depth);
        if (c == '"') return string();
        for (const char *word : {"true", "false", "null", "NaN", "Infinity", "-Infinity"}) {
            if (skip(word)) return true;
        }
        skip("-");
        if (!skip("0") && !digits()) return false;
        if (skip(".") && !digits()) return false;
        if (skip("e") || skip("E")) {
            if (!skip("+")) skip("-");
            return digits();
        }
        return true;
    }

    bool container(bool object, int depth) {
        const std::string_view end = object ? "}" : "]";
        at_++;
        spaces();
        if (skip(end)) return true;
        for (;;) {
            spaces();
            if (object) {
                if (!string()) return false;
                spaces();
                if (!skip(":")) return false;
            }
            if (!value(depth + 1)) return false;
            spaces();
            if (skip(end)) return true;
            if (!skip(",")) return false;
        }
    }

    bool string() {
        if (!skip("\"")) return false;
        while (at_ < text_.size()) {
            const char c = text_[at_++];
            if (c == '"') return true;
            if (static_cast<unsigned char>(c) < 0x20) return false;
            if (c != '\\') continue;
            const char e = peek();
            if (std::string_view("\"\\/bfnrtu").find(e) == std::string_view::npos || e == '\0') return false;
            at_++;
            if (e != 'u') continue;
            for (int i = 0; i < 4; i++, at_++) {
                const char d = peek();
                if (hex_digit(d) < 0 && !(d >= 'A' && d <= 'F')) return false;
            }
        }
        return false;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

}  // namespace vitrify::detail

#endif
