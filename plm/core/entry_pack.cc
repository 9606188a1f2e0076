#include "plm/core/entry_pack.h"

#include <array>
#include <cstring>

#include "common/audit/entry.h"
#include "common/base/assert.h"
#include "common/base/bytes.h"

namespace reeve::plm {
namespace {

constexpr std::size_t kWordBytes = 8;
constexpr unsigned kWords = audit::kEntryHeaderSize / kWordBytes;
constexpr std::size_t kKindAt = 4;
constexpr std::size_t kDetailLengthAt = 94;
constexpr std::size_t kHeadBytes = 3;  // kind, mask
constexpr std::uint16_t kDetailBit = 1U << kWords;
static_assert(kWords == 12);

// The last entry of each kind.
using LastOfKind = std::array<std::string, 256>;

std::string& last_of(LastOfKind& last, char kind) {
    auto& entry = last[static_cast<std::uint8_t>(kind)];
    if (entry.empty()) entry.assign(audit::kEntryHeaderSize, '\0');
    return entry;
}

std::uint64_t word_at(const char* entry, unsigned word) {
    std::uint64_t value = 0;
    std::memcpy(&value, entry + word * kWordBytes, kWordBytes);
    return value;
}

std::size_t detail_length(std::string_view header) {
    return get_big_endian<std::uint16_t>(header.data() + kDetailLengthAt);
}

auto damaged() {
    return fail(ErrorCode::kDataLoss, "packed audit entries are cut short or damaged");
}

}  // namespace

void pack_entries(std::string& out, std::string_view bundle, std::uint32_t count) {
    LastOfKind last;
    for (std::uint32_t i = 0; i < count; ++i) {
        const auto entry = audit::take_entry(bundle);
        REEVE_ASSERT(entry.size() >= audit::kEntryHeaderSize &&
                     entry.size() == audit::kEntryHeaderSize + detail_length(entry));
        auto& before = last_of(last, entry[kKindAt]);
        // Every word is put down, and the next one over it if it need not stay.
        char packed[kHeadBytes + audit::kEntryHeaderSize];
        char* to = packed + kHeadBytes;
        unsigned mask = 0;
        for (unsigned word = 0; word < kWords; ++word) {
            const auto value = word_at(entry.data(), word);
            std::memcpy(to, &value, kWordBytes);
            const bool other = value != word_at(before.data(), word);
            mask |= static_cast<unsigned>(other) << word;
            to += other ? kWordBytes : 0;
        }
        const auto detail = entry.substr(audit::kEntryHeaderSize);
        if (detail != std::string_view(before).substr(audit::kEntryHeaderSize)) mask |= kDetailBit;
        packed[0] = entry[kKindAt];
        packed[1] = static_cast<char>(mask & 0xFF);
        packed[2] = static_cast<char>(mask >> 8);
        out.append(packed, to);
        if ((mask & kDetailBit) != 0) out.append(detail);
        before.assign(entry);
    }
}

Result<std::vector<std::string>> unpack_entries(std::string_view packed, std::uint32_t count) {
    LastOfKind last;
    std::vector<std::string> entries;
    const auto take = [&packed](std::size_t size) {
        const auto part = packed.substr(0, size);
        packed.remove_prefix(part.size());
        return part.size() == size ? part : std::string_view();
    };
    for (std::uint32_t i = 0; i < count; ++i) {
        const auto head = take(3);
        if (head.empty()) return damaged();
        const auto mask = static_cast<std::uint16_t>(static_cast<std::uint8_t>(head[1]) |
                                                     static_cast<std::uint8_t>(head[2]) << 8);
        if (mask >= 2 * kDetailBit) return damaged();
        auto& entry = last_of(last, head[0]);
        for (unsigned word = 0; word < kWords; ++word) {
            if ((mask & 1U << word) == 0) continue;
            const auto bytes = take(kWordBytes);
            if (bytes.empty()) return damaged();
            bytes.copy(entry.data() + word * kWordBytes, kWordBytes);
        }
        const auto length = detail_length(entry);
        if ((mask & kDetailBit) != 0) {
            const auto detail = take(length);
            if (detail.size() != length) return damaged();
            entry.resize(audit::kEntryHeaderSize);
            entry.append(detail);
        }
        if (entry.size() != audit::kEntryHeaderSize + length || entry[kKindAt] != head[0]) {
            return damaged();
        }
        entries.push_back(entry);
    }
    if (!packed.empty()) return damaged();
    return entries;
}

}  // namespace reeve::plm
