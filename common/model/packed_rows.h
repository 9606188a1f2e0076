// The rows of many tasks in one value of history.db: a JSON array with one array for each task.
//
//   [[element,waited,placed,ran,result_at,result_size,user_us,system_us,max_rss],...]
//
// element counts from the start of its block of kPackedBlock elements. Times are differences in ns:
// waited from the job's submission to the assignment, placed from there to the start, ran from
// there to the end. Zeros at a row's end are left out. JSON, so that any SQL tool reads it through
// the view `attempt` (docs/formats/ledger.md); written by the PLM, read by the CLI. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace reeve {

inline constexpr std::uint64_t kPackedBlock = 1024;
inline constexpr std::uint64_t kPackedValueMax = std::uint64_t{1} << 62;  // what is more is cut

struct PackedRow {
    std::uint64_t element = 0;  // 0..kPackedBlock-1, within its block
    std::uint64_t assigned_ns = 0;
    std::uint64_t started_ns = 0;
    std::uint64_t ended_ns = 0;
    std::uint64_t result_at = 0;  // where its result lies among those of the pack
    std::uint64_t result_size = 0;
    std::uint64_t user_us = 0;
    std::uint64_t system_us = 0;
    std::uint64_t max_rss_bytes = 0;
};

inline constexpr std::size_t kPackedFields = 9;
inline constexpr std::size_t kPackedRowBytesMax = kPackedFields * 21 + 3;

namespace packed_detail {
inline std::int64_t bounded(std::uint64_t value) {
    return static_cast<std::int64_t>(std::min(value, kPackedValueMax));
}
}  // namespace packed_detail

// Appends one row to an array without its closing bracket; an empty `rows` is begun.
inline void append_packed_row(std::string& rows, std::uint64_t submit_ns, const PackedRow& row) {
    using packed_detail::bounded;
    const std::array<std::int64_t, kPackedFields> fields = {
        bounded(row.element),
        bounded(row.assigned_ns) - bounded(submit_ns),
        bounded(row.started_ns) - bounded(row.assigned_ns),
        bounded(row.ended_ns) - bounded(row.started_ns),
        bounded(row.result_at),
        bounded(row.result_size),
        bounded(row.user_us),
        bounded(row.system_us),
        bounded(row.max_rss_bytes)};
    std::size_t count = kPackedFields;
    while (count > 1 && fields[count - 1] == 0) --count;
    std::array<char, kPackedRowBytesMax> text;
    char* at = text.data();
    *at++ = rows.empty() ? '[' : ',';
    *at++ = '[';
    for (std::size_t i = 0; i < count; ++i) {
        if (i > 0) *at++ = ',';
        at = std::to_chars(at, text.data() + text.size(), fields[i]).ptr;
    }
    *at++ = ']';
    rows.append(text.data(), static_cast<std::size_t>(at - text.data()));
}

// Calls take(row) for each row of a whole array. False: this is none, and what came before it broke
// was told.
template <typename Take>
bool for_each_packed_row(std::string_view rows, std::uint64_t submit_ns, Take&& take) {
    const char* at = rows.data();
    const char* const end = at + rows.size();
    const auto skip = [&](char wanted) { return at < end && *at == wanted && ++at != nullptr; };
    if (!skip('[')) return false;
    while (true) {
        if (!skip('[')) return false;
        std::array<std::int64_t, kPackedFields> fields{};
        for (std::size_t i = 0;; ++i) {
            if (i == kPackedFields) return false;
            const auto [next, error] = std::from_chars(at, end, fields[i]);
            if (error != std::errc()) return false;
            at = next;
            if (skip(']')) break;
            if (!skip(',')) return false;
        }
        const auto value = [&](std::size_t i) { return static_cast<std::uint64_t>(fields[i]); };
        PackedRow row;
        row.element = value(0);
        if (row.element >= kPackedBlock) return false;
        row.assigned_ns = submit_ns + value(1);
        row.started_ns = row.assigned_ns + value(2);
        row.ended_ns = row.started_ns + value(3);
        row.result_at = value(4);
        row.result_size = value(5);
        row.user_us = value(6);
        row.system_us = value(7);
        row.max_rss_bytes = value(8);
        take(row);
        if (skip(',')) continue;
        return skip(']') && at == end;
    }
}

}  // namespace reeve
