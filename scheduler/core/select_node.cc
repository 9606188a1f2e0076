#include "scheduler/core/select_node.h"

#include <algorithm>

namespace reeve::sched {
namespace {

// Room left over after the job, as the sum of free shares in 1/1,000,000: integers, so that ties
// are ties on every machine. Memory counts in KiB, so the product stays within 64 bits up to 16
// PiB.
std::uint64_t share(std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? 0 : part * 1'000'000U / whole;
}

std::uint64_t left_over(const JobRequest& job, const NodeOffer& node) {
    Resources free = node.capacity;
    free -= node.used;
    free -= job.request;
    return room_of(free, node.capacity);
}

}  // namespace

std::uint64_t room_of(const Resources& free, const Resources& capacity) {
    return share(free.cpu_milli, capacity.cpu_milli) +
           share(free.memory_bytes >> 10, capacity.memory_bytes >> 10) +
           share(free.gpus, capacity.gpus);
}

bool allows_spot(SlaClass sla) {
    return sla == SlaClass::kFlexible || sla == SlaClass::kSpot;
}

std::string_view to_string(Refusal refusal) {
    switch (refusal) {
        case Refusal::kNone:
            return "none";
        case Refusal::kClosed:
            return "node-closed";
        case Refusal::kLabel:
            return "label-missing";
        case Refusal::kSpotNotAllowed:
            return "spot-not-allowed";
        case Refusal::kPrice:
            return "price-above-limit";
        case Refusal::kCapacityCpu:
            return "too-few-cpus";
        case Refusal::kCapacityMemory:
            return "too-little-memory";
        case Refusal::kCapacityGpus:
            return "too-few-gpus";
        case Refusal::kCapacityNamed:
            return "too-few-resources";
        case Refusal::kBusyCpu:
            return "cpus-busy";
        case Refusal::kBusyMemory:
            return "memory-busy";
        case Refusal::kBusyGpus:
            return "gpus-busy";
        case Refusal::kBusyNamed:
            return "resources-busy";
    }
    return "unknown";
}

JobRequest request_for(const Wants& wants, const Resources& request) {
    JobRequest job;
    job.request = request;
    job.sla = wants.sla;
    job.max_price_per_hour = price_of(wants.max_price_micro);
    job.spread = wants.spread;
    job.labels = wants.labels;
    if (!wants.node_name.empty()) job.labels.push_back(std::string(kNodeLabel) + wants.node_name);
    return job;
}

namespace {

bool has_label(const NodeOffer& node, const std::string& label) {
    return std::find(node.labels.begin(), node.labels.end(), label) != node.labels.end();
}

}  // namespace

Refusal barrier_of(const JobRequest& job, const NodeOffer& node) {
    if (!node.open) return Refusal::kClosed;
    for (const std::string& label : job.labels) {
        if (!has_label(node, label)) return Refusal::kLabel;
    }
    if (node.spot && !allows_spot(job.sla)) return Refusal::kSpotNotAllowed;
    if (job.max_price_per_hour > 0 && node.price() > job.max_price_per_hour) return Refusal::kPrice;
    return Refusal::kNone;
}

Refusal refusal_when_empty(const JobRequest& job, const NodeOffer& node) {
    const Refusal barrier = barrier_of(job, node);
    if (barrier != Refusal::kNone) return barrier;
    const Resources& want = job.request;
    if (want.gpus > node.capacity.gpus) return Refusal::kCapacityGpus;
    if (want.cpu_milli > node.capacity.cpu_milli) return Refusal::kCapacityCpu;
    if (want.memory_bytes > node.capacity.memory_bytes) return Refusal::kCapacityMemory;
    if (!want.named.fits(node.capacity.named)) return Refusal::kCapacityNamed;
    return Refusal::kNone;
}

Refusal refusal_of(const JobRequest& job, const NodeOffer& node) {
    const Refusal ever = refusal_when_empty(job, node);
    if (ever != Refusal::kNone) return ever;
    const Resources& want = job.request;
    Resources free = node.capacity;
    free -= node.used;
    if (want.gpus > free.gpus) return Refusal::kBusyGpus;
    if (want.cpu_milli > free.cpu_milli) return Refusal::kBusyCpu;
    if (want.memory_bytes > free.memory_bytes) return Refusal::kBusyMemory;
    if (!want.named.fits(free.named)) return Refusal::kBusyNamed;
    return Refusal::kNone;
}

std::vector<std::string> labels_missing(const JobRequest& job, const NodeOffer& node) {
    std::vector<std::string> missing;
    for (const std::string& label : job.labels) {
        if (!has_label(node, label)) missing.push_back(label);
    }
    return missing;
}

std::vector<Refusal> refusals_of(const JobRequest& job, const NodeOffer& node) {
    std::vector<Refusal> out;
    const auto check = [&out](bool refused, Refusal refusal) {
        if (refused) out.push_back(refusal);
    };
    check(!node.open, Refusal::kClosed);
    check(!labels_missing(job, node).empty(), Refusal::kLabel);
    check(node.spot && !allows_spot(job.sla), Refusal::kSpotNotAllowed);
    check(job.max_price_per_hour > 0 && node.price() > job.max_price_per_hour, Refusal::kPrice);
    const Resources& want = job.request;
    check(want.gpus > node.capacity.gpus, Refusal::kCapacityGpus);
    check(want.cpu_milli > node.capacity.cpu_milli, Refusal::kCapacityCpu);
    check(want.memory_bytes > node.capacity.memory_bytes, Refusal::kCapacityMemory);
    check(!want.named.fits(node.capacity.named), Refusal::kCapacityNamed);
    Resources free = node.capacity;
    free -= node.used;
    // Busy is what would fit an empty node.
    const auto busy = [](auto wanted, auto left, auto whole) {
        return wanted > left && wanted <= whole;
    };
    check(busy(want.gpus, free.gpus, node.capacity.gpus), Refusal::kBusyGpus);
    check(busy(want.cpu_milli, free.cpu_milli, node.capacity.cpu_milli), Refusal::kBusyCpu);
    check(busy(want.memory_bytes, free.memory_bytes, node.capacity.memory_bytes),
          Refusal::kBusyMemory);
    check(!want.named.fits(free.named) && want.named.fits(node.capacity.named),
          Refusal::kBusyNamed);
    return out;
}

NodeRank rank_of(const JobRequest& job, const NodeOffer& node) {
    const std::uint64_t left = left_over(job, node);
    return NodeRank{node.price(), job.sla != SlaClass::kSpot && node.spot,
                    job.spread ? ~left : left};
}

std::optional<std::size_t> select_best_node(const JobRequest& job,
                                            std::span<const NodeOffer> nodes) {
    std::optional<std::size_t> best;
    NodeRank best_rank;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        if (refusal_of(job, nodes[i]) != Refusal::kNone) continue;
        const NodeRank rank = rank_of(job, nodes[i]);
        if (best && !(rank < best_rank)) continue;
        best = i;
        best_rank = rank;
    }
    return best;
}

}  // namespace reeve::sched
