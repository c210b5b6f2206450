// What a native library may hold, decided from its bytes before anything maps it: code, constants and the exports
// that the manifest lists. The same checks as vitrify.artifact.gate.elf, in the same order.
#ifndef VITRIFY_GATE_HPP
#define VITRIFY_GATE_HPP

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "bytes.hpp"

namespace vitrify::detail {

inline constexpr std::string_view elf_magic("\177ELF", 4);

class ElfGate {
 public:
    ElfGate(std::string_view data, std::string architecture, std::string path)
        : data_(data), arm_(architecture == "aarch64"), path_(std::move(path)) {}

    void examine(const std::vector<std::string> &exports) {
        segments(header());
        mapped();
        special();
        dynamic();
        symbols(exports);
        hash();
        gnu_hash();
        relocations();
        if (std::none_of(loads_.begin(), loads_.end(), [](const Segment &s) { return s.flags & X; })) {
            throw refused("a library without code");
        }
    }

 private:
    enum : std::uint32_t { X = 1, W = 2, R = 4 };
    enum : std::uint32_t { LOAD = 1, TABLE = 2, HEADERS = 6, STACK = 0x6474e551, RELRO = 0x6474e552 };
    enum : std::uint64_t {
        HASH = 4,
        STRTAB = 5,
        SYMTAB = 6,
        RELA = 7,
        RELASZ = 8,
        RELAENT = 9,
        STRSZ = 10,
        SYMENT = 11,
        FLAGS = 30,
        GNU_HASH = 0x6ffffef5,
        RELACOUNT = 0x6ffffff9
    };
    static constexpr std::uint64_t max_symbols = 4096, max_tags = 64, max_address = std::uint64_t{1} << 32;
    static constexpr std::size_t max_segments = 16, longest_name = 256;

    struct Segment {
        std::uint32_t type, flags;
        std::uint64_t offset, address, physical, file_size, memory_size, alignment;
        std::uint64_t end() const { return address + memory_size; }
    };

    NativeCodeError refused(const std::string &message, const std::string &expected = {},
                            const std::string &actual = {}) const {
        return NativeCodeError(message, path_, expected, actual,
                               "a payload is built by `vitrify compile`, which writes nothing else; build it again");
    }

    PlatformError elsewhere(const std::string &message, const std::string &expected, std::uint64_t actual) const {
        return PlatformError(message, path_, expected, std::to_string(actual));
    }

    void bound(std::uint64_t offset, std::uint64_t size, const std::string &what) const {
        if (size > data_.size() || offset > data_.size() - size) {
            throw refused(what + " is cut off", "bytes within the file's " + std::to_string(data_.size()),
                          std::to_string(size) + " bytes at " + std::to_string(offset));
        }
    }

    template <class T>
    T at(std::uint64_t offset) const {
        return little<T>(data_, static_cast<std::size_t>(offset));
    }

    std::vector<std::uint32_t> words(std::uint64_t offset, std::uint64_t count, const std::string &what) const {
        bound(offset, 4 * count, what);
        std::vector<std::uint32_t> found;
        for (std::uint64_t i = 0; i < count; i++) found.push_back(at<std::uint32_t>(offset + 4 * i));
        return found;
    }

    void require(bool holds, const std::string &what) const {
        if (!holds) throw refused(what + " differs");
    }

