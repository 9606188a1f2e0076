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
    return share(free.cpu_milli, node.capacity.cpu_milli) +
           share(free.memory_bytes >> 10, node.capacity.memory_bytes >> 10) +
           share(free.gpus, node.capacity.gpus);
}

}  // namespace

std::string_view to_string(SlaClass sla) {
    switch (sla) {
        case SlaClass::kCritical:
            return "critical";
        case SlaClass::kStandard:
            return "standard";
        case SlaClass::kFlexible:
            return "flexible";
        case SlaClass::kSpot:
            return "spot";
    }
    return "unknown";
}

std::optional<SlaClass> parse_sla(std::string_view name) {
    for (const SlaClass sla :
         {SlaClass::kCritical, SlaClass::kStandard, SlaClass::kFlexible, SlaClass::kSpot}) {
        if (name == to_string(sla)) return sla;
    }
    return std::nullopt;
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
        case Refusal::kBusyCpu:
            return "cpus-busy";
        case Refusal::kBusyMemory:
            return "memory-busy";
        case Refusal::kBusyGpus:
            return "gpus-busy";
    }
    return "unknown";
}

Refusal refusal_of(const JobRequest& job, const NodeOffer& node) {
    if (!node.open) return Refusal::kClosed;
    for (const std::string& label : job.labels) {
        if (std::find(node.labels.begin(), node.labels.end(), label) == node.labels.end()) {
            return Refusal::kLabel;
        }
    }
    if (node.spot && !allows_spot(job.sla)) return Refusal::kSpotNotAllowed;
    if (job.max_price_per_hour > 0 && node.price() > job.max_price_per_hour) return Refusal::kPrice;
    const Resources& want = job.request;
    if (want.gpus > node.capacity.gpus) return Refusal::kCapacityGpus;
    if (want.cpu_milli > node.capacity.cpu_milli) return Refusal::kCapacityCpu;
    if (want.memory_bytes > node.capacity.memory_bytes) return Refusal::kCapacityMemory;
    Resources free = node.capacity;
    free -= node.used;
    if (want.gpus > free.gpus) return Refusal::kBusyGpus;
    if (want.cpu_milli > free.cpu_milli) return Refusal::kBusyCpu;
    if (want.memory_bytes > free.memory_bytes) return Refusal::kBusyMemory;
    return Refusal::kNone;
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
