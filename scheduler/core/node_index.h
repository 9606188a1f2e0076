// NodeIndex answers select_best_node's question over many nodes without looking at each.
//
// Nodes stand in a CapacityTree in the order of their price, so the first that fits is the
// cheapest. Among equals select_node.h's rank decides, over the first kCandidatesMax that fit at
// that price and stand within kSpan nodes: with fewer nodes than kCandidatesMax the answer is
// select_best_node's own.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "scheduler/core/capacity_tree.h"
#include "scheduler/core/select_node.h"

namespace reeve::sched {

class NodeIndex {
public:
    static constexpr std::size_t kCandidatesMax = 64;
    static constexpr std::uint32_t kSpan = 64;

    // Without prices every node counts as equally dear.
    explicit NodeIndex(bool by_price = true) : by_price_(by_price) {}

    std::uint32_t add(const NodeOffer& node);
    // Another node stands in its place now, with what is used of it. Settled by the next search
    // if its price is another one.
    void replace(std::uint32_t node, const NodeOffer& offer);
    void set_open(std::uint32_t node, bool open);
    void set_used(std::uint32_t node, const Resources& used, bool open);
    void claim(std::uint32_t node, const Resources& request);
    void release(std::uint32_t node, const Resources& request);

    // The node will be asked about soon.
    void fetch(std::uint32_t node) const {
        __builtin_prefetch(&nodes_[node]);
        if (settled_) tree_.fetch(leaf_of_[node]);
    }

    std::size_t size() const { return nodes_.size(); }
    const NodeOffer& operator[](std::uint32_t node) const { return nodes_[node]; }

    // The best node that fits now and that accept(node) agrees to.
    template <typename Accept>
    std::optional<std::uint32_t> best(const JobRequest& job, Accept&& accept) const {
        settle();
        const bool choosy = !job.labels.empty() || job.max_price_per_hour > 0;
        Best best;
        std::size_t candidates = 0;
        std::uint32_t first = 0;
        tree_.first_fit(job.request, [&](std::uint32_t leaf) {
            const Seat& seat = seats_[leaf];
            // Room the tree has looked at.
            if ((choosy || seat.spot) && barrier_of(job, nodes_[seat.node]) != Refusal::kNone) {
                return false;
            }
            if (!accept(seat.node)) return false;
            if (best.found && (seat.price > best.rank.price || leaf - first > kSpan)) return true;
            if (!best.found) first = leaf;
            consider(job, leaf, best);
            return ++candidates == kCandidatesMax;
        });
        if (!best.found) return std::nullopt;
        return seats_[best.leaf].node;
    }

private:
    // What ranking needs to know of a node, in the order of the tree's leaves.
    struct Seat {
        double price = 0;
        double per_cpu_milli = 0;  // shares of the node in 1/1,000,000, as room_of() counts them
        double per_kib = 0;
        double per_gpu = 0;
        std::uint32_t node = 0;
        bool spot = false;
    };
    struct Best {
        bool found = false;
        std::uint32_t leaf = 0;
        NodeRank rank;
    };

    void consider(const JobRequest& job, std::uint32_t leaf, Best& best) const {
        const Seat& seat = seats_[leaf];
        Resources left = tree_.free_of(leaf);
        left -= job.request;
        const bool spot = job.sla != SlaClass::kSpot && seat.spot;
        if (best.found && spot == best.rank.spot) {
            // room_of() rounds three shares down, so it is in (about - 3, about]: divisions only
            // for who may be better.
            const double about = left.cpu_milli * seat.per_cpu_milli +
                                 static_cast<double>(left.memory_bytes >> 10) * seat.per_kib +
                                 left.gpus * seat.per_gpu;
            const auto room = static_cast<double>(job.spread ? ~best.rank.room : best.rank.room);
            if (job.spread ? about + kRounding < room : about - 3 - kRounding > room) return;
        }
        const std::uint64_t room = room_of(left, nodes_[seat.node].capacity);
        const NodeRank rank{seat.price, spot, job.spread ? ~room : room};
        if (best.found && !(rank < best.rank)) return;
        best = Best{true, leaf, rank};
    }

    static constexpr double kRounding = 0.01;

    double price_of(std::uint32_t node) const { return by_price_ ? nodes_[node].price() : 0; }
    void publish(std::uint32_t node) const;
    void describe(std::uint32_t leaf) const;
    void settle() const;

    bool by_price_;
    std::vector<NodeOffer> nodes_;
    // Put in order again by the first search after a node was added.
    mutable bool settled_ = true;
    mutable CapacityTree tree_;
    mutable std::vector<Seat> seats_;
    mutable std::vector<std::uint32_t> leaf_of_;
};

}  // namespace reeve::sched
