// shm check: whether the segment keeps its invariants (docs/ARCHITECTURE.md, section 7).
#include <algorithm>
#include <bit>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "cli/json_writer.h"
#include "cli/look.h"
#include "cli/render.h"
#include "cli/shm_command.h"
#include "cli/text.h"
#include "common/shm/ring.h"
#include "common/shm/task_heap.h"

namespace reeve::cli {

namespace {

using shm::SlotState;

constexpr int kLooks = 4;
constexpr std::chrono::milliseconds kBetweenLooks{120};  // the scheduler heals within 50 ms
constexpr std::size_t kFindingsMax = 1000;

class Checker {
public:
    explicit Checker(const shm::Segment& segment) : segment_(segment) {}

    std::vector<Finding> run() {
        header();
        slots();
        heaps();
        workers();
        rings();
        return std::move(findings_);
    }

private:
    void add(const char* code, std::string text) {
        if (findings_.size() < kFindingsMax) findings_.push_back({code, std::move(text)});
    }
    static std::string slot_words(std::uint32_t slot, const shm::TaskSlot& task) {
        return "slot " + std::to_string(slot) + " (task " + task_id(task.job, task.element) + ")";
    }

    void header() {
        const auto phase = segment_.header().phase.load();
        if (phase != shm::Phase::kReady) add("phase", "the segment is not ready");
        if (segment_.header().acknowledging.load() == 0) {
            add("ledger", "the PLM cannot write its ledger; free disk space");
        }
    }

    void owner(std::uint32_t index, const shm::TaskSlot& task, shm::SlotWord word) {
        const auto who = word.owner();
        bool good = true;
        switch (word.state()) {
            case SlotState::kHeld:
            case SlotState::kQueued:
                good = who == shm::kOwnerNone;
                break;
            case SlotState::kClaimed:
                good = who == shm::kOwnerScheduler;
                break;
            case SlotState::kAssigned:
            case SlotState::kRunning:
            case SlotState::kSuspended:
            case SlotState::kEnding:
                good = who == shm::kOwnerOrphan ||
                       (word.owned_by_worker() && segment_.valid_worker(word.worker_slot()));
                break;
            default:
                break;
        }
        if (!good) {
            add("slot-owner", slot_words(index, task) + " is " + shm::to_string(word.state()) +
                                  " but owned by " + std::to_string(who));
        }
    }

    void slots() {
        std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t> seen;
        for (std::uint32_t i = 0; i < segment_.config().task_slots; ++i) {
            const auto& task = segment_.task(i);
            const auto word = shm::load_word(task);
            if (word.state() == SlotState::kFree || word.state() == SlotState::kInit) continue;
            if (static_cast<int>(word.state()) >= shm::kSlotStates) {
                add("slot-state", "slot " + std::to_string(i) + " has the unknown state " +
                                      std::to_string(static_cast<int>(word.state())));
                continue;
            }
            owner(i, task, word);
            const auto [known, fresh] = seen.emplace(std::pair(task.job, task.element), i);
            if (!fresh) {
                add("duplicate",
                    slot_words(i, task) + " is also in slot " + std::to_string(known->second));
            }
            if (task.payload_bytes > 0 && segment_.payload(task).empty()) {
                add("payload", slot_words(i, task) + " has its payload outside the arena");
            }
            if (task.class_id >= segment_.config().classes) {
                add("class", slot_words(i, task) + " has no class");
            }
        }
    }

    void heaps() {
        const shm::BasicTaskHeap<shm::LivePolicy> heap(segment_);
        for (std::uint32_t chunk = 0; chunk < heap.chunk_count(); ++chunk) check_chunk(heap, chunk);
    }

    void check_chunk(const shm::BasicTaskHeap<shm::LivePolicy>& heap, std::uint32_t chunk) {
        std::uint64_t best = shm::kEmptyKey;
        const auto class_id = segment_.chunk_owner(chunk).load();
        for (std::uint32_t i = 0; i < shm::kChunkSlots; ++i) {
            const auto index = chunk * shm::kChunkSlots + i;
            const auto& task = segment_.task(index);
            const auto word = shm::load_word(task);
            if (word.state() == SlotState::kQueued) best = std::min(best, task.key.load());
            const bool used = word.state() > SlotState::kInit;
            if (used && class_id != task.class_id) {
                add("chunk-owner", slot_words(index, task) + " lies in chunk " +
                                       std::to_string(chunk) + " of another class");
            }
        }
        bool damaged = false;
        const auto head = heap.chunk_head(chunk, &damaged);
        const auto shown = head ? head->key : shm::kEmptyKey;
        if (damaged) {
            add("heap-node", "chunk " + std::to_string(chunk) + " has a damaged heap node");
        } else if (shown != best) {
            add("heap-head", "chunk " + std::to_string(chunk) +
                                 (best == shm::kEmptyKey ? " shows a head but has no queued task"
                                                         : " does not show its best task"));
        }
    }

