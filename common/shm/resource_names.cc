#include "common/shm/resource_names.h"

#include <algorithm>
#include <cstring>

#include <xxhash.h>

namespace reeve::shm {
namespace {

std::uint64_t hash_of(std::string_view name) {
    return std::max<std::uint64_t>(1, XXH3_64bits(name.data(), name.size()));
}

void write_text(ResourceName& place, std::string_view name) {
    char bytes[sizeof place.text]{};
    std::memcpy(bytes, name.data(), std::min(name.size(), kResourceNameMax));
    for (std::size_t i = 0; i < std::size(place.text); ++i) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes + i * sizeof word, sizeof word);
        place.text[i].store(word, std::memory_order_release);
    }
}

template <typename NumberOf>
std::optional<NamedCounts> counts(const std::vector<NamedAmount>& amounts, NumberOf&& number_of) {
    NamedCounts out;
    for (const auto& amount : amounts) {
        const auto number = number_of(amount.name);
        if (!number) return std::nullopt;
        out.set(*number, std::min(amount.count, NamedCounts::kCountMax));
    }
    return out;
}

}  // namespace

std::optional<std::size_t> number_resource(const Segment& segment, std::string_view name) {
    const auto hash = hash_of(name);
    auto& places = segment.header().resource_names;
    for (std::size_t i = 0; i < std::size(places); ++i) {
        std::uint64_t expected = 0;
        // What is taken stays taken, so all who look meet the same name at the same place.
        if (places[i].hash.compare_exchange_strong(expected, hash) || expected == hash) {
            write_text(places[i], name);
            return i;
        }
    }
    return std::nullopt;
}

std::optional<std::size_t> find_resource(const Segment& segment, std::string_view name) {
    const auto& places = segment.header().resource_names;
    for (std::size_t i = 0; i < std::size(places); ++i) {
        if (places[i].hash.load() == hash_of(name)) return i;
    }
    return std::nullopt;
}

ResourceNames resource_names(const Segment& segment) {
    ResourceNames out;
    const auto& places = segment.header().resource_names;
    for (std::size_t i = 0; i < out.size(); ++i) {
        if (places[i].hash.load() == 0) continue;
        char bytes[sizeof places[i].text];
        for (std::size_t word = 0; word < std::size(places[i].text); ++word) {
            const auto value = places[i].text[word].load(std::memory_order_acquire);
            std::memcpy(bytes + word * sizeof value, &value, sizeof value);
        }
        out[i].assign(bytes, strnlen(bytes, sizeof bytes));
        if (!sound_resource_name(out[i])) out[i] = "resource-" + std::to_string(i);
    }
    return out;
}

NamedCounts find_counts(const Segment& segment, const std::vector<NamedAmount>& amounts) {
    return counts(amounts, [&](const std::string& name) { return find_resource(segment, name); })
        .value_or(NamedCounts::nowhere());
}

std::optional<NamedCounts> number_counts(const Segment& segment,
                                         const std::vector<NamedAmount>& amounts) {
    return counts(amounts, [&](const std::string& name) { return number_resource(segment, name); });
}

}  // namespace reeve::shm
