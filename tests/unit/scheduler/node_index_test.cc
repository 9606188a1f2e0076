#include "scheduler/core/node_index.h"

#include <random>

#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace reeve;
using namespace reeve::sched;

namespace {

std::vector<NodeOffer> random_nodes(std::mt19937_64& random, std::size_t count) {
    std::vector<NodeOffer> nodes(count);
    for (NodeOffer& node : nodes) {
        node.capacity =
            Resources{static_cast<std::uint32_t>(1 + random() % 16) * 1000,
                      static_cast<std::uint32_t>(random() % 3), (1 + random() % 32) << 30};
        node.price_per_hour = static_cast<double>(random() % 4);
        node.spot_price_per_hour = static_cast<double>(random() % 2);
        node.spot = random() % 3 == 0;
        if (random() % 4 == 0) node.labels.push_back("ssd");
    }
    return nodes;
}

JobRequest random_request(std::mt19937_64& random) {
    JobRequest request;
    request.request = Resources{static_cast<std::uint32_t>(1 + random() % 8) * 500,
                                static_cast<std::uint32_t>(random() % 2), (1 + random() % 8) << 30};
    request.sla = static_cast<SlaClass>(random() % 4);
    request.spread = random() % 2 == 0;
    if (random() % 4 == 0) request.labels.push_back("ssd");
    if (random() % 4 == 0) request.max_price_per_hour = 1;
    return request;
}

}  // namespace

TEST_CASE("NodeIndex: with few nodes it answers as select_best_node does", "[cluster]") {
    const std::uint64_t seed = reeve::test::seed();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    std::vector<NodeOffer> nodes = random_nodes(random, NodeIndex::kCandidatesMax);
    NodeIndex index;
    for (const NodeOffer& node : nodes) index.add(node);
    std::size_t found = 0;
    for (int step = 0; step < 20'000; ++step) {
        const JobRequest request = random_request(random);
        const auto best = index.best(request, [](std::uint32_t) { return true; });
        const auto expected = select_best_node(request, nodes);
        REQUIRE(best.has_value() == expected.has_value());
        if (best) {
            ++found;
            // Ties may go to either; the rank is what counts.
            REQUIRE(rank_of(request, nodes[*best]) == rank_of(request, nodes[*expected]));
            index.claim(*best, request.request);
            nodes[*best].used += request.request;
        }
        const auto node = static_cast<std::uint32_t>(random() % nodes.size());
        if (random() % 3 == 0) {
            index.release(node, nodes[node].used);
            nodes[node].used = Resources{};
        }
        if (random() % 16 == 0) {
            nodes[node].open = random() % 4 != 0;
            index.set_open(node, nodes[node].open);
        }
    }
    CHECK(found > 1000);
}

TEST_CASE("NodeIndex: with many nodes the cheapest that fits is still found", "[cluster]") {
    std::mt19937_64 random(7);
    std::vector<NodeOffer> nodes = random_nodes(random, 5000);
    NodeIndex index;
    for (const NodeOffer& node : nodes) index.add(node);
    for (int step = 0; step < 300; ++step) {
        const JobRequest request = random_request(random);
        const auto best = index.best(request, [](std::uint32_t) { return true; });
        const auto expected = select_best_node(request, nodes);
        REQUIRE(best.has_value() == expected.has_value());
        if (best) REQUIRE(nodes[*best].price() == nodes[*expected].price());
    }
}
