// The bytes of a cell's segment: every struct that two reeve processes both touch is here.
//
// A POSIX shared-memory object per cell and generation:
//
//   Header | Participants | TaskSlot[] | chunk heaps | ClassEntry[] | WorkerSlot[] | rank keys |
//   JobEntry[] | rings | payload arena
//
// Offsets and indices, never pointers: each process maps the segment at its own address, and every
// index is bounds-checked by its reader (Segment's accessors), for the contents are untrusted.
// kLayoutVersion and the sizes asserted below make a foreign segment refusable by its header.
//
// Who writes what is noted at each field: one writer per field, or one CAS-guarded word.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/model/outcome.h"
#include "common/model/resources.h"
#include "common/model/wants.h"
#include "common/shm/slot_word.h"

namespace reeve::shm {

inline constexpr std::uint64_t kMagic = 0x31'4556'4545'5245ULL;  // "REEVE1"
inline constexpr std::uint32_t kLayoutVersion = 5;

inline constexpr std::uint32_t kChunkSlots = 64;       // slots of a chunk, all of one class
inline constexpr std::uint32_t kRankGroup = 32;        // worker slots that share a floor and a mark
inline constexpr std::uint32_t kNone32 = 0xFFFFFFFFU;  // "no slot", "no class", "no worker"
inline constexpr std::uint32_t kWorkersMax = 4096;
inline constexpr std::uint32_t kNameBytes = 64;

// Sizes of a segment, fixed at creation, kept in the header. All counts are entries.
struct SegmentConfig {
    std::uint32_t task_slots = 65'536;  // multiple of kChunkSlots
    std::uint32_t classes = 4'096;
    std::uint32_t workers = 64;
    std::uint32_t jobs = 16'384;
    std::uint32_t dispatch_ring = 1'024;  // entries, powers of two
    std::uint32_t completion_ring = 1'024;
    std::uint32_t worker_event_ring = 1'024;
    std::uint32_t role_event_ring = 16'384;  // scheduler, register
    std::uint64_t arena_bytes = 24ULL << 20;
};

enum class Phase : std::uint32_t { kInitialising = 0, kReady = 1, kRetired = 2 };

// A sleeping consumer. The producer publishes, fences, and wakes only if `waiting` is set; every
// sleep is bounded, so a lost wake costs at most that bound. Non-private futex: processes share it.
struct alignas(64) WakeWord {
    std::atomic<std::uint32_t> event{0};    // futex word; + 1 per wake
    std::atomic<std::uint32_t> waiting{0};  // not 0: about to sleep or asleep; see wake.cc
};

// One life of one process of the group. Written by itself; `heartbeat_ns` each loop.
struct alignas(64) Participant {
    std::atomic<std::uint32_t> pid{0};                // 0: nobody
    std::atomic<std::uint32_t> intent_slot{kNone32};  // slot it is moving; a healer climbs it
    std::atomic<std::uint64_t> start_ticks{0};        // /proc/PID/stat field 22: pid reuse guard
    std::atomic<std::uint64_t> heartbeat_ns{0};       // boot_ns of the last loop
    std::atomic<std::uint64_t> epoch{0};              // cell epoch it attached under
    std::uint8_t reserved[32]{};
    WakeWord wake;
};
static_assert(sizeof(Participant) == 128);

inline constexpr std::uint32_t kParticipantPlm = 0;
inline constexpr std::uint32_t kParticipantScheduler = 1;
inline constexpr std::uint32_t kParticipantRegister = 2;
inline constexpr std::uint32_t kParticipants = 4;  // workers have theirs in the worker slot

// A named resource the cell knows; its place is its number in NamedCounts. Whoever needs one claims
// a free place by CAS of the hash and then writes the text, which follows from the hash: two who do
// so write the same. Never given back while the segment lasts.
struct ResourceName {
    std::atomic<std::uint64_t> hash{0};    // of the name; 0: free
    std::atomic<std::uint64_t> text[4]{};  // 31 bytes and a NUL
};
static_assert(sizeof(ResourceName) == 40);

struct alignas(64) Header {
    std::uint64_t magic = 0;
    std::uint32_t layout_version = 0;
    std::uint32_t layout_hash = 0;  // of the struct sizes and the config, see Layout
    std::uint64_t total_bytes = 0;
    std::uint64_t cell_id = 0;  // random at cell creation, same in the ledger
    SegmentConfig config;
    std::uint64_t created_wall_ns = 0;
    std::atomic<std::uint64_t> epoch{0};  // cell epoch; PLM
    std::atomic<Phase> phase{Phase::kInitialising};
    std::uint32_t generation = 0;                           // in the segment's name
    std::atomic<std::uint64_t> next_worker_number{1};       // fetch_add by joining workers
    std::atomic<std::uint64_t> next_worker_incarnation{1};  // fetch_add by joining workers
    // Counters, informative only (relaxed).
    std::atomic<std::uint64_t> placed{0};          // scheduler
    std::atomic<std::uint64_t> fenced_reports{0};  // whoever had a CAS refused
    std::atomic<std::uint64_t> healed_nodes{0};
    std::atomic<std::uint64_t> backlog_tasks{0};  // PLM: queued but not in slots
    std::atomic<std::uint64_t> backlog_jobs{0};   // PLM: live jobs without a JobEntry
    std::atomic<std::uint64_t> sweep_requested{
        0};                                       // + 1 by who could not push an event; PLM sweeps
    std::atomic<std::uint64_t> acknowledging{1};  // 0 while the ledger cannot be written
    std::atomic<std::uint64_t> pushing_for{0};    // slot + 1 of the task victims make room for
    std::atomic<std::uint64_t> backfill{0};       // sched::Backfill, from the policy; PLM
    ResourceName resource_names[NamedCounts::kNamedMax];  // resource_names.h; joining workers
};

// What a person wants of a task somebody else holds; the holder obeys. Bits of TaskSlot::intent.
inline constexpr std::uint32_t kIntentCancel = 1;
inline constexpr std::uint32_t kIntentSuspend = 2;
inline constexpr std::uint32_t kIntentRequeue = 4;  // stop the attempt, queue the task again
inline constexpr std::uint32_t kIntentStop = kIntentCancel | kIntentRequeue;  // either: it goes
inline constexpr std::uint32_t kIntentHold = 8;      // with kIntentRequeue: and hold it
inline constexpr std::uint32_t kIntentPreempt = 16;  // why it is to stop: for a better task

// TaskSlot::flags, fixed while the generation lasts.
inline constexpr std::uint32_t kTaskAtMostOnce = 1;  // --retries never: durable STARTED before exec
inline constexpr std::uint32_t kTaskFunction = 2;    // the payload is a FunctionBlock

// In a claim: assigned ahead of its room, and holds nothing until the one it waits for is over.
inline constexpr std::uint32_t kClaimAhead = 0x8000'0000U;
// The worker slot a claim names; of claim 0 none that exists.
inline std::uint32_t claimed_worker(std::uint32_t claim) {
    return (claim & ~kClaimAhead) - 1;
}

// 256 bytes, four cache lines. Written by the PLM in kInit unless a line says otherwise.
struct alignas(64) TaskSlot {
    // line 0: what placement touches
    std::atomic<std::uint64_t> word{0};  // SlotWord; CAS only
    std::atomic<std::uint64_t> key{0};   // heap key, smaller starts first; PLM
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    std::uint32_t class_id = kNone32;
    std::uint32_t flags = 0;
    std::atomic<std::uint32_t> intent{0};    // fetch_or by the PLM; read by the holder
    std::atomic<std::uint32_t> claim{0};     // worker slot + 1 whose resources it holds; scheduler
    std::atomic<std::uint64_t> gpu_mask{0};  // granted GPU indices on that worker; scheduler,
                                             // and a worker that adopts it after a rebuild
    std::uint64_t time_limit_ns = 0;         // 0: none

