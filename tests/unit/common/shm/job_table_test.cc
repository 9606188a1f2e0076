#include "common/shm/job_table.h"

#include <atomic>
#include <cstring>
#include <thread>

#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {

TEST_CASE("read_job: gives back what write_job wrote", "[shm]") {
    TestSegment made;
    JobRecord record;
    record.job = 9;
    record.state = JobState::kActive;
    record.dependencies[5] = 77;
    std::strcpy(record.name, "compress");
    write_job(made->job(3), record);
    update_job(made->job(3), [](JobRecord& change) { change.running = 4; });
    const auto copy = read_job(made->job(3));
    REQUIRE(copy);
    CHECK(copy->job == 9);
    CHECK(copy->running == 4);
    CHECK(copy->dependencies[5] == 77);
    CHECK(std::string(copy->name) == "compress");
    CHECK(made->job(3).sequence.load() == 4);
}

TEST_CASE("read_job: an entry whose writer died in the middle reads as nothing until rewritten",
          "[shm]") {
    TestSegment made;
    auto& entry = made->job(0);
    entry.sequence = 5;
    CHECK_FALSE(read_job(entry));
    write_job(entry, JobRecord{});
    CHECK(entry.sequence.load() == 6);
    CHECK(read_job(entry));
}

TEST_CASE("read_job: a damaged entry is made safe to print", "[shm]") {
    TestSegment made;
    auto& entry = made->job(0);
    std::memset(static_cast<void*>(static_cast<JobRecord*>(&entry)), 0xFF, sizeof(JobRecord));
    const auto copy = read_job(entry);
    REQUIRE(copy);
    CHECK(copy->name[kNameBytes - 1] == '\0');
    CHECK(copy->dependency_count <= kJobDependenciesShown);
    CHECK(copy->state == JobState::kFree);
}

TEST_CASE("read_job: never half of one record and half of another", "[shm][threads]") {
    TestSegment made;
    auto& entry = made->job(1);
    std::atomic<bool> stop{false};
    std::thread writer([&] {
        for (std::uint64_t i = 1; !stop.load(std::memory_order_relaxed); ++i) {
            update_job(entry, [i](JobRecord& record) {
                record.job = i;
                record.cancelled = ~i;
                record.not_before_wall_ns = i * 3;
            });
        }
    });
    std::uint64_t torn = 0;
    std::uint64_t read = 0;
    while (read < 20'000) {
        const auto copy = read_job(entry);
        if (!copy || copy->job == 0) continue;
        ++read;
        if (copy->cancelled != ~copy->job || copy->not_before_wall_ns != copy->job * 3) ++torn;
    }
    stop = true;
    writer.join();
    CHECK(torn == 0);
}

}  // namespace reeve::shm