    // The number of program headers.
    std::size_t header() const {
        bound(0, 64, "the ELF header");
        require(data_.substr(0, 4) == elf_magic, "the ELF magic number");
        const auto byte = [&](std::uint64_t i) { return at<std::uint8_t>(i); };
        if (byte(4) != 2 || byte(5) != 1) {
            throw elsewhere("the library is of another class", "64 bits, little-endian", byte(4));
        }
        const auto machine = at<std::uint16_t>(18), wanted = static_cast<std::uint16_t>(arm_ ? 183 : 62);
        if (machine != wanted) throw elsewhere("the library is for another machine", std::to_string(wanted), machine);
        if ((byte(7) != 0 && byte(7) != 3) || byte(8)) {
            throw elsewhere("the library is for another system", "ABI 0", byte(7));
        }
        require(byte(6) == 1 && at<std::uint32_t>(20) == 1 && data_.substr(9, 7).find_first_not_of('\0') == data_.npos,
                "the ELF version and padding");
        require(at<std::uint16_t>(16) == 3, "the ELF type (3: shared library)");
        require(at<std::uint64_t>(24) == 0, "the entry point");
        require(at<std::uint32_t>(48) == 0, "the ELF flags");
        require(at<std::uint16_t>(52) == 64 && at<std::uint16_t>(54) == 56 && at<std::uint64_t>(32) == 64,
                "sizes and place of the headers");
        const auto count = at<std::uint16_t>(56);
        if (!count || count > max_segments) throw refused("too many program headers", "1 to 16", std::to_string(count));
        // section headers are for debuggers, no loader reads them; here they must only be where they say
        const auto sections = at<std::uint64_t>(40);
        const auto section_size = at<std::uint16_t>(58), section_count = at<std::uint16_t>(60);
        if (sections || section_count) {
            require(section_size == 64, "the size of section headers");
            bound(sections, std::uint64_t{64} * section_count, "the section headers");
        }
        return count;
    }

    void segments(std::size_t count) {
        bound(64, 56 * count, "the program headers");
        std::set<std::uint32_t> once;
        for (std::size_t i = 0; i < count; i++) {
            const std::uint64_t o = 64 + 56 * i;
            const Segment s{at<std::uint32_t>(o),      at<std::uint32_t>(o + 4),  at<std::uint64_t>(o + 8),
                            at<std::uint64_t>(o + 16), at<std::uint64_t>(o + 24), at<std::uint64_t>(o + 32),
                            at<std::uint64_t>(o + 40), at<std::uint64_t>(o + 48)};
            if (s.type != LOAD && s.type != TABLE && s.type != HEADERS && s.type != STACK && s.type != RELRO) {
                throw refused("a segment that no payload has", "LOAD, DYNAMIC, PHDR, GNU_STACK, GNU_RELRO",
                              segment_name(s.type));
            }
            if (s.flags & ~std::uint32_t{R | W | X} || (s.physical != s.address && s.physical != 0)) {
                throw refused("a segment's flags or physical address");
            }
            if (s.flags & W && s.flags & X) throw refused("a segment is writable and executable");
            if (s.type != LOAD && !once.insert(s.type).second) {
                throw refused("a segment that may be there once is there twice");
            }
            segments_.push_back(s);
            if (s.type == LOAD) loads_.push_back(s);
        }
        if (!once.count(TABLE) || !once.count(STACK)) throw refused("a library without DYNAMIC or GNU_STACK segment");
    }

    static std::string segment_name(std::uint32_t type) {
        switch (type) {
            case 3: return "INTERP (a program's loader)";
            case 4: return "NOTE";
            case 7: return "TLS (thread-local storage)";
            case 0x6474e550: return "GNU_EH_FRAME";
            case 0x6474e553: return "GNU_PROPERTY";
            default: return "type " + std::to_string(type);
        }
    }

    // The mapped segments: they cover the headers, follow each other, and share no page.
    void mapped() const {
        std::uint64_t end = 0;
        std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
        for (const Segment &s : loads_) {
            bound(s.offset, s.file_size, "a segment");
            if ((s.alignment != 0x1000 && s.alignment != 0x4000 && s.alignment != 0x10000) ||
                (s.address - s.offset) % s.alignment) {
                throw refused("a segment's alignment", "", std::to_string(s.alignment));
            }
            if (s.file_size > s.memory_size || s.memory_size > max_address || s.address > max_address - s.memory_size ||
                !s.memory_size) {
                throw refused("a segment's sizes");
            }
            if (s.address / s.alignment * s.alignment < end) throw refused("segments overlap or are out of order");
            if ((s.flags != R && s.flags != (R | X) && s.flags != (R | W)) ||
                (s.flags & X && s.file_size != s.memory_size)) {
                throw refused("a segment's access", "r, rx or rw, code as long as in the file");
            }
            end = (s.end() + s.alignment - 1) / s.alignment * s.alignment;
            if (s.file_size) ranges.emplace_back(s.offset, s.offset + s.file_size);
        }
        std::sort(ranges.begin(), ranges.end());
        for (std::size_t i = 1; i < ranges.size(); i++) {
            if (ranges[i - 1].second > ranges[i].first) throw refused("segments overlap in the file");
        }
        if (loads_.empty() || loads_[0].offset || loads_[0].address || loads_[0].flags != R ||
            loads_[0].file_size < headers_end()) {
            throw refused("the headers are not in a first segment that is only read");
        }
    }

