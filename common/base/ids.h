// The ids of reeve as types, so that a job number is never passed where a worker number is due.
//
// A task is (job, element): element 0 for a job of one task, the array index for an array, and
// kHeaderElement for the array's own header entry in the audit log. A worker is (number,
// incarnation): a restarted worker is a new id.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace reeve {

using JobId = std::uint64_t;
using Element = std::uint64_t;

inline constexpr Element kHeaderElement = ~std::uint64_t{0};

struct TaskId {
    JobId job = 0;
    Element element = 0;
    auto operator<=>(const TaskId&) const = default;
    std::string to_string() const {
        return element == 0 ? std::to_string(job)
                            : std::to_string(job) + "." + std::to_string(element);
    }
};

struct WorkerId {
    std::uint64_t number = 0;
    std::uint64_t incarnation = 0;
    auto operator<=>(const WorkerId&) const = default;
    bool none() const { return number == 0; }
};

struct TaskIdHash {
    std::size_t operator()(const TaskId& id) const noexcept {
        return std::hash<std::uint64_t>{}(id.job * 0x9E3779B97F4A7C15ULL ^ id.element);
    }
};

}  // namespace reeve
