#include "cli/json_writer.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "cli/context.h"

namespace reeve::cli {

namespace {

// Length of a well-formed UTF-8 sequence, or 0.
std::size_t sequence_size(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(at);
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (at + size > text.size()) return 0;
    std::uint32_t point = first & (0xFFU >> (size + 1));
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(at + i) & 0xC0) != 0x80) return 0;
        point = (point << 6) | (byte(at + i) & 0x3FU);
    }
    const std::array<std::uint32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    return point >= smallest[size] && point <= 0x10FFFF && !surrogate ? size : 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const auto size = sequence_size(text, at);
        if (size == 0) return false;
        at += size;
    }
    return true;
}

void JsonWriter::quote(std::string_view text) {
    out_ += '"';
    for (std::size_t at = 0; at < text.size();) {
        const auto size = sequence_size(text, at);
        if (size == 0) {
            out_ += "\\ufffd";
            ++at;
            continue;
        }
        const char c = text[at];
        if (size > 1) {
            out_.append(text, at, size);
        } else if (c == '"' || c == '\\') {
            out_ += '\\';
            out_ += c;
        } else if (c == '\n') {
            out_ += "\\n";
        } else if (c == '\t') {
            out_ += "\\t";
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
            char hex[8];
            std::snprintf(hex, sizeof hex, "\\u%04x", static_cast<unsigned char>(c));
            out_ += hex;
        } else {
            out_ += c;
        }
        at += size;
    }
    out_ += '"';
}

JsonWriter& JsonWriter::value(double number) {
    if (!std::isfinite(number)) return null();
    comma();
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", number);
    out_ += text;
    return *this;
}

JsonWriter& JsonWriter::decimal(std::uint64_t units, unsigned decimals) {
    comma();
    std::string digits = std::to_string(units);
    if (digits.size() <= decimals) digits.insert(0, decimals + 1 - digits.size(), '0');
    digits.insert(digits.size() - decimals, 1, '.');
    while (digits.back() == '0') digits.pop_back();
    if (digits.back() == '.') digits.pop_back();
    out_ += digits;
    return *this;
}

void JsonWriter::print() const {
    write_out(out_);
    write_out("\n");
}

}  // namespace reeve::cli
