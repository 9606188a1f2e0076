// Fixed-width integers to and from bytes, and a bounds-checked reader for untrusted input.
//
// ByteWriter appends to a std::string; ByteReader never reads past its end: after the first short
// read every further read yields zero and ok() is false, so callers check once at the end.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace reeve {

// One instruction each: the compiler does not see through a loop over the bytes.
template <typename T>
constexpr T big_endian(T value) {
    static_assert(std::is_unsigned_v<T>);
    if constexpr (std::endian::native == std::endian::big || sizeof(T) == 1) {
        return value;
    } else if constexpr (sizeof(T) == 2) {
        return __builtin_bswap16(value);
    } else if constexpr (sizeof(T) == 4) {
        return __builtin_bswap32(value);
    } else {
        static_assert(sizeof(T) == 8);
        return __builtin_bswap64(value);
    }
}

template <typename T>
void put_big_endian(char* out, T value) {
    value = big_endian(value);
    std::memcpy(out, &value, sizeof(T));
}

template <typename T>
T get_big_endian(const char* in) {
    T value = 0;
    std::memcpy(&value, in, sizeof(T));
    return big_endian(value);
}

// Little-endian writer for our own files (ledger frames); the audit log uses the big-endian pair.
class ByteWriter {
public:
    explicit ByteWriter(std::string& out) : out_(out) {}

    template <typename T>
    void put(T value) {
        static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
        char raw[sizeof(T)];
        std::memcpy(raw, &value, sizeof(T));
        out_.append(raw, sizeof(T));
    }
    void put_bytes(std::string_view bytes) {
        put(static_cast<std::uint32_t>(bytes.size()));
        out_.append(bytes);
    }

private:
    std::string& out_;
};

class ByteReader {
public:
    explicit ByteReader(std::string_view in) : in_(in) {}

    template <typename T>
    T get() {
        static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
        T value{};
        if (in_.size() - at_ < sizeof(T) || !ok_) {
            ok_ = false;
            return value;
        }
        std::memcpy(&value, in_.data() + at_, sizeof(T));
        at_ += sizeof(T);
        return value;
    }
    std::string_view get_bytes() {
        const auto size = get<std::uint32_t>();
        if (!ok_ || in_.size() - at_ < size) {
            ok_ = false;
            return {};
        }
        at_ += size;
        return in_.substr(at_ - size, size);
    }
    std::string_view rest() {
        const auto from = at_;
        at_ = in_.size();
        return in_.substr(from);
    }
    bool ok() const { return ok_; }
    bool at_end() const { return at_ == in_.size(); }
    std::size_t position() const { return at_; }

private:
    std::string_view in_;
    std::size_t at_ = 0;
    bool ok_ = true;
};

// Base 128, low digits first, as protobuf has it.
inline constexpr std::size_t kVarintBytesMax = 10;

inline char* put_varint(char* to, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) *to++ = static_cast<char>(value | 0x80);
    *to++ = static_cast<char>(value);
    return to;
}
inline void append_varint(std::string& out, std::uint64_t value) {
    char bytes[kVarintBytesMax];
    out.append(bytes, put_varint(bytes, value));
}

static_assert(std::endian::native == std::endian::little, "ledger frames are little-endian");

}  // namespace reeve
