#include "cli/units.h"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <optional>

#include "common/model/wants.h"

namespace reeve::cli {

namespace {

tl::unexpected<Error> bad(std::string message) {
    return fail(ErrorCode::kInvalidArgument, std::move(message));
}

std::string quoted(std::string_view text) {
    return "\"" + std::string(text.substr(0, 80)) + (text.size() > 80 ? "…\"" : "\"");
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// A number with at most nine decimals, taken off the front: value = digits / 10^decimals.
struct Decimal {
    std::uint64_t digits = 0;
    int decimals = 0;
};

std::optional<Decimal> take_decimal(std::string_view& text) {
    Decimal number;
    std::size_t at = 0;
    bool point = false;
    std::size_t seen = 0;
    for (; at < text.size(); ++at) {
        if (text[at] == '.' && !point) {
            point = true;
            continue;
        }
        if (!is_digit(text[at])) break;
        if (number.digits > 99'999'999'999'999'999ULL || (point && number.decimals == 9)) {
            return std::nullopt;
        }
        number.digits = number.digits * 10 + static_cast<std::uint64_t>(text[at] - '0');
        number.decimals += point ? 1 : 0;
        ++seen;
    }
    if (seen == 0 || (point && number.decimals == 0)) return std::nullopt;
    text.remove_prefix(at);
    return number;
}

// digits / 10^decimals * unit, rounded to the nearest; nothing on overflow.
std::optional<std::uint64_t> scale(const Decimal& number, std::uint64_t unit) {
    __extension__ using Wide = unsigned __int128;
    Wide divisor = 1;
    for (int i = 0; i < number.decimals; ++i) divisor *= 10;
    const Wide value = (static_cast<Wide>(number.digits) * unit + divisor / 2) / divisor;
    if (value > ~std::uint64_t{0}) return std::nullopt;
    return static_cast<std::uint64_t>(value);
}

std::optional<std::uint64_t> size_unit(std::string_view unit) {
    if (unit == "B" || unit == "b") return 1;
    const std::string_view letters = "KMGTP";
    if (unit.empty()) return std::nullopt;
    const char letter = unit[0] >= 'a' ? static_cast<char>(unit[0] - 32) : unit[0];
    const auto power = letters.find(letter);
    if (power == std::string_view::npos) return std::nullopt;
    const std::string_view rest = unit.substr(1);
    const bool binary = rest.empty() || rest == "i" || rest == "iB";
    if (!binary && rest != "B") return std::nullopt;
    std::uint64_t value = 1;
    for (std::size_t i = 0; i <= power; ++i) value *= binary ? 1024 : 1000;
    return value;
}

std::optional<std::uint64_t> time_unit_ms(std::string_view unit) {
    if (unit == "ms") return 1;
    if (unit == "s" || unit == "sec") return 1000;
    if (unit == "m" || unit == "min") return 60'000;
    if (unit == "h") return 3'600'000;
    if (unit == "d") return 86'400'000;
    if (unit == "w") return 7 * 86'400'000ULL;
    return std::nullopt;
}

// HH:MM:SS or HH:MM
std::optional<std::uint64_t> clock_ms(std::string_view text) {
    std::uint64_t parts[3]{};
    std::size_t count = 0;
    while (count < 3) {
        const auto colon = text.find(':');
        const auto part = parse_count(text.substr(0, colon), count == 0 ? 1'000'000 : 59);
        if (!part) return std::nullopt;
        parts[count++] = *part;
        if (colon == std::string_view::npos) {
            if (count < 3) return std::nullopt;
            return ((parts[0] * 60 + parts[1]) * 60 + parts[2]) * 1000;
        }
        text.remove_prefix(colon + 1);
    }
    return std::nullopt;
}

}  // namespace

Result<std::uint64_t> parse_count(std::string_view text, std::uint64_t most) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || text.empty()) {
        if (error == std::errc::result_out_of_range) {
            return bad(quoted(text) + " is too large; at most " + std::to_string(most));
        }
        if (text.empty()) return bad("a number is missing; write digits");
        return bad(quoted(text) + " is not a whole number; write digits only");
    }
    if (value > most) return bad(quoted(text) + " is too large; at most " + std::to_string(most));
    return value;
}

Result<std::uint64_t> parse_size(std::string_view text) {
    auto rest = text;
    const auto number = take_decimal(rest);
    if (!number) return bad(quoted(text) + " is not a size; write for example 8G, 512M or 1.5G");
    if (rest.empty()) {
        const auto digits = std::string(text.substr(0, 40));
        return bad(quoted(text) + " has no unit; write " + digits + "G, " + digits + "M or " +
                   digits + "B");
    }
    const auto unit = size_unit(rest);
    if (!unit) {
        return bad(quoted(text) + " has an unknown unit " + quoted(rest) +
                   "; use B, K, M, G, T or P, for example 8G");
    }
    const auto value = scale(*number, *unit);
    if (!value || *value > kSizeMax) return bad(quoted(text) + " is too large; at most 1P");
    if (*value == 0) return bad(quoted(text) + " is nothing; write at least 1B");
    return *value;
}

