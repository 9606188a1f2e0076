#include "tests/unit/worker/head_rig.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/cgroup.h"
#include "common/process/proc_info.h"
#include "common/shm/wake.h"
#include "tests/support/catch.h"
#include "tests/unit/worker/launcher_rig.h"

namespace reeve::worker::test {

using shm::SlotState;
using shm::SlotWord;
using shm::WorkerState;

HeadRig::HeadRig(std::uint32_t event_ring) : event_ring_(event_ring) {
    char name[] = "/tmp/reeve-test-XXXXXX";
    dir_ = ::mkdtemp(name);
    ::unsetenv("REEVE_STATE_DIR");
    cell_ = find_cell(dir_ + "/cell").value();
    REQUIRE(create_cell_directories(cell_));
    options_.name = "worker-1";
    options_.lease_ms = 2000;
    options_.cpu_milli = 2000;
    options_.memory_bytes = 1ULL << 30;
    create_segment();
}

HeadRig::~HeadRig() {
    const int launcher = launcher_pid();
    if (agent_pid_ > 0) {
        ::kill(agent_pid_, SIGKILL);
        ::waitpid(agent_pid_, nullptr, 0);
    }
    if (launcher > 0 && process_exists(launcher)) ::kill(launcher, SIGKILL);
    (void)end_cgroup(probe_cgroups(), "reeve." + cell_.hash, boot_ns() + 5 * kSecond);
    for (const auto& segment : old_) shm::Segment::remove(segment->name());
    shm::Segment::remove(segment_->name());
    std::filesystem::remove_all(cell_.runtime_dir);
    std::filesystem::remove_all(dir_);
}

void HeadRig::create_segment() {
    shm::SegmentConfig config;
    config.task_slots = 1024;
    config.classes = 16;
    config.workers = 4;
    config.jobs = 64;
    config.dispatch_ring = 256;
    config.completion_ring = 256;
    config.worker_event_ring = event_ring_;
    config.role_event_ring = 256;
    config.arena_bytes = 4 << 20;
    const auto name = "/reeve-" + cell_.hash + "-" + std::to_string(generation_);
    auto made = shm::Segment::create(name, config, 42, generation_);
    REQUIRE(made);
    segment_ = std::move(*made);
    segment_->header().epoch.store(generation_);
    segment_->header().phase.store(shm::Phase::kReady);
    arena_used_ = 0;
    next_slot_ = 0;
    read_ = 0;
    REQUIRE(write_segment_name(cell_, name));
}

void HeadRig::start_worker(const std::string& failpoint) {
    agent_pid_ = ::fork();
    REQUIRE(agent_pid_ >= 0);
    if (agent_pid_ == 0) {
        ::setenv("REEVE_LOG", "error", 1);
        // Failpoints are read when the program starts, so this one is started again.
        if (!failpoint.empty()) ::setenv("REEVE_FP", failpoint.c_str(), 1);
        ::setenv("REEVE_TEST_WORKER_DIR", cell_.dir.c_str(), 1);
        ::execl("/proc/self/exe", "worker", "[worker-process]", nullptr);
        ::_exit(99);
    }
}

void HeadRig::await_alive() {
    REQUIRE(eventually([&] {
        return worker().agent.heartbeat_ns.load() != 0 &&
               worker().agent.pid.load() == static_cast<std::uint32_t>(agent_pid_);
    }));
    auto expected = WorkerState::kJoining;
    worker().state.compare_exchange_strong(expected, WorkerState::kAlive);
    shm::wake(worker().agent.wake);
}

void HeadRig::start_worker_and_join(const std::string& failpoint) {
    start_worker(failpoint);
    await_alive();
}

void HeadRig::kill_agent() {
    ::kill(agent_pid_, SIGKILL);
    REQUIRE(wait_exit() == -SIGKILL);
}

int HeadRig::wait_exit(int timeout_ms) {
    int status = 0;
    REQUIRE(eventually([&] { return ::waitpid(agent_pid_, &status, WNOHANG) == agent_pid_; },
                       timeout_ms));
    agent_pid_ = 0;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void HeadRig::signal_agent(int number) {
    ::kill(agent_pid_, number);
}

v1::TaskSpec HeadRig::shell(const std::string& script) const {
    v1::TaskSpec spec;
    spec.add_argv("/bin/sh");
    spec.add_argv("-c");
    spec.add_argv(script);
    spec.set_cwd(dir_);
    spec.set_uid(::geteuid());
    spec.set_gid(::getegid());
    return spec;
}

std::uint32_t HeadRig::dispatch(const v1::TaskSpec& spec, std::uint32_t flags, bool with_hint) {
    const auto slot = next_slot_++;
    auto& one = task(slot);
    one.claim.store(1);
    segment_->chunk_owner(slot / shm::kChunkSlots).store(0);
    const auto bytes = spec.SerializeAsString();
    std::memcpy(segment_->arena() + arena_used_, bytes.data(), bytes.size());
    one.payload_offset = arena_used_;
    one.payload_bytes = static_cast<std::uint32_t>(bytes.size());
    arena_used_ += (bytes.size() + 63) / 64 * 64;
    one.job = 100 + slot;
    one.element = 0;
    one.flags = flags;
    one.uid = spec.uid();
    one.intent.store(0);
    one.time_limit_ns = spec.time_limit_ms() * kMillisecond;
    one.holder_number.store(worker().number.load());
    one.holder_incarnation.store(worker().incarnation.load());
    const auto word = SlotWord::make(1, 1, shm::kOwnerFirstWorker, SlotState::kAssigned);
    one.word.store(word.raw);
    if (with_hint) {
        auto ring = shm::dispatch_ring(*segment_, 0);
        REQUIRE(eventually([&] { return ring.try_push({word.raw, slot}); }));
        shm::wake(worker().agent.wake);
    }
    return slot;
}

std::uint32_t HeadRig::dispatch_behind(std::uint32_t first, const v1::TaskSpec& spec) {
    const auto slot = dispatch(spec, 0, false);
    task(slot).claim.store(1 | shm::kClaimAhead);
    auto ring = shm::dispatch_ring(*segment_, 0);
    REQUIRE(ring.try_push({word(first).raw, first, shm::HintKind::kBehind}));
    REQUIRE(ring.try_push({word(slot).raw, slot, shm::HintKind::kFollower}));
    shm::wake(worker().agent.wake);
    return slot;
}

void HeadRig::hand_on(std::uint32_t slot) {
    task(slot).claim.store(1);
    REQUIRE(shm::dispatch_ring(*segment_, 0).try_push({word(slot).raw, slot}));
    shm::wake(worker().agent.wake);
}

void HeadRig::intend(std::uint32_t slot, std::uint32_t bits) {
    task(slot).intent.fetch_or(bits);
    shm::wake(worker().agent.wake);
}

void HeadRig::drop_intent(std::uint32_t slot, std::uint32_t bits) {
    task(slot).intent.fetch_and(~bits);
    shm::wake(worker().agent.wake);
}

bool HeadRig::wait_state(std::uint32_t slot, SlotState state, int timeout_ms) {
    return eventually([&] { return word(slot).state() == state; }, timeout_ms);
}

std::string HeadRig::output(std::uint32_t slot) const {
    return read_file(cell_.output + "/" + std::to_string(task(slot).job) + "/0." +
                     std::to_string(word(slot).attempt()) + ".out");
}

std::vector<shm::Event> HeadRig::events(bool durable) {
    auto ring = shm::event_ring(*segment_, shm::kEventRingFirstWorker);
    std::vector<shm::Event> out;
    read_ = std::max(read_, ring.head());
    while (read_ < ring.tail()) out.push_back(ring.peek(read_++));
    if (durable) {
        ring.advance(read_);
        shm::wake(worker().agent.wake);
    }
    return out;
}

std::vector<shm::SlotHint> HeadRig::hints() {
    auto ring = shm::completion_ring(*segment_, 0);
    std::vector<shm::SlotHint> out;
    while (auto hint = ring.pop()) out.push_back(*hint);
    return out;
}

void HeadRig::rebuild(std::uint32_t slot) {
    const auto old_word = word(slot);
    const auto job = task(slot).job;
    const auto number = worker().number.load();
    const auto incarnation = worker().incarnation.load();
    old_.push_back(std::move(segment_));
    ++generation_;
    create_segment();
    // Somewhere else than before.
    next_slot_ = 7;
    auto& one = task(5);
    one.job = job;
    one.holder_number.store(number);
    one.holder_incarnation.store(incarnation);
    one.started_wall_ns.store(1);
    one.word.store(
        SlotWord::make(9, old_word.attempt(), shm::kOwnerOrphan, SlotState::kRunning).raw);
    old_.back()->header().phase.store(shm::Phase::kRetired);
    shm::wake(old_.back()->worker(0).agent.wake);
}

std::string HeadRig::cgroup_path() const {
    const auto support = probe_cgroups();
    if (!support.usable()) return {};
    return support.tracker + "/" + support.prefix + worker().cgroup_root;
}

}  // namespace reeve::worker::test

// Not a test: what start_worker() executes. Hidden, and nothing without its variable.
TEST_CASE("worker process", "[.][worker-process]") {
    const char* dir = std::getenv("REEVE_TEST_WORKER_DIR");
    if (dir == nullptr) return;
    const auto cell = reeve::find_cell(dir);
    reeve::worker::WorkerOptions options;
    options.lease_ms = 2000;
    options.cpu_milli = 2000;
    options.memory_bytes = 1ULL << 30;
    options.grace_ms = 2000;
    ::_exit(cell ? reeve::worker::worker_main(*cell, options) : 98);
}
