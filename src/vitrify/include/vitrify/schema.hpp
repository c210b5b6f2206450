// Closed schemas of documents: each function takes a value out of canonical JSON and the place where it stands, and
// refuses with ManifestError everything that is not of its kind. No member is optional, unknown, or left unread.
#ifndef VITRIFY_SCHEMA_HPP
#define VITRIFY_SCHEMA_HPP

#include <ctime>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "json.hpp"

namespace vitrify::detail {

inline std::string described(const Json &value) {
    switch (value.kind) {
        case Json::Kind::null: return "null";
        case Json::Kind::boolean: return value.truth ? "true" : "false";
        case Json::Kind::integer: return std::to_string(value.number);
        case Json::Kind::text: return "'" + shortened(value.text) + "'";
        case Json::Kind::list: return "a list of " + std::to_string(value.items.size());
        case Json::Kind::object: break;
    }
    std::string names;
    for (const std::string &key : value.keys) names += (names.empty() ? "" : ", ") + key;
    return "an object with " + shortened(names);
}

inline ManifestError refusal(const std::string &where, const std::string &expected, const std::string &actual) {
    return ManifestError(where + " is ill-formed", "", expected, actual,
                         "the artifact is damaged or was not written by this version; build it again");
}

inline const std::string &as_text(const Json &value, const std::string &where) {
    if (value.kind != Json::Kind::text) throw refusal(where, "a string", described(value));
    return value.text;
}

inline std::int64_t as_integer(const Json &value, const std::string &where) {
    if (value.kind != Json::Kind::integer) throw refusal(where, "an integer", described(value));
    return value.number;
}

inline std::int64_t as_count(const Json &value, const std::string &where) {
    if (value.kind != Json::Kind::integer || value.number < 0) {
        throw refusal(where, "an integer that is not negative", described(value));
    }
    return value.number;
}

inline bool as_truth(const Json &value, const std::string &where) {
    if (value.kind != Json::Kind::boolean) throw refusal(where, "true or false", described(value));
    return value.truth;
}

// A SHA-256 in lower-case hexadecimal.
inline const std::string &as_digest(const Json &value, const std::string &where) {
    if (value.kind != Json::Kind::text || value.text.size() != 64 || !is_hex(value.text)) {
        throw refusal(where, "64 lower-case hexadecimal digits", described(value));
    }
    return value.text;
}

inline std::string as_base64(const Json &value, const std::string &where) {
    std::optional<std::string> found;
    if (value.kind == Json::Kind::text) found = unbase64(value.text);
    if (!found) throw refusal(where, "base64 with padding", described(value));
    return *found;
}

inline const std::string &as_constant(const Json &value, const std::string &where, const std::string &expected) {
    if (value.kind != Json::Kind::text || value.text != expected) {
        throw refusal(where, "'" + expected + "'", described(value));
    }
    return value.text;
}

inline const std::string &as_one_of(const Json &value, const std::string &where,
                                    std::initializer_list<const char *> choices) {
    std::string known;
    for (const char *choice : choices) {
        if (value.kind == Json::Kind::text && value.text == choice) return value.text;
        known += std::string(" ") + choice;
    }
    throw refusal(where, "one of" + known, described(value));
}

// Days from 1970-01-01 to a day of the proleptic Gregorian calendar.
inline std::int64_t days_before(std::int64_t year, std::int64_t month, std::int64_t day) {
    const std::int64_t y = month > 2 ? year : year - 1;
    const std::int64_t era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    const std::int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

// A moment in UTC such as 2026-01-31T00:00:00Z, as seconds since 1970.
inline std::int64_t as_instant(const Json &value, const std::string &where) {
    static constexpr char form[] = "0000-00-00T00:00:00Z";
    const std::string &text = value.text;
    bool fits = value.kind == Json::Kind::text && text.size() == sizeof form - 1;
    for (std::size_t i = 0; fits && i < text.size(); i++) {
        fits = form[i] == '0' ? text[i] >= '0' && text[i] <= '9' : text[i] == form[i];
    }
    if (fits) {
        const auto part = [&](std::size_t at, std::size_t size) { return std::stoll(text.substr(at, size)); };
        const std::int64_t year = part(0, 4), month = part(5, 2), day = part(8, 2);
        const std::int64_t hour = part(11, 2), minute = part(14, 2), second = part(17, 2);
        const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        const std::int64_t last = month == 2                                              ? (leap ? 29 : 28)
                                  : month == 4 || month == 6 || month == 9 || month == 11 ? 30
                                                                                          : 31;
        if (year >= 1 && month >= 1 && month <= 12 && day >= 1 && day <= last && hour < 24 && minute < 60 &&
            second < 62) {  // 61: leap seconds, as C's calendar has them
            return ((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
        }
    }
    throw refusal(where, "a moment in UTC such as 2026-01-31T00:00:00Z", described(value));
}

// How as_instant's moments are written.
inline std::string moment(std::int64_t seconds) {
    const std::time_t time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    if (!::gmtime_r(&time, &parts)) return std::to_string(seconds);
    char text[64];
    return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

// An object with exactly these members, given in the order of their names.
class Record {
 public:
    Record(const Json &value, std::string where, std::initializer_list<const char *> members)
        : value_(value), where_(std::move(where)) {
        std::string names;
        bool same = value.kind == Json::Kind::object && value.keys.size() == members.size();
        std::size_t at = 0;
        for (const char *member : members) {
            names += (names.empty() ? "" : ", ") + std::string(member);
            same = same && value.keys[at++] == member;
        }
        if (!same) throw refusal(where_, "an object with the members " + names, described(value));
    }

    const Json &operator[](const char *name) const { return *value_.find(name); }
    std::string where(const char *name) const { return where_ + "." + name; }

    const std::string &text(const char *name) const { return as_text((*this)[name], where(name)); }
    std::int64_t count(const char *name) const { return as_count((*this)[name], where(name)); }
    std::int64_t instant(const char *name) const { return as_instant((*this)[name], where(name)); }
    const std::string &digest(const char *name) const { return as_digest((*this)[name], where(name)); }
    const std::string &constant(const char *name, const char *expected) const {
        return as_constant((*this)[name], where(name), expected);
    }

    template <class Item>
    auto list(const char *name, Item item) const {
        return as_list((*this)[name], where(name), item);
    }
    template <class Item>
    auto optional(const char *name, Item item) const {
        const Json &value = (*this)[name];
        using Result = std::decay_t<decltype(item(value, std::string()))>;
        return value.kind == Json::Kind::null ? std::optional<Result>()
                                              : std::optional<Result>(item(value, where(name)));
    }

    template <class Item>
    static auto as_list(const Json &value, const std::string &where, Item item) {
        if (value.kind != Json::Kind::list) throw refusal(where, "a list", described(value));
        std::vector<std::decay_t<decltype(item(value, where))>> found;
        found.reserve(value.items.size());
        for (std::size_t i = 0; i < value.items.size(); i++) {
            found.push_back(item(value.items[i], where + "[" + std::to_string(i) + "]"));
        }
        return found;
    }

 private:
    const Json &value_;
    std::string where_;
};

// Calls `item(name, value, where)` for each member of an object of any names.
template <class Item>
void each_member(const Json &value, const std::string &where, Item item) {
    if (value.kind != Json::Kind::object) throw refusal(where, "an object", described(value));
    for (std::size_t i = 0; i < value.keys.size(); i++) {
        item(value.keys[i], value.items[i], where + "['" + shortened(value.keys[i]) + "']");
    }
}

}  // namespace vitrify::detail

#endif
