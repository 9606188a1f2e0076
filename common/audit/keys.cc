#include "common/audit/keys.h"

#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "common/audit/files.h"
#include "common/audit/text.h"
#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/merkle/hash.h"

namespace reeve::audit {
namespace {

constexpr std::string_view kPrivatePrefix = "PRIVATE+KEY+";
constexpr std::size_t kKeyFileSizeMax = 4096;

std::uint32_t key_id(std::string_view name, KeyType type, const KeyBytes& public_key) {
    std::string input(name);
    input += '\n';
    input += static_cast<char>(type);
    input.append(reinterpret_cast<const char*>(public_key.data()), public_key.size());
    const merkle::Hash hash = merkle::sha256(input);
    return get_big_endian<std::uint32_t>(reinterpret_cast<const char*>(hash.data()));
}

std::string hex8(std::uint32_t id) {
    char text[9];
    std::snprintf(text, sizeof text, "%08x", id);
    return text;
}

std::string key_text(const VerifierKey& key, const KeyBytes& material) {
    std::string payload(1, static_cast<char>(key.type));
    payload.append(reinterpret_cast<const char*>(material.data()), material.size());
    return key.name + "+" + hex8(key.id) + "+" + encode_base64(payload);
}

struct KeyParts {
    std::string name;
    std::string id;
    KeyType type;
    KeyBytes material;
};

// name+hex8+base64(type || 32 bytes). base64 may contain '+', a name and an id may not.
Result<KeyParts> split_key(std::string_view text) {
    const auto bad = [](const char* what) {
        return fail(ErrorCode::kInvalidArgument, std::string("key: ") + what);
    };
    const std::size_t first = text.find('+');
    const std::size_t second = first == text.npos ? text.npos : text.find('+', first + 1);
    if (second == text.npos) return bad("expected name+id+base64");
    KeyParts parts;
    parts.name = text.substr(0, first);
    parts.id = text.substr(first + 1, second - first - 1);
    if (!is_key_name(parts.name)) return bad("the name is empty or has a space in it");
    if (parts.id.size() != 8 || parts.id.find_first_not_of("0123456789abcdef") != text.npos) {
        return bad("the key id must be eight lower-case hex digits");
    }
    const auto payload = decode_base64(text.substr(second + 1));
    if (!payload || payload->empty()) return bad("the last part is not canonical base64");
    const auto type = static_cast<std::uint8_t>(payload->front());
    if (type != static_cast<std::uint8_t>(KeyType::kNote) &&
        type != static_cast<std::uint8_t>(KeyType::kCosignature)) {
        return bad("only types 1 (Ed25519) and 4 (cosignature/v1) are known");
    }
    if (payload->size() != 1 + kKeySize) return bad("an Ed25519 key has 32 bytes");
    parts.type = static_cast<KeyType>(type);
    std::memcpy(parts.material.data(), payload->data() + 1, kKeySize);
    return parts;
}

}  // namespace

struct SigningKey::Pair {
    EVP_PKEY* key;
    explicit Pair(EVP_PKEY* taken) : key(taken) {}
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    ~Pair() { EVP_PKEY_free(key); }
};

std::string VerifierKey::to_string() const {
    return key_text(*this, public_key);
}

bool VerifierKey::verify(std::string_view message, std::string_view signature) const {
    if (signature.size() != kSignatureSize) return false;
    EVP_PKEY* key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, public_key.data(),
                                                public_key.size());
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    const bool good =
        key != nullptr && context != nullptr &&
        EVP_DigestVerifyInit(context, nullptr, nullptr, nullptr, key) == 1 &&
        EVP_DigestVerify(context, reinterpret_cast<const unsigned char*>(signature.data()),
                         signature.size(), reinterpret_cast<const unsigned char*>(message.data()),
                         message.size()) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return good;
}

Result<VerifierKey> parse_vkey(std::string_view text) {
    REEVE_TRY_ASSIGN(auto parts, split_key(text));
    VerifierKey key{parts.name, parts.type, parts.material, 0};
    key.id = key_id(key.name, key.type, key.public_key);
    if (hex8(key.id) != parts.id) {
        return fail(ErrorCode::kInvalidArgument,
                    "key: the id " + parts.id + " does not belong to this name and key");
    }
    return key;
}

Result<SigningKey> SigningKey::from_seed(std::string name, KeyType type, const KeyBytes& seed) {
    if (!is_key_name(name)) {
        return fail(ErrorCode::kInvalidArgument,
                    "key name '" + name + "': must not be empty nor hold spaces or '+'");
    }
    EVP_PKEY* pair =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.data(), seed.size());
    if (pair == nullptr) return fail(ErrorCode::kInternal, "libcrypto: cannot make an Ed25519 key");
    SigningKey key;
    key.pair_ = std::make_shared<const Pair>(pair);
    key.seed_ = seed;
    key.verifier_.name = std::move(name);
    key.verifier_.type = type;
    std::size_t size = kKeySize;
    if (EVP_PKEY_get_raw_public_key(pair, key.verifier_.public_key.data(), &size) != 1) {
        return fail(ErrorCode::kInternal, "libcrypto: cannot derive the public key");
    }
    key.verifier_.id = key_id(key.verifier_.name, type, key.verifier_.public_key);
    return key;
}

Result<SigningKey> SigningKey::generate(std::string name, KeyType type) {
    KeyBytes seed;
    if (RAND_priv_bytes(seed.data(), static_cast<int>(seed.size())) != 1) {
        return fail(ErrorCode::kInternal, "libcrypto: no random bytes");
    }
    return from_seed(std::move(name), type, seed);
}

Result<SigningKey> SigningKey::parse(std::string_view text) {
    if (!text.starts_with(kPrivatePrefix)) {
        return fail(ErrorCode::kInvalidArgument, "key: a private key begins with PRIVATE+KEY+");
    }
    REEVE_TRY_ASSIGN(auto parts, split_key(text.substr(kPrivatePrefix.size())));
    REEVE_TRY_ASSIGN(auto key, from_seed(parts.name, parts.type, parts.material));
    if (hex8(key.verifier_.id) != parts.id) {
        return fail(ErrorCode::kInvalidArgument, "key: the id does not belong to this private key");
    }
    return key;
}

Status SigningKey::store(const std::string& path) const {
    const std::string text = to_string() + "\n";
    return write_new_file(path, text, 0600);
}

Result<SigningKey> SigningKey::load(const std::string& path) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) return fail_errno("open " + path, errno);
    if ((info.st_mode & 077) != 0) {
        return fail(ErrorCode::kPermissionDenied,
                    path + ": others may read this private key; run chmod 600 on it");
    }
    REEVE_TRY_ASSIGN(auto text, read_file(path, kKeyFileSizeMax));
    if (!text.empty() && text.back() == '\n') text.pop_back();
    auto key = parse(text);
    if (!key) return fail(std::move(key).error().with(path));
    return key;
}

std::string SigningKey::sign(std::string_view message) const {
    std::string signature(kSignatureSize, '\0');
    std::size_t size = signature.size();
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    const bool good =
        context != nullptr &&
        EVP_DigestSignInit(context, nullptr, nullptr, nullptr, pair_->key) == 1 &&
        EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size,
                       reinterpret_cast<const unsigned char*>(message.data()), message.size()) == 1;
    EVP_MD_CTX_free(context);
    REEVE_ASSERT(good && size == kSignatureSize);
    return signature;
}

std::string SigningKey::to_string() const {
    return std::string(kPrivatePrefix) + key_text(verifier_, seed_);
}

}  // namespace reeve::audit
