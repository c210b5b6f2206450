// The policy (which keys may sign which products, from which release on), and what a machine remembers.
#ifndef VITRIFY_TRUST_HPP
#define VITRIFY_TRUST_HPP

#include <openssl/pem.h>
#include <pwd.h>
#include <sys/file.h>

#include <cstdlib>
#include <ctime>
#include <functional>
#include <vector>

#include "envelope.hpp"

namespace vitrify::detail {

inline constexpr char policy_type[] = "application/vnd.vitrify.trust+json";

// What a product's artifacts need; `min_release` is the least that is accepted.
struct Rule {
    std::vector<std::string> keys;
    std::int64_t threshold = 1, min_release = 0;
};

struct Policy {
    std::int64_t version = 0, issued = 0;
    std::optional<std::int64_t> expires;
    bool development = false;
    Rule root;
    std::map<std::string, std::string> keys;  // by id
    std::map<std::string, Rule> products;
    std::set<std::string> revoked, denied;
    std::optional<std::set<std::string>> licences;

    // The public keys with these ids that are listed and not revoked.
    std::map<std::string, std::string> known(const std::vector<std::string> &ids) const {
        std::map<std::string, std::string> found;
        for (const std::string &id : ids) {
            const auto key = keys.find(id);
            if (key != keys.end() && !revoked.count(id)) found.insert(*key);
        }
        return found;
    }

    // The ids of the trusted keys that signed. `now` is a moment that is certainly past.
    std::set<std::string> accept(const Seal &seal, const Signed &signed_, std::int64_t now,
                                 std::int64_t highest) const {
        auto rule = products.find(seal.product);
        if (rule == products.end()) rule = products.find("*");
        if (rule == products.end()) {
            throw UntrustedKeyError("the policy has no rule for the product '" + shortened(seal.product) + "'", "", "",
                                    "", "vitrify trust add KEY --product PRODUCT");
        }
        std::set<std::string> signers =
            require(signed_, statement_type, known(rule->second.keys), rule->second.threshold);
        if (expires && now > *expires) {
            throw PolicyError("the policy has expired", "", "a moment up to " + moment(*expires), moment(now));
        }
        if (denied.count(seal.manifest)) throw PolicyError("the policy denies this artifact", "", "", seal.manifest);
        if (now < seal.not_before) {
            throw PolicyError("the artifact is not valid yet", "", "a moment from " + moment(seal.not_before) + " on",
                              moment(now), "set the clock right");
        }
        if (seal.expires && now > *seal.expires) {
            throw PolicyError("the artifact has expired", "", "a moment up to " + moment(*seal.expires), moment(now));
        }
        const std::int64_t least = std::max(rule->second.min_release, highest);
        if (seal.release < least) {
            throw PolicyError("'" + shortened(seal.product) + "' has been released later than this", "",
                              "release " + std::to_string(least) + " or later", std::to_string(seal.release),
                              "fetch the current release");
        }
        if (licences && !licences->count(seal.licence)) {
            throw PolicyError("the licence is not allowed", "", "one that the policy lists",
                              seal.licence.empty() ? "none" : shortened(seal.licence));
        }
        return signers;
    }
};

inline std::set<std::string> distinct(const std::vector<std::string> &values) {
    return {values.begin(), values.end()};
}

inline void check_rule(const Policy &policy, const Rule &rule, const std::string &where) {
    for (const std::string &id : rule.keys) {
        if (!policy.keys.count(id)) throw refusal(where + ".keys", "ids of keys of the policy, each once", id);
    }
    if (distinct(rule.keys).size() != rule.keys.size()) {
        throw refusal(where + ".keys", "ids of keys of the policy, each once", "one twice");
    }
    if (rule.threshold < 1 || rule.threshold > static_cast<std::int64_t>(rule.keys.size())) {
        throw refusal(where + ".threshold", "1 to " + std::to_string(rule.keys.size()) + ", the number of keys",
                      std::to_string(rule.threshold));
    }
}

inline Policy read_policy(std::string_view payload) {
    const auto digest = [](const Json &v, const std::string &w) { return as_digest(v, w); };
    const auto text = [](const Json &v, const std::string &w) { return as_text(v, w); };
    const Json document = read_json(payload, "the policy", document_bytes);
    const Record r(document, "policy",
                   {"denied", "development", "expires", "format", "issued", "keys", "licences", "products", "revoked",
                    "root", "version"});
    r.constant("format", "vitrify-trust/1");
    Policy policy;
    policy.version = r.count("version");
    policy.issued = r.instant("issued");
    policy.expires = r.optional("expires", as_instant);
    policy.development = as_truth(r["development"], r.where("development"));
    const Record root(r["root"], r.where("root"), {"keys", "threshold"});
    policy.root.keys = root.list("keys", digest);
    policy.root.threshold = root.count("threshold");
    for (const std::string &key : r.list("keys", [](const Json &v, const std::string &w) {
             const Record k(v, w, {"comment", "public"});
             std::string found = unhex(k.digest("public"));
             check_public(found);
             k.text("comment");
             return found;
         })) {
        policy.keys[key_id(key)] = key;
    }
    each_member(r["products"], r.where("products"), [&](const std::string &name, const Json &v, const std::string &w) {
        const Record p(v, w, {"keys", "min_release", "threshold"});
        policy.products[name] = Rule{p.list("keys", digest), p.count("threshold"), p.count("min_release")};
    });
    policy.revoked = distinct(r.list("revoked", digest));
    policy.denied = distinct(r.list("denied", digest));
    const auto licences =
        r.optional("licences", [&](const Json &v, const std::string &w) { return Record::as_list(v, w, text); });
    if (licences) policy.licences = distinct(*licences);
    check_rule(policy, policy.root, "policy.root");
    for (const auto &[name, rule] : policy.products) check_rule(policy, rule, "policy.products." + shortened(name));
    return policy;
}

// The policy of an envelope that enough of its own root keys signed.
inline Policy open_policy(std::string_view encoded) {
    const Signed document = open_envelope(encoded, policy_type);
    Policy policy = read_policy(document.payload);
    require(document, policy_type, policy.known(policy.root.keys), policy.root.threshold);
    return policy;
}

// The latest moment that was seen, and by product the highest release.
struct State {
    std::int64_t seen = 0;
    std::map<std::string, std::int64_t> releases;
};

using Warn = std::function<void(const std::string &)>;

// The directory where one user's policy and memory lie: VITRIFY_TRUST_DIR, else ~/.local/share/vitrify.
class Store {
 public:
    Store(std::string directory, Warn warn)
        : directory_(directory.empty() ? default_directory() : std::move(directory)), warn_(std::move(warn)) {}

