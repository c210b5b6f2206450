// Artifacts: opened, believed only after the signature and the policy, mapped after that.
//
// The order is fixed (docs/artifacts.md): container, envelope, manifest's digest, policy, manifest and list of files,
// and only then the contents of a file, each when it is first asked for.
#ifndef VITRIFY_ARTIFACT_HPP
#define VITRIFY_ARTIFACT_HPP

#include <cstdio>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "payload.hpp"
#include "trust.hpp"
#include "weights.hpp"

namespace vitrify {

struct LoadOptions {
    std::optional<std::string> trust_directory;     // of another policy than this user's
    std::optional<std::string> require_digest;      // SHA-256 of the only manifest that will do
    std::function<void(const std::string &)> warn;  // default: a line on stderr
};

// An artifact that the policy accepts. Copies share it; any thread may use it.
class Artifact {
 public:
    const std::string &path() const { return held_->source->path(); }
    const Manifest &manifest() const { return held_->manifest; }
    // SHA-256 of the manifest.
    const std::string &digest() const { return held_->digest; }
    // Nothing for an unsigned artifact, which only a policy for development accepts.
    const std::optional<Seal> &seal() const { return held_->seal; }
    // Ids of the trusted keys that signed.
    const std::set<std::string> &signers() const { return held_->signers; }
    const std::vector<Port> &inputs() const { return held_->manifest.inputs; }
    const std::vector<Port> &outputs() const { return held_->manifest.outputs; }

    // Examines everything that loading would on this system, and all of every file. IntegrityError, NativeCodeError or
    // LeakError for the first thing that is amiss, PlatformError for payloads of other systems, whose headers
    // `vitrify verify` reads.
    void verify() const {
        const std::lock_guard<std::mutex> guard(held_->lock);
        for (const auto &[name, entry] : held_->manifest.files) {
            const detail::Location place = held_->source->locate(name);
            detail::Sha256 hash;
            for (std::uint64_t at = 0; at < entry.size;) {
                const std::uint64_t part = std::min<std::uint64_t>(entry.size - at, 1 << 20);
                hash.update(detail::read_exactly(place.fd, place.start + at, part, held_->source->member_path(name)));
                at += part;
            }
            compare(detail::hex(hash.digest()), entry, held_->source->member_path(name));
        }
        for (const auto &[name, entry] : held_->manifest.files) {
            if (entry.role == "details" || entry.role == "sbom" || entry.role == "provenance") {
                detail::scan_for_leaks(held_->source->read(name), held_->source->member_path(name));
            }
        }
        for (const Target &target : held_->manifest.targets) {
            payload(target);
            if (const auto found = weights(target)) found->check();
        }
    }

 private:
    friend Artifact load(const std::string &path, const LoadOptions &options);
    friend class Session;

    struct Held {
        std::unique_ptr<detail::Source> source;
        Manifest manifest;
        std::string digest;
        std::optional<Seal> seal;
        std::set<std::string> signers;
        std::mutex lock;
    };

    // The trusted keys that signed, and what was known of time and releases when that was decided.
    struct Verdict {
        std::set<std::string> signers;
        std::int64_t now = 0;
        detail::State state;
    };

    explicit Artifact(std::shared_ptr<Held> held) : held_(std::move(held)) {}

    static void compare(const std::string &found, const FileEntry &entry, const std::string &path) {
        if (found != entry.sha256) {
            throw IntegrityError("this is not what was signed", path, entry.sha256, found, detail::damaged);
        }
    }

    static std::string read(detail::Source &source, const std::string &name, const FileEntry &entry,
                            std::uint64_t limit = std::uint64_t{1} << 31) {
        if (!source.has(name)) throw IntegrityError(name + " is missing", source.path(), "", "", detail::damaged);
        check_size(source, name, entry);
        std::string data = source.read(name, limit);
        compare(detail::sha256_hex(data), entry, source.member_path(name));
        return data;
    }

    static void check_size(const detail::Source &source, const std::string &name, const FileEntry &entry) {
        const std::uint64_t found = source.entries().at(name).size;
        if (found != entry.size) {
            throw IntegrityError(name + ": wrong size", source.path(), std::to_string(entry.size) + " bytes",
                                 std::to_string(found), detail::damaged);
        }
    }

    std::string file(const std::string &name) const {
        return read(*held_->source, name, held_->manifest.files.at(name));
    }

    std::unique_ptr<detail::Payload> payload(const Target &target) const {
        auto found = std::make_unique<detail::Payload>(held_->source->locate(target.payload),
                                                       held_->manifest.files.at(target.payload),
                                                       held_->source->member_path(target.payload));
        found->examine(target);
        return found;
    }

    std::shared_ptr<detail::Weights> weights(const Target &target) const {
        if (!target.weights || !target.leaves) return nullptr;
        const detail::Location place = held_->source->locate(*target.weights);
        const auto &files = held_->manifest.files;
        return std::make_shared<detail::Weights>(place.fd, place.start, files.at(*target.weights).size,
                                                 read(*held_->source, *target.leaves, files.at(*target.leaves)),
                                                 held_->source->member_path(*target.weights));
    }

