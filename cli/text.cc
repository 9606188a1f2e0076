#include "cli/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "cli/context.h"

namespace reeve::cli {

namespace {

// Length of the UTF-8 sequence at `at`, or 0 when it is broken or a control character (C0, C1).
std::size_t good_sequence(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(at);
    if (first < 0x20 || first == 0x7F) return 0;
    if (first < 0x80) return 1;
    const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || at + size > text.size()) return 0;
    std::uint32_t point = first & (0xFFU >> (size + 1));
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(at + i) & 0xC0) != 0x80) return 0;
        point = (point << 6) | (byte(at + i) & 0x3FU);
    }
    const std::array<std::uint32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000};
    if (point < smallest[size] || point > 0x10FFFF) return 0;
    if (point >= 0xD800 && point <= 0xDFFF) return 0;
    if (point >= 0x80 && point < 0xA0) return 0;       // C1 controls
    if (point == 0x200E || point == 0x200F) return 0;  // direction marks
    if ((point >= 0x202A && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069)) return 0;
    if (point == 0x2028 || point == 0x2029) return 0;  // line separators
    return size;
}

bool colour_wanted() {
    static const bool wanted = stdout_is_terminal() && std::getenv("NO_COLOR") == nullptr;
    return wanted;
}

std::string printf_string(const char* format, double value, const char* unit) {
    char text[64];
    std::snprintf(text, sizeof text, format, value, unit);
    return text;
}

}  // namespace

std::string escape(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        if (const auto size = good_sequence(text, at); size != 0) {
            out.append(text, at, size);
            at += size;
            continue;
        }
        const auto byte = static_cast<unsigned char>(text[at++]);
        if (byte == '\n') {
            out += "\\n";
        } else if (byte == '\t') {
            out += "\\t";
        } else {
            char hex[8];
            std::snprintf(hex, sizeof hex, "\\x%02x", byte);
            out += hex;
        }
    }
    return out;
}

std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    }));
}

std::string shorten(std::string_view text, std::size_t columns) {
    if (width_of(text) <= columns) return std::string(text);
    if (columns == 0) return "";
    std::size_t at = 0;
    for (std::size_t seen = 0; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
        if (++seen == columns) break;
    }
    return std::string(text.substr(0, at)) + "…";
}

std::string shell_quote(std::string_view word) {
    const std::string_view plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
    if (!word.empty() && word.find_first_not_of(plain) == std::string_view::npos) {
        return std::string(word);
    }
    std::string out = "'";
    for (const char c : word) {
        if (c == '\'') {
            out += "'\\''";
        } else {
            out += c;
        }
    }
    return out + "'";
}

std::string shell_join(const std::vector<std::string>& words) {
    std::string out;
    for (const auto& word : words) {
        if (!out.empty()) out += ' ';
        out += shell_quote(word);
    }
    return out;
}

std::string format_bytes(std::uint64_t bytes) {
    const std::array<const char*, 6> units{"B", "K", "M", "G", "T", "P"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < units.size()) {
        value /= 1024;
        ++unit;
    }
    const bool whole = std::fabs(value - std::round(value)) < 0.05;
    return printf_string(whole ? "%.0f%s" : "%.1f%s", value, units[unit]);
}

std::string format_cpus(std::uint64_t milli) {
    std::string text = std::to_string(milli / 1000);
    if (const auto rest = milli % 1000; rest != 0) {
        char fraction[8];
        std::snprintf(fraction, sizeof fraction, ".%03u", static_cast<unsigned>(rest));
        text += fraction;
        while (text.back() == '0') text.pop_back();
    }
    return text;
}

std::string format_price(std::uint64_t micro) {
    char text[40];
    std::snprintf(text, sizeof text, "%llu.%06llu",
                  static_cast<unsigned long long>(micro / 1'000'000),
                  static_cast<unsigned long long>(micro % 1'000'000));
    std::string out = text;
    while (out.back() == '0') out.pop_back();
    if (out.back() == '.') out.pop_back();
    return out;
}

