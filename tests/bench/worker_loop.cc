// Process tasks per second through one real worker, its rings and its launcher.
//
//   worker_loop [tasks] [parallel] [program]
//
// Plays scheduler and PLM: dispatches into slots, drains events (as if made durable at once), and
// dispatches the next task for each completion hint. No ledger, no placement: what the worker
// itself costs. Hold it against launch_loop of the same run. One JSON line.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/cell.h"
#include "common/process/cgroup.h"
#include "common/process/small_file.h"
#include "common/shm/ring.h"
#include "common/shm/segment.h"
#include "common/shm/wake.h"
#include "reeve/v1/reeve.pb.h"
#include "worker/worker.h"

using namespace reeve;
using shm::SlotState;
using shm::SlotWord;

namespace {

[[noreturn]] void give_up(const char* what) {
    std::fprintf(stderr, "worker_loop: %s\n", what);
    std::exit(1);
}

struct Head {
    Cell cell;
    std::unique_ptr<shm::Segment> segment;
    std::uint64_t payload_bytes = 0;
    pid_t agent = 0;

    void create(const std::string& dir) {
        cell = find_cell(dir).value();
        if (!create_cell_directories(cell)) give_up("cannot make the state directory");
        shm::SegmentConfig config;
        config.task_slots = 1024;
        config.workers = 4;
        config.classes = 16;
        config.jobs = 64;
        config.arena_bytes = 1 << 20;
        auto made = shm::Segment::create("/reeve-" + cell.hash + "-1", config, 1, 1);
        if (!made) give_up(made.error().message.c_str());
        segment = std::move(*made);
        segment->header().phase.store(shm::Phase::kReady);
        if (!write_segment_name(cell, segment->name())) give_up("cannot name the segment");
    }

    void start_worker() {
        agent = ::fork();
        if (agent == 0) {
            worker::WorkerOptions options;
            options.cpu_milli = 2000;
            ::setenv("REEVE_LOG", "error", 1);
            ::_exit(worker::worker_main(cell, options));
        }
        auto& self = segment->worker(0);
        const auto deadline = boot_ns() + 10 * kSecond;
        while (self.agent.heartbeat_ns.load() == 0 && boot_ns() < deadline) ::usleep(1000);
        self.state.store(shm::WorkerState::kAlive);
    }

    void put_payload(const std::string& program) {
        v1::TaskSpec spec;
        spec.add_argv(program);
        spec.set_cwd("/");
        spec.set_uid(::geteuid());
        spec.set_gid(::getegid());
        const auto bytes = spec.SerializeAsString();
        std::memcpy(segment->arena(), bytes.data(), bytes.size());
        payload_bytes = bytes.size();
    }

    void dispatch(std::uint32_t slot, std::uint64_t job) {
        auto& task = segment->task(slot);
        const auto old_word = shm::load_word(task);
        task.payload_offset = 0;
        task.payload_bytes = static_cast<std::uint32_t>(payload_bytes);
        task.job = 1;
        task.element = job;
        const auto word = SlotWord::make(old_word.generation() + 1, 1, shm::kOwnerFirstWorker,
                                         SlotState::kAssigned);
        task.word.store(word.raw);
        if (!shm::dispatch_ring(*segment, 0).try_push({word.raw, slot})) give_up("ring full");
        shm::wake(segment->worker(0).agent.wake);
    }
};

// Nanoseconds on a cpu, all threads.
std::uint64_t cpu_ns(pid_t pid) {
    std::uint64_t sum = 0;
    const auto base = "/proc/" + std::to_string(pid) + "/task";
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(base, error)) {
        const auto text = read_whole(entry.path().string() + "/schedstat");
        if (text) sum += std::strtoull(text->c_str(), nullptr, 10);
    }
    return sum;
}

double run(Head& head, std::uint32_t tasks, std::uint32_t parallel) {
    auto completion = shm::completion_ring(*head.segment, 0);
    auto events = shm::event_ring(*head.segment, shm::kEventRingFirstWorker);
    auto& own = head.segment->participant(shm::kParticipantScheduler).wake;
    const auto start = boot_ns();
    std::uint32_t started = 0;
    std::uint32_t ended = 0;
    while (started < parallel && started < tasks) head.dispatch(started, started + 1), ++started;
    while (ended < tasks) {
        const auto ticket = shm::prepare_sleep(own);
        const auto hint = completion.pop();
        if (!hint) {
            shm::sleep(own, ticket, 100 * kMillisecond);
            if (boot_ns() - start > 300 * kSecond) give_up("stuck");
            continue;
        }
        shm::cancel_sleep(own);
        if (head.segment->task(hint->slot).exit_code.load() != 0) give_up("a task failed");
        ++ended;
        if (started < tasks) head.dispatch(hint->slot, ++started);
        events.advance(events.tail());
    }
    return tasks / (static_cast<double>(boot_ns() - start) / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
    const auto tasks = static_cast<std::uint32_t>(argc > 1 ? std::atoi(argv[1]) : 2000);
    const auto parallel = static_cast<std::uint32_t>(argc > 2 ? std::atoi(argv[2]) : 2);
    char name[] = "/tmp/worker_loop.XXXXXX";
    if (::mkdtemp(name) == nullptr) return 1;
    Head head;
    head.create(name);
    head.put_payload(argc > 3 ? argv[3] : "/bin/true");
    head.start_worker();
    const auto launcher = static_cast<pid_t>(head.segment->worker(0).launcher_pid.load());
    const auto agent_before = cpu_ns(head.agent);
    const auto launcher_before = cpu_ns(launcher);
    const auto rate = run(head, tasks, parallel);
    const auto agent_us = static_cast<double>(cpu_ns(head.agent) - agent_before) / 1e3 / tasks;
    const auto launcher_us = static_cast<double>(cpu_ns(launcher) - launcher_before) / 1e3 / tasks;
    ::kill(head.agent, SIGTERM);
    int status = 0;
    ::waitpid(head.agent, &status, 0);
    const auto backend = probe_cgroups().backend;
    shm::Segment::remove(head.segment->name());
    const std::string remove = std::string("rm -rf ") + name + " " + head.cell.runtime_dir;
    if (std::system(remove.c_str()) != 0) return 1;
    std::printf(
        "{\"name\":\"worker_loop\",\"unit\":\"tasks/s\",\"value\":%.1f,\"tasks\":%u,"
        "\"parallel\":%u,\"cgroup\":\"%s\",\"exit\":%d,"
        "\"agent_cpu_us\":%.1f,\"launcher_cpu_us\":%.1f}\n",
        rate, tasks, parallel, to_string(backend), status, agent_us, launcher_us);
    return 0;
}
