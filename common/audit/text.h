// The small strict parsers that notes, checkpoints, proofs and policies share.
//
// All of them refuse what is not canonical: one meaning has one spelling. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/merkle/hash.h"

namespace reeve::audit {

// RFC 4648 section 4, padded, no white space; the unused bits of the last digit must be zero.
std::string encode_base64(std::string_view bytes);
std::optional<std::string> decode_base64(std::string_view text);

// ASCII digits only, no sign, no leading zero, at most 2^63 - 1.
std::optional<std::uint64_t> parse_decimal(std::string_view text);

inline std::string merkle_base64(const merkle::Hash& hash) {
    return encode_base64(merkle::as_bytes(hash));
}

// A base64 line of exactly 32 bytes.
std::optional<merkle::Hash> parse_hash(std::string_view text);

// Well-formed UTF-8 (no surrogates, no overlong forms).
bool is_utf8(std::string_view text);

// A note's key name: UTF-8, not empty, no Unicode space, no '+', no control character.
bool is_key_name(std::string_view name);

// Cuts the next line off `rest`, without its newline; nullopt when no newline is left.
std::optional<std::string_view> next_line(std::string_view& rest);

}  // namespace reeve::audit
