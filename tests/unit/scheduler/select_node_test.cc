#include "scheduler/core/select_node.h"

#include "tests/support/catch.h"

namespace reeve::sched {
namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;

NodeOffer node(std::string name, std::uint32_t cpus, std::uint64_t gib, double price) {
    NodeOffer offer;
    offer.name = std::move(name);
    offer.capacity = Resources{cpus * 1000, 0, gib * kGiB};
    offer.price_per_hour = price;
    return offer;
}

NodeOffer spot(NodeOffer offer, double price) {
    offer.spot = true;
    offer.spot_price_per_hour = price;
    return offer;
}

JobRequest job(std::uint32_t cpus, std::uint64_t gib, SlaClass sla = SlaClass::kStandard) {
    JobRequest request;
    request.request = Resources{cpus * 1000, 0, gib * kGiB};
    request.sla = sla;
    return request;
}

std::string best(const JobRequest& request, const std::vector<NodeOffer>& nodes) {
    const auto index = select_best_node(request, nodes);
    return index ? nodes[*index].name : "none";
}

TEST_CASE("select_best_node: the cheapest node that fits", "[sched]") {
    const std::vector<NodeOffer> nodes{node("big", 16, 64, 3.0), node("cheap-but-small", 1, 2, 0.1),
                                       node("right", 8, 32, 1.0)};
    CHECK(best(job(4, 8), nodes) == "right");
    CHECK(best(job(1, 1), nodes) == "cheap-but-small");
    CHECK(best(job(12, 8), nodes) == "big");
}

TEST_CASE("select_best_node: spot only where the SLA allows it", "[sched]") {
    const std::vector<NodeOffer> nodes{node("steady", 8, 32, 1.0),
                                       spot(node("spot", 8, 32, 1.0), 0.3)};
    CHECK(best(job(1, 1, SlaClass::kCritical), nodes) == "steady");
    CHECK(best(job(1, 1, SlaClass::kStandard), nodes) == "steady");
    CHECK(best(job(1, 1, SlaClass::kFlexible), nodes) == "spot");
    CHECK(best(job(1, 1, SlaClass::kSpot), nodes) == "spot");
    const std::vector<NodeOffer> only_spot{nodes[1]};
    CHECK(best(job(1, 1, SlaClass::kCritical), only_spot) == "none");
    CHECK(refusal_of(job(1, 1), nodes[1]) == Refusal::kSpotNotAllowed);
}

TEST_CASE("select_best_node: at one price, steady before spot unless the job asks for spot",
          "[sched]") {
    const std::vector<NodeOffer> nodes{spot(node("spot", 8, 32, 1.0), 1.0),
                                       node("steady", 8, 32, 1.0)};
    CHECK(best(job(1, 1, SlaClass::kFlexible), nodes) == "steady");
    CHECK(best(job(1, 1, SlaClass::kSpot), nodes) == "spot");
}

TEST_CASE("select_best_node: no fitting node, and why", "[sched]") {
    std::vector<NodeOffer> nodes{node("a", 4, 8, 1.0)};
    CHECK(best(job(1, 1), {}) == "none");
    CHECK(best(job(8, 1), nodes) == "none");
    CHECK(refusal_of(job(8, 1), nodes[0]) == Refusal::kCapacityCpu);
    CHECK(refusal_of(job(1, 9), nodes[0]) == Refusal::kCapacityMemory);
    nodes[0].used = Resources{3'000, 0, 7 * kGiB};
    CHECK(refusal_of(job(2, 1), nodes[0]) == Refusal::kBusyCpu);
    CHECK(refusal_of(job(1, 2), nodes[0]) == Refusal::kBusyMemory);
    CHECK(best(job(1, 1), nodes) == "a");
    JobRequest gpus = job(1, 1);
    gpus.request.gpus = 1;
    CHECK(refusal_of(gpus, nodes[0]) == Refusal::kCapacityGpus);
    JobRequest cheap = job(1, 1);
    cheap.max_price_per_hour = 0.5;
    CHECK(refusal_of(cheap, nodes[0]) == Refusal::kPrice);
    nodes[0].open = false;
    CHECK(refusal_of(job(1, 1), nodes[0]) == Refusal::kClosed);
}

TEST_CASE("select_best_node: ties go by packing or spreading, then by order", "[sched]") {
    std::vector<NodeOffer> nodes{node("empty", 8, 32, 1.0), node("fuller", 8, 32, 1.0),
                                 node("empty-too", 8, 32, 1.0)};
    nodes[1].used = Resources{4'000, 0, 4 * kGiB};
    CHECK(best(job(1, 1), nodes) == "fuller");
    JobRequest spread = job(1, 1);
    spread.spread = true;
    CHECK(best(spread, nodes) == "empty");
    nodes.erase(nodes.begin());
    CHECK(best(spread, nodes) == "empty-too");
}

TEST_CASE("select_best_node: labels are all required", "[sched]") {
    std::vector<NodeOffer> nodes{node("plain", 8, 32, 0.5), node("a100", 8, 32, 2.0)};
    nodes[1].labels = {"gpu=a100", "zone=b"};
    JobRequest request = job(1, 1);
    request.labels = {"zone=b", "gpu=a100"};
    CHECK(best(request, nodes) == "a100");
    request.labels.emplace_back("zone=c");
    CHECK(best(request, nodes) == "none");
    CHECK(refusal_of(request, nodes[1]) == Refusal::kLabel);
}

TEST_CASE("refusals_of: every reason, the one of refusal_of first", "[sched]") {
    auto offer = spot(node("n", 4, 8, 2.0), 1.5);
    offer.used = Resources{3000, 0, 6 * kGiB};
    auto want = job(2, 16);
    want.request.gpus = 1;
    want.labels = {"ssd", "node=n"};
    want.max_price_per_hour = 1.0;
    offer.labels = {"node=n"};
    offer.open = false;
    CHECK(refusals_of(want, offer) ==
          std::vector<Refusal>{Refusal::kClosed, Refusal::kLabel, Refusal::kSpotNotAllowed,
                               Refusal::kPrice, Refusal::kCapacityGpus, Refusal::kCapacityMemory,
                               Refusal::kBusyCpu});
    CHECK(labels_missing(want, offer) == std::vector<std::string>{"ssd"});
    CHECK(refusal_of(want, offer) == Refusal::kClosed);
    offer.open = true;
    CHECK(barrier_of(want, offer) == Refusal::kLabel);
    offer.labels.push_back("ssd");
    CHECK(refusal_of(want, offer) == refusals_of(want, offer).front());
    want.sla = SlaClass::kSpot;
    want.max_price_per_hour = 0;
    CHECK(barrier_of(want, offer) == Refusal::kNone);
    CHECK(refusal_of(want, offer) == refusals_of(want, offer).front());
    want.request = Resources{1000, 0, kGiB};
    CHECK(refusals_of(want, offer).empty());
}

TEST_CASE("request_for: a live job's wants, --node as a label", "[sched]") {
    Wants wants;
    CHECK(wants.empty());
    JobRequest plain;
    plain.request = Resources{1, 2, 3};
    CHECK(request_for(wants, plain.request) == plain);
    wants.sla = SlaClass::kSpot;
    wants.spread = true;
    wants.max_price_micro = 250'000;
    wants.node_name = "w1";
    wants.labels = {"a", "b=c"};
    CHECK_FALSE(wants.empty());
    const auto made = request_for(wants, {});
    CHECK(made.labels == std::vector<std::string>{"a", "b=c", "node=w1"});
    CHECK(made.max_price_per_hour == 0.25);
    CHECK(made.spread);
    CHECK(made.sla == SlaClass::kSpot);
}

}  // namespace
}  // namespace reeve::sched
