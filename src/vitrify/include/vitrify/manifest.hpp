// The manifest of an artifact: what it computes, for which machines, and the digest of every file.
#ifndef VITRIFY_MANIFEST_HPP
#define VITRIFY_MANIFEST_HPP

#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "container.hpp"
#include "schema.hpp"
#include "tables.hpp"

namespace vitrify {

// A number, or (of dims and amounts) a name or an expression over the model's named dims.
using Amount = std::variant<std::int64_t, std::string>;

// An input or output. A dim is a number, the name of a dim, or an expression over named dims.
struct Port {
    std::string name;
    std::string dtype;
    std::vector<Amount> dims;
};

// A node of the source model; failures of a run name it.
struct Node {
    std::string name;
    std::string op;
};

// The code for one kind of machine; `features` are needed besides what the target's name implies.
struct Target {
    std::string target, os, architecture;
    std::vector<std::string> features;
    std::string payload;
    std::vector<std::string> exports;
    std::optional<std::string> weights, leaves;
    Amount arena_bytes, peak_bytes;
    std::int64_t scratch_bytes = 0;
};

struct FileEntry {
    std::uint64_t size = 0;
    std::string sha256;
    std::uint32_t crc32 = 0;
    std::string role;
};

// An array of a probe. An input's is in `file`. An output's is there too, and elements may differ from it by
// `tolerance` times the largest finite one; or `sha256` is that of its bytes.
struct ProbeArray {
    std::string name, dtype;
    std::vector<std::int64_t> dims;
    std::optional<std::string> file, tolerance, sha256;
};

// One run: the plan's inputs and its outputs, in their order.
struct Probe {
    std::vector<ProbeArray> inputs, outputs;
};

struct Manifest {
    std::string vitrify, abi;
    std::vector<Port> inputs, outputs;
    std::vector<Target> targets;
    std::vector<Probe> validation;
    std::map<std::string, FileEntry> files;
    std::vector<Node> nodes;
    bool has_host = false;                // strings, sequences, maps: what sessions do in Python
    std::vector<std::string> python_ops;  // custom ops that run in Python
};

namespace detail {

inline constexpr char manifest_format[] = "vitrify-artifact/1";
inline constexpr std::size_t max_rank = 64;
inline constexpr std::size_t details_bytes = std::size_t{64} << 20;

inline int dtype_code(std::string_view name) {
    int code = 0;
    for (const TypeRow &row : types) {
        if (name == row.name) return code;
        code++;
    }
    return -1;
}

inline Amount as_amount(const Json &value, const std::string &where) {
    if (value.kind == Json::Kind::text && value.text.size() > 1 << 16) {
        throw LimitError(where + ": an expression is too long", "", "65536", std::to_string(value.text.size()));
    }
    if (value.kind == Json::Kind::text && !value.text.empty()) return value.text;
    return as_count(value, where);
}

inline std::string as_dtype(const Json &value, const std::string &where) {
    if (value.kind != Json::Kind::text || dtype_code(value.text) < 0) {
        throw refusal(where, "the name of an element type", described(value));
    }
    return value.text;
}

inline std::string checked_file_name(const std::string &name, const std::string &where) {
    check_name(name);
    if (name == "manifest.json" || name == "signature.json") {
        throw refusal(where, "a file that the manifest lists", name);
    }
    return name;
}

inline std::string as_file_name(const Json &value, const std::string &where) {
    return checked_file_name(as_text(value, where), where);
}

inline std::string copied_text(const Json &value, const std::string &where) {
    return as_text(value, where);
}

inline Port as_port(const Json &value, const std::string &where) {
    const Record r(value, where, {"dims", "dtype", "name"});
    return {r.text("name"), as_dtype(r["dtype"], r.where("dtype")), r.list("dims", as_amount)};
}

inline Target as_target(const Json &value, const std::string &where) {
    const Record r(value, where,
                   {"architecture", "arena_bytes", "exports", "features", "kernels", "leaves", "os", "payload",
                    "peak_bytes", "scratch_bytes", "target", "weights"});
    Target t;
    t.target = r.text("target");
    t.features = r.list("features", copied_text);
    t.payload = as_file_name(r["payload"], r.where("payload"));
    t.weights = r.optional("weights", as_file_name);
    t.arena_bytes = as_amount(r["arena_bytes"], r.where("arena_bytes"));
    t.scratch_bytes = r.count("scratch_bytes");
    t.peak_bytes = as_amount(r["peak_bytes"], r.where("peak_bytes"));
    r.constant("kernels", "details");
    t.leaves = r.optional("leaves", as_file_name);
    t.os = as_one_of(r["os"], r.where("os"), {"linux", "macos", "windows"});
    t.architecture = as_one_of(r["architecture"], r.where("architecture"), {"x86_64", "aarch64"});
    t.exports = r.list("exports", copied_text);
    return t;
}

inline FileEntry as_file(const Json &value, const std::string &where) {
    const Record r(value, where, {"crc32", "role", "sha256", "size"});
    FileEntry entry;
    entry.size = static_cast<std::uint64_t>(r.count("size"));
    entry.sha256 = r.digest("sha256");
    const std::string &crc = r.text("crc32");
    if (crc.size() != 8 || !is_hex(crc)) throw refusal(r.where("crc32"), "8 lower-case hexadecimal digits", crc);
    entry.crc32 = static_cast<std::uint32_t>(std::stoul(crc, nullptr, 16));
    entry.role = as_one_of(r["role"], r.where("role"),
                           {"payload", "weights", "leaves", "details", "sbom", "provenance", "probe"});
    return entry;
}

inline bool check_text(const Json &value, const std::string &where) {
    return !as_text(value, where).empty();
}
inline std::int64_t read_count(const Json &value, const std::string &where) {
    return as_count(value, where);
}
inline std::int64_t read_integer(const Json &value, const std::string &where) {
    return as_integer(value, where);
}

// A float as Python's float.fromhex reads it.
inline bool is_hex_float(std::string_view text) {
    std::size_t at = 0;
    const auto skip = [&](std::string_view set) {
        if (at >= text.size() || set.find(text[at]) == std::string_view::npos) return false;
        at++;
        return true;
    };
    const auto count = [&](std::string_view set) {
        const std::size_t start = at;
        while (skip(set)) {
        }
        return at - start;
    };
    count(" \t\n\r\f\v");
    skip("+-");
    std::string rest(text.substr(at));
    while (!rest.empty() && std::string_view(" \t\n\r\f\v").find(rest.back()) != std::string_view::npos)
        rest.pop_back();
    for (char &c : rest) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (rest == "inf" || rest == "infinity" || rest == "nan") return true;
    text = rest;
    at = rest.compare(0, 2, "0x") == 0 ? 2 : 0;
    constexpr std::string_view digits = "0123456789abcdef";
    const std::size_t before = count(digits), after = skip(".") ? count(digits) : 0;
    if (before + after == 0) return false;
    if (skip("p")) {
        skip("+-");
        if (!count("0123456789")) return false;
    }
    return at == text.size() &&
           std::isfinite(std::strtod(((rest.compare(0, 2, "0x") ? "0x" : "") + rest).c_str(), nullptr));
}

// ---- probes

// A finite float that is not negative, as Python's float.hex writes it.
inline std::string as_tolerance(const Json &value, const std::string &where) {
    const std::string &text = as_text(value, where);
    if (is_hex_float(text)) {
        const double found = std::strtod(text.c_str(), nullptr);
        char written[64];
        std::snprintf(written, sizeof written, found == 0 ? "%.1a" : "%.13a", found);
        if (std::isfinite(found) && found >= 0 && text == written) return text;
    }
    throw refusal(where, "a float in hexadecimal, 0 or more", described(value));
}

inline ProbeArray as_given(const Json &value, const std::string &where) {
    const Record r(value, where, {"dims", "dtype", "file", "name"});
    const std::string &file = r.text("file");
    check_name(file);
    return {r.text("name"), as_dtype(r["dtype"], r.where("dtype")), r.list("dims", read_count), file, {}, {}};
}

inline ProbeArray as_awaited(const Json &value, const std::string &where) {
    const Record r(value, where, {"dims", "dtype", "file", "name", "sha256", "tolerance"});
    const auto name = [](const Json &v, const std::string &w) {
        check_name(as_text(v, w));
        return v.text;
    };
    const auto digest = [](const Json &v, const std::string &w) { return as_digest(v, w); };
    return {r.text("name"),           as_dtype(r["dtype"], r.where("dtype")), r.list("dims", read_count),
            r.optional("file", name), r.optional("tolerance", as_tolerance),  r.optional("sha256", digest)};
}

inline Probe as_probe(const Json &value, const std::string &where) {
    const Record r(value, where, {"inputs", "outputs"});
    return {r.list("inputs", as_given), r.list("outputs", as_awaited)};
}

// The bytes of an array; nothing where they are more than any file has.
inline std::optional<std::uint64_t> array_bytes(const ProbeArray &array) {
    std::uint64_t size = types[dtype_code(array.dtype)].size;
    bool over = false;
    for (const std::int64_t dim : array.dims) {
        if (dim == 0) return 0;
        over = over || __builtin_mul_overflow(size, static_cast<std::uint64_t>(dim), &size);
    }
    return over ? std::nullopt : std::optional(size);
}

inline void check_probe_arrays(const std::vector<ProbeArray> &arrays, const std::vector<Port> &ports, bool outputs,
                               const std::map<std::string, std::uint64_t> &sizes, const std::string &where) {
    bool named = arrays.size() == ports.size();
    for (std::size_t i = 0; named && i < arrays.size(); i++) named = arrays[i].name == ports[i].name;
    if (!named) throw refusal(where, "an array for each", std::to_string(arrays.size()));
    for (std::size_t i = 0; i < arrays.size(); i++) {
        const ProbeArray &array = arrays[i];
        bool fits = array.dtype == ports[i].dtype && array.dims.size() == ports[i].dims.size();
        for (std::size_t axis = 0; fits && axis < array.dims.size(); axis++) {
            const std::int64_t *stated = std::get_if<std::int64_t>(&ports[i].dims[axis]);
            fits = !stated || *stated == array.dims[axis];
        }
        if (!fits) throw refusal(where, "arrays of the types and dims that are declared", shortened(array.name));
        if (outputs && (array.file.has_value() != array.tolerance.has_value() ||
                        array.file.has_value() == array.sha256.has_value())) {
            throw refusal(where, "a file with a tolerance, or a digest", shortened(array.name));
        }
        if (!array.file) continue;
        const auto found = sizes.find(*array.file);
        const std::optional<std::uint64_t> needed = array_bytes(array);
        if (found == sizes.end() || !needed || found->second != *needed) {
            throw refusal(where, "a file of " + std::to_string(needed.value_or(0)) + " bytes", shortened(*array.file));
        }
    }
}

// Probes fit the interface, and `sizes`, the bytes of all files for probes.
inline void check_probes(const Manifest &manifest, const std::map<std::string, std::uint64_t> &sizes) {
    std::set<std::string> used;
    for (const Probe &probe : manifest.validation) {
        check_probe_arrays(probe.inputs, manifest.inputs, false, sizes, "validation.inputs");
        check_probe_arrays(probe.outputs, manifest.outputs, true, sizes, "validation.outputs");
        for (const auto *arrays : {&probe.inputs, &probe.outputs}) {
            for (const ProbeArray &array : *arrays) {
                if (array.file) used.insert(*array.file);
            }
        }
    }
    if (used.size() != sizes.size())
        throw refusal("files", "for probes exactly those that probes name", std::to_string(sizes.size()));
}

// ---- details.json: sources nodes are kept, the rest is only compared with its schema

// A 64-bit integer in decimal: JSON's own hold 53 bits.
inline void check_whole(const Json &value, const std::string &where) {
    const std::string &text = value.text;
    bool fits = value.kind == Json::Kind::text && !text.empty() && text.size() <= 20;
    const std::size_t first = fits && text[0] == '-' ? 1 : 0;
    fits = fits && text.size() > first && text.find_first_not_of("0123456789", first) == std::string::npos &&
           (text[first] != '0' || text == "0");
    if (fits) {
        const std::string digits = text.substr(first);
        const std::string most = first ? "9223372036854775808" : "9223372036854775807";
        fits = digits.size() < most.size() || (digits.size() == most.size() && digits <= most);
    }
    if (!fits) throw refusal(where, "a 64-bit integer in decimal", described(value));
}

// Whether a session of Python can take or give values of this type.
inline bool is_edge_type(std::string text) {
    const auto element = [](const std::string &name) {
        if (name == "tensor(string)") return true;
        for (const TypeRow &row : types) {
            if (name == row.shown) return true;
        }
        return false;
    };
    const auto unwrap = [&](const char *outer) {
        const std::size_t size = std::strlen(outer);
        if (text.compare(0, size, outer) != 0 || text.size() <= size || text.back() != ')') return false;
        text = text.substr(size, text.size() - size - 1);
        return true;
    };
    if (text.compare(0, 8, "seq(map(") == 0) unwrap("seq(");
    if (text.compare(0, 4, "map(") == 0) {
        const std::size_t comma = text.find(',');
        if (comma == std::string::npos || !unwrap("map(")) return false;
        const std::string key = text.substr(0, comma - 4);
        return (key == "string" || key == "int64") && element(text.substr(std::min(comma - 3, text.size())));
    }
    unwrap("optional(");
    unwrap("seq(");
    return element(text);
}

inline std::string as_edge(const Json &value, const std::string &where) {
    const Record r(value, where, {"dims", "name", "type"});
    const Json &type = r["type"];
    if (type.kind != Json::Kind::text || !is_edge_type(type.text)) {
        throw refusal(r.where("type"), "a type such as tensor(string) or seq(tensor(float))", described(type));
    }
    r.optional("dims", [](const Json &v, const std::string &w) { return Record::as_list(v, w, as_amount); });
    return r.text("name");
}

// SchemaError where no array could be so large; open dims count as 1, those of 0 too. A type that is none is string.
inline void check_array_size(const std::string &what, const std::string &dtype, const std::vector<Amount> &dims) {
    if (dims.size() > max_rank) {
        throw SchemaError(what + " has more dims than an array has", "", "64", std::to_string(dims.size()));
    }
    const int code = dtype_code(dtype);
    std::int64_t size = code < 0 ? 8 : static_cast<std::int64_t>(types[code].size);
    for (const Amount &dim : dims) {
        const std::int64_t *number = std::get_if<std::int64_t>(&dim);
        if (number && *number && __builtin_mul_overflow(size, *number, &size)) {
            throw SchemaError(what + " has more bytes than can be addressed", "", "below 2**63");
        }
    }
}

inline Port as_literal(const Json &value, const std::string &where) {
    const Record r(value, where, {"dims", "dtype", "values"});
    if (r["dtype"].kind != Json::Kind::text || r["dtype"].text != "string") as_dtype(r["dtype"], r.where("dtype"));
    const auto dim = [](const Json &v, const std::string &w) { return Amount(as_count(v, w)); };
    Port literal{"", r["dtype"].text, r.list("dims", dim)};
    r.list("values", check_text);
    return literal;
}

inline bool as_setting(const Json &value, const std::string &where) {
    const Record r(value, where, {"kind", "values"});
    const std::string &kind = as_one_of(r["kind"], r.where("kind"), {"int", "float", "string"});
    r.list("values", [&](const Json &v, const std::string &w) {
        const std::string &text = as_text(v, w);
        if (kind == "int") check_whole(v, w);
        if (kind == "float" && !is_hex_float(text)) throw refusal(w, "floats in hexadecimal", described(v));
        return true;
    });
    return true;
}

struct Step {
    std::string op;
    std::vector<std::int64_t> inputs;
    std::int64_t outputs;
};

inline Step as_step(const Json &value, const std::string &where) {
    const Record r(value, where, {"inputs", "op", "outputs", "settings", "source"});
    r.text("source");
    each_member(r["settings"], r.where("settings"),
                [](const std::string &, const Json &v, const std::string &w) { as_setting(v, w); });
    return {r.text("op"), r.list("inputs", read_integer), r.count("outputs")};
}

inline void check_distinct(const std::vector<std::string> &names, const std::string &where) {
    std::set<std::string> seen;
    for (const std::string &name : names) {
        if (!seen.insert(name).second) throw refusal(where, "names that differ", shortened(name));
    }
}

inline void check_values(const std::string &what, const std::vector<std::int64_t> &values, std::int64_t least,
                         std::int64_t known) {
    for (const std::int64_t value : values) {
        if (value < least || value >= known) {
            throw refusal("host." + what, "values from " + std::to_string(least) + " to " + std::to_string(known - 1),
                          std::to_string(value));
        }
    }
}

inline std::int64_t check_steps(const std::string &what, const std::vector<Step> &steps, std::int64_t known) {
    for (const Step &step : steps) {
        check_values(what, step.inputs, -1, known);
        if (step.outputs > 1 << 20)
            throw refusal("host." + what, "at most 1048576 results", std::to_string(step.outputs));
        known += step.outputs;
    }
    return known;
}

// Every value is made before it is read.
inline void check_host(const Json &value, std::size_t plan_inputs, std::size_t plan_outputs) {
    const Record r(value, "details.host",
                   {"constants", "epilogue", "feeds", "inputs", "outputs", "prologue", "results"});
    const auto inputs = r.list("inputs", as_edge), outputs = r.list("outputs", as_edge);
    const auto constants = r.list("constants", as_literal);
    const auto prologue = r.list("prologue", as_step), epilogue = r.list("epilogue", as_step);
    const auto feeds = r.list("feeds", read_count), results = r.list("results", read_count);
    check_distinct(inputs, "host.inputs");
    check_distinct(outputs, "host.outputs");
    for (const Port &constant : constants) check_array_size("a constant", constant.dtype, constant.dims);
    if (feeds.size() != plan_inputs)
        throw refusal("host.feeds", "one for each input of the plan", std::to_string(feeds.size()));
    if (results.size() != outputs.size())
        throw refusal("host.results", "one for each output", std::to_string(results.size()));
    std::int64_t known = check_steps("prologue", prologue, static_cast<std::int64_t>(inputs.size() + constants.size()));
    check_values("feeds", feeds, 0, known);
    known = check_steps("epilogue", epilogue, known + static_cast<std::int64_t>(plan_outputs));
    check_values("results", results, 0, known);
}

inline bool as_slot(const Json &value, const std::string &where) {
    const Record r(value, where, {"dtype", "rank"});
    as_dtype(r["dtype"], r.where("dtype"));
    r.count("rank");
    return true;
}

// The label of a custom op that runs in Python; empty for one whose C source is in the payload.
inline std::string as_custom_call(const Json &value, const std::string &where) {
    const Record r(value, where,
                   {"arguments", "attributes", "c_source", "digest", "label", "origin", "results", "version"});
    const std::string &label = r.text("label");
    const std::size_t mark = label.find("::");
    if (mark == std::string::npos || mark == 0 || mark + 2 == label.size()) {
        throw refusal(r.where("label"), "domain::name", label);
    }
    r.count("version");
    r.digest("digest");
    r.text("origin");
    if (!LooseJson::is_object(r.text("attributes"))) {
        throw refusal(r.where("attributes"), "the text of a JSON object", described(r["attributes"]));
    }
    r.list("arguments",
           [](const Json &v, const std::string &w) { return v.kind == Json::Kind::null || as_slot(v, w); });
    r.list("results", as_slot);
    return r.text("c_source").empty() ? label : std::string();
}

inline void read_details(const Json &document, Manifest &manifest) {
    const Record r(document, "details", {"custom_calls", "host", "kernels", "meta", "nodes"});
    const Record meta(r["meta"], r.where("meta"),
                      {"custom_metadata_map", "description", "domain", "graph_description", "graph_name",
                       "producer_name", "version"});
    for (const char *name : {"description", "domain", "graph_description", "graph_name", "producer_name"})
        meta.text(name);
    check_whole(meta["version"], meta.where("version"));
    each_member(meta["custom_metadata_map"], meta.where("custom_metadata_map"),
                [](const std::string &, const Json &v, const std::string &w) { as_text(v, w); });
    manifest.nodes = r.list("nodes", [](const Json &v, const std::string &w) {
        const Record node(v, w, {"name", "op"});
        return Node{node.text("name"), node.text("op")};
    });
    const auto known = static_cast<std::int64_t>(manifest.nodes.size());
    const auto kernel = [&](const Json &v, const std::string &w) {
        const Record k(v, w, {"bytes", "flops", "name", "nodes"});
        k.text("name");
        as_amount(k["flops"], k.where("flops"));
        as_amount(k["bytes"], k.where("bytes"));
        for (const std::int64_t node : k.list("nodes", read_count)) {
            if (node >= known)
                throw refusal(k.where("nodes"), "nodes below " + std::to_string(known), std::to_string(node));
        }
        return true;
    };
    const auto kernels =
        r.list("kernels", [&](const Json &v, const std::string &w) { return Record::as_list(v, w, kernel).size(); });
    if (kernels.size() != manifest.targets.size()) {
        throw refusal("details.kernels", "kernels of " + std::to_string(manifest.targets.size()) + " targets",
                      std::to_string(kernels.size()));
    }
    for (const std::string &label : r.list("custom_calls", as_custom_call)) {
        if (!label.empty()) manifest.python_ops.push_back(label);
    }
    manifest.has_host = r["host"].kind != Json::Kind::null;
    if (manifest.has_host) check_host(r["host"], manifest.inputs.size(), manifest.outputs.size());
}

// Whether the parts of a manifest fit together.
inline void check_manifest(const Manifest &manifest) {
    for (const auto &[kind, ports] : {std::pair{"inputs", &manifest.inputs}, std::pair{"outputs", &manifest.outputs}}) {
        std::vector<std::string> names;
        for (const Port &port : *ports) names.push_back(port.name);
        check_distinct(names, kind);
        for (const Port &port : *ports) {
            check_array_size("'" + shortened(port.name) + "'", port.dtype, port.dims);
        }
    }
    if (manifest.targets.empty()) throw refusal("targets", "at least one target", "none");
    std::map<std::string, std::string> used{{"details.json", "details"}}, listed;
    for (const Target &target : manifest.targets) {
        if (target.weights.has_value() != target.leaves.has_value()) {
            throw refusal("targets", "a list of digests for weights", target.leaves.value_or("none"));
        }
        std::map<std::string, std::string> parts{{target.payload, "payload"}};
        if (target.weights) parts[*target.weights] = "weights";
        if (target.leaves) parts[*target.leaves] = "leaves";
        for (const auto &[name, role] : parts) used[name] = role;
    }
    int sboms = 0, provenances = 0;
    for (const auto &[name, entry] : manifest.files) {
        sboms += entry.role == "sbom";
        provenances += entry.role == "provenance";
        if (entry.role == "payload" || entry.role == "weights" || entry.role == "leaves" || entry.role == "details") {
            listed[name] = entry.role;
        }
    }
    if (used != listed)
        throw refusal("files", "those of targets and details", std::to_string(listed.size()) + " files");
    if (sboms > 1 || provenances > 1) throw refusal("files", "at most one file for a role", "several");
    std::map<std::string, std::uint64_t> probes;
    for (const auto &[name, entry] : manifest.files) {
        if (entry.role == "probe") probes[name] = entry.size;
    }
    check_probes(manifest, probes);
}

// The manifest in two documents; `details` gets the entry of the second one and gives its bytes, compared with it.
inline Manifest read_manifest(std::string_view encoded, const std::function<std::string(const FileEntry &)> &details) {
    const Json document = read_json(encoded, "manifest.json", document_bytes);
    const Json *format = document.kind == Json::Kind::object ? document.find("format") : nullptr;
    if (format && format->kind == Json::Kind::text && format->text != manifest_format) {
        throw ManifestError(
            "the artifact's format is not the one this version reads", "", manifest_format, format->text,
            "compile the model again with this version, or install the version that wrote the artifact");
    }
    const Record r(document, "manifest",
                   {"abi", "files", "format", "inputs", "outputs", "targets", "validation", "vitrify"});
    r.constant("format", manifest_format);
    Manifest manifest;
    manifest.vitrify = r.text("vitrify");
    manifest.abi = r.digest("abi");
    manifest.inputs = r.list("inputs", as_port);
    manifest.outputs = r.list("outputs", as_port);
    manifest.targets = r.list("targets", as_target);
    manifest.validation = r.list("validation", as_probe);
    each_member(r["files"], r.where("files"), [&](const std::string &name, const Json &v, const std::string &w) {
        manifest.files[checked_file_name(name, w)] = as_file(v, w);
    });
    const auto found = manifest.files.find("details.json");
    if (found == manifest.files.end()) throw refusal("manifest.files", "details.json", "none");
    const Json more = read_json(details(found->second), "details.json", details_bytes);
    read_details(more, manifest);
    check_manifest(manifest);
    return manifest;
}

}  // namespace detail
}  // namespace vitrify

#endif
