#include "common/audit/text.h"

#include <array>

#include "common/merkle/compact_range.h"

namespace reeve::audit {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<signed char, 256> make_values() {
    std::array<signed char, 256> values{};
    for (auto& value : values) value = -1;
    for (int i = 0; i < 64; ++i) {
        values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<signed char>(i);
    }
    return values;
}
constexpr auto kValues = make_values();

// Reads one code point; 0xFFFFFFFF and size 0 when the bytes are not UTF-8.
struct CodePoint {
    std::uint32_t value = 0xFFFFFFFF;
    std::size_t size = 0;
};

CodePoint read_code_point(std::string_view text) {
    const auto byte = [&](std::size_t i) {
        return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i]));
    };
    const std::uint32_t first = byte(0);
    if (first < 0x80) return {first, 1};
    std::size_t size = 0;
    std::uint32_t value = 0;
    std::uint32_t least = 0;
    if (first >= 0xC2 && first <= 0xDF) {
        size = 2, value = first & 0x1F, least = 0x80;
    } else if (first >= 0xE0 && first <= 0xEF) {
        size = 3, value = first & 0x0F, least = 0x800;
    } else if (first >= 0xF0 && first <= 0xF4) {
        size = 4, value = first & 0x07, least = 0x10000;
    } else {
        return {};
    }
    if (text.size() < size) return {};
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return {};
        value = value << 6 | (byte(i) & 0x3F);
    }
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (value < least || value > 0x10FFFF || surrogate) return {};
    return {value, size};
}

bool is_unicode_space(std::uint32_t point) {
    return (point >= 0x09 && point <= 0x0D) || point == 0x20 || point == 0x85 || point == 0xA0 ||
           point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 ||
           point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000;
}

}  // namespace

std::string encode_base64(std::string_view bytes) {
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const std::size_t here = std::min<std::size_t>(3, bytes.size() - at);
        std::uint32_t group = 0;
        for (std::size_t i = 0; i < 3; ++i) {
            group = group << 8 | (i < here ? static_cast<unsigned char>(bytes[at + i]) : 0U);
        }
        for (std::size_t i = 0; i < 4; ++i) {
            out += i <= here ? kAlphabet[(group >> (18 - 6 * i)) & 63] : '=';
        }
    }
    return out;
}

std::optional<std::string> decode_base64(std::string_view text) {
    if (text.size() % 4 != 0) return std::nullopt;
    std::string out;
    out.reserve(text.size() / 4 * 3);
    for (std::size_t at = 0; at < text.size(); at += 4) {
        std::size_t padding = 0;
        if (at + 4 == text.size()) {
            padding = text[at + 3] != '=' ? 0 : (text[at + 2] == '=' ? 2 : 1);
        }
        std::uint32_t group = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            const int value =
                i < 4 - padding ? kValues[static_cast<unsigned char>(text[at + i])] : 0;
            if (value < 0) return std::nullopt;
            group = group << 6 | static_cast<std::uint32_t>(value);
        }
        const std::uint32_t unused = padding == 2 ? 0xFFFF : (padding == 1 ? 0xFF : 0);
        if ((group & unused) != 0) return std::nullopt;
        for (std::size_t i = 0; i < 3 - padding; ++i) {
            out += static_cast<char>((group >> (16 - 8 * i)) & 0xFF);
        }
    }
    return out;
}

std::optional<std::uint64_t> parse_decimal(std::string_view text) {
    if (text.empty() || text.size() > 19 || (text[0] == '0' && text.size() > 1)) {
        return std::nullopt;
    }
    std::uint64_t value = 0;
    for (const char digit : text) {
        if (digit < '0' || digit > '9') return std::nullopt;
        value = value * 10 + static_cast<std::uint64_t>(digit - '0');
    }
    if (value > merkle::kSizeMax) return std::nullopt;
    return value;
}

std::optional<merkle::Hash> parse_hash(std::string_view text) {
    const auto bytes = decode_base64(text);
    if (!bytes || bytes->size() != merkle::kHashSize) return std::nullopt;
    return merkle::to_hash(*bytes);
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const CodePoint point = read_code_point(text);
        if (point.size == 0) return false;
        text.remove_prefix(point.size);
    }
    return true;
}

bool is_key_name(std::string_view name) {
    if (name.empty()) return false;
    while (!name.empty()) {
        const CodePoint point = read_code_point(name);
        if (point.size == 0 || point.value < 0x20 || point.value == '+') return false;
        if (is_unicode_space(point.value)) return false;
        name.remove_prefix(point.size);
    }
    return true;
}

std::optional<std::string_view> next_line(std::string_view& rest) {
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    return line;
}

}  // namespace reeve::audit