Result<std::uint64_t> parse_time_ms(std::string_view text) {
    if (text.find(':') != std::string_view::npos) {
        const auto value = clock_ms(text);
        if (!value) return bad(quoted(text) + " is not a time; write HH:MM:SS or for example 30m");
        if (*value == 0) return bad(quoted(text) + " is no time at all; write at least 1ms");
        if (*value > kTimeMaxMs) return bad(quoted(text) + " is too long; at most 3650d");
        return *value;
    }
    auto rest = text;
    std::uint64_t total = 0;
    std::uint64_t last_unit = ~std::uint64_t{0};
    while (!rest.empty() || text.empty()) {
        const auto number = take_decimal(rest);
        if (!number) {
            return bad(quoted(text) + " is not a time; write for example 30m, 90s or 1h30m");
        }
        std::size_t letters = 0;
        while (letters < rest.size() && !is_digit(rest[letters]) && rest[letters] != '.') ++letters;
        const auto name = rest.substr(0, letters);
        if (name.empty()) {
            const auto digits = std::string(text.substr(0, 40));
            return bad(quoted(text) + " has no unit; write " + digits + "s, " + digits + "m or " +
                       digits + "h");
        }
        const auto unit = time_unit_ms(name);
        if (!unit) {
            return bad(quoted(text) + " has an unknown unit " + quoted(name) +
                       "; use ms, s, m, h, d or w, for example 30m");
        }
        if (*unit >= last_unit) {
            return bad(quoted(text) + " has its units out of order; write for example 1h30m");
        }
        last_unit = *unit;
        const auto value = scale(*number, *unit);
        if (!value || *value > kTimeMaxMs || total > kTimeMaxMs - *value) {
            return bad(quoted(text) + " is too long; at most 3650d");
        }
        total += *value;
        rest.remove_prefix(letters);
    }
    if (total == 0) return bad(quoted(text) + " is no time at all; write at least 1ms");
    return total;
}

Result<std::uint32_t> parse_cpus(std::string_view text) {
    auto rest = text;
    const auto number = take_decimal(rest);
    if (!number || !rest.empty()) {
        return bad(quoted(text) + " is not a number of cpus; write for example 2 or 0.5");
    }
    if (number->decimals > 3) {
        return bad(quoted(text) + " is finer than a thousandth of a cpu; write for example 0.125");
    }
    const auto value = scale(*number, 1000);
    if (!value || *value > kCpuMilliMax) {
        return bad(quoted(text) + " is too many cpus; at most 4096");
    }
    if (*value == 0) return bad(quoted(text) + " is no cpu at all; write at least 0.001");
    return static_cast<std::uint32_t>(*value);
}

