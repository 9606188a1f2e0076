// The two kinds of key of the audit log, as text: verifier keys (vkey) and private keys.
//
//   vkey      name+hex8(key id)+base64(type || public key)
//   private   PRIVATE+KEY+name+hex8(key id)+base64(type || seed)
//   key id    SHA-256(name || 0x0A || type || public key)[0:4]
//
// Type 0x01 signs notes (the log), type 0x04 cosigns checkpoints (a witness). Ed25519 only; other
// types are refused in a vkey and ignored on a note. Immutable values, thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace reeve::audit {

enum class KeyType : std::uint8_t { kNote = 0x01, kCosignature = 0x04 };

inline constexpr std::size_t kKeySize = 32;
inline constexpr std::size_t kSignatureSize = 64;
using KeyBytes = std::array<std::uint8_t, kKeySize>;

struct VerifierKey {
    std::string name;
    KeyType type = KeyType::kNote;
    KeyBytes public_key{};
    std::uint32_t id = 0;

    std::string to_string() const;
    // Whether `signature` is this key's Ed25519 signature of `message`.
    bool verify(std::string_view message, std::string_view signature) const;
};

// Error kInvalidArgument: not a vkey (shape, name, type, length or key id).
Result<VerifierKey> parse_vkey(std::string_view text);

class SigningKey {
public:
    // Errors: kInvalidArgument (bad name), kInternal (libcrypto).
    static Result<SigningKey> from_seed(std::string name, KeyType type, const KeyBytes& seed);
    static Result<SigningKey> generate(std::string name, KeyType type);
    static Result<SigningKey> parse(std::string_view text);

    // The key's text and a newline in a new file of mode 0600, durable. kAlreadyExists: never
    // overwrites. load refuses a file that others may read, and names the cure.
    Status store(const std::string& path) const;
    static Result<SigningKey> load(const std::string& path);

    const VerifierKey& verifier() const { return verifier_; }
    std::string sign(std::string_view message) const;  // 64 bytes
    std::string to_string() const;                     // a secret

private:
    struct Pair;
    VerifierKey verifier_;
    KeyBytes seed_{};
    std::shared_ptr<const Pair> pair_;
};

}  // namespace reeve::audit
