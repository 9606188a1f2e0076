#include "common/shm/class_wants.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <xxhash.h>

#include "common/base/assert.h"

namespace reeve::shm {

bool write_labels(std::span<char> field, const std::vector<std::string>& labels) {
    std::fill(field.begin(), field.end(), '\0');
    std::size_t at = 0;
    for (const auto& label : labels) {
        if (at + label.size() + 1 > field.size()) {
            std::fill(field.begin(), field.end(), '\0');
            return false;
        }
        std::memcpy(field.data() + at, label.data(), label.size());
        at += label.size() + 1;
    }
    return true;
}

std::vector<std::string> read_labels(std::span<const char> field) {
    std::vector<std::string> labels;
    for (std::size_t at = 0; at < field.size();) {
        const std::string label(field.data() + at, strnlen(field.data() + at, field.size() - at));
        if (!sound_label(label)) break;
        at += label.size() + 1;
        labels.push_back(label);
    }
    return labels;
}

bool write_resources(std::span<char> field, const std::vector<NamedAmount>& resources) {
    std::vector<std::string> words;
    for (const auto& each : resources)
        words.push_back(each.name + "=" + std::to_string(each.count));
    return write_labels(field, words);
}

std::vector<NamedAmount> read_resources(std::span<const char> field) {
    std::vector<NamedAmount> out;
    for (const auto& word : read_labels(field)) {
        const auto equals = std::min(word.find('='), word.size());
        NamedAmount each{word.substr(0, equals), 0};
        const char* end = word.data() + word.size();
        const char* digits = word.data() + std::min(equals + 1, word.size());
        const auto parsed = std::from_chars(digits, end, each.count);
        const bool whole = parsed.ec == std::errc{} && parsed.ptr == end;
        if (!whole || each.count > NamedCounts::kCountMax || !sound_resource_name(each.name)) break;
        out.push_back(std::move(each));
    }
    return out;
}

void write_wants(ClassEntry& entry, const Wants& wants) {
    entry.sla = static_cast<std::uint8_t>(wants.sla);
    entry.spread = wants.spread ? 1 : 0;
    entry.max_price_micro = wants.max_price_micro;
    std::memset(entry.node_name, 0, sizeof entry.node_name);
    std::memcpy(entry.node_name, wants.node_name.data(),
                std::min(wants.node_name.size(), sizeof entry.node_name - 1));
    REEVE_ASSERT(write_labels(entry.labels, wants.labels));
    REEVE_ASSERT(write_resources(entry.resources, wants.resources));
    entry.wants_hash = 0;
    if (wants.empty()) return;
    // All from the price to the budget, in one piece; the price is the seed.
    const auto* bytes = reinterpret_cast<const char*>(&entry);
    constexpr auto kFirst = offsetof(ClassEntry, sla);
    constexpr auto kBehind = offsetof(ClassEntry, spent_nano);
    const auto hash = XXH3_64bits_withSeed(bytes + kFirst, kBehind - kFirst, wants.max_price_micro);
    entry.wants_hash = std::max<std::uint64_t>(1, hash);
}

Wants read_wants(const ClassEntry& entry) {
    Wants wants;
    if (entry.wants_hash == 0) return wants;
    if (entry.sla <= static_cast<std::uint8_t>(SlaClass::kSpot)) {
        wants.sla = static_cast<SlaClass>(entry.sla);
    }
    wants.spread = entry.spread != 0;
    wants.max_price_micro = entry.max_price_micro;
    wants.node_name.assign(entry.node_name, strnlen(entry.node_name, sizeof entry.node_name));
    wants.labels = read_labels(entry.labels);
    wants.resources = read_resources(entry.resources);
    return wants;
}

std::vector<std::string> labels_of(const WorkerSlot& worker) {
    auto labels = read_labels(worker.labels);
    labels.push_back(std::string(kNodeLabel) +
                     std::string(worker.name, strnlen(worker.name, sizeof worker.name)));
    return labels;
}

}  // namespace reeve::shm
