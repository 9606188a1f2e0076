// RegistryRig is a small segment with a Registry on it and real child processes as its workers.
#pragma once

#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/proc_info.h"
#include "common/shm/ring.h"
#include "common/shm/segment.h"
#include "common/shm/task_heap.h"
#include "register/registry.h"

namespace reeve::registry {

// A process that only sleeps, killed and reaped at the end of the test.
class Sleeper {
public:
    Sleeper() : pid_(fork()) {
        if (pid_ == 0) {
            for (;;) pause();
        }
    }
    ~Sleeper() { end(); }
    Sleeper(const Sleeper&) = delete;
    Sleeper& operator=(const Sleeper&) = delete;
    pid_t pid() const { return pid_; }
    std::uint64_t ticks() const { return start_ticks(pid_).value_or(0); }
    void signal(int number) const { kill(pid_, number); }
    bool alive() const { return process_alive(pid_, 0); }
    void end() {
        if (pid_ <= 0) return;
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }

private:
    pid_t pid_;
};

class RegistryRig {
public:
    explicit RegistryRig(const RegisterOptions& options = {}) : options_(options) {
        cell_.hash = "test" + std::to_string(getpid());
        name_ = "/reeve-" + cell_.hash + "-1";
        shm::Segment::remove(name_);
        shm::SegmentConfig config;
        config.task_slots = 256;
        config.classes = 64;
        config.workers = 8;
        config.jobs = 64;
        config.role_event_ring = 1024;
        config.arena_bytes = 1 << 20;
        auto made = shm::Segment::create(name_, config, 1, 1);
        if (!made) std::abort();
        segment_ = std::move(*made);
        segment_->header().phase.store(shm::Phase::kReady);
        for (std::uint32_t chunk = 0; chunk < 2; ++chunk) segment_->chunk_owner(chunk).store(0);
        restart();
    }
    ~RegistryRig() {
        registry_.reset();
        segment_.reset();
        shm::Segment::remove(name_);
    }

    shm::Segment& segment() { return *segment_; }
    const Cell& cell() const { return cell_; }
    // The register is killed and started again.
    void restart() {
        registry_.reset();
        registry_ = std::make_unique<Registry>(*segment_, cell_, options_);
    }
    std::uint64_t step() { return registry_->step(boot_ns()); }
    bool run_until(const std::function<bool()>& condition, std::uint64_t limit_ns = 20 * kSecond) {
        for (const auto deadline = boot_ns() + limit_ns; boot_ns() < deadline;) {
            step();
            if (condition()) return true;
            const timespec pause{0, 1'000'000};
            nanosleep(&pause, nullptr);
        }
        return false;
    }
    void run_for(std::uint64_t duration_ns) {
        run_until([] { return false; }, duration_ns);
    }

    // Fills a worker slot as an agent does.
    shm::WorkerSlot& join(std::uint32_t index, WorkerId id, pid_t agent, pid_t launcher,
                          std::uint64_t lease_ns = 3 * kSecond) {
        auto& worker = segment_->worker(index);
        worker.state.store(shm::WorkerState::kJoining);
        worker.number.store(id.number);
        worker.incarnation.store(id.incarnation);
        worker.launcher_pid.store(static_cast<std::uint32_t>(launcher));
        worker.launcher_start_ticks.store(start_ticks(launcher).value_or(0));
        worker.lease_ns.store(lease_ns);
        worker.agent.start_ticks.store(start_ticks(agent).value_or(0));
        worker.agent.pid.store(static_cast<std::uint32_t>(agent));
        worker.agent.heartbeat_ns.store(boot_ns());
        return worker;
    }
    shm::WorkerState state(std::uint32_t index) { return segment_->worker(index).state.load(); }

    // A task as the scheduler and the worker leave it.
    shm::TaskSlot& hold(std::uint32_t slot, std::uint16_t owner, WorkerId holder,
                        shm::SlotState state, std::uint16_t attempt = 1) {
        auto& task = segment_->task(slot);
        task.job = slot + 1;
        task.key.store(1000 + slot);
        task.class_id = 0;
        task.holder_number.store(holder.number);
        task.holder_incarnation.store(holder.incarnation);
        task.word.store(shm::SlotWord::make(1, attempt, owner, state).raw);
        return task;
    }
    shm::TaskSlot& hold(std::uint32_t slot, std::uint32_t index, shm::SlotState state) {
        const auto& worker = segment_->worker(index);
        return hold(slot, static_cast<std::uint16_t>(shm::kOwnerFirstWorker + index),
                    WorkerId{worker.number.load(), worker.incarnation.load()}, state);
    }
    shm::SlotWord word(std::uint32_t slot) { return shm::load_word(segment_->task(slot)); }
    bool in_heap(std::uint32_t slot) {
        const auto head = shm::TaskHeap(*segment_).chunk_head(slot / shm::kChunkSlots);
        return head && head->slot == slot;
    }

    // Everything the register told the PLM since the last call.
    std::vector<shm::Event> events() {
        std::vector<shm::Event> all;
        auto ring = shm::event_ring(*segment_, shm::kEventRingRegister);
        while (const auto event = ring.pop()) all.push_back(*event);
        return all;
    }

private:
    RegisterOptions options_;
    Cell cell_;
    std::string name_;
    std::unique_ptr<shm::Segment> segment_;
    std::unique_ptr<Registry> registry_;
};

}  // namespace reeve::registry
