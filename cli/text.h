// Words for people: escaping, tables, durations, sizes, colour.
//
// Names, commands and messages come from others, so nothing of theirs reaches a terminal raw:
// control characters and broken UTF-8 are written as escapes. Pure functions, but for the
// terminal's width and colour, which are asked once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace reeve::cli {

// \n, \t, \xNN for what would move the cursor or is no UTF-8; everything else as it is.
std::string escape(std::string_view text);
// At most `columns` wide; a longer one ends in "…".
std::string shorten(std::string_view text, std::size_t columns);
// Columns a string of ours takes: code points, good enough for what escape() lets through.
std::size_t width_of(std::string_view text);
// One word of a command line, quoted as a POSIX shell would need it.
std::string shell_quote(std::string_view word);
std::string shell_join(const std::vector<std::string>& words);

std::string format_bytes(std::uint64_t bytes);              // 8G, 1.5G, 512M, 17B
std::string format_cpus(std::uint64_t milli);               // 2, 0.5
std::string format_price(std::uint64_t micro);              // 2, 0.35
std::string format_cost(std::uint64_t nano);                // 12.35, 0.0004; at least two digits
std::string format_duration_ns(std::uint64_t nanoseconds);  // 312ms, 4.2s, 3m07s, 2h05m, 3d04h
std::string format_time_ns(std::uint64_t wall_ns);          // 2026-11-22 10:03:17 local; "-" for 0
std::string format_clock_ns(std::uint64_t wall_ns);         // 10:03:17 today, else Nov22 10:03
std::string format_iso_ns(std::uint64_t wall_ns);           // 2026-11-22T09:03:17.123Z

// The edit distance decides what was meant: the closest of `known` within 2, or "".
std::string closest(std::string_view word, const std::vector<std::string_view>& known);

bool stdout_is_terminal();
bool stderr_is_terminal();
std::size_t terminal_columns();  // 80 when unknown
enum class Colour { kNone, kGreen, kRed, kYellow, kBlue, kDim, kBold };
// The text in that colour when stdout is a terminal and NO_COLOR is not set.
std::string coloured(std::string_view text, Colour colour);
Colour colour_of_state(std::string_view state);

// Columns aligned to their widest cell; the `flexible` column is cut so that a line fits the width.
class Table {
public:
    struct Column {
        std::string title;
        bool right = false;
    };
    explicit Table(std::vector<Column> columns, std::size_t flexible = kNoColumn)
        : columns_(std::move(columns)), flexible_(flexible) {}

    // Cells are escaped here. `state_column` is coloured by its word.
    void add(std::vector<std::string> cells);
    void colour_states_in(std::size_t column) { state_column_ = column; }
    bool empty() const { return rows_.empty(); }
    // width 0: nothing is cut (not a terminal and no COLUMNS).
    std::string text(std::size_t width) const;
    void print() const;

    static constexpr std::size_t kNoColumn = static_cast<std::size_t>(-1);

private:
    std::vector<std::size_t> widths(std::size_t width) const;

    std::vector<Column> columns_;
    std::size_t flexible_;
    std::size_t state_column_ = kNoColumn;
    std::vector<std::vector<std::string>> rows_;
};

}  // namespace reeve::cli
