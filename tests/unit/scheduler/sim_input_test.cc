// The simulator's readers on damaged input: never a crash, and a refusal names the file.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>

#include "scheduler/sim/csv.h"
#include "scheduler/sim/gang_sim.h"
#include "scheduler/sim/job_sim.h"
#include "scheduler/sim/rigid_sim.h"
#include "scheduler/sim/spot_sim.h"
#include "scheduler/sim/swf.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/temp_directory.h"

using namespace reeve;

namespace {

std::string sample(const std::string& name) {
    std::ifstream in(std::string(REEVE_TEST_DATA) + "/" + name, std::ios::binary);
    REQUIRE(in.good());
    return {std::istreambuf_iterator<char>(in), {}};
}

void write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

// A few bytes changed, a piece doubled, removed, or cut off.
std::string damaged(std::string text, std::mt19937_64& random) {
    static constexpr std::string_view kBytes = "0123456789-+.eE\",:{}[]\n\0 nulNaN;|ax";
    const std::size_t at = random() % text.size();
    const std::size_t length = random() % std::min<std::size_t>(text.size() - at, 40);
    switch (random() % 5) {
        case 0:
            return text.substr(0, at);
        case 1:
            return text.erase(at, length);
        case 2:
            return text.insert(random() % text.size(), text.substr(at, length));
        default:
            for (std::uint64_t i = 0; i <= random() % 4; ++i) {
                text[random() % text.size()] = kBytes[random() % kBytes.size()];
            }
            return text;
    }
}

// Returns how many were taken; what was refused has to say which file.
template <typename Read>
int try_damaged(const std::string& name, Read&& read) {
    const std::uint64_t seed = test::seed();
    INFO("REEVE_SEED=" << seed << " " << name);
    std::mt19937_64 random(seed);
    const test::TempDirectory folder;
    const std::string path = folder.path() + "/input";
    const std::string whole = sample(name);
    int taken = 0;
    for (int i = 0; i < 1500; ++i) {
        const std::string text = damaged(whole, random);
        write(path, text);
        const Status status = read(path);
        taken += status ? 1 : 0;
        if (!status) {
            INFO(text);
            REQUIRE(status.error().message.find(path) != std::string::npos);
        }
    }
    return taken;
}

template <typename T>
Status status_of(const Result<T>& result) {
    return result ? Status{} : Status(tl::unexpected(result.error()));
}

}  // namespace

TEST_CASE("sim input: damaged logs, tables and JSON are read or refused", "[sim]") {
    const std::string data = REEVE_TEST_DATA;
    int taken = 0;
    taken += try_damaged("tiny.swf", [](const std::string& path) {
        const auto trace = sim::read_swf(path);
        if (trace) (void)sim::simulate_rigid(*trace, sched::RigidPolicy::kReeve);
        return status_of(trace);
    });
    taken += try_damaged("sim/gpu-jobs.csv", [](const std::string& path) {
        const auto jobs = sim::read_gpu_jobs(path);
        if (jobs) (void)sim::simulate_gangs(*jobs, 4, sched::GangPolicy::kFifo);
        return status_of(jobs);
    });
    taken += try_damaged("sim/gpu-nodes.csv", [](const std::string& path) {
        return status_of(sim::read_gpu_nodes(path));
    });
    taken += try_damaged("sim/spot.json", [](const std::string& path) {
        return status_of(sim::read_spot_traces(path, 1));
    });
    taken += try_damaged("sim/jobs.json", [&](const std::string& path) {
        const auto workload = sim::read_workload(path, data + "/sim/nodes.json");
        if (workload) {
            const auto result = sim::simulate_jobs(*workload);
            (void)to_table(result, *workload);
            (void)to_json(result, *workload);
            (void)to_timeline(result, *workload);
        }
        return status_of(workload);
    });
    taken += try_damaged("sim/nodes.json", [&](const std::string& path) {
        const auto workload = sim::read_workload(data + "/sim/jobs.json", path);
        if (workload) (void)sim::simulate_jobs(*workload);
        return status_of(workload);
    });
    CHECK(taken > 100);  // not everything is refused: the simulations were reached
}
