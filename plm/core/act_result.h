// What an action on a job's elements says of those it could not be done to.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "reeve/v1/reeve.pb.h"

namespace reeve::plm {

// The first reason stands for all.
inline void refuse(v1::ActResult& result, const std::string& why, std::uint64_t count = 1) {
    result.set_refused(result.refused() + count);
    if (result.message().empty()) result.set_message(why);
}

// The job as a whole has nothing the action applies to.
inline void nothing_to_do(v1::ActResult& result, const std::string& why) {
    refuse(result, why);
    result.set_idle(result.changed() == 0);
}

// The elements named by a person that were refused for the first reason: told by their numbers.
class RefusedElements {
public:
    void add(std::uint64_t element, const std::string& why) {
        if (why_.empty()) why_ = why;
        if (why != why_) {
            ++others_;
        } else if (!ranges_.empty() && ranges_.back().second + 1 == element) {
            ranges_.back().second = element;
        } else if (ranges_.size() < kRangesTold) {
            ranges_.emplace_back(element, element);
        } else {
            ++untold_;
        }
    }

    void clear() { *this = {}; }

    // "" when none was. A job that is no array has but one.
    std::string text(bool array) const {
        if (!array) return why_;
        if (ranges_.empty()) return {};
        const bool one = ranges_.size() == 1 && ranges_[0].first == ranges_[0].second;
        std::string out = one ? "element " : "each of the elements ";
        for (const auto& [first, last] : ranges_) {
            if (&first != &ranges_[0].first) out += ",";
            out += std::to_string(first);
            if (last != first) out += "-" + std::to_string(last);
        }
        if (untold_ != 0) out += " and " + std::to_string(untold_) + " more";
        out += ": " + why_;
        if (others_ != 0) out += " (" + std::to_string(others_) + " more: other reasons)";
        return out;
    }

private:
    static constexpr std::size_t kRangesTold = 16;

    std::string why_;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges_;  // first, last
    std::uint64_t untold_ = 0;                                     // for the same reason
    std::uint64_t others_ = 0;
};

}  // namespace reeve::plm
