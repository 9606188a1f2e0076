// LineCounter hands a text to a parser byte by byte and knows on which line the parser is: its only
// way to say where something stood.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>

namespace reeve {

struct LinePlace {
    std::uint32_t line = 1;
    bool after_newline = false;  // the last byte taken was one
};

// An input iterator; begin and end share one place.
class LineCounter {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    LineCounter(LinePlace* place, const char* at) : place_(place), at_(at) {}
    reference operator*() const { return *at_; }
    LineCounter& operator++() {
        place_->after_newline = *at_ == '\n';
        if (place_->after_newline) ++place_->line;
        ++at_;
        return *this;
    }
    bool operator==(const LineCounter& other) const { return at_ == other.at_; }
    bool operator!=(const LineCounter& other) const { return at_ != other.at_; }

private:
    LinePlace* place_;
    const char* at_;
};

}  // namespace reeve