    std::uint64_t headers_end() const { return 64 + 56 * segments_.size(); }

    void special() const {
        for (const Segment &s : segments_) {
            if (s.type == STACK) {
                require(s.flags == (R | W) && !s.offset && !s.address && !s.physical && !s.file_size &&
                            !s.memory_size && !s.alignment,
                        "the stack's segment (6: not executable)");
            }
            if (s.type == HEADERS) {
                const std::uint64_t size = headers_end() - 64;
                require(s.flags == R && s.offset == 64 && s.address == 64 && s.file_size == size &&
                            s.memory_size == size && s.alignment == 8,
                        "the headers' segment");
            }
            if (s.type == RELRO || s.type == TABLE) {
                const std::string name = s.type == RELRO ? "GNU_RELRO" : "DYNAMIC";
                require(s.type == RELRO ? s.flags == R && s.alignment == 1 : s.flags == (R | W) && s.alignment == 8,
                        name + "'s access and alignment");
                const Segment *home = find_home(s.address, s.memory_size);
                if (!home || !(home->flags & W) || s.offset - s.address != home->offset - home->address) {
                    throw refused(name + " is not in a segment of data");
                }
            }
        }
    }

    // The segment that holds [address, address + size).
    const Segment *find_home(std::uint64_t address, std::uint64_t size) const {
        for (const Segment &s : loads_) {
            if (s.address <= address && address <= s.end() && size <= s.end() - address) return &s;
        }
        return nullptr;
    }

    // Where in the file the table at `address` is, which must be in a segment that is only read.
    std::uint64_t constant(std::uint64_t address, std::uint64_t size, const std::string &what) const {
        const Segment *home = find_home(address, size);
        if (!home || home->flags != R || address - home->address + size > home->file_size) {
            throw refused(what + " is not in a segment that is only read", "",
                          std::to_string(size) + " bytes at " + std::to_string(address));
        }
        return address - home->address + home->offset;
    }

    const Segment &table_segment() const {
        return *std::find_if(segments_.begin(), segments_.end(), [](const Segment &s) { return s.type == TABLE; });
    }

    void dynamic() {
        const Segment &place = table_segment();
        const std::uint64_t count = place.file_size / 16;
        if (place.file_size % 16 || !count || count > max_tags || place.memory_size != place.file_size) {
            throw refused("the dynamic table's size", "at most 64 entries", std::to_string(place.file_size));
        }
        bound(place.offset, place.file_size, "the dynamic table");
        bool ended = false;
        for (std::uint64_t i = 0; i < count; i++) {
            const auto tag = at<std::uint64_t>(place.offset + 16 * i),
                       value = at<std::uint64_t>(place.offset + 16 * i + 8);
            if (ended && (tag || value)) throw refused("the dynamic table goes on after its end");
            if (!tag && !value) {
                ended = true;
                continue;
            }
            if (tag == FLAGS && value & 4)
                throw refused("the dynamic table has FLAGS with TEXTREL (code written at load)");
            if (!known_tag(tag)) throw refused("the dynamic table has " + tag_name(tag), "nothing but tables");
            if (!tables_.emplace(tag, value).second) throw refused("the dynamic table has " + tag_name(tag) + " twice");
        }
        if (!ended) throw refused("the dynamic table does not end");
        for (const std::uint64_t tag : {STRTAB, STRSZ, SYMTAB, SYMENT, HASH, GNU_HASH}) {
            if (!tables_.count(tag)) throw refused("the dynamic table lacks entries", tag_name(tag));
        }
        require(tables_[SYMENT] == 24, "the size of symbols");
    }

