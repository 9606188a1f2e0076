#include "plm/core/gates.h"

#include <algorithm>
#include <map>
#include <random>

#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace reeve;
using namespace reeve::plm;

namespace {

struct Cell {
    Gates gates;
    std::vector<JobId> woken;

    explicit Cell(CellPolicy policy) {
        gates.configure(std::move(policy), [](std::uint32_t uid) {
            return uid == 1 ? std::string("ann") : "user" + std::to_string(uid);
        });
    }
    std::uint64_t settle(JobId job, const Gates::Tolls& tolls, std::uint64_t in_use,
                         std::uint64_t more, std::uint64_t key) {
        woken.clear();
        return gates.settle(job, tolls, in_use, more, key, woken);
    }
};

CellPolicy licences(std::uint64_t count) {
    CellPolicy policy;
    policy.limits["licence"] = count;
    return policy;
}

const Resources kCpu{1000, 0, 0};

}  // namespace

TEST_CASE("Gates: a limit lets in as many as there are, the best first", "[plm]") {
    Cell cell(licences(2));
    const auto one = cell.gates.tolls(7, kCpu, {{"licence", 1}});
    CHECK(cell.settle(10, one, 0, 1, 100) == 1);
    CHECK(cell.settle(11, one, 0, 1, 200) == 1);
    CHECK(cell.settle(12, one, 0, 1, 50) == 0);  // better, but they are taken
    CHECK(cell.settle(13, one, 0, 1, 300) == 0);
    CHECK(cell.gates.blocked(13)->what == "licence");
    CHECK(cell.settle(10, one, 1, 0, 100) == 1);  // it runs
    CHECK(cell.woken.empty());
    CHECK(cell.settle(10, one, 0, 0, 100) == 0);  // and has ended
    CHECK(cell.woken == std::vector<JobId>{12});
    CHECK(cell.settle(13, one, 0, 1, 300) == 0);  // not before 12
    CHECK(cell.settle(12, one, 0, 1, 50) == 1);
    CHECK_FALSE(cell.gates.blocked(12));
}

TEST_CASE("Gates: a gang takes all its tokens or none", "[plm]") {
    Cell cell(licences(4));
    const auto one = cell.gates.tolls(7, kCpu, {{"licence", 1}});
    const auto gang = [&](JobId job, std::uint64_t key) {
        cell.woken.clear();
        return cell.gates.settle(job, one, 0, 3, key, cell.woken, 3);
    };
    CHECK(cell.settle(10, one, 0, 2, 100) == 2);
    CHECK(gang(11, 200) == 0);
    CHECK(cell.gates.blocked(11)->what == "licence");
    CHECK(cell.settle(12, one, 0, 1, 300) == 0);  // behind it
    CHECK(cell.settle(10, one, 1, 0, 100) == 1);  // one has ended
    CHECK(cell.woken == std::vector<JobId>{11});
    CHECK(gang(11, 200) == 3);
    CHECK_FALSE(cell.gates.blocked(11));
    CHECK(cell.gates.impossible(7, kCpu, {{"licence", 1}}, 4).empty());
    CHECK(cell.gates.impossible(7, kCpu, {{"licence", 1}}, 5).find("5 tasks at once") !=
          std::string::npos);
}

TEST_CASE("Gates: who asks for more than there will ever be stops nobody", "[plm]") {
    Cell cell(licences(1));  // it was more when the job was accepted
    const auto three = cell.gates.tolls(7, kCpu, {{"licence", 3}});
    const auto one = cell.gates.tolls(7, kCpu, {{"licence", 1}});
    CHECK(cell.settle(10, three, 0, 1, 50) == 0);
    CHECK(cell.gates.blocked(10)->what == "licence");
    CHECK(cell.settle(11, one, 0, 1, 100) == 1);
    CHECK(cell.settle(11, one, 0, 0, 100) == 0);
    CHECK(cell.settle(10, three, 0, 0, 50) == 0);
    CHECK_FALSE(cell.gates.knows(10));
}

TEST_CASE("Gates: a token that is not in use yet goes to a better one that waits", "[plm]") {
    Cell cell(licences(1));
    const auto one = cell.gates.tolls(7, kCpu, {{"licence", 1}});
    CHECK(cell.settle(10, one, 0, 1, 100) == 1);
    CHECK(cell.settle(12, one, 0, 1, 50) == 0);
    CHECK(cell.settle(10, one, 0, 1, 100) == 0);
    CHECK(cell.woken == std::vector<JobId>{12});
    CHECK(cell.settle(12, one, 0, 1, 50) == 1);
}