    // line 1: identity and payload
    std::uint64_t payload_offset = 0;  // into the arena: a TaskSpec, or a FunctionBlock
    std::uint32_t payload_bytes = 0;
    std::uint32_t uid = 0;
    std::uint64_t submit_wall_ns = 0;
    std::uint64_t not_before_wall_ns = 0;
    std::atomic<std::uint64_t> holder_number{0};  // worker of this attempt; scheduler
    std::atomic<std::uint64_t> holder_incarnation{0};
    std::atomic<std::uint32_t> deaths{0};  // workers that died under it; register
    std::uint32_t retries_max = 0;
    std::int32_t priority = 0;
    std::atomic<std::uint32_t> policy{0};  // task_policy.h; PLM, also while somebody holds it

    // line 2: the attempt's result; written by the worker before its CAS to ended
    std::atomic<std::uint64_t> assigned_wall_ns{0};  // scheduler, before its CAS
    std::atomic<std::uint64_t> started_wall_ns{0};   // worker, before its CAS to running
    std::atomic<std::uint64_t> ended_wall_ns{0};
    std::atomic<std::uint32_t> pid{0};
    std::atomic<std::int32_t> exit_code{0};  // exit status, or -signal
    std::atomic<std::uint8_t> outcome{0};    // Outcome of this attempt
    std::atomic<std::uint8_t> core_dumped{0};
    std::atomic<std::uint8_t> has_digest{0};  // detail holds SHA-256(output), 32 raw bytes
    std::atomic<std::uint8_t> has_text{0};    // detail is the start of a text left for the PLM
    std::uint16_t length_milli = 0;           // length points its key was made with; PLM
    std::uint16_t expected = 0;               // learned run time (run_code.h), 0: none; PLM
    std::atomic<std::uint64_t> user_us{0};
    std::atomic<std::uint64_t> system_us{0};
    std::atomic<std::uint64_t> max_rss_bytes{0};

