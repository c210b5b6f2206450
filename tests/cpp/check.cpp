// What a program that uses an artifact does, for tests: load it, and verify or run it.
//
//   check load|verify|run|digest|api PATH [options]
//   check cases FILE --kind KIND
//
// `run` reads its inputs from DIRECTORY/in.NAME (name, type and dims on one line, then raw bytes) as --feed DIRECTORY
// says, and writes out.NUMBER beside them. The exit status is that of the error, whose class is on stderr.
//
// `cases` says of many cases at once what is made of them: the name of the error's class, or "fine". FILE has them,
// each with its length before it (4 bytes, little-endian). KIND is json, leaks, gate (a library of x86-64 that exports
// vt_payload), number (a float in hexadecimal), object (text of a JSON object), or artifact: paths of artifacts, each
// of which is opened and made a session of; or numbers: a type's name, a zero and its elements, which are printed.
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <thread>
#include <vitrify.hpp>

#include "api.hpp"

namespace {

struct Arguments {
    std::string stage, path, feed, digest, kind;
    bool has_digest = false;
    int threads = 0, callers = 1, rounds = 1;
    vitrify::SessionOptions options;
};

Arguments parse(int count, char **values) {
    if (count < 3) throw vitrify::InvalidArgumentError("usage: check STAGE PATH [--option value]...");
    Arguments a;
    a.stage = values[1];
    a.path = values[2];
    for (int i = 3; i + 1 < count; i += 2) {
        const std::string name = values[i], value = values[i + 1];
        if (name == "--feed") a.feed = value;
        else if (name == "--digest") a.digest = value, a.has_digest = true;
        else if (name == "--kind") a.kind = value;
        else if (name == "--threads") a.options.threads = std::stoi(value);
        else if (name == "--callers") a.callers = std::stoi(value);
        else if (name == "--rounds") a.rounds = std::stoi(value);
        else if (name == "--memory") a.options.memory_limit = std::stoll(value);
        else if (name == "--trips") a.options.trip_limit = std::stoll(value);
        else if (name == "--milliseconds") a.options.time_limit = std::chrono::milliseconds(std::stoll(value));
        else throw vitrify::InvalidArgumentError("unknown option " + name);
    }
    return a;
}

vitrify::Tensor read_tensor(std::istream &file) {
    std::string line;
    std::getline(file, line);
    std::istringstream words(line);
    std::string type;
    words >> type;
    vitrify::Dims dims;
    for (std::int64_t dim; words >> dim;) dims.push_back(dim);
    const auto tensor = vitrify::Tensor::zeros(static_cast<vitrify::DType>(vitrify::detail::dtype_code(type)), dims);
    file.read(tensor.bytes(), static_cast<std::streamsize>(tensor.size_bytes()));
    return tensor;
}

void write_tensor(const std::string &path, const vitrify::Tensor &tensor) {
    std::ofstream file(path, std::ios::binary);
    file << vitrify::name(tensor.dtype());
    for (const std::int64_t dim : tensor.dims()) file << ' ' << dim;
    file << '\n';
    file.write(tensor.bytes(), static_cast<std::streamsize>(tensor.size_bytes()));
}

vitrify::Feed read_feed(const vitrify::Artifact &artifact, const std::string &folder) {
    vitrify::Feed feed;
    for (std::size_t i = 0;; i++) {
        std::ifstream file(folder + "/in." + std::to_string(i), std::ios::binary);
        if (!file) return feed;
        std::string name;
        std::getline(file, name);
        feed.emplace(name.empty() ? artifact.inputs().at(i).name : name, read_tensor(file));
    }
}

bool same(const std::vector<vitrify::Tensor> &a, const std::vector<vitrify::Tensor> &b) {
    bool equal = a.size() == b.size();
    for (std::size_t i = 0; equal && i < a.size(); i++) {
        equal = a[i].dims() == b[i].dims() && std::equal(a[i].bytes(), a[i].bytes() + a[i].size_bytes(), b[i].bytes());
    }
    return equal;
}

void run(const Arguments &a, const vitrify::Artifact &artifact) {
    const vitrify::Session session(artifact, a.options);
    const vitrify::Feed feed = read_feed(artifact, a.feed);
    const std::vector<vitrify::Tensor> first = session.run(feed);
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int caller = 0; caller < a.callers; caller++) {
        callers.emplace_back([&] {
            for (int round = 1; round < a.rounds; round++) wrong += !same(session.run(feed), first);
        });
    }
    for (std::thread &caller : callers) caller.join();
    if (wrong) throw vitrify::RunError("runs differ", "", "", std::to_string(wrong.load()));
    for (std::size_t i = 0; i < first.size(); i++) write_tensor(a.feed + "/out." + std::to_string(i), first[i]);
}

void meet(const std::string &kind, const std::string &data) {
    using namespace vitrify;
    if (kind == "json") detail::read_json(data, "the document", detail::document_bytes);
    if (kind == "leaks") detail::scan_for_leaks(data, "the file");
    if (kind == "gate") detail::examine_library(data, "linux", "x86_64", {"vt_payload"}, "the library");
    if (kind == "number" && !detail::is_hex_float(data)) throw ManifestError("no float");
    if (kind == "object" && !detail::LooseJson::is_object(data)) throw ManifestError("no object");
    if (kind == "artifact") Session(load(data), 1);
    if (kind == "numbers") {
        const std::size_t name = data.find('\0');
        const auto type = static_cast<DType>(detail::dtype_code(data.substr(0, name)));
        const char *const elements = data.data() + name + 1;
        std::cout.precision(17);
        for (std::size_t i = 0; i < (data.size() - name - 1) / item_size(type); i++) {
            std::cout << detail::number(type, elements, i) << '\n';
        }
    }
}

void cases(const Arguments &a) {
    std::ifstream file(a.path, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    for (std::size_t at = 0; at < all.size();) {
        const auto size = vitrify::detail::little<std::uint32_t>(all, at);
        try {
            meet(a.kind, std::string(all, at + 4, size));  // memory of its own: a read beyond its end is one
            std::cout << "fine\n";
        } catch (const vitrify::Error &error) {
            std::cout << error.name() << '\n';
        }
        at += 4 + size;
    }
}

}  // namespace

int main(int count, char **values) {
    try {
        const Arguments a = parse(count, values);
        if (a.stage == "cases") {
            cases(a);
            return 0;
        }
        if (a.stage == "api") {
            api::all(a.path);
            return 0;
        }
        vitrify::LoadOptions options;
        if (a.has_digest) options.require_digest = a.digest;
        const vitrify::Artifact artifact = vitrify::load(a.path, options);
        if (a.stage == "verify") artifact.verify();
        if (a.stage == "run") run(a, artifact);
        if (a.stage == "digest") std::cout << artifact.digest() << '\n';
        return 0;
    } catch (const vitrify::Error &error) {
        std::cerr << error.name() << ": " << error.what() << '\n';
        return error.code();
    } catch (const std::exception &error) {
        std::cerr << "exception: " << error.what() << '\n';
        return 70;
    }
}