    // What runs is counted where its claim says, and nowhere else.
    void uncounted(std::uint32_t index, const shm::TaskSlot& task, shm::SlotWord word,
                   std::uint32_t claim) {
        if (!word.held_by_worker() || !segment_.valid_worker(word.worker_slot())) return;
        const auto state = segment_.worker(word.worker_slot()).state.load();
        if (state != shm::WorkerState::kAlive || shm::claimed_worker(claim) == word.worker_slot()) {
            return;
        }
        add("uncounted", slot_words(index, task) + " is " + shm::to_string(word.state()) +
                             " on worker slot " + std::to_string(word.worker_slot()) +
                             ", which does not count it");
    }

    void workers() {
        std::map<std::uint32_t, Resources> claimed;
        std::map<std::uint32_t, std::uint64_t> gpus;
        for (std::uint32_t i = 0; i < segment_.config().task_slots; ++i) {
            const auto& task = segment_.task(i);
            const auto claim = task.claim.load();
            uncounted(i, task, shm::load_word(task), claim);
            if (claim == 0) continue;
            if (!segment_.valid_worker(shm::claimed_worker(claim))) {
                add("claim", slot_words(i, task) + " claims worker slot " +
                                 std::to_string(shm::claimed_worker(claim)) +
                                 ", which does not exist");
                continue;
            }
            if ((claim & shm::kClaimAhead) != 0) continue;  // holds nothing yet
            if (task.class_id < segment_.config().classes) {
                claimed[claim - 1] += segment_.task_class(task.class_id).request;
            }
            const auto mask = task.gpu_mask.load();
            if ((gpus[claim - 1] & mask) != 0) {
                add("gpu", slot_words(i, task) + " shares a GPU with another task");
            }
            gpus[claim - 1] |= mask;
        }
        for (const auto& worker : segment_workers(segment_)) {
            const auto name = worker.name.empty() ? std::to_string(worker.slot) : worker.name;
            if (!worker.used.fits(worker.capacity)) {
                add("capacity", "worker " + name +
                                    " has more in use than it has: " + resource_words(worker.used) +
                                    " of " + resource_words(worker.capacity));
            }
            if (worker.gpu_used_mask != gpus[worker.slot] ||
                static_cast<std::uint32_t>(std::popcount(worker.gpu_used_mask)) !=
                    worker.used.gpus) {
                add("gpu", "worker " + name + " has not the GPUs in use that its tasks have");
            }
            if (worker.used != claimed[worker.slot]) {
                add("used", "worker " + name + " has " + resource_words(worker.used) +
                                " in use, but its tasks claim " +
                                resource_words(claimed[worker.slot]));
            }
        }
    }

    template <typename Ring>
    void check_ring(const std::string& name, const Ring& ring) {
        const auto head = ring.head();
        const auto tail = ring.tail();
        if (tail - head <= ring.capacity()) return;
        add("ring", "ring " + name + " is damaged: head " + std::to_string(head) + ", tail " +
                        std::to_string(tail));
    }

    void rings() {
        for (std::uint32_t i = 0; i < shm::event_ring_count(segment_); ++i) {
            check_ring(ring_name(i), shm::event_ring(segment_, i));
        }
        for (std::uint32_t i = 0; i < segment_.config().workers; ++i) {
            check_ring("dispatch " + std::to_string(i), shm::dispatch_ring(segment_, i));
            check_ring("completion " + std::to_string(i), shm::completion_ring(segment_, i));
        }
    }

    const shm::Segment& segment_;
    std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> check_segment(const shm::Segment& segment) {
    return Checker(segment).run();
}

std::vector<Finding> check_settled(const std::function<std::vector<Finding>()>& look, int looks,
                                   const std::function<void()>& pause) {
    auto left = look();
    for (int i = 1; i < looks && !left.empty(); ++i) {
        pause();
        const auto again = look();
        std::erase_if(left, [&](const Finding& finding) {
            return std::find(again.begin(), again.end(), finding) == again.end();
        });
    }
    return left;
}

int shm_check_command(const Context& context, const ShmOptions& options) {
    const auto segment = open_for(context, options);
    if (!segment) return report(segment.error());
    const auto findings = check_settled([&] { return check_segment(**segment); }, kLooks,
                                        [] { std::this_thread::sleep_for(kBetweenLooks); });
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.shm-check.v1");
        json.field("segment", (*segment)->name()).field("sound", findings.empty());
        json.key("findings").begin_array();
        for (const auto& finding : findings) {
            json.begin_object().field("code", finding.code).field("text", finding.text);
            json.end_object();
        }
        json.end_array().end_object().print();
    } else if (findings.empty()) {
        if (!context.quiet) write_out("the segment is sound\n");
    } else {
        for (const auto& finding : findings) {
            write_out(finding.code + ": " + escape(finding.text) + "\n");
        }
    }
    return finish(findings.empty() ? kExitOk : kExitFailed);
}

}  // namespace reeve::cli