    // line 3: words for people; written by the worker before its CAS to ended, NUL-terminated
    char detail[64]{};
};
static_assert(sizeof(TaskSlot) == 256);
static_assert(offsetof(TaskSlot, payload_offset) == 64);
static_assert(offsetof(TaskSlot, assigned_wall_ns) == 128);
static_assert(offsetof(TaskSlot, detail) == 192);

// ClassEntry::closed: why none of its tasks may start.
inline constexpr std::uint32_t kClosedBudget = 1;  // its user has spent the budget

// A class: everything placement needs to know that many tasks share (share group and request
// shape). Written by the PLM before `live` becomes 1; read by the scheduler and by explain. The
// scheduler's loop reads the first line only; class_wants.h reads and writes the rest.
struct alignas(64) ClassEntry {
    std::atomic<std::uint32_t> live{0};
    std::uint32_t uid = 0;
    Resources request;
    std::uint64_t wants_hash = 0;          // of what follows; 0: nothing but cpus, memory and GPUs
    std::atomic<std::uint32_t> closed{0};  // PLM, at any time
    std::uint32_t max_price_micro = 0;     // 0: none
    std::uint8_t sla = 0;                  // SlaClass
    std::uint8_t spread = 0;
    std::uint16_t nodes = 0;  // its tasks are one gang of so many; 0: none
    std::uint8_t reserved[4]{};
    std::uint64_t gang = 0;  // the gang's job