    Policy policy() const {
        const std::optional<std::string> encoded = read("policy.json");
        return encoded ? open_policy(*encoded) : own_policy();
    }

    State state() const {
        const std::optional<std::string> encoded = read("state.json");
        if (!encoded) return {};
        try {
            const Json document = read_json(*encoded, "the state", document_bytes);
            const Record r(document, "state", {"releases", "seen"});
            State state;
            state.seen = r.count("seen");
            each_member(r["releases"], r.where("releases"),
                        [&](const std::string &name, const Json &v, const std::string &w) {
                            state.releases[name] = as_count(v, w);
                        });
            return state;
        } catch (const ArtifactError &error) {
            throw PolicyError("the record of releases is damaged", "", "what was written here", error.what(),
                              "if this machine's clock and releases are right, remove " + path("state.json"));
        }
    }

    // The time, which is never before what is known to be past.
    static std::int64_t now(const Policy &policy, const State &state) {
        const std::int64_t floor = std::max({built, policy.issued, state.seen});
        const auto clock = static_cast<std::int64_t>(std::time(nullptr));
        if (clock < floor) {
            throw PolicyError("the clock was set back", "", moment(floor) + " or later", moment(clock),
                              "set the clock right");
        }
        return clock;
    }

    // Remembers an accepted release; warns where it cannot be written.
    void note(const State &state, std::int64_t now, const std::string &product, std::int64_t release) const {
        const auto found = state.releases.find(product);
        if (now - state.seen < 3600 && found != state.releases.end() && found->second >= release) return;
        const Descriptor lock = locked();
        if (lock) {
            State latest = this->state();
            latest.seen = std::max(latest.seen, now);
            std::int64_t &highest = latest.releases[product];
            highest = std::max(highest, release);
            if (write("state.json", encoded(latest))) return;
        }
        warn_(directory_ + " cannot be written (" + system_message() +
              "): a return to an older release, or of the clock, will not be noticed");
    }

    const Warn &warn() const { return warn_; }

 private:
    static std::string default_directory() {
        const char *named = std::getenv("VITRIFY_TRUST_DIR");
        if (named && *named) return named;
        const char *base = std::getenv("XDG_DATA_HOME");
        if (base && *base) return std::string(base) + "/vitrify";
        const char *home = std::getenv("HOME");
        if (!home) {
            const passwd *user = ::getpwuid(::getuid());
            home = user ? user->pw_dir : "";
        }
        return std::string(home) + "/.local/share/vitrify";
    }

    std::string path(const std::string &name) const { return directory_ + "/" + name; }

