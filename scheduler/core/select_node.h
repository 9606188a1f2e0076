// select_best_node: the one node a job should run on, as a pure function over a list.
//
// Rank, in this order: fits and is allowed; lowest price for this job; the SLA's wish about spot;
// least room left over (packing) or most (spreading); first in the list. Used by the simulator for
// jobs.json + nodes.json, by `submit --dry-run`, and as the linear reference of the indexed search.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/model/resources.h"
#include "common/model/sla.h"
#include "common/model/wants.h"

namespace reeve::sched {

using reeve::SlaClass;

// Spot nodes may vanish: critical and standard work stays on on-demand nodes.
bool allows_spot(SlaClass sla);

// What searching and claiming look at is in the first line of cache.
struct alignas(64) NodeOffer {
    Resources capacity;
    Resources used;
    double price_per_hour = 0;  // on-demand
    bool spot = false;
    bool open = true;                // false: draining or down
    double spot_price_per_hour = 0;  // what is paid when `spot`
    std::string name;
    std::vector<std::string> labels;

    double price() const { return spot ? spot_price_per_hour : price_per_hour; }
};

struct JobRequest {
    Resources request;
    SlaClass sla = SlaClass::kStandard;
    double max_price_per_hour = 0;    // 0: no limit
    bool spread = false;              // else pack
    std::vector<std::string> labels;  // all must be on the node
    auto operator<=>(const JobRequest&) const = default;
};

// What a live job wants, as the functions here take it: --node is the label node=NAME.
JobRequest request_for(const Wants& wants, const Resources& request);
// A price in millionths, in whole money.
inline double price_of(std::uint32_t micro) {
    return static_cast<double>(micro) / 1e6;
}

// Why a node was not taken; the names are stable (explain, JSON).
enum class Refusal : std::uint8_t {
    kNone,
    kClosed,
    kLabel,
    kSpotNotAllowed,
    kPrice,
    kCapacityCpu,  // would not fit even if the node were empty
    kCapacityMemory,
    kCapacityGpus,
    kCapacityNamed,
    kBusyCpu,  // fits once others have ended
    kBusyMemory,
    kBusyGpus,
    kBusyNamed,
};
std::string_view to_string(Refusal refusal);

Refusal refusal_of(const JobRequest& job, const NodeOffer& node);
// The part of it that has nothing to do with room: closed, labels, spot, price.
Refusal barrier_of(const JobRequest& job, const NodeOffer& node);

// The same for the node without what runs there.
Refusal refusal_when_empty(const JobRequest& job, const NodeOffer& node);

// Every reason, in the order of refusal_of, which answers the first.
std::vector<Refusal> refusals_of(const JobRequest& job, const NodeOffer& node);
// The labels the job asks for and the node has not.
std::vector<std::string> labels_missing(const JobRequest& job, const NodeOffer& node);

// What is free of it all, at most 3,000,000: the sum of the shares in 1/1,000,000.
std::uint64_t room_of(const Resources& free, const Resources& capacity);

// Where a node stands among those that fit; the smallest is best.
struct NodeRank {
    double price = 0;
    bool spot = false;       // a spot node, and the job did not ask for one
    std::uint64_t room = 0;  // left over when packing, its complement when spreading
    auto operator<=>(const NodeRank&) const = default;
};
// Precondition: the job fits.
NodeRank rank_of(const JobRequest& job, const NodeOffer& node);

// Index into `nodes`, or nullopt when no node can take the job now.
std::optional<std::size_t> select_best_node(const JobRequest& job,
                                            std::span<const NodeOffer> nodes);

}  // namespace reeve::sched
