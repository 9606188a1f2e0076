#include "common/shm/layout.h"

#include <bit>
#include <string>

#include <xxhash.h>

#include "common/shm/segment.h"
#include "common/shm/task_slots.h"

namespace reeve::shm {
namespace {

constexpr std::uint32_t kTaskSlotsMax = 1U << 24;
constexpr std::uint32_t kClassesMax = 1U << 20;
constexpr std::uint32_t kJobsMax = 1U << 24;
constexpr std::uint32_t kRingMax = 1U << 20;
constexpr std::uint32_t kRingMin = 4;
constexpr std::uint64_t kArenaMax = 1ULL << 40;

// Sections are appended one after another, each on a page or a pair of cache lines.
class Placer {
public:
    std::uint64_t place(std::uint64_t bytes, std::uint64_t alignment = 128) {
        at_ = (at_ + alignment - 1) / alignment * alignment;
        const auto start = at_;
        at_ += bytes;
        return start;
    }

private:
    std::uint64_t at_ = 0;
};

std::uint64_t ring_bytes(std::uint64_t entries, std::uint64_t entry_bytes) {
    return (sizeof(RingHeader) + entries * entry_bytes + 127) / 128 * 128;
}

std::uint32_t hash_layout(const Layout& layout) {
    const auto& config = layout.config;
    const std::uint64_t facts[] = {sizeof(Header),
                                   sizeof(Participant),
                                   sizeof(TaskSlot),
                                   sizeof(HeapNode),
                                   sizeof(ClassEntry),
                                   sizeof(WorkerSlot),
                                   sizeof(JobEntry),
                                   sizeof(RingHeader),
                                   sizeof(SlotHint),
                                   sizeof(Event),
                                   kChunkSlots,
                                   kRankGroup,
                                   kParticipants,
                                   config.task_slots,
                                   config.classes,
                                   config.workers,
                                   config.jobs,
                                   config.dispatch_ring,
                                   config.completion_ring,
                                   config.worker_event_ring,
                                   config.role_event_ring,
                                   config.arena_bytes,
                                   layout.participants,
                                   layout.task_slots,
                                   layout.chunk_owner,
                                   layout.heap_slot_nodes,
                                   layout.heap_group_nodes,
                                   layout.dirty,
                                   layout.dirty_sum,
                                   layout.classes,
                                   layout.workers,
                                   layout.worker_heap,
                                   layout.rank_floors,
                                   layout.rank_marks,
                                   layout.jobs,
                                   layout.event_rings,
                                   layout.dispatch_rings,
                                   layout.completion_rings,
                                   layout.arena,
                                   layout.total_bytes};
    return static_cast<std::uint32_t>(XXH3_64bits(facts, sizeof facts));
}

Status check_count(const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) {
    if (value >= low && value <= high) return {};
    return fail(ErrorCode::kInvalidArgument,
                std::string("segment: ") + name + " is " + std::to_string(value) + ", must be " +
                    std::to_string(low) + " to " + std::to_string(high));
}

Status check_ring(const char* name, std::uint32_t entries) {
    REEVE_TRY(check_count(name, entries, kRingMin, kRingMax));
    if (std::has_single_bit(entries)) return {};
    return fail(ErrorCode::kInvalidArgument, std::string("segment: ") + name + " is " +
                                                 std::to_string(entries) +
                                                 ", must be a power of two");
}

}  // namespace

const char* to_string(WaitsFor what) {
    switch (what) {
        case WaitsFor::kNothing:
            return "";
        case WaitsFor::kNamedLimit:
            return "named-limit";
        case WaitsFor::kQuota:
            return "quota";
    }
    return "";
}

const char* to_string(WorkerState state) {
    switch (state) {
        case WorkerState::kFree:
            return "free";
        case WorkerState::kJoining:
            return "joining";
        case WorkerState::kAlive:
            return "alive";
        case WorkerState::kDraining:
            return "draining";
        case WorkerState::kDead:
            return "dead";
        case WorkerState::kLeft:
            return "left";
    }
    return "damaged";
}

Layout::Layout(const SegmentConfig& wanted)
    : config(wanted), chunks(wanted.task_slots / kChunkSlots) {
    const std::uint64_t dirty_words = (chunks + 63) / 64;
    const std::uint64_t sum_words = (dirty_words + 63) / 64;
    rank_groups = (config.workers + kRankGroup - 1) / kRankGroup;

    Placer placer;
    placer.place(sizeof(Header));
    participants = placer.place(kParticipants * sizeof(Participant));
    task_slots = placer.place(std::uint64_t{config.task_slots} * sizeof(TaskSlot), 4096);
    chunk_owner = placer.place(std::uint64_t{chunks} * 4);
    heap_slot_nodes = placer.place(std::uint64_t{config.task_slots} * sizeof(HeapNode), 4096);
    heap_group_nodes = placer.place(std::uint64_t{chunks} * 8 * sizeof(HeapNode));
    dirty = placer.place(dirty_words * 8);
    dirty_sum = placer.place(sum_words * 64);
    classes = placer.place(std::uint64_t{config.classes} * sizeof(ClassEntry), 4096);
    workers = placer.place(std::uint64_t{config.workers} * sizeof(WorkerSlot), 4096);
    worker_heap = placer.place(std::uint64_t{config.workers} * 8);
    rank_floors = placer.place(std::uint64_t{rank_groups} * sizeof(RankFloor));
    rank_marks = placer.place(8 + (rank_groups + 63) / 64 * 8);
    jobs = placer.place(std::uint64_t{config.jobs} * sizeof(JobEntry), 4096);
    event_rings =
        placer.place(2 * ring_bytes(config.role_event_ring, sizeof(Event)) +
                         config.workers * ring_bytes(config.worker_event_ring, sizeof(Event)),
                     4096);
    dispatch_rings =
        placer.place(config.workers * ring_bytes(config.dispatch_ring, sizeof(SlotHint)), 4096);
    completion_rings =
        placer.place(config.workers * ring_bytes(config.completion_ring, sizeof(SlotHint)), 4096);
    arena = placer.place(config.arena_bytes, 4096);
    total_bytes = placer.place(0, 4096);
    hash = hash_layout(*this);
}

Status check_task_slots(std::uint64_t count) {
    const auto given = std::to_string(count);
    std::string wrong;
    if (count < kChunkSlots) {
        wrong = given + " is too few; write " + std::to_string(kChunkSlots) + " or more";
    } else if (count > kTaskSlotsMax) {
        wrong = given + " is too many; write " + std::to_string(kTaskSlotsMax) + " or fewer";
    } else if (count % kChunkSlots != 0) {
        const auto next = (count / kChunkSlots + 1) * kChunkSlots;
        wrong = given + " is no multiple of " + std::to_string(kChunkSlots) + "; write " +
                std::to_string(next);
    } else {
        return {};
    }
    return fail(ErrorCode::kInvalidArgument, wrong);
}

Status check_config(const SegmentConfig& config) {
    if (auto good = check_task_slots(config.task_slots); !good) {
        return fail(std::move(good).error().with("segment: task_slots"));
    }
    REEVE_TRY(check_count("classes", config.classes, 1, kClassesMax));
    REEVE_TRY(check_count("workers", config.workers, 1, kWorkersMax));
    REEVE_TRY(check_count("jobs", config.jobs, 1, kJobsMax));
    REEVE_TRY(check_ring("dispatch_ring", config.dispatch_ring));
    REEVE_TRY(check_ring("completion_ring", config.completion_ring));
    REEVE_TRY(check_ring("worker_event_ring", config.worker_event_ring));
    REEVE_TRY(check_ring("role_event_ring", config.role_event_ring));
    return check_count("arena_bytes", config.arena_bytes, 0, kArenaMax);
}

}  // namespace reeve::shm