Result<std::uint64_t> parse_amount(std::string_view text) {
    auto rest = text;
    const auto number = take_decimal(rest);
    if (!number || !rest.empty() || number->decimals > 6) {
        return bad(quoted(text) + " is not an amount; write for example 100 or 12.50");
    }
    const auto value = scale(*number, 1'000'000'000);
    if (!value || *value > 1'000'000'000ULL * 1'000'000'000ULL) {
        return bad(quoted(text) + " is too much; at most 1000000000");
    }
    return *value;
}

Result<std::uint32_t> parse_price(std::string_view text) {
    auto rest = text;
    const auto number = take_decimal(rest);
    if (!number || !rest.empty()) {
        return bad(quoted(text) + " is not a price of an hour; write for example 2 or 0.35");
    }
    if (number->decimals > 6) {
        return bad(quoted(text) + " is finer than a millionth; write for example 0.000125");
    }
    const auto value = scale(*number, 1'000'000);
    if (!value || *value > kPriceMicroMax) {
        return bad(quoted(text) + " is too much for an hour; at most 4000");
    }
    return static_cast<std::uint32_t>(*value);
}

std::uint64_t ArraySpec::elements() const {
    std::uint64_t total = 0;
    for (const auto& range : ranges) total += range.size();
    return total;
}

namespace {

// "a", "a-b" or "a-b:step" appended to `ranges`.
Status take_array_part(std::string_view part, std::vector<Range>& ranges) {
    const auto colon = part.find(':');
    std::uint64_t step = 1;
    if (colon != std::string_view::npos) {
        REEVE_TRY_ASSIGN(step, parse_count(part.substr(colon + 1), kElementMax));
        if (step == 0) return bad("the step in " + quoted(part) + " is 0; write 1 or more");
    }
    const auto span = part.substr(0, colon);
    const auto dash = span.find('-');
    Range range;
    REEVE_TRY_ASSIGN(range.first, parse_count(span.substr(0, dash), kElementMax));
    range.last = range.first;
    if (dash != std::string_view::npos) {
        REEVE_TRY_ASSIGN(range.last, parse_count(span.substr(dash + 1), kElementMax));
    } else if (colon != std::string_view::npos) {
        return bad(quoted(part) + " has a step but no range; write for example 0-100:10");
    }
    if (range.last < range.first) {
        return bad(quoted(span) + " runs backwards; write the smaller number first");
    }
    if (step == 1) {
        ranges.push_back(range);
        return {};
    }
    if ((range.last - range.first) / step >= kRangesMax) {
        return bad(quoted(part) +
                   " makes more than 65536 separate elements; use a range without a "
                   "step or several jobs");
    }
    for (std::uint64_t at = range.first; at <= range.last; at += step) ranges.push_back({at, at});
    return {};
}

}  // namespace

Result<ArraySpec> parse_array(std::string_view text) {
    ArraySpec spec;
    if (text.empty()) return bad("the array is empty; write for example 1-100 or 1-1000%10");
    auto rest = text;
    if (const auto percent = rest.find('%'); percent != std::string_view::npos) {
        REEVE_TRY_ASSIGN(spec.max_running, parse_count(rest.substr(percent + 1), kElementMax));
        if (spec.max_running == 0) {
            return bad(quoted(text) + " lets none run; write %1 or more, or leave it out");
        }
        rest = rest.substr(0, percent);
    }
    while (true) {
        const auto comma = rest.find(',');
        const auto part = rest.substr(0, comma);
        if (auto taken = take_array_part(part, spec.ranges); !taken) {
            if (part == text) return bad(taken.error().message);
            return bad("array " + quoted(text) + ": " + taken.error().message);
        }
        if (spec.ranges.size() > kRangesMax) {
            return bad("the array has more than 65536 ranges; write it with fewer");
        }
        if (comma == std::string_view::npos) break;
        rest.remove_prefix(comma + 1);
    }
    std::sort(spec.ranges.begin(), spec.ranges.end(),
              [](const Range& a, const Range& b) { return a.first < b.first; });
    for (std::size_t i = 1; i < spec.ranges.size(); ++i) {
        if (spec.ranges[i].first <= spec.ranges[i - 1].last) {
            return bad("array " + quoted(text) + " names element " +
                       std::to_string(spec.ranges[i].first) + " twice; write each element once");
        }
    }
    return spec;
}

Result<std::uint64_t> parse_begin_ms(std::string_view text, std::uint64_t now_ms) {
    if (!text.empty() && text[0] == '+') {
        REEVE_TRY_ASSIGN(const std::uint64_t delay, parse_time_ms(text.substr(1)));
        return now_ms + delay;
    }
    const auto late = [text] {
        return bad(quoted(text) + " is too late; the last begin time is in the year 2261");
    };
    const std::string copy(text);
    for (const char* format : {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S",
                               "%Y-%m-%d %H:%M", "%Y-%m-%d"}) {
        std::tm parts{};
        parts.tm_isdst = -1;
        const char* end = strptime(copy.c_str(), format, &parts);
        if (end == nullptr) continue;
        const bool utc = *end == 'Z' && end[1] == '\0';
        if (*end != '\0' && !utc) continue;
        const std::time_t seconds = utc ? timegm(&parts) : std::mktime(&parts);
        if (seconds < 0) break;
        if (static_cast<std::uint64_t>(seconds) > kBeginMsMax / 1000) return late();
        return static_cast<std::uint64_t>(seconds) * 1000;
    }
    return bad(quoted(text) + " is not a begin time; write +30m or 2026-11-22T18:00");
}

std::string format_ranges(const std::vector<Range>& ranges) {
    std::string out;
    for (const auto& range : ranges) {
        if (!out.empty()) out += ',';
        out += std::to_string(range.first);
        if (range.last != range.first) out += "-" + std::to_string(range.last);
    }
    return out;
}

std::string format_ranges(std::vector<std::uint64_t> numbers) {
    std::sort(numbers.begin(), numbers.end());
    std::vector<Range> ranges;
    for (const auto number : numbers) {
        if (!ranges.empty() && number <= ranges.back().last + 1) {
            ranges.back().last = std::max(ranges.back().last, number);
        } else {
            ranges.push_back({number, number});
        }
    }
    return format_ranges(ranges);
}

Result<NamedAmount> parse_amount_of(std::string_view text, bool one_by_default) {
    const auto equals = std::min(text.find('='), text.size());
    NamedAmount out{std::string(text.substr(0, equals)), 1};
    const bool told = equals < text.size();
    const auto count = told ? parse_count(text.substr(equals + 1), NamedCounts::kCountMax)
                            : Result<std::uint64_t>(1);
    if (!sound_resource_name(out.name) || !count || *count == 0 || (!told && !one_by_default)) {
        return bad("\"" + std::string(text.substr(0, 80)) +
                   "\" is no NAME=N; a name is a letter, then up to 30 letters, digits and _ - ., "
                   "N is 1 to 127");
    }
    if (reserved_resource_name(out.name)) {
        return bad("\"" + out.name + "\" is no name of a named resource: every worker has cpus, " +
                   "memory and GPUs, which have options of their own");
    }
    out.count = static_cast<std::uint32_t>(*count);
    return out;
}

}  // namespace reeve::cli
