// Segment creates, opens and checks a cell's shared memory and hands out bounds-checked views of
// it.
//
// The object is made with O_EXCL and mode 0600, given its blocks with posix_fallocate before it is
// mapped (ftruncate on a full tmpfs succeeds and the first touch is SIGBUS), and opened through
// boost.interprocess. Opening checks owner, mode, size, magic, layout version and layout hash; a
// wrong one is refused with the reason. Only this file includes <boost/interprocess/*>.
//
// Thread-safe after construction. Death: a creator that dies leaves kInitialising; the next PLM
// removes the object and makes a new generation.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <string_view>

#include "common/base/assert.h"
#include "common/base/result.h"
#include "common/shm/layout.h"

namespace reeve::shm {

// Where each section starts, in bytes from the segment's start; computed from the config alone.
struct Layout {
    explicit Layout(const SegmentConfig& config);

    SegmentConfig config;
    std::uint32_t chunks = 0;
    std::uint64_t participants = 0;
    std::uint64_t task_slots = 0;
    std::uint64_t chunk_owner = 0;       // atomic<u32> per chunk: class id, or kNone32
    std::uint64_t heap_slot_nodes = 0;   // HeapNode per slot
    std::uint64_t heap_group_nodes = 0;  // 8 per chunk, one per 8 slots
    std::uint64_t dirty = 0;             // atomic<u64> per 64 chunks
    std::uint64_t dirty_sum = 0;         // atomic<u64> per 64 words of dirty, own cache line each
    std::uint64_t classes = 0;
    std::uint64_t workers = 0;
    std::uint64_t worker_heap = 0;  // atomic<u64> per worker slot: rank keys, see worker_heap.h
    std::uint64_t rank_floors = 0;  // RankFloor per kRankGroup of them
    std::uint64_t rank_marks = 0;   // atomic<u64>: their sum, then one per 64 groups
    std::uint32_t rank_groups = 0;
    std::uint64_t jobs = 0;
    std::uint64_t event_rings = 0;  // scheduler, register, then one per worker slot
    std::uint64_t dispatch_rings = 0;
    std::uint64_t completion_rings = 0;
    std::uint64_t arena = 0;
    std::uint64_t total_bytes = 0;
    std::uint32_t hash = 0;  // of struct sizes, offsets and config
};

Status check_config(const SegmentConfig& config);

class Segment {
public:
    // Creates /dev/shm object `name` (leading slash), zeroed and initialised, phase kInitialising.
    // Errors: kAlreadyExists, kResourceExhausted (no room: says how much is needed),
    // kInvalidArgument.
    static Result<std::unique_ptr<Segment>> create(const std::string& name,
                                                   const SegmentConfig& config,
                                                   std::uint64_t cell_id, std::uint32_t generation);
    // Opens an existing one. writable=false maps read-only (the supervisor, ls, show, explain, shm
    // dump): cut short, such a one reads as zeros and retired() instead of SIGBUS.
    // Errors: kNotFound, kFailedPrecondition (wrong version, still initialising, retired: says so),
    // kDataLoss (damaged header), kPermissionDenied (owner or mode).
    static Result<std::unique_ptr<Segment>> open(const std::string& name, bool writable);
    static void remove(const std::string& name);
    // Marks the object retired, whatever else is wrong with it, so that whoever maps it lets go,
    // and removes its name. For the PLM, before it makes a new generation.
    static void retire(const std::string& name);

    ~Segment();
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

    const std::string& name() const { return name_; }
    const Layout& layout() const { return layout_; }
    const SegmentConfig& config() const { return layout_.config; }
    Header& header() const { return at<Header>(0, 0); }
    bool retired() const { return header().phase.load() != Phase::kReady; }
    // Whether what is mapped is still what others find under the name, with a sound header. Errors:
    // kDataLoss (damaged), kFailedPrecondition (removed, or another one stands there).
    Status check_mapped() const;

    Participant& participant(std::uint32_t index) const {
        REEVE_ASSERT(index < kParticipants);
        return at<Participant>(layout_.participants, index);
    }
    // Index accessors assert their bound: an index read from the segment is checked with
    // valid_slot() etc. first, by whoever read it.
    TaskSlot& task(std::uint32_t slot) const {
        REEVE_ASSERT(slot < config().task_slots);
        return at<TaskSlot>(layout_.task_slots, slot);
    }
    bool valid_slot(std::uint32_t slot) const { return slot < config().task_slots; }
    ClassEntry& task_class(std::uint32_t index) const {
        REEVE_ASSERT(index < config().classes);
        return at<ClassEntry>(layout_.classes, index);
    }
    WorkerSlot& worker(std::uint32_t index) const {
        REEVE_ASSERT(index < config().workers);
        return at<WorkerSlot>(layout_.workers, index);
    }
    JobEntry& job(std::uint32_t index) const {
        REEVE_ASSERT(index < config().jobs);
        return at<JobEntry>(layout_.jobs, index);
    }
    std::atomic<std::uint32_t>& chunk_owner(std::uint32_t chunk) const {
        REEVE_ASSERT(chunk < layout_.chunks);
        return at<std::atomic<std::uint32_t>>(layout_.chunk_owner, chunk);
    }
    bool valid_chunk(std::uint32_t chunk) const { return chunk < layout_.chunks; }
    bool valid_class(std::uint32_t index) const { return index < config().classes; }
    bool valid_worker(std::uint32_t index) const { return index < config().workers; }
    bool valid_job(std::uint32_t index) const { return index < config().jobs; }
    // The payload bytes of a slot, or empty when its offset or size does not lie in the arena.
    std::string_view payload(const TaskSlot& slot) const;
    char* arena() const { return base_ + layout_.arena; }
    char* bytes(std::uint64_t offset) const { return base_ + offset; }

    template <typename T>
    T& at(std::uint64_t section, std::uint64_t index) const {
        return reinterpret_cast<T*>(base_ + section)[index];
    }

private:
    struct Mapping;  // hides boost
    Segment(std::string name, const SegmentConfig& config, std::unique_ptr<Mapping> mapping);

    std::string name_;
    Layout layout_;
    std::unique_ptr<Mapping> mapping_;
    char* base_ = nullptr;
};

// For fields of a slot whose word is moved next: that CAS releases them all.
template <typename T>
void fill(std::atomic<T>& field, std::type_identity_t<T> value) {
    field.store(value, std::memory_order_relaxed);
}

// An attempt begins: what the one before it left goes. Before the word says RUNNING, or right after
// where only that move makes the slot the caller's.
inline void fill_start(TaskSlot& slot, std::uint64_t started_wall_ns) {
    fill(slot.pid, 0);
    fill(slot.has_digest, 0);
    fill(slot.has_text, 0);
    fill(slot.started_wall_ns, started_wall_ns);
}

// Reads a SlotWord and names its fields in one go.
inline SlotWord load_word(const TaskSlot& slot) {
    return SlotWord{slot.word.load(std::memory_order_seq_cst)};
}

}  // namespace reeve::shm
