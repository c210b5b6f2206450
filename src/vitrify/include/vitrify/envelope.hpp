// Signed documents: DSSE envelopes, Ed25519 keys, and the in-toto statement that binds an artifact's manifest.
#ifndef VITRIFY_ENVELOPE_HPP
#define VITRIFY_ENVELOPE_HPP

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "schema.hpp"
#include "tables.hpp"

namespace vitrify {

// What a signature says of an artifact; `manifest` is the digest of manifest.json. Moments are seconds since 1970.
struct Seal {
    std::string manifest, product;
    std::int64_t release = 0, not_before = 0;
    std::optional<std::int64_t> expires;
    std::string licence;
    std::optional<std::string> sbom, provenance;
};

namespace detail {

inline constexpr std::size_t envelope_bytes = std::size_t{1} << 18;
inline constexpr std::size_t max_signatures = 16;
inline constexpr char statement_type[] = "application/vnd.in-toto+json";

// An envelope's payload and its signatures by key id.
struct Signed {
    std::string payload;
    std::map<std::string, std::string> signatures;
};

// What an envelope of this kind carries; no signature has been verified.
inline Signed open_envelope(std::string_view encoded, const std::string &kind) {
    const Json document = read_json(encoded, "the signature's envelope", envelope_bytes);
    const Json *found = document.kind == Json::Kind::object ? document.find("payloadType") : nullptr;
    if (found && found->kind == Json::Kind::text && found->text != kind) {
        throw SignatureError("what was signed is another kind of document", "", kind, shortened(found->text));
    }
    const Record r(document, "envelope", {"payload", "payloadType", "signatures"});
    Signed result;
    result.payload = as_base64(r["payload"], r.where("payload"));
    r.constant("payloadType", kind.c_str());
    const auto signatures = r.list("signatures", [](const Json &v, const std::string &w) {
        const Record s(v, w, {"keyid", "sig"});
        return std::pair(s.digest("keyid"), as_base64(s["sig"], s.where("sig")));
    });
    if (signatures.empty()) {
        throw UnsignedError("nobody signed this", "", "", "", "sign it: vitrify sign ARTIFACT --key KEY");
    }
    if (signatures.size() > max_signatures) {
        throw LimitError("too many signatures", "", "at most 16", std::to_string(signatures.size()));
    }
    for (const auto &[key, signature] : signatures) {
        if (!result.signatures.emplace(key, signature).second) {
            throw SignatureError("a key signed twice", "", "one signature of each key");
        }
    }
    return result;
}

inline std::string key_id(std::string_view key) {
    return sha256_hex(key);
}

// The 32 bytes, where they are a public key in its one encoding and of a large order; else UntrustedKeyError.
inline const std::string &check_public(const std::string &key) {
    bool good = key.size() == 32;
    if (good) {
        std::string y = key;  // the coordinate, without the sign of the other one
        y[31] = static_cast<char>(y[31] & 0x7f);
        bool beyond = y[31] == 0x7f && static_cast<unsigned char>(y[0]) >= 0xed;  // not below 2^255 - 19
        for (std::size_t i = 1; i < 31; i++) beyond = beyond && static_cast<unsigned char>(y[i]) == 0xff;
        good = !beyond;
        for (const char *weak : weak_points) good = good && hex(y) != weak;
    }
    if (!good) {
        throw UntrustedKeyError("this is no key that can be trusted", "", "32 bytes of an Ed25519 point of large order",
                                hex(key), "signatures under such a key can be forged without its owner");
    }
    return key;
}

inline bool verify_signature(const std::string &key, std::string_view signature, std::string_view message) {
    check_public(key);
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY *)> loaded(
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char *>(key.data()),
                                    key.size()),
        EVP_PKEY_free);
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX *)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    if (!loaded || !context || EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, loaded.get()) != 1) {
        throw SignatureError("libcrypto has no Ed25519");
    }
    return EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char *>(signature.data()), signature.size(),
                            reinterpret_cast<const unsigned char *>(message.data()), message.size()) == 1;
}

// The ids of those `keys` (public keys by id) that signed. SignatureError where a signature that names one of them is
// not its own, UntrustedKeyError where fewer than `threshold` signed. Signatures of other keys do not count.
inline std::set<std::string> require(const Signed &document, const std::string &kind,
                                     const std::map<std::string, std::string> &keys, std::int64_t threshold) {
    const std::string message = "DSSEv1 " + std::to_string(kind.size()) + " " + kind + " " +
                                std::to_string(document.payload.size()) + " " + document.payload;
    std::set<std::string> valid;
    for (const auto &[id, signature] : document.signatures) {
        const auto key = keys.find(id);
        if (key == keys.end()) continue;
        if (!verify_signature(key->second, signature, message)) {
            throw SignatureError("a signature is wrong", "", "one by key " + id, hex(signature),
                                 "the artifact was changed after it was signed; fetch it again");
        }
        valid.insert(id);
    }
    const std::int64_t least = std::max<std::int64_t>(threshold, 1);
    if (static_cast<std::int64_t>(valid.size()) < least) {
        std::string trusted;
        for (const auto &[id, key] : keys) trusted += " " + id;
        throw UntrustedKeyError("too few trusted keys signed this", "",
                                std::to_string(least) + " of" + (trusted.empty() ? " no key" : trusted),
                                std::to_string(valid.size()), "vitrify trust add KEY, if you trust its owner");
    }
    return valid;
}

// The seal in a statement. ManifestError where it is not one about exactly one manifest.
inline Seal read_statement(std::string_view payload) {
    const Json document = read_json(payload, "the statement", envelope_bytes);
    const Record r(document, "statement", {"_type", "predicate", "predicateType", "subject"});
    r.constant("_type", "https://in-toto.io/Statement/v1");
    const Record p(r["predicate"], r.where("predicate"),
                   {"expires", "licence", "not_before", "product", "provenance", "release", "sbom"});
    const auto digest = [](const Json &v, const std::string &w) { return as_digest(v, w); };
    Seal seal;
    seal.product = p.text("product");
    seal.release = p.count("release");
    seal.not_before = p.instant("not_before");
    seal.expires = p.optional("expires", as_instant);
    seal.licence = p.text("licence");
    seal.sbom = p.optional("sbom", digest);
    seal.provenance = p.optional("provenance", digest);
    r.constant("predicateType", "https://vitrify.dev/attestation/seal/v1");
    const auto subjects = r.list("subject", [](const Json &v, const std::string &w) {
        const Record s(v, w, {"digest", "name"});
        const Record d(s["digest"], s.where("digest"), {"sha256"});
        s.constant("name", "manifest.json");
        return d.digest("sha256");
    });
    if (subjects.size() != 1) throw refusal("statement.subject", "one manifest", std::to_string(subjects.size()));
    seal.manifest = subjects[0];
    return seal;
}

}  // namespace detail
}  // namespace vitrify

#endif
