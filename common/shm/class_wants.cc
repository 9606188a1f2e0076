#include "common/shm/class_wants.h"

#include <algorithm>
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

void write_wants(ClassEntry& entry, const Wants& wants) {
    entry.sla = static_cast<std::uint8_t>(wants.sla);
    entry.spread = wants.spread ? 1 : 0;
    entry.max_price_micro = wants.max_price_micro;
    std::memset(entry.node_name, 0, sizeof entry.node_name);
    std::memcpy(entry.node_name, wants.node_name.data(),
                std::min(wants.node_name.size(), sizeof entry.node_name - 1));
    REEVE_ASSERT(write_labels(entry.labels, wants.labels));
    entry.wants_hash = 0;
    if (wants.empty()) return;
    // All that follows the price, in one piece; the price is the seed.
    const auto* bytes = reinterpret_cast<const char*>(&entry);
    constexpr auto kFirst = offsetof(ClassEntry, sla);
    const auto hash =
        XXH3_64bits_withSeed(bytes + kFirst, sizeof entry - kFirst, wants.max_price_micro);
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
    return wants;
}

std::vector<std::string> labels_of(const WorkerSlot& worker) {
    auto labels = read_labels(worker.labels);
    labels.push_back(std::string(kNodeLabel) +
                     std::string(worker.name, strnlen(worker.name, sizeof worker.name)));
    return labels;
}

}  // namespace reeve::shm