TEST_CASE("Gates: quotas are by user, each thing for itself", "[plm]") {
    CellPolicy policy;
    policy.quotas["ann"].gpus = 1;
    policy.quotas["*"].tasks = 2;
    Cell cell(policy);
    const Resources gpu{1000, 1, 0};
    const auto with_gpu = cell.gates.tolls(1, gpu, {});
    const auto without = cell.gates.tolls(1, kCpu, {});
    CHECK(without.empty());
    CHECK(cell.settle(1, with_gpu, 0, 1, 10) == 1);
    CHECK(cell.settle(2, with_gpu, 0, 1, 20) == 0);
    CHECK(cell.gates.blocked(2)->quota);
    CHECK(cell.settle(3, cell.gates.tolls(2, gpu, {}), 0, 5, 30) == 2);
    CHECK(cell.settle(4, cell.gates.tolls(3, gpu, {}), 0, 1, 30) == 1);
    CHECK(cell.gates.impossible(1, Resources{1000, 2, 0}, {}).find("resources.gpu") == 0);
    CHECK(cell.gates.impossible(1, gpu, {}).empty());
    CHECK(cell.gates.impossible(1, gpu, {{"licence", 1}}).find("limits: ") == 0);
}

TEST_CASE("Gates: what holds its place keeps it, beyond the limit too", "[plm]") {
    Cell cell(licences(2));
    const auto one = cell.gates.tolls(7, kCpu, {{"licence", 1}});
    CHECK(cell.settle(10, one, 5, 3, 100) == 5);
    CHECK(cell.gates.blocked(10)->used == 5);
    CHECK(cell.settle(10, one, 1, 3, 100) == 2);
}

TEST_CASE("Gates: random jobs never exceed, and nobody waits beside room", "[plm]") {
    const auto seed = test::seed();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    CellPolicy policy;
    policy.limits = {{"a", 3}, {"b", 5}};
    policy.quotas["*"].cpu_milli = 8000;
    Cell cell(policy);
    struct Job {
        Gates::Tolls tolls;
        std::uint64_t key = 0, running = 0, left = 0;
    };
    std::map<JobId, Job> jobs;
    const auto settle = [&](JobId first) {
        std::vector<JobId> woken{first};
        for (int turns = 0; !woken.empty(); ++turns) {
            REQUIRE(turns < 10'000);
            const auto id = woken.back();
            woken.pop_back();
            auto& job = jobs[id];
            const auto got =
                cell.gates.settle(id, job.tolls, job.running, job.left, job.key, woken);
            REQUIRE(got >= job.running);
            REQUIRE(got <= job.running + job.left);
            job.left -= got - job.running;  // what is let in starts at once
            job.running = got;
        }
    };
    for (JobId step = 1; step <= 3'000; ++step) {
        if (below(2) == 0) {
            auto& job = jobs[step];
            std::vector<LimitTaken> limits;
            if (below(2) == 0) limits.push_back({"a", static_cast<std::uint32_t>(1 + below(2))});
            if (below(2) == 0) limits.push_back({"b", static_cast<std::uint32_t>(1 + below(3))});
            const auto cpus = static_cast<std::uint32_t>(1000 * (1 + below(4)));
            job.tolls =
                cell.gates.tolls(static_cast<std::uint32_t>(below(3)), {cpus, 0, 0}, limits);
            job.key = below(1'000'000);
            job.left = 1 + below(4);
            settle(step);
        } else if (!jobs.empty()) {
            auto at = jobs.begin();
            std::advance(at, static_cast<std::ptrdiff_t>(below(jobs.size())));
            if (at->second.running > 0) --at->second.running;
            settle(at->first);
            if (at->second.running + at->second.left == 0) jobs.erase(at);
        }
        std::map<std::uint32_t, std::uint64_t> used;
        for (const auto& [id, job] : jobs) {
            for (const auto& toll : job.tolls) used[toll.gate] += toll.amount * job.running;
        }
        for (const auto& [id, job] : jobs) {
            const auto blocked = cell.gates.blocked(id);
            REQUIRE(blocked.has_value() == (job.left > 0));
            if (!blocked) continue;
            REQUIRE(blocked->used <= blocked->capacity);
        }
    }
    // All end, all come to their turn.
    for (int round = 0; round < 10'000 && !jobs.empty(); ++round) {
        const auto busy = std::find_if(jobs.begin(), jobs.end(),
                                       [](const auto& one) { return one.second.running > 0; });
        REQUIRE(busy != jobs.end());
        --busy->second.running;
        const auto id = busy->first;
        settle(id);
        if (jobs[id].running + jobs[id].left == 0) jobs.erase(id);
    }
    CHECK(jobs.empty());
}
