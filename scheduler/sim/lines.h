// LineReader hands out the lines of a text file, plain or gzip, with their numbers.
//
// A trace is untrusted: a line longer than kLineMax, a damaged gzip stream and a NUL byte are
// refused with the line they are on, and memory stays bounded by the longest allowed line.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

struct gzFile_s;

namespace reeve::sim {

inline constexpr std::size_t kLineMax = 1U << 20;

class LineReader {
public:
    static Result<LineReader> open(const std::string& path);

    // True and the next line without its end, or false at the end of the file. The view is good
    // until the next call.
    Result<bool> next(std::string_view& line);
    std::uint64_t line_number() const { return line_number_; }

    // invalid-argument "FILE: line N: field F: what".
    Error error(std::string_view field, std::string_view what) const;

private:
    struct Close {
        void operator()(gzFile_s* file) const;
    };
    explicit LineReader(std::string path) : path_(std::move(path)), buffer_(1U << 16) {}
    Result<bool> refill();

    std::string path_;
    std::unique_ptr<gzFile_s, Close> file_;
    std::vector<char> buffer_;
    std::size_t at_ = 0;
    std::size_t end_ = 0;
    std::string line_;
    std::uint64_t line_number_ = 0;
};

// Whole text of a file, plain or gzip, refused above `bytes_max`.
Result<std::string> read_text(const std::string& path, std::size_t bytes_max);

// Numbers as traces write them: sign, digits, fraction, exponent; nothing else (no nan, inf, hex).
bool parse_number(std::string_view text, double& out);

}  // namespace reeve::sim
