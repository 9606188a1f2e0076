// HeadRig plays PLM, scheduler and register for one real worker: it owns a segment, welcomes the
// worker, dispatches tasks into slots, and reads events and hints.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "common/process/cell.h"
#include "common/shm/ring.h"
#include "common/shm/segment.h"
#include "reeve/v1/reeve.pb.h"
#include "worker/worker.h"

namespace reeve::worker::test {

class HeadRig {
public:
    explicit HeadRig(std::uint32_t event_ring = 256);
    ~HeadRig();

    // Starts `worker_main` in a process of its own; REEVE_FP as given.
    void start_worker(const std::string& failpoint = "");
    void start_worker_and_join(const std::string& failpoint = "");
    void await_alive();
    void kill_agent();                       // SIGKILL, reaped
    int wait_exit(int timeout_ms = 20'000);  // exit status, -signal; fails the test on timeout
    void signal_agent(int number);

    v1::TaskSpec shell(const std::string& script) const;
    // A slot assigned to the worker; the hint is pushed and the worker woken.
    std::uint32_t dispatch(const v1::TaskSpec& spec, std::uint32_t flags = 0,
                           bool with_hint = true);
    // A follower: it begins when `first` is over. hand_on() is what the scheduler does by then.
    std::uint32_t dispatch_behind(std::uint32_t first, const v1::TaskSpec& spec);
    void hand_on(std::uint32_t slot);
    void intend(std::uint32_t slot, std::uint32_t bits);
    void drop_intent(std::uint32_t slot, std::uint32_t bits);
    bool wait_state(std::uint32_t slot, shm::SlotState state, int timeout_ms = 10'000);
    shm::SlotWord word(std::uint32_t slot) const { return shm::load_word(task(slot)); }
    shm::TaskSlot& task(std::uint32_t slot) const { return segment_->task(slot); }
    Outcome outcome(std::uint32_t slot) const {
        return static_cast<Outcome>(task(slot).outcome.load());
    }
    std::string output(std::uint32_t slot) const;  // of the default output file

    // Takes what is in the event ring; without `durable` the ring's head stays.
    std::vector<shm::Event> events(bool durable = true);
    std::vector<shm::SlotHint> hints();

    // A new generation: the old segment is retired, slot `slot` is rebuilt as an orphan.
    void rebuild(std::uint32_t slot);

    const Cell& cell() const { return cell_; }
    shm::Segment& segment() const { return *segment_; }
    shm::WorkerSlot& worker() const { return segment_->worker(0); }
    int agent_pid() const { return agent_pid_; }
    int launcher_pid() const { return static_cast<int>(worker().launcher_pid.load()); }
    std::string cgroup_path() const;
    WorkerOptions& options() { return options_; }

private:
    void create_segment();

    std::string dir_;
    Cell cell_;
    WorkerOptions options_;
    std::unique_ptr<shm::Segment> segment_;
    std::vector<std::unique_ptr<shm::Segment>> old_;
    std::uint32_t generation_ = 1;
    std::uint32_t event_ring_ = 256;
    std::uint32_t next_slot_ = 0;
    std::uint64_t arena_used_ = 0;
    std::uint64_t read_ = 0;  // events seen while not durable
    int agent_pid_ = 0;
};

}  // namespace reeve::worker::test