std::string format_cost(std::uint64_t nano) {
    const double cost = static_cast<double>(nano) / 1e9;
    char text[40];
    if (nano == 0) return "0";
    std::snprintf(text, sizeof text, cost >= 1 ? "%.2f" : "%.2g", cost);
    if (cost < 1e-4) std::snprintf(text, sizeof text, "%.1e", cost);
    return text;
}

std::string format_duration_ns(std::uint64_t nanoseconds) {
    const std::uint64_t ms = nanoseconds / kMillisecond;
    if (ms < 1000) return std::to_string(ms) + "ms";
    const std::uint64_t seconds = ms / 1000;
    char text[64];
    if (seconds < 60) {
        std::snprintf(text, sizeof text, "%.1fs", static_cast<double>(ms) / 1000);
    } else if (seconds < 3600) {
        std::snprintf(text, sizeof text, "%um%02us", static_cast<unsigned>(seconds / 60),
                      static_cast<unsigned>(seconds % 60));
    } else if (seconds < 86'400) {
        std::snprintf(text, sizeof text, "%uh%02um", static_cast<unsigned>(seconds / 3600),
                      static_cast<unsigned>(seconds / 60 % 60));
    } else {
        std::snprintf(text, sizeof text, "%llud%02uh",
                      static_cast<unsigned long long>(seconds / 86'400),
                      static_cast<unsigned>(seconds / 3600 % 24));
    }
    return text;
}

namespace {

std::string format_with(const char* format, std::uint64_t wall_ns, bool local) {
    const auto seconds = static_cast<std::time_t>(wall_ns / kSecond);
    std::tm parts{};
    if (local) {
        localtime_r(&seconds, &parts);
    } else {
        gmtime_r(&seconds, &parts);
    }
    char text[64];
    return std::string(text, std::strftime(text, sizeof text, format, &parts));
}

}  // namespace

std::string format_time_ns(std::uint64_t wall_ns) {
    return wall_ns == 0 ? "-" : format_with("%Y-%m-%d %H:%M:%S", wall_ns, true);
}

std::string format_clock_ns(std::uint64_t now_or_then) {
    if (now_or_then == 0) return "-";
    const bool today =
        format_with("%Y%m%d", now_or_then, true) == format_with("%Y%m%d", wall_ns(), true);
    return format_with(today ? "%H:%M:%S" : "%b%d %H:%M", now_or_then, true);
}

std::string format_iso_ns(std::uint64_t wall_ns) {
    char fraction[16];
    std::snprintf(fraction, sizeof fraction, ".%03uZ",
                  static_cast<unsigned>(wall_ns / kMillisecond % 1000));
    return format_with("%Y-%m-%dT%H:%M:%S", wall_ns, false) + fraction;
}

std::string closest(std::string_view word, const std::vector<std::string_view>& known) {
    std::string best;
    std::size_t best_distance = 3;
    for (const auto candidate : known) {
        const bool prefix = word.size() >= 2 && (candidate.substr(0, word.size()) == word ||
                                                 word.substr(0, candidate.size()) == candidate);
        const bool far = candidate.size() + 3 < word.size() || word.size() + 3 < candidate.size();
        // "prio" is short for "priority"; "gpu-licence" is no way to write "gpu".
        if (far && !(word.size() >= 3 && candidate.starts_with(word))) continue;
        std::vector<std::size_t> row(candidate.size() + 1);
        for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
        for (std::size_t i = 1; i <= word.size(); ++i) {
            std::size_t diagonal = row[0];
            row[0] = i;
            for (std::size_t j = 1; j < row.size(); ++j) {
                const std::size_t cost = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = std::min({row[j] + 1, row[j - 1] + 1, cost});
            }
        }
        const std::size_t distance = prefix ? std::min<std::size_t>(row.back(), 1) : row.back();
        if (distance < best_distance && distance < candidate.size()) {
            best_distance = distance;
            best = candidate;
        }
    }
    return best;
}

bool stdout_is_terminal() {
    return isatty(STDOUT_FILENO) == 1;
}
bool stderr_is_terminal() {
    return isatty(STDERR_FILENO) == 1;
}

std::size_t terminal_columns() {
    if (const char* columns = std::getenv("COLUMNS"); columns != nullptr) {
        const long value = std::strtol(columns, nullptr, 10);
        if (value >= 20 && value <= 10'000) return static_cast<std::size_t>(value);
    }
    winsize size{};
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
        if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
    }
    return 80;
}

std::string coloured(std::string_view text, Colour colour) {
    if (colour == Colour::kNone || !colour_wanted()) return std::string(text);
    const char* code = "0";
    switch (colour) {
        case Colour::kGreen:
            code = "32";
            break;
        case Colour::kRed:
            code = "31";
            break;
        case Colour::kYellow:
            code = "33";
            break;
        case Colour::kBlue:
            code = "36";
            break;
        case Colour::kDim:
            code = "2";
            break;
        case Colour::kBold:
            code = "1";
            break;
        case Colour::kNone:
            break;
    }
    return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

Colour colour_of_state(std::string_view state) {
    if (state == "succeeded" || state == "alive") return Colour::kGreen;
    if (state == "running" || state == "assigned") return Colour::kBlue;
    if (state == "failed" || state == "lost" || state == "poison" || state == "timed-out" ||
        state == "out-of-memory" || state == "dead") {
        return Colour::kRed;
    }
    if (state == "held" || state == "waiting" || state == "draining") return Colour::kYellow;
    if (state == "cancelled") return Colour::kDim;
    return Colour::kNone;
}

void Table::add(std::vector<std::string> cells) {
    cells.resize(columns_.size());
    for (auto& cell : cells) cell = escape(cell);
    rows_.push_back(std::move(cells));
}

std::vector<std::size_t> Table::widths(std::size_t width) const {
    std::vector<std::size_t> out(columns_.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = width_of(columns_[i].title);
        for (const auto& row : rows_) out[i] = std::max(out[i], width_of(row[i]));
    }
    if (width == 0 || flexible_ == kNoColumn || out.empty()) return out;
    std::size_t total = 2 * (out.size() - 1);
    for (const auto column : out) total += column;
    if (total > width) {
        const std::size_t least = std::max<std::size_t>(width_of(columns_[flexible_].title), 8);
        const std::size_t over = total - width;
        out[flexible_] =
            out[flexible_] > over + least ? out[flexible_] - over : std::min(out[flexible_], least);
    }
    return out;
}

std::string Table::text(std::size_t width) const {
    const auto sizes = widths(width);
    std::string out;
    const auto line = [&](const std::vector<std::string>& cells, bool title) {
        std::string padded;
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            const std::string cell = shorten(cells[i], sizes[i]);
            const std::string space(sizes[i] - width_of(cell), ' ');
            const auto colour = title                ? Colour::kBold
                                : i == state_column_ ? colour_of_state(cell)
                                                     : Colour::kNone;
            if (i != 0) padded += "  ";
            if (columns_[i].right) padded += space;
            padded += coloured(cell, colour);
            if (!columns_[i].right && i + 1 < sizes.size()) padded += space;
        }
        while (!padded.empty() && padded.back() == ' ') padded.pop_back();
        out += padded + "\n";
    };
    std::vector<std::string> titles;
    for (const auto& column : columns_) titles.push_back(column.title);
    line(titles, true);
    for (const auto& row : rows_) line(row, false);
    return out;
}

void Table::print() const {
    const bool fit = stdout_is_terminal() || std::getenv("COLUMNS") != nullptr;
    write_out(text(fit ? terminal_columns() : 0));
}

}  // namespace reeve::cli