    // Exactly the manifest's files are there, each of its size and, in an archive, with its checksum.
    static void check_files(const detail::Source &source, const Manifest &manifest) {
        std::string missing, extra;
        for (const auto &[name, entry] : manifest.files) {
            if (!source.has(name)) missing += " " + name;
        }
        for (const auto &[name, entry] : source.entries()) {
            if (name != "manifest.json" && name != "signature.json" && !manifest.files.count(name)) extra += " " + name;
        }
        if (!missing.empty() || !extra.empty()) {
            throw IntegrityError(
                "the files are not those of the manifest", source.path(), "",
                "missing" + (missing.empty() ? " none" : missing) + ", unlisted" + (extra.empty() ? " none" : extra),
                detail::damaged);
        }
        for (const auto &[name, entry] : manifest.files) {
            check_size(source, name, entry);
            if (source.keeps_checksums() && source.entries().at(name).crc32 != entry.crc32) {
                throw ContainerError(name + ": the archive's checksum is not the manifest's", source.path(), "", "",
                                     detail::damaged);
            }
        }
    }

    // What the signature says of the list of parts and of the build is what lies in the artifact.
    static void check_documents(const Seal &seal, const Manifest &manifest) {
        for (const auto &[role, stated] : {std::pair{"sbom", &seal.sbom}, std::pair{"provenance", &seal.provenance}}) {
            std::optional<std::string> found;
            for (const auto &[name, entry] : manifest.files) {
                if (entry.role == role) found = entry.sha256;
            }
            if (found != *stated) {
                throw SignatureError(std::string("the signature speaks of another ") + role, "",
                                     stated->value_or("none"), found.value_or("none"), detail::damaged);
            }
        }
    }

    static Verdict judge(const std::optional<Seal> &seal, const std::optional<detail::Signed> &envelope,
                         const detail::Store &store) {
        const detail::Policy policy = store.policy();
        Verdict verdict;
        if (!seal || !envelope) {
            if (policy.development) return verdict;
            throw UnsignedError(
                "nobody signed this artifact", "", "", "",
                "sign it: vitrify sign ARTIFACT; or, to develop, allow it: vitrify trust development on");
        }
        verdict.state = store.state();
        verdict.now = detail::Store::now(policy, verdict.state);
        const auto highest = verdict.state.releases.find(seal->product);
        verdict.signers =
            policy.accept(*seal, *envelope, verdict.now, highest == verdict.state.releases.end() ? 0 : highest->second);
        return verdict;
    }

    // Once nothing is amiss: a damaged artifact shall not end the use of older releases.
    static void remember(const Held &held, const Verdict &verdict, const detail::Store &store) {
        if (held.seal) {
            store.note(verdict.state, verdict.now, held.seal->product, held.seal->release);
        } else {
            store.warn()(held.source->path() +
                         " is not signed, and the policy is one for development: anybody may have made it");
        }
    }

    static void check_sum(const detail::Source &source, const std::string &name, const std::string &content) {
        if (source.keeps_checksums() && source.entries().at(name).crc32 != detail::crc32(content)) {
            throw ContainerError(name + ": the archive's checksum is wrong", source.path(), "", "", detail::damaged);
        }
    }

    // An empty text is refused, too: it comes of a variable that was not set, and would let any artifact pass.
    static void check_options(const LoadOptions &options) {
        const auto &digest = options.require_digest;
        if (digest && (digest->size() != 64 || !detail::is_hex(*digest))) {
            throw InvalidArgumentError("require_digest", "", "64 lower-case hexadecimal digits",
                                       detail::shortened(*digest));
        }
        if (options.trust_directory && options.trust_directory->empty()) {
            throw InvalidArgumentError("trust_directory", "", "a path", "an empty text");
        }
    }

    static std::shared_ptr<Held> open(const std::string &path, const LoadOptions &options) {
        check_options(options);
        auto held = std::make_shared<Held>();
        held->source = detail::open_source(path);
        detail::Source &source = *held->source;
        if (!source.has("manifest.json"))
            throw ContainerError("not an artifact: there is no manifest.json in it", path);
        std::optional<detail::Signed> envelope;
        std::string stored;
        if (source.has("signature.json")) {
            stored = source.read("signature.json", detail::envelope_bytes);
            envelope = detail::open_envelope(stored, detail::statement_type);
            held->seal = detail::read_statement(envelope->payload);
        }
        const std::string encoded = source.read("manifest.json", detail::document_bytes);
        held->digest = detail::sha256_hex(encoded);
        if (held->seal && held->seal->manifest != held->digest) {
            throw SignatureError("the signature is that of another manifest", path, held->seal->manifest, held->digest,
                                 detail::damaged);
        }
        if (options.require_digest && held->digest != *options.require_digest) {
            throw IntegrityError("this is another artifact", path, *options.require_digest, held->digest);
        }
        const detail::Warn warn = options.warn ? options.warn : [](const std::string &text) {
            std::fprintf(stderr, "vitrify: warning: %s\n", text.c_str());
        };
        const detail::Store store(options.trust_directory.value_or(""), warn);
        const Verdict verdict = judge(held->seal, envelope, store);
        check_sum(source, "manifest.json", encoded);
        if (envelope) check_sum(source, "signature.json", stored);
        held->manifest = detail::read_manifest(encoded, [&](const FileEntry &entry) {
            return read(source, "details.json", entry, detail::details_bytes);
        });
        check_files(source, held->manifest);
        if (held->seal) check_documents(*held->seal, held->manifest);
        held->signers = verdict.signers;
        remember(*held, verdict, store);
        return held;
    }

    std::shared_ptr<Held> held_;
};

// The artifact in the file or directory `path`, if the policy accepts it. Any of the classes of error.hpp is thrown
// where it does not; all of them are ArtifactErrors.
inline Artifact load(const std::string &path, const LoadOptions &options = {}) {
    try {
        return Artifact(Artifact::open(path, options));
    } catch (ArtifactError &error) {
        error.locate(path);
        throw;
    }
}

}  // namespace vitrify

#endif