    static bool known_tag(std::uint64_t tag) {
        return (tag >= HASH && tag <= SYMENT) || tag == GNU_HASH || tag == RELACOUNT;
    }

    static std::string tag_name(std::uint64_t tag) {
        static const std::map<std::uint64_t, const char *> names{{1, "NEEDED (another library)"},
                                                                 {HASH, "HASH"},
                                                                 {STRTAB, "STRTAB"},
                                                                 {SYMTAB, "SYMTAB"},
                                                                 {RELA, "RELA"},
                                                                 {RELASZ, "RELASZ"},
                                                                 {RELAENT, "RELAENT"},
                                                                 {STRSZ, "STRSZ"},
                                                                 {SYMENT, "SYMENT"},
                                                                 {12, "INIT (code run at load)"},
                                                                 {13, "FINI (code run at unload)"},
                                                                 {15, "RPATH (a path to search)"},
                                                                 {22, "TEXTREL (code written at load)"},
                                                                 {23, "JMPREL"},
                                                                 {25, "INIT_ARRAY (code run at load)"},
                                                                 {26, "FINI_ARRAY (code run at unload)"},
                                                                 {29, "RUNPATH (a path to search)"},
                                                                 {32, "PREINIT_ARRAY (code run at load)"},
                                                                 {GNU_HASH, "GNU_HASH"},
                                                                 {RELACOUNT, "RELACOUNT"},
                                                                 {0x6ffffefb, "DEPAUDIT (another library)"},
                                                                 {0x6ffffefc, "AUDIT (another library)"},
                                                                 {0x7ffffffd, "AUXILIARY (another library)"},
                                                                 {0x7fffffff, "FILTER (another library)"}};
        const auto found = names.find(tag);
        return found == names.end() ? "tag " + std::to_string(tag) : found->second;
    }

    std::string name(std::uint64_t offset, std::uint64_t end) const {
        bound(offset, 0, "a symbol's name");
        std::string text;
        for (std::uint64_t i = offset; i < std::min<std::uint64_t>({end, offset + longest_name, data_.size()}); i++) {
            const char c = data_[static_cast<std::size_t>(i)];
            if (c == 0) return text;
            if (c < 33 || c > 126) throw refused("a symbol's name is not printable ASCII");
            text.push_back(c);
        }
        throw refused("a symbol's name does not end", "at most 255 bytes and a zero");
    }

    void symbols(const std::vector<std::string> &exports) {
        const std::uint64_t hash_place = constant(tables_[HASH], 8, "HASH");
        bound(hash_place, 8, "HASH");
        const std::uint64_t count = at<std::uint32_t>(hash_place + 4);
        if (!count || count > max_symbols) throw refused("the number of symbols", "1 to 4096", std::to_string(count));
        const std::uint64_t size = tables_[STRSZ];
        if (!size || size > data_.size()) throw refused("the size of the names", "", std::to_string(size));
        const std::uint64_t strings = constant(tables_[STRTAB], size, "the names' table");
        const std::uint64_t place = constant(tables_[SYMTAB], count * 24, "the symbols' table");
        bound(place, count * 24, "the symbols' table");
        bound(strings, size, "the names' table");
        require(data_.substr(static_cast<std::size_t>(place), 24).find_first_not_of('\0') == data_.npos,
                "the null symbol");
        require(!at<std::uint8_t>(strings) && !at<std::uint8_t>(strings + size - 1), "the ends of the names' table");
        names_ = {""};
        for (std::uint64_t i = 1; i < count; i++) {
            const std::uint64_t o = place + 24 * i;
            const std::uint64_t offset = at<std::uint32_t>(o);
            if (offset >= size) throw refused("a symbol's name is not in the names' table", "", std::to_string(offset));
            const std::string text = name(strings + offset, strings + size);
            check_symbol(text, at<std::uint8_t>(o + 4), at<std::uint8_t>(o + 5), at<std::uint16_t>(o + 6));
            const Segment *home = find_home(at<std::uint64_t>(o + 8), at<std::uint64_t>(o + 16));
            if (!home || ((home->flags & X) != 0) != ((at<std::uint8_t>(o + 4) & 15) == 2)) {
                throw refused("'" + text + "' is not in the library");
            }
            names_.push_back(text);
        }
        check_exports(exports);
    }