    char node_name[kNameBytes]{};               // "" or the only worker it may run on
    char labels[kLabelsWantedBytesMax + 1]{};   // NUL behind each, an empty one ends them
    char resources[kResourcesBytesMax + 1]{};   // the same, NAME=N
    std::atomic<std::uint64_t> spent_nano{0};   // of a user with a budget; PLM, at any time
    std::atomic<std::uint64_t> budget_nano{0};  // 0: none
};
static_assert(sizeof(ClassEntry) == 512);
static_assert(offsetof(ClassEntry, node_name) == 64);

// A chunk heap node: the best child's key, a version against ABA, and the slot it belongs to.
// key kEmptyKey and index kNone32 mean an empty subtree. 16 bytes, moved with one 16-byte CAS.
struct alignas(16) HeapNode {
    std::uint64_t key = ~std::uint64_t{0};
    std::uint32_t version = 0;
    std::uint32_t index = kNone32;
};
static_assert(sizeof(HeapNode) == 16);
inline constexpr std::uint64_t kEmptyKey = ~std::uint64_t{0};

enum class WorkerState : std::uint32_t {
    kFree = 0,
    kJoining = 1,  // filled by the worker itself, adopting orphans; invisible to placement
    kAlive = 2,
    kDraining = 3,  // runs what it has, gets nothing new
    kDead = 4,      // the register is killing and requeueing; then kFree
    kLeft = 5,      // said goodbye; the register requeues what it still holds; then kFree
};
const char* to_string(WorkerState state);

inline constexpr std::uint32_t kGpusShown = 16;

// What the worker's driver said last about one of its GPUs. Informative; the worker, one writer.
struct alignas(64) GpuEntry {
    char uuid[48]{};                      // written while joining
    std::atomic<std::uint32_t> known{0};  // 1: the figures below are the driver's
    std::atomic<std::uint32_t> busy_percent{0};
    std::atomic<std::uint32_t> memory_used_mib{0};  // by anybody
    std::atomic<std::uint32_t> memory_total_mib{0};
};
static_assert(sizeof(GpuEntry) == 64);

// 2176 bytes. `state` is CAS-only: free -> joining (worker), joining -> alive (register, which logs
// WORKER_JOINED), alive <-> draining (register, asked by the PLM), any -> dead (register),
// alive/draining -> left (worker), dead/left -> free (register, once no slot carries its owner id).
struct alignas(64) WorkerSlot {
    std::atomic<WorkerState> state{WorkerState::kFree};
    std::atomic<std::uint32_t> drain_wanted{0};  // PLM sets 1/0; the register obeys
    std::atomic<std::uint64_t> number{0};
    std::atomic<std::uint64_t> incarnation{0};
    std::atomic<std::uint64_t> joined_wall_ns{0};
    std::uint64_t reserved = 0;
    std::atomic<std::uint32_t> launcher_pid{0};
    std::atomic<std::uint32_t> gpu_count{0};
    std::atomic<std::uint64_t> launcher_start_ticks{0};
    std::atomic<std::uint64_t> lease_ns{0};
    Participant agent;                            // its pid, heartbeat and wake word
    Resources capacity;                           // worker, while joining
    Resources used;                               // scheduler only
    std::atomic<std::uint64_t> gpu_used_mask{0};  // scheduler only
    std::atomic<std::uint32_t> tasks_running{0};  // worker, informative
    std::atomic<std::uint32_t> price_micro{0};    // of an hour, what is paid now; worker
    char name[kNameBytes]{};                      // worker, while joining
    char host[kNameBytes]{};
    char cgroup_root[112]{};  // relative name of its cgroup subtree, "" without cgroups
    GpuEntry gpus[kGpusShown];
    std::uint32_t spot = 0;                        // 1: it may vanish; worker, while joining
    std::uint32_t on_demand_micro = 0;             // its price were it not spot
    std::atomic<std::uint64_t> notice_wall_ns{0};  // when it will vanish, 0: not told; PLM
    char labels[kLabelsOfferedBytesMax + 1]{};     // as in ClassEntry; worker, while joining
    char resources[kResourcesBytesMax + 1]{};
};
static_assert(sizeof(WorkerSlot) == 2176);

// What the scheduler holds to be the least rank key of kRankGroup workers; on a line of its own,
// for those who change keys read it more often than it changes. Scheduler.
struct alignas(64) RankFloor {
    std::atomic<std::uint64_t> key{kEmptyKey};
};
static_assert(sizeof(RankFloor) == 64);

enum class JobState : std::uint32_t {
    kFree = 0,
    kWaiting = 1,  // for its dependencies or its begin time
    kHeld = 2,
    kActive = 3,  // some element queued or running
    kEnded = 4,
};

// What keeps the job's next task out of the heaps, whatever is free.
enum class WaitsFor : std::uint8_t { kNothing = 0, kNamedLimit = 1, kQuota = 2 };
const char* to_string(WaitsFor what);  // "", "named-limit", "quota"

inline constexpr std::uint32_t kJobDependenciesShown = 6;

// What ls, show and explain say about a job, also with every daemon stopped. Plain values: copied
// in and out of a JobEntry by job_table.h.
struct JobRecord {
    JobState state = JobState::kFree;
    std::uint32_t dependency_count = 0;
    std::uint64_t job = 0;
    std::uint64_t elements = 0;
    std::uint64_t backlog = 0;  // not yet in a slot
    std::uint64_t held = 0;
    std::uint64_t queued = 0;   // in slots, queued or claimed, or assigned ahead of their room
    std::uint64_t running = 0;  // assigned with room, running, suspended
    std::uint64_t succeeded = 0;
    std::uint64_t failed = 0;  // failed, timed out, out of memory, lost, poison
    std::uint64_t cancelled = 0;
    std::uint64_t submit_wall_ns = 0;
    std::uint64_t start_wall_ns = 0;
    std::uint64_t end_wall_ns = 0;
    Resources request;
    std::uint64_t dependencies[kJobDependenciesShown]{};
    std::uint32_t uid = 0;
    std::int32_t priority = 0;
    std::int32_t exit_code = 0;  // of the first failed element
    WaitsFor waits_for = WaitsFor::kNothing;
    std::uint8_t reserved[3]{};
    std::uint64_t time_limit_ns = 0;
    std::uint64_t not_before_wall_ns = 0;
    std::uint64_t cost_nano = 0;  // of its attempts that ended
    char name[kNameBytes]{};
};
static_assert(sizeof(JobRecord) == 280);

// A JobRecord under a seqlock: `sequence` is odd while it is written. The PLM is the only writer
// and writes through write_job(), everybody reads through read_job(). Ended jobs stay until the
// entry is needed again.
struct alignas(64) JobEntry : JobRecord {
    std::atomic<std::uint32_t> sequence{0};
};
static_assert(sizeof(JobEntry) == 320);

// Rings: single producer, single consumer. Indices only grow; entry i lives at i & (size - 1).
struct alignas(128) RingHeader {
    alignas(64) std::atomic<std::uint64_t> tail{0};  // producer
    alignas(64) std::atomic<std::uint64_t> head{0};  // consumer
};
static_assert(sizeof(RingHeader) == 128);

// Dispatch (scheduler -> worker) and completion (worker -> scheduler): hints, the word decides.
enum class HintKind : std::uint32_t {
    kTask = 0,
    kBehind = 1,    // dispatch: the next hint's task starts when this one's is over
    kFollower = 2,  // dispatch: it starts when the one before it is over; its claim is kClaimAhead
};
struct SlotHint {
    std::uint64_t word = 0;
    std::uint32_t slot = kNone32;
    HintKind kind = HintKind::kTask;
};
static_assert(sizeof(SlotHint) == 16);

enum class EventKind : std::uint32_t {
    kNothing = 0,
    kMoved = 1,         // slot transition old_word -> new_word
    kObserved = 2,      // this slot was seen at new_word (start-up sweep; before a death verdict)
    kWorkerJoined = 3,  // worker, detail = worker slot
    kWorkerDead = 4,
    kWorkerLeft = 5,
    kReportRefused = 6,  // a fenced late report: job, element, worker, attempt in new_word
    kWorkerDrained = 7,
    kWorkerUndrained = 8,
    kPreempt = 9,  // the scheduler asks: stop the attempt in new_word for the task peer_number
                   // (job), peer_incarnation (element)
};

// One event for the PLM, 96 bytes. For kMoved the PLM applies it only if old_word is the last word
// it knows for that slot (or infers the lawful links between); an event of lower rank is a
// repetition.
struct Event {
    EventKind kind = EventKind::kNothing;
    std::uint32_t slot = kNone32;
    std::uint64_t old_word = 0;
    std::uint64_t new_word = 0;
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    std::uint64_t wall_ns = 0;
    std::uint64_t worker_number = 0;  // who acts, or who gets it
    std::uint64_t worker_incarnation = 0;
    std::uint64_t peer_number = 0;  // whom it was taken from
    std::uint64_t peer_incarnation = 0;
    std::int32_t code = 0;  // exit status, reason
    std::uint32_t worker_slot = kNone32;
    std::uint8_t outcome = 0;
    std::uint8_t reserved[7]{};
};
static_assert(sizeof(Event) == 96);

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::atomic<Phase>::is_always_lock_free);

}  // namespace reeve::shm
