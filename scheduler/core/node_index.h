// NodeIndex answers select_best_node's question over many nodes without looking at each.
//
// Nodes stand in a CapacityTree in the order of their price, so the first that fits is the
// cheapest. Among equals select_node.h's rank decides, over the first kCandidatesMax that fit at
// that price: with fewer nodes than that the answer is select_best_node's own.
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

    std::size_t size() const { return nodes_.size(); }
    const NodeOffer& operator[](std::uint32_t node) const { return nodes_[node]; }

    // The best node that fits now and that accept(node) agrees to.
    template <typename Accept>
    std::optional<std::uint32_t> best(const JobRequest& job, Accept&& accept) const {
        settle();
        std::optional<std::uint32_t> found;
        NodeRank found_rank;
        std::size_t candidates = 0;
        tree_.first_fit(job.request, [&](std::uint32_t leaf) {
            const std::uint32_t node = by_leaf_[leaf];
            if (refusal_of(job, nodes_[node]) != Refusal::kNone || !accept(node)) return false;
            const NodeRank rank = rank_of(job, node);
            if (found && rank.price > found_rank.price) return true;
            if (!found || rank < found_rank) {
                found = node;
                found_rank = rank;
            }
            return ++candidates == kCandidatesMax;
        });
        return found;
    }

private:
    NodeRank rank_of(const JobRequest& job, std::uint32_t node) const;
    double price_of(std::uint32_t node) const { return by_price_ ? nodes_[node].price() : 0; }
    void publish(std::uint32_t node) const;
    void settle() const;

    bool by_price_;
    std::vector<NodeOffer> nodes_;
    // Put in order again by the first search after a node was added.
    mutable bool settled_ = true;
    mutable CapacityTree tree_;
    mutable std::vector<std::uint32_t> by_leaf_;
    mutable std::vector<std::uint32_t> leaf_of_;
};

}  // namespace reeve::sched