    // The file's bytes; nothing where there is none. Only its owner and root may be able to change it.
    std::optional<std::string> read(const std::string &name) const {
        const std::string file = path(name);
        struct stat found{};
        if (::lstat(file.c_str(), &found)) return std::nullopt;
        if (::stat(directory_.c_str(), &found)) throw PolicyError("cannot be opened: " + system_message(), directory_);
        if (found.st_mode & 02) {
            throw UntrustedKeyError("others can change what is in this directory", directory_, "mode 700", "",
                                    "chmod 700 " + directory_);
        }
        Descriptor fd;
        try {
            fd = open_regular(file);
        } catch (const ContainerError &error) {
            throw PolicyError(error.what(), "", "", "", "check the directory's permissions");
        }
        found = status_of(fd.get(), file);
        if (found.st_mode & 022 || (found.st_uid != ::geteuid() && found.st_uid != 0)) {
            throw UntrustedKeyError("others can change this file", file, "its owner and root alone can", "",
                                    "chmod go-w " + file);
        }
        return read_exactly(
            fd.get(), 0, std::min<std::uint64_t>(static_cast<std::uint64_t>(found.st_size), document_bytes + 1), file);
    }

    // That this machine's key alone is trusted, with any product; nobody, where there is no key.
    Policy own_policy() const {
        Policy policy;
        const std::optional<std::string> text = read("machine.pub");
        Rule rule;
        if (text) {
            const std::string key = parse_public(*text);
            rule.keys = {key_id(key)};
            policy.keys[key_id(key)] = key;
        }
        policy.root = rule;
        policy.products["*"] = rule;
        return policy;
    }

    // A key in 64 hexadecimal digits, or in the text of a PEM file.
    static std::string parse_public(const std::string &text) {
        const std::size_t first = text.find_first_not_of(" \t\r\n");
        std::string key;
        if (first != std::string::npos && text.compare(first, 10, "-----BEGIN") == 0) {
            const std::unique_ptr<BIO, int (*)(BIO *)> memory(
                BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free);
            const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY *)> loaded(
                memory ? PEM_read_bio_PUBKEY(memory.get(), nullptr, nullptr, nullptr) : nullptr, EVP_PKEY_free);
            std::size_t size = 32;
            key.resize(size);
            if (loaded && EVP_PKEY_id(loaded.get()) == EVP_PKEY_ED25519 &&
                EVP_PKEY_get_raw_public_key(loaded.get(), reinterpret_cast<unsigned char *>(key.data()), &size) == 1) {
                return check_public(key);
            }
        } else {
            std::string digits;
            for (const char c : text) {
                if (std::string_view(" \t\r\n").find(c) == std::string_view::npos) {
                    digits.push_back(c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c);
                }
            }
            if (is_hex(digits) && digits.size() % 2 == 0) return check_public(unhex(digits));
        }
        throw InvalidArgumentError("a public key", "", "64 hexadecimal digits, or PEM of an Ed25519 public key",
                                   shortened(text));
    }

    static std::string encoded(const State &state) {
        std::vector<std::pair<std::string, std::int64_t>> sorted(state.releases.begin(), state.releases.end());
        std::sort(sorted.begin(), sorted.end(),
                  [](const auto &a, const auto &b) { return units_before(a.first, b.first); });
        std::string text = "{\"releases\":{";
        for (const auto &[product, release] : sorted) {
            if (text.back() != '{') text.push_back(',');
            write_string(text, product);
            text += ":" + std::to_string(release);
        }
        return text + "},\"seen\":" + std::to_string(state.seen) + "}";
    }

    Descriptor locked() const {
        for (std::size_t at = 1; at <= directory_.size(); at++) {
            if (at == directory_.size() || directory_[at] == '/') ::mkdir(directory_.substr(0, at).c_str(), 0700);
        }
        Descriptor fd(::open(path("lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (fd && ::flock(fd.get(), LOCK_EX)) fd.close();
        return fd;
    }

    // The whole file or none, readable by its owner alone.
    bool write(const std::string &name, const std::string &data) const {
        const std::string fresh = path(name) + "." + std::to_string(::getpid());  // the directory is locked
        ::unlink(fresh.c_str());
        const Descriptor fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (!fd) return false;
        std::size_t done = 0;
        while (done < data.size()) {
            const ssize_t part = ::write(fd.get(), data.data() + done, data.size() - done);
            if (part < 0 && errno == EINTR) continue;
            if (part <= 0) break;
            done += static_cast<std::size_t>(part);
        }
        if (done == data.size() && !::fsync(fd.get()) && !::rename(fresh.c_str(), path(name).c_str())) return true;
        const int why = errno;
        ::unlink(fresh.c_str());
        errno = why;
        return false;
    }

    std::string directory_;
    Warn warn_;
};

}  // namespace vitrify::detail

#endif
