#include "scheduler/core/node_index.h"

#include <algorithm>
#include <numeric>

#include "common/base/assert.h"

namespace reeve::sched {

std::uint32_t NodeIndex::add(const NodeOffer& node) {
    nodes_.push_back(node);
    nodes_.back().used = Resources{};
    settled_ = false;
    return static_cast<std::uint32_t>(nodes_.size() - 1);
}

void NodeIndex::settle() const {
    if (settled_) return;
    settled_ = true;
    by_leaf_.resize(nodes_.size());
    leaf_of_.resize(nodes_.size());
    std::iota(by_leaf_.begin(), by_leaf_.end(), 0U);
    std::stable_sort(by_leaf_.begin(), by_leaf_.end(), [this](std::uint32_t a, std::uint32_t b) {
        return price_of(a) < price_of(b);
    });
    tree_.resize(static_cast<std::uint32_t>(nodes_.size()));
    for (std::uint32_t leaf = 0; leaf < by_leaf_.size(); ++leaf) {
        leaf_of_[by_leaf_[leaf]] = leaf;
        publish(by_leaf_[leaf]);
    }
}

void NodeIndex::publish(std::uint32_t node) const {
    if (!settled_) return;
    const NodeOffer& offer = nodes_[node];
    Resources free = offer.capacity;
    free -= offer.used;
    tree_.open(leaf_of_[node], free);
    if (!offer.open) tree_.close(leaf_of_[node]);
}

void NodeIndex::replace(std::uint32_t node, const NodeOffer& offer) {
    if (price_of(node) != (by_price_ ? offer.price() : 0)) settled_ = false;
    nodes_[node] = offer;
    publish(node);
}

void NodeIndex::set_used(std::uint32_t node, const Resources& used, bool open) {
    nodes_[node].used = used;
    nodes_[node].open = open;
    publish(node);
}

void NodeIndex::set_open(std::uint32_t node, bool open) {
    nodes_[node].open = open;
    publish(node);
}

void NodeIndex::claim(std::uint32_t node, const Resources& request) {
    nodes_[node].used += request;
    REEVE_ASSERT(nodes_[node].used.fits(nodes_[node].capacity));
    publish(node);
}

void NodeIndex::release(std::uint32_t node, const Resources& request) {
    REEVE_ASSERT(request.fits(nodes_[node].used));
    nodes_[node].used -= request;
    publish(node);
}

NodeRank NodeIndex::rank_of(const JobRequest& job, std::uint32_t node) const {
    NodeRank rank = sched::rank_of(job, nodes_[node]);
    rank.price = price_of(node);
    return rank;
}

}  // namespace reeve::sched
