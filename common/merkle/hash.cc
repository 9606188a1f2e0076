#include "common/merkle/hash.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include <openssl/evp.h>

#include "common/base/assert.h"

namespace reeve::merkle {
namespace {

const EVP_MD* digest() {
    static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    REEVE_ASSERT(fetched != nullptr);
    return fetched;
}

// One per thread: a working context and the template it is refilled from.
class Hasher {
public:
    Hasher() : work_(EVP_MD_CTX_new()), fresh_(EVP_MD_CTX_new()) {
        REEVE_ASSERT(work_ != nullptr && fresh_ != nullptr);
        REEVE_ASSERT(EVP_DigestInit_ex2(fresh_, digest(), nullptr) == 1);
    }
    ~Hasher() {
        EVP_MD_CTX_free(work_);
        EVP_MD_CTX_free(fresh_);
    }
    Hasher(const Hasher&) = delete;
    Hasher& operator=(const Hasher&) = delete;

    Hash run(const void* data, std::size_t size) {
        begin();
        return end(data, size);
    }
    Hash run(std::uint8_t prefix, const void* data, std::size_t size) {
        begin();
        REEVE_ASSERT(EVP_DigestUpdate(work_, &prefix, 1) == 1);
        return end(data, size);
    }

private:
    void begin() { REEVE_ASSERT(EVP_MD_CTX_copy_ex(work_, fresh_) == 1); }
    Hash end(const void* data, std::size_t size) {
        Hash out;
        REEVE_ASSERT(EVP_DigestUpdate(work_, data, size) == 1);
        REEVE_ASSERT(EVP_DigestFinal_ex(work_, out.data(), nullptr) == 1);
        return out;
    }

    EVP_MD_CTX* work_;
    EVP_MD_CTX* fresh_;
};

Hasher& hasher() {
    thread_local Hasher one;
    return one;
}

}  // namespace

Hash leaf_hash(std::string_view data) {
    // Typical entries fit the buffer, which spares libcrypto a second update call.
    std::uint8_t buffer[256];
    if (data.size() >= sizeof buffer) return hasher().run(0x00, data.data(), data.size());
    buffer[0] = 0x00;
    if (!data.empty()) std::memcpy(buffer + 1, data.data(), data.size());
    return hasher().run(buffer, data.size() + 1);
}

Hash node_hash(const Hash& left, const Hash& right) {
    std::uint8_t buffer[1 + 2 * kHashSize];
    buffer[0] = 0x01;
    std::memcpy(buffer + 1, left.data(), kHashSize);
    std::memcpy(buffer + 1 + kHashSize, right.data(), kHashSize);
    return hasher().run(buffer, sizeof buffer);
}

Hash sha256(std::string_view data) {
    return hasher().run(data.data(), data.size());
}

Hash empty_root() {
    return sha256({});
}

Hash fold(const std::uint8_t* hashes, std::size_t count) {
    REEVE_ASSERT(count > 0);
    if (count == 1) return to_hash({reinterpret_cast<const char*>(hashes), kHashSize});
    const std::size_t left = std::bit_floor(count - 1);
    return node_hash(fold(hashes, left), fold(hashes + left * kHashSize, count - left));
}

std::string to_hex(const Hash& hash) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string out;
    out.reserve(2 * hash.size());
    for (const std::uint8_t byte : hash) {
        out += kDigits[byte >> 4];
        out += kDigits[byte & 15];
    }
    return out;
}

Hash to_hash(std::string_view bytes) {
    REEVE_ASSERT(bytes.size() == kHashSize);
    Hash out;
    std::memcpy(out.data(), bytes.data(), kHashSize);
    return out;
}

}  // namespace reeve::merkle