    void check_symbol(const std::string &text, unsigned info, unsigned other, unsigned section) const {
        if (section == 0) throw refused("the library needs '" + text + "' from elsewhere (an undefined symbol)");
        if ((info & 15) == 6) throw refused("symbol '" + text + "' is thread-local (TLS)");
        if ((info & 15) == 10) throw refused("symbol '" + text + "' is chosen by code that runs at load (IFUNC)");
        if ((info != 0x11 && info != 0x12) || other || section >= 0xff00) {
            throw refused("symbol '" + text + "' is no plain export", "a global function or object of a section");
        }
    }

    void check_exports(const std::vector<std::string> &exports) const {
        const std::set<std::string> found(names_.begin() + 1, names_.end()), stated(exports.begin(), exports.end());
        if (found.size() != names_.size() - 1) throw refused("the library exports a name twice");
        for (const std::string &text : found) {
            if (!stated.count(text)) throw refused("the library exports what the manifest does not list", "", text);
        }
        for (const std::string &text : stated) {
            if (!found.count(text)) throw refused("the library does not export what the manifest lists", text);
        }
    }

    // HASH: chains of symbols that exist and come to an end.
    void hash() {
        const std::uint64_t place = constant(tables_[HASH], 8, "HASH"), count = names_.size();
        const std::uint64_t buckets = at<std::uint32_t>(place);
        if (!buckets || buckets > max_symbols)
            throw refused("the number of HASH buckets", "1 to 4096", std::to_string(buckets));
        constant(tables_[HASH], 8 + 4 * (buckets + count), "HASH");
        const std::vector<std::uint32_t> all = words(place + 8, buckets + count, "HASH");
        std::set<std::uint32_t> seen;
        for (std::uint64_t b = 0; b < buckets; b++) {
            for (std::uint32_t i = all[b]; i; i = all[buckets + i]) {
                if (i >= count || !seen.insert(i).second) {
                    throw refused("HASH names a symbol that does not exist, or one twice", "", std::to_string(i));
                }
            }
        }
        require(all[buckets] == 0 && seen.size() == count - 1,
                "the null symbol's chain and the number of symbols in HASH");
    }

    // GNU_HASH, which glibc looks names up in: the same symbols as SYMTAB's, and no others.
    void gnu_hash() {
        const std::uint64_t address = tables_[GNU_HASH], place = constant(address, 16, "GNU_HASH");
        const std::vector<std::uint32_t> sizes = words(place, 4, "GNU_HASH");
        const std::uint64_t buckets = sizes[0], first = sizes[1], bloom = sizes[2];
        if (!buckets || buckets > max_symbols || !bloom || bloom > max_symbols || first != 1 || (bloom & (bloom - 1))) {
            throw refused("GNU_HASH's sizes");
        }
        const std::uint64_t hashed = names_.size() - first;
        constant(address, 16 + 8 * bloom + 4 * (buckets + hashed), "GNU_HASH");
        const std::vector<std::uint32_t> found = words(place + 16 + 8 * bloom, buckets + hashed, "GNU_HASH");
        std::vector<std::uint32_t> expected(buckets + hashed, 0), values;
        for (std::uint64_t i = 0; i < hashed; i++) {
            std::uint32_t value = 5381;
            for (const char c : names_[i + 1]) value = value * 33 + static_cast<unsigned char>(c);
            values.push_back(value);
        }
        bool sorted = true;
        for (std::uint64_t i = 0; i < hashed; i++) {
            const std::uint64_t bucket = values[i] % buckets;
            sorted = sorted && (!i || values[i - 1] % buckets <= bucket);
            if (!expected[bucket]) expected[bucket] = static_cast<std::uint32_t>(first + i);
            const bool last = i + 1 == hashed || values[i + 1] % buckets != bucket;
            expected[buckets + i] = (values[i] & ~std::uint32_t{1}) | (last ? 1 : 0);
        }
        if (!sorted || found != expected) throw refused("GNU_HASH does not name the exports");
    }

