// Wants is what a job asks of a worker beyond cpus, memory and GPUs; prices are in millionths of
// the currency an hour, cost in billionths of it.
//
// A label is any word of plain characters, usually key=value. Every worker has the label
// node=NAME, so "only on this worker" is a label like the others.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/resources.h"
#include "common/model/sla.h"

namespace reeve {

inline constexpr std::size_t kLabelBytesMax = 63;           // of one label
inline constexpr std::size_t kLabelsWantedBytesMax = 255;   // of all a job asks for, a byte between
inline constexpr std::size_t kLabelsOfferedBytesMax = 511;  // of all a worker has
inline constexpr std::string_view kNodeLabel = "node=";
inline constexpr std::uint32_t kGangNodesMax = 256;
inline constexpr std::uint32_t kPriceMicroMax = 4'000'000'000;  // 4000 an hour

inline constexpr std::size_t kResourceNameMax = 31;     // bytes of a named resource's name
inline constexpr std::size_t kResourcesBytesMax = 111;  // of all NAME=N, a byte between

// How many of a named resource a task holds, or a worker has.
struct NamedAmount {
    std::string name;
    std::uint32_t count = 1;
    auto operator<=>(const NamedAmount&) const = default;
};

struct Wants {
    SlaClass sla = SlaClass::kStandard;
    bool spread = false;                 // the emptiest worker, not the fullest
    std::uint32_t max_price_micro = 0;   // 0: none
    std::string node_name;               // "" or the only worker it may run on
    std::vector<std::string> labels;     // sorted, each once; all must be on the worker
    std::vector<NamedAmount> resources;  // sorted, each once

    auto operator<=>(const Wants&) const = default;
    bool empty() const { return *this == Wants{}; }
};

inline bool sound_label(std::string_view label) {
    const auto plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view("_-./=+").find(c) != std::string_view::npos;
    };
    return !label.empty() && label.size() <= kLabelBytesMax && label.front() != '=' &&
           std::all_of(label.begin(), label.end(), plain);
}

// A letter, then letters, digits and _ - . of which there are at most kResourceNameMax.
inline bool sound_resource_name(std::string_view name) {
    return sound_label(name) && name.size() <= kResourceNameMax &&
           name.find_first_of("/=+") == std::string_view::npos &&
           ((name[0] >= 'a' && name[0] <= 'z') || (name[0] >= 'A' && name[0] <= 'Z'));
}

// Words for what every worker has anyway, and for the group of all named ones in JSON.
inline bool reserved_resource_name(std::string_view name) {
    constexpr std::string_view kReserved[] = {"cpu", "cpus",   "gpu",  "gpus",
                                              "mem", "memory", "named"};
    return std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved);
}

// Whether a worker or a job may have all of them: names for kNamedMax, kResourcesBytesMax of text.
// `amounts` is any range of what has a name and a count.
template <typename Amounts, typename NameOf, typename CountOf>
bool resources_have_room(const Amounts& amounts, NameOf&& name_of, CountOf&& count_of) {
    std::size_t number = 0;
    std::size_t bytes = 0;
    for (const auto& each : amounts) {
        ++number;
        bytes += name_of(each).size() + std::to_string(count_of(each)).size() + 2;
    }
    return number <= NamedCounts::kNamedMax && bytes <= kResourcesBytesMax;
}

// How people write one: key=value.
inline bool names_a_value(std::string_view label) {
    const auto equals = label.find('=');
    return sound_label(label) && equals != std::string_view::npos && equals + 1 < label.size();
}

// What an attempt that held a worker for so long costs.
inline std::uint64_t cost_nano(std::uint32_t price_micro, std::uint64_t begun_ns,
                               std::uint64_t ended_ns) {
    if (price_micro == 0 || begun_ns == 0 || ended_ns <= begun_ns) return 0;
    constexpr std::uint64_t kHourUs = 3'600ULL * 1'000'000;
    const auto us = (ended_ns - begun_ns) / 1000;
    // Whole hours apart, so that the products stay within 64 bits.
    return us / kHourUs * price_micro * 1000 + us % kHourUs * price_micro / (kHourUs / 1000);
}

}  // namespace reeve
