// Sizes, times, cpu counts and array ranges as people write them; a bare size or time is an error.
//
//   size   8G 512M 1.5G 100KB 17B     K M G T P are powers of 1024, KB MB GB ... powers of 1000
//   time   30m 90s 1h30m 2d 500ms 1.5h 01:30:00
//   cpus   2 0.5 1.25                  at most three decimals
//   price  2 0.35                      at most six decimals
//   array  1-1000 0,5,7-9 0-100:10 1-1000%10
//   begin  +30m, 2026-11-22T18:00 (local), 2026-11-22T17:00:00Z
//
// Pure functions. Every error names the text, what is wrong with it and what to write instead.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/model/wants.h"

namespace reeve::cli {

inline constexpr std::uint64_t kSizeMax = 1ULL << 50;                  // a pebibyte
inline constexpr std::uint64_t kTimeMaxMs = 1000ULL * 86'400 * 3'650;  // ten years
inline constexpr std::uint32_t kCpuMilliMax = 4'096'000;
inline constexpr std::uint64_t kBeginMsMax = 9'214'646'399'000ULL;  // 2261-12-31
inline constexpr std::uint64_t kElementMax = 0xFFFF'FFFFULL;
inline constexpr std::uint64_t kJobIdMax = ~std::uint64_t{0} >> 1;
inline constexpr std::size_t kRangesMax = 65'536;

Result<std::uint64_t> parse_size(std::string_view text);
Result<std::uint64_t> parse_time_ms(std::string_view text);
Result<std::uint32_t> parse_cpus(std::string_view text);
// An amount of money in billionths, to six decimals: "12.5". At most a billion.
Result<std::uint64_t> parse_amount(std::string_view text);
// Money, to six decimals: "1.5" is 1,500,000 millionths. At most 4000.
Result<std::uint32_t> parse_price(std::string_view text);

struct Range {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    bool operator==(const Range&) const = default;
    std::uint64_t size() const { return last - first + 1; }
};

struct ArraySpec {
    std::vector<Range> ranges;      // sorted, disjoint
    std::uint64_t max_running = 0;  // 0: no limit
    std::uint64_t elements() const;
};
Result<ArraySpec> parse_array(std::string_view text);

// The wall clock in ms a job may start at; `now_ms` is the present.
Result<std::uint64_t> parse_begin_ms(std::string_view text, std::uint64_t now_ms);

// A decimal number without sign, spaces or overflow.
Result<std::uint64_t> parse_count(std::string_view text, std::uint64_t most);

// "1-5,7,9-10" of sorted or unsorted numbers.
std::string format_ranges(std::vector<std::uint64_t> numbers);
std::string format_ranges(const std::vector<Range>& ranges);

// "fpga=2" of a named resource; "fpga" alone is one, where that may be.
Result<NamedAmount> parse_amount_of(std::string_view text, bool one_by_default);

}  // namespace reeve::cli