    // Addresses that the loader adds the base to: of data, to places in the library, and not in the dynamic table.
    void relocations() {
        std::size_t given = 0;
        for (const std::uint64_t tag : {RELA, RELASZ, RELAENT, RELACOUNT}) given += tables_.count(tag);
        if (!given) return;
        if (given < 4) throw refused("relocations are described in part");
        const std::uint64_t count = tables_[RELASZ] / 24;
        if (tables_[RELASZ] % 24 || tables_[RELAENT] != 24 || count > data_.size() / 24) {
            throw refused("the relocations' sizes", "", std::to_string(tables_[RELASZ]) + " bytes");
        }
        const std::uint64_t place = constant(tables_[RELA], 24 * count, "the relocations' table");
        bound(place, 24 * count, "the relocations' table");
        const std::uint64_t relative = arm_ ? 1027 : 8, indirect = arm_ ? 1032 : 37;
        for (std::uint64_t i = 0; i < count; i++) {
            const auto kind = at<std::uint64_t>(place + 24 * i + 8);
            if (kind != relative) {
                throw refused(std::string("relocation of another kind") +
                                  ((kind & 0xffffffff) == indirect ? " (IRELATIVE: code run at load)" : ""),
                              "type " + std::to_string(relative), std::to_string(kind));
            }
        }
        require(tables_[RELACOUNT] == count, "the number of relative relocations");
        const Segment &table = table_segment();
        for (std::uint64_t i = 0; i < count; i++) {
            const auto target = at<std::uint64_t>(place + 24 * i), value = at<std::uint64_t>(place + 24 * i + 16);
            bool fits = false;
            for (const Segment &s : loads_) {
                fits = fits || (s.flags & W && s.file_size >= 8 && target >= s.address &&
                                target - s.address <= s.file_size - 8);
            }
            fits = fits && (target + 8 <= table.address || target >= table.end());
            if (!fits) throw refused("a relocation is not in data", "", std::to_string(target));
            if (value > loads_.back().end())
                throw refused("a relocation points out of the library", "", std::to_string(value));
        }
    }

    std::string_view data_;
    bool arm_;
    std::string path_;
    std::vector<Segment> segments_, loads_;
    std::map<std::uint64_t, std::uint64_t> tables_;
    std::vector<std::string> names_;
};

// Returns if `image` is a library for this system that exports exactly `exports` and asks for nothing else.
inline void examine_library(std::string_view image, const std::string &os, const std::string &architecture,
                            const std::vector<std::string> &exports, const std::string &path) {
    std::string found;
    if (image.substr(0, 4) == elf_magic) found = "ELF";
    if (image.substr(0, 4) == "\xcf\xfa\xed\xfe" || image.substr(0, 4) == "\xca\xfe\xba\xbe") found = "Mach-O";
    if (image.substr(0, 2) == "MZ") found = "PE";
    if (os != "linux") {
        throw PlatformError("the library is not for this system", path, "linux",
                            os + (found.empty() ? "" : ", " + found));
    }
    if (found != "ELF" && !found.empty()) {
        throw PlatformError("the library is for another system than the manifest says", path, "ELF", found);
    }
    ElfGate(image, architecture, path).examine(exports);
}

}  // namespace vitrify::detail

#endif
