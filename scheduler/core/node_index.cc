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
    std::vector<std::uint32_t> order(nodes_.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [this](std::uint32_t a, std::uint32_t b) {
        return price_of(a) < price_of(b);
    });
    seats_.assign(nodes_.size(), Seat{});
    leaf_of_.resize(nodes_.size());
    tree_.resize(static_cast<std::uint32_t>(nodes_.size()));
    for (std::uint32_t leaf = 0; leaf < order.size(); ++leaf) {
        leaf_of_[order[leaf]] = leaf;
        seats_[leaf].node = order[leaf];
        describe(leaf);
        publish(order[leaf]);
    }
}

void NodeIndex::describe(std::uint32_t leaf) const {
    Seat& seat = seats_[leaf];
    const NodeOffer& offer = nodes_[seat.node];
    const auto per = [](std::uint64_t whole) {
        return whole == 0 ? 0 : 1'000'000 / static_cast<double>(whole);
    };
    seat.price = price_of(seat.node);
    seat.spot = offer.spot;
    seat.per_cpu_milli = per(offer.capacity.cpu_milli);
    seat.per_kib = per(offer.capacity.memory_bytes >> 10);
    seat.per_gpu = per(offer.capacity.gpus);
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
    if (settled_) describe(leaf_of_[node]);
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

}  // namespace reeve::sched
