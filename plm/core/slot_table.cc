#include "plm/core/slot_table.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "common/base/assert.h"
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/shm/run_code.h"
#include "common/shm/class_wants.h"
#include "common/shm/resource_names.h"
#include "common/shm/function_block.h"
#include "common/shm/job_table.h"
#include "common/shm/task_policy.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::plm {

using shm::kChunkSlots;
using shm::kNone32;
using shm::SlotWord;
using shm::TaskSlot;

namespace {

void copy_name(char* to, std::size_t size, std::string_view from) {
    const auto length = std::min(from.size(), size - 1);
    std::memcpy(to, from.data(), length);
    std::memset(to + length, 0, size - length);
}

constexpr std::uint16_t owner_of_state(shm::SlotState state) {
    if (state == shm::SlotState::kRunning) return shm::kOwnerOrphan;
    return shm::kOwnerNone;
}

}  // namespace

SlotTable::~SlotTable() = default;

SlotTable::SlotTable(shm::Segment& segment)
    : segment_(segment),
      heap_(segment),
      bindings_(segment.config().task_slots),
      chunks_(segment.layout().chunks),
      open_chunks_(segment.config().classes),
      class_chunks_(segment.config().classes, 0),
      entry_job_(segment.config().jobs, 0),
      entry_ended_(segment.config().jobs, false),
      arena_(segment.config().arena_bytes),
      own_payload_(segment.config().task_slots, false),
      free_slots_(segment.config().task_slots) {
    for (auto chunk = segment.layout().chunks; chunk-- > 0;) free_chunks_.push_back(chunk);
    for (auto id = segment.config().classes; id-- > 0;) free_classes_.push_back(id);
    for (auto entry = segment.config().jobs; entry-- > 0;) free_entries_.push_back(entry);
}

bool SlotTable::number_again() {
    bool any = false;
    for (const auto& [key, id] : classes_) {
        auto& request = segment_.task_class(id).request;
        if (!request.named.fits_nowhere()) continue;
        const auto named = shm::find_counts(segment_, key.wants.resources);
        if (named.fits_nowhere()) continue;
        // Nothing of it was ever claimed, so whoever reads either value is right.
        std::atomic_ref(request.named.bytes).store(named.bytes, std::memory_order_release);
        any = true;
    }
    return any;
}

std::optional<std::uint32_t> SlotTable::class_of(Job& job) {
    if (last_class_ != classes_.end() && last_class_->first.uid == job.uid &&
        last_class_->first.request == job.request &&
        last_class_->first.gang == (job.gang() ? job.id : 0) &&
        last_class_->first.wants == job.extras->wants) {
        return last_class_->second;
    }
    const auto key = class_key(job);
    last_class_ = classes_.find(key);
    if (last_class_ != classes_.end()) return last_class_->second;
    if (free_classes_.empty()) {
        // Take over a class that owns no chunk any more.
        for (auto at = classes_.begin(); at != classes_.end(); ++at) {
            if (class_chunks_[at->second] != 0) continue;
            segment_.task_class(at->second).live.store(0);
            free_classes_.push_back(at->second);
            classes_.erase(at);
            break;
        }
        if (free_classes_.empty()) return std::nullopt;
    }
    const auto id = free_classes_.back();
    free_classes_.pop_back();
    auto& entry = segment_.task_class(id);
    entry.uid = job.uid;
    entry.request = job.request;
    entry.nodes = static_cast<std::uint16_t>(job.extras->nodes);
    entry.gang = key.gang;
    shm::write_wants(entry, job.extras->wants);
    // Without a number for one of them no worker here has it: it waits, as for a larger one.
    entry.request.named = shm::find_counts(segment_, job.extras->wants.resources);
    write_budget(id, job.uid);
    entry.live.fetch_add(1, std::memory_order_release);
    last_class_ = classes_.emplace(key, id).first;
    return id;
}

void SlotTable::write_budget(std::uint32_t class_id, std::uint32_t uid) {
    const auto known = budgets_.find(uid);
    const Budget budget = known == budgets_.end() ? Budget{} : known->second;
    auto& entry = segment_.task_class(class_id);
    const bool closed = known != budgets_.end() && budget.spent_nano >= budget.budget_nano;
    entry.spent_nano.store(budget.spent_nano);
    entry.budget_nano.store(budget.budget_nano);
    entry.closed.store(closed ? shm::kClosedBudget : 0);
}

void SlotTable::set_budget(std::uint32_t uid, std::uint64_t spent_nano, std::uint64_t budget_nano) {
    budgets_[uid] = Budget{spent_nano, budget_nano};
    for (const auto& [key, id] : classes_) {
        if (key.uid == uid) write_budget(id, uid);
    }
}

void SlotTable::note_used(std::uint32_t slot) {
    auto& chunk = chunks_[slot / kChunkSlots];
    const auto bit = std::uint64_t{1} << (slot % kChunkSlots);
    REEVE_ASSERT((chunk.used & bit) == 0);
    chunk.used |= bit;
    --free_slots_;
}

std::optional<std::uint32_t> SlotTable::allocate(std::uint32_t class_id) {
    auto& open = open_chunks_[class_id];
    if (open.empty()) {
        if (free_chunks_.empty()) return std::nullopt;
        const auto chunk = free_chunks_.back();
        free_chunks_.pop_back();
        chunks_[chunk].kept_until_ns = keep_until_ns_;
        segment_.chunk_owner(chunk).store(class_id, std::memory_order_seq_cst);
        heap_.mark_chunk(chunk);
        open.push_back(chunk);
        ++class_chunks_[class_id];
    }
    const auto chunk = open.back();
    const auto free_bits = ~chunks_[chunk].used;
    const auto slot = chunk * kChunkSlots + static_cast<std::uint32_t>(std::countr_zero(free_bits));
    auto& shared = segment_.task(slot);
    const auto word = shm::load_word(shared);
    REEVE_ASSERT(word.state() == shm::SlotState::kFree);
    const auto init =
        SlotWord::make(word.generation() + 1, 0, shm::kOwnerPlm, shm::SlotState::kInit);
    if (!move(slot, word, init)) return std::nullopt;
    note_used(slot);
    const auto rest = ~chunks_[chunk].used;
    if (rest == 0) {
        open.pop_back();
        return slot;
    }
    // Most likely the next one: its lines come from the processors that ran the task before.
    auto* next = reinterpret_cast<char*>(
        &segment_.task(chunk * kChunkSlots + static_cast<std::uint32_t>(std::countr_zero(rest))));
    for (std::size_t at = 0; at < sizeof(TaskSlot); at += 64) shm::prefetch_to_write(next + at);
    return slot;
}

bool SlotTable::move(std::uint32_t slot, SlotWord from, SlotWord to) {
    auto expected = from.raw;
    if (!segment_.task(slot).word.compare_exchange_strong(expected, to.raw)) return false;
    bindings_[slot].known = to;
    return true;
}

// The elements of a job are published in a row: its spec is parsed once for all of them.
const v1::JobSpec* SlotTable::parsed(const Job& job) {
    if (parsed_job_ == job.id) return parsed_.get();
    parsed_job_ = 0;
    if (!parsed_) parsed_ = std::make_unique<v1::JobSpec>();
    if (!job.spec.parse(*parsed_)) return nullptr;
    parsed_job_ = job.id;
    return parsed_.get();
}

bool SlotTable::write_function(Job& job, std::uint64_t ordinal, TaskSlot& slot) {
    const auto* spec = parsed(job);
    if (spec == nullptr) return false;
    const auto& task = spec->task();
    const auto& data =
        spec->element_data_size() > 0 ? spec->element_data(static_cast<int>(ordinal)) : task.data();
    const auto bytes = shm::function_block_bytes(task.function().size(), data.size());
    const auto offset = arena_.allocate(bytes);
    if (!offset) return false;
    shm::write_function(segment_.arena() + *offset, task.function(), data,
                        static_cast<std::uint32_t>(task.grace_ms()));
    slot.payload_offset = *offset;
    slot.payload_bytes = static_cast<std::uint32_t>(bytes);
    own_payload_[static_cast<std::size_t>(&slot - &segment_.task(0))] = true;
    return true;
}

bool SlotTable::ensure_payload(Job& job, std::uint64_t ordinal, TaskSlot& slot) {
    if (job.function) return write_function(job, ordinal, slot);
    const bool own = job.values_per_element;
    if (!own && job.payload_slots > 0) {
        slot.payload_offset = job.payload_offset;
        slot.payload_bytes = job.payload_bytes;
        ++job.payload_slots;
        return true;
    }
    const auto* spec = parsed(job);
    if (spec == nullptr) return false;
    auto task = spec->task();
    if (own) {
        auto& variable = *task.add_env();
        variable.set_name(task.element_variable().empty() ? "REEVE_ENTRY"
                                                          : task.element_variable());
        variable.set_value(spec->element_values(static_cast<int>(ordinal)));
    }
    const auto bytes = task.SerializeAsString();
    const auto offset = arena_.allocate(bytes.size());
    if (!offset) return false;
    std::memcpy(segment_.arena() + *offset, bytes.data(), bytes.size());
    slot.payload_offset = *offset;
    slot.payload_bytes = static_cast<std::uint32_t>(bytes.size());
    own_payload_[static_cast<std::size_t>(&slot - &segment_.task(0))] = own;
    if (!own) {
        job.payload_offset = *offset;
        job.payload_bytes = slot.payload_bytes;
        job.payload_slots = 1;
    }
    return true;
}

void SlotTable::free_payload(std::uint32_t slot, Job* job) {
    const auto& shared = segment_.task(slot);
    if (own_payload_[slot] || job == nullptr) {
        if (own_payload_[slot]) arena_.release(shared.payload_offset, shared.payload_bytes);
        own_payload_[slot] = false;
        return;
    }
    REEVE_ASSERT(job->payload_slots > 0);
    if (--job->payload_slots == 0) arena_.release(job->payload_offset, job->payload_bytes);
}

std::optional<std::uint32_t> SlotTable::publish(Job& job, std::uint64_t ordinal, const Task& task,
                                                shm::SlotState state) {
    const auto class_id = class_of(job);
    if (!class_id) return std::nullopt;
    // An orphan's worker brought the names to the segment before this one: they are taken already.
    const auto& wants = job.extras->wants;
    if (state == shm::SlotState::kRunning && !wants.resources.empty()) {
        auto& named = segment_.task_class(*class_id).request.named;
        if (const auto counts = shm::number_counts(segment_, wants.resources)) named = *counts;
    }
    const auto slot = allocate(*class_id);
    if (!slot) return std::nullopt;
    auto& shared = segment_.task(*slot);
    const auto init = bindings_[*slot].known;
    if (!ensure_payload(job, ordinal, shared)) {
        REEVE_ASSERT(
            move(*slot, init,
                 SlotWord::make(init.generation(), 0, shm::kOwnerNone, shm::SlotState::kFree)));
        mark_free(*slot);
        return std::nullopt;
    }
    REEVE_FAILPOINT("plm.init");
    shm::fill(shared.key, key_of(job, ordinal));
    shared.job = job.id;
    shared.element = job.element_of(ordinal);
    shared.class_id = *class_id;
    shared.flags =
        (job.at_most_once ? shm::kTaskAtMostOnce : 0U) | (job.function ? shm::kTaskFunction : 0U);
    shm::fill(shared.intent, task.intent);
    shm::fill(shared.claim, 0);
    shm::fill(shared.gpu_mask, 0);
    shared.time_limit_ns = job.time_limit_ns;
    shared.uid = job.uid;
    shared.submit_wall_ns = job.submit_ns;
    shared.not_before_wall_ns = job.extras->not_before_ns;
    shm::fill(shared.holder_number, task.worker.number);
    shm::fill(shared.holder_incarnation, task.worker.incarnation);
    shm::fill(shared.deaths, task.deaths);
    shared.retries_max = job.retries_max;
    shared.priority = job.priority;
    write_policy(*slot, job, task);
    write_run_time(job, shared);
    shm::fill(shared.assigned_wall_ns, task.assigned_ns);
    shm::fill(shared.started_wall_ns, task.started_ns);
    shm::fill(shared.ended_wall_ns, 0);
    shm::fill(shared.pid, 0);
    shm::fill(shared.exit_code, 0);
    shm::fill(shared.outcome, 0);
    shm::fill(shared.core_dumped, 0);
    shm::fill(shared.has_digest, 0);
    shm::fill(shared.has_text, 0);
    shm::fill(shared.user_us, 0);
    shm::fill(shared.system_us, 0);
    shm::fill(shared.max_rss_bytes, 0);
    std::memset(shared.detail, 0, sizeof shared.detail);
    auto& binding = bindings_[*slot];
    binding.job = job.id;
    binding.ordinal = ordinal;
    binding.ended_durable = false;
    const auto word = SlotWord::make(init.generation(), task.attempt, owner_of_state(state), state);
    // Nobody but us moves a slot out of init.
    REEVE_ASSERT(move(*slot, init, word));
    return slot;
}

void SlotTable::write_run_time(const Job& job, TaskSlot& slot) const {
    slot.length_milli = job.length_milli;
    slot.expected = 0;
    if (run_times_ == nullptr || job.function) return;
    const auto expected = run_times_->expected_s(job.kind(), job.time_limit_ns);
    if (expected) slot.expected = shm::run_code(*expected);
}

void SlotTable::write_policy(std::uint32_t slot, const Job& job, const Task& task) {
    constexpr std::uint8_t kClasses[] = {v1::SLA_CRITICAL, v1::SLA_STANDARD, v1::SLA_FLEXIBLE,
                                         v1::SLA_SPOT};
    const JobPolicy& asked = job.extras->policy;
    shm::TaskPolicy policy;
    policy.sla = kClasses[static_cast<std::size_t>(asked.counts_as())];
    policy.preempt = static_cast<std::uint8_t>(preempt_mode(job));
    policy.pushed = static_cast<std::uint8_t>(std::min(task.pushed, shm::kPushedMax));
    policy.minimum_run_s =
        asked.minimum_run_s == kMinimumRunUnset ? minimum_run_s_ : asked.minimum_run_s;
    shm::fill(segment_.task(slot).policy, policy.pack());
}

v1::PreemptMode preempt_mode(const Job& job) {
    if (job.function || job.gang() || job.extras->policy.preempt == sched::PreemptMode::kNever) {
        return v1::PREEMPT_NEVER;
    }
    if (job.extras->policy.preempt == sched::PreemptMode::kCancel) return v1::PREEMPT_CANCEL;
    return job.at_most_once ? v1::PREEMPT_NEVER : v1::PREEMPT_REQUEUE;
}

void SlotTable::mark_free(std::uint32_t slot) {
    const auto index = slot / kChunkSlots;
    auto& chunk = chunks_[index];
    const auto class_id = segment_.chunk_owner(index).load();
    const bool was_full = chunk.used == ~std::uint64_t{0};
    chunk.used &= ~(std::uint64_t{1} << (slot % kChunkSlots));
    ++free_slots_;
    bindings_[slot].job = 0;
    bindings_[slot].ended_durable = false;
    if (class_id >= open_chunks_.size()) return;
    auto& open = open_chunks_[class_id];
    if (chunk.used == 0) {
        std::erase(open, index);
        segment_.chunk_owner(index).store(kNone32, std::memory_order_seq_cst);
        heap_.mark_chunk(index);
        free_chunks_.push_back(index);
        --class_chunks_[class_id];
    } else if (was_full) {
        open.push_back(index);
    }
}

bool SlotTable::release(std::uint32_t slot, SlotWord from, Job* job) {
    const auto free_word =
        SlotWord::make(from.generation(), 0, shm::kOwnerNone, shm::SlotState::kFree);
    if (!move(slot, from, free_word)) return false;
    free_payload(slot, job);
    mark_free(slot);
    return true;
}

bool SlotTable::swap_out(std::uint32_t slot, Job& job) {
    const auto word = bindings_[slot].known;
    const auto init = word.to(shm::SlotState::kInit, shm::kOwnerPlm);
    if (!shm::is_pending(word.state()) || !move(slot, word, init)) return false;
    heap_.touch(slot);
    return release(slot, init, &job);
}

void SlotTable::touch(std::vector<std::uint32_t>& slots) {
    std::sort(slots.begin(), slots.end());
    for (std::size_t at = 0; at < slots.size();) {
        std::size_t end = at + 1;
        while (end < slots.size() && slots[end] == slots[end - 1] + 1) ++end;
        heap_.touch_range(slots[at], static_cast<std::uint32_t>(end - at));
        at = end;
    }
    slots.clear();
}

std::optional<std::uint64_t> SlotTable::best_if_waiting(std::uint32_t chunk, std::uint64_t now_ns) {
    if (chunks_[chunk].used == 0 || chunks_[chunk].kept_until_ns > now_ns) return std::nullopt;
    auto best = kNotIndexed;
    for (auto bits = chunks_[chunk].used; bits != 0; bits &= bits - 1) {
        const auto& shared =
            segment_.task(chunk * kChunkSlots + static_cast<std::uint32_t>(std::countr_zero(bits)));
        const auto state = shm::load_word(shared).state();
        // What is held needs no slot: it is worse than any.
        if (state == shm::SlotState::kHeld) continue;
        if (state != shm::SlotState::kQueued) return std::nullopt;
        best = std::min(best, shared.key.load());
    }
    return best;
}

void SlotTable::add_slots(std::uint32_t chunk, std::vector<std::uint32_t>& slots) const {
    for (auto bits = chunks_[chunk].used; bits != 0; bits &= bits - 1) {
        slots.push_back(chunk * kChunkSlots + static_cast<std::uint32_t>(std::countr_zero(bits)));
    }
}

std::vector<std::uint32_t> SlotTable::swap_candidates(std::uint64_t key) {
    const auto now = boot_ns();
    std::uint64_t worst_best = key;
    std::uint32_t worst_chunk = kNone32;
    for (std::uint32_t chunk = 0; chunk < chunks_.size(); ++chunk) {
        const auto best = best_if_waiting(chunk, now);
        if (!best || *best <= worst_best) continue;
        worst_best = *best;
        worst_chunk = chunk;
    }
    std::vector<std::uint32_t> slots;
    if (worst_chunk != kNone32) add_slots(worst_chunk, slots);
    return slots;
}

std::vector<std::uint32_t> SlotTable::worst_chunks(std::size_t count) {
    const auto now = boot_ns();
    std::vector<std::pair<std::uint64_t, std::uint32_t>> found;
    for (std::uint32_t chunk = 0; chunk < chunks_.size(); ++chunk) {
        if (const auto best = best_if_waiting(chunk, now)) found.emplace_back(*best, chunk);
    }
    std::sort(found.rbegin(), found.rend());
    if (found.size() > count) found.resize(count);
    std::vector<std::uint32_t> slots;
    for (const auto& [best, chunk] : found) add_slots(chunk, slots);
    return slots;
}

std::vector<std::pair<std::uint64_t, std::uint32_t>> SlotTable::worst_queued(Job& job,
                                                                             std::size_t count) {
    std::vector<std::uint32_t> slots;
    const auto class_id = class_of(job);
    for (std::uint32_t chunk = 0; class_id && chunk < chunks_.size(); ++chunk) {
        if (segment_.chunk_owner(chunk).load(std::memory_order_relaxed) != *class_id) continue;
        add_slots(chunk, slots);
    }
    std::vector<std::pair<std::uint64_t, std::uint32_t>> found;
    for (const auto slot : slots) {
        const auto& shared = segment_.task(slot);
        if (shm::load_word(shared).state() != shm::SlotState::kQueued) continue;
        found.emplace_back(shared.key.load(), slot);
    }
    const auto kept = std::min(count, found.size());
    const auto from = found.end() - static_cast<std::ptrdiff_t>(kept);
    std::nth_element(found.begin(), from, found.end());
    found.erase(found.begin(), from);
    std::sort(found.begin(), found.end());
    return found;
}

std::uint32_t SlotTable::take_entry(Model& model) {
    while (free_entries_.empty() && !ended_entries_.empty()) {
        const auto entry = ended_entries_.front();
        ended_entries_.pop_front();
        if (Job* previous = model.find(entry_job_[entry])) previous->entry = kNone32;
        entry_ended_[entry] = false;
        free_entries_.push_back(entry);
    }
    if (free_entries_.empty()) return kNone32;
    const auto entry = free_entries_.back();
    free_entries_.pop_back();
    return entry;
}

std::optional<std::uint32_t> SlotTable::entry_of(Job& job, Model& model) {
    if (job.entry == kNone32) job.entry = take_entry(model);
    if (job.entry == kNone32) return std::nullopt;
    entry_job_[job.entry] = job.id;
    if (job.ended && !entry_ended_[job.entry]) ended_entries_.push_back(job.entry);
    if (!job.ended && entry_ended_[job.entry]) std::erase(ended_entries_, job.entry);  // retried
    entry_ended_[job.entry] = job.ended;
    return job.entry;
}

shm::JobRecord job_record(const Job& job, const Model& model) {
    shm::JobRecord fresh;
    fresh.state = job.ended     ? shm::JobState::kEnded
                  : job.held    ? shm::JobState::kHeld
                  : job.waiting ? shm::JobState::kWaiting
                                : shm::JobState::kActive;
    fresh.job = job.id;
    fresh.elements = job.count;
    fresh.backlog = job.waiting_tasks();
    fresh.held = job.all_held();
    fresh.queued = job.shown_queued();
    fresh.running = job.shown_running();
    fresh.succeeded = job.ok.count();
    fresh.failed = job.failed.count();
    fresh.cancelled = job.cancelled.count();
    fresh.submit_wall_ns = job.submit_ns;
    fresh.start_wall_ns = job.start_ns;
    fresh.end_wall_ns = job.end_ns;
    fresh.request = job.request;
    fresh.dependency_count = static_cast<std::uint32_t>(job.extras->after.size());
    for (std::size_t i = 0; i < job.extras->after.size() && i < shm::kJobDependenciesShown; ++i) {
        fresh.dependencies[i] = job.extras->after[i].job;
    }
    fresh.uid = job.uid;
    fresh.priority = job.priority;
    fresh.exit_code = job.exit_code;
    fresh.waits_for = job.waits_for;
    fresh.time_limit_ns = job.time_limit_ns;
    fresh.not_before_wall_ns = job.extras->not_before_ns;
    fresh.cost_nano = model.spend.of_job(job.id);
    copy_name(fresh.name, sizeof fresh.name, job.name());
    return fresh;
}

void SlotTable::clear_entries() {
    for (std::uint32_t entry = 0; entry < segment_.config().jobs; ++entry) {
        shm::write_job(segment_.job(entry), shm::JobRecord{});
    }
}

void SlotTable::drop_entry(Job& job) {
    if (job.entry == kNone32) return;
    shm::write_job(segment_.job(job.entry), shm::JobRecord{});
    entry_ended_[job.entry] = false;
    entry_job_[job.entry] = 0;
    // Jobs are dropped in the order in which they ended: it is among the first.
    const auto at = std::find(ended_entries_.begin(), ended_entries_.end(), job.entry);
    if (at != ended_entries_.end()) ended_entries_.erase(at);
    free_entries_.push_back(job.entry);
    job.entry = kNone32;
}

void SlotTable::attach() {
    free_chunks_.clear();
    free_classes_.clear();
    for (auto id = segment_.config().classes; id-- > 0;) {
        const auto& entry = segment_.task_class(id);
        if (entry.live.load() == 0) {
            free_classes_.push_back(id);
            continue;
        }
        Resources request = entry.request;
        request.named = {};  // they are among the wants, by name
        classes_.emplace(ClassKey{entry.uid, request, shm::read_wants(entry), entry.gang}, id);
        write_budget(id, entry.uid);
    }
}

void SlotTable::adopt(std::uint32_t slot, Job* job, std::uint64_t ordinal, SlotWord known) {
    note_used(slot);
    auto& binding = bindings_[slot];
    binding.job = job == nullptr ? 0 : job->id;
    binding.ordinal = ordinal;
    binding.known = known;
    const auto& shared = segment_.task(slot);
    own_payload_[slot] = job == nullptr || job->own_payloads();
    if (job != nullptr && !job->own_payloads() && job->payload_slots++ > 0) return;
    if (!arena_.reserve(shared.payload_offset, shared.payload_bytes)) own_payload_[slot] = false;
    if (job == nullptr || job->own_payloads()) return;
    job->payload_offset = shared.payload_offset;
    job->payload_bytes = shared.payload_bytes;
}

void SlotTable::finish_attach() {
    for (std::uint32_t chunk = segment_.layout().chunks; chunk-- > 0;) {
        auto& owner = segment_.chunk_owner(chunk);
        const auto class_id = owner.load();
        if (chunks_[chunk].used == 0 || class_id >= open_chunks_.size()) {
            owner.store(kNone32, std::memory_order_seq_cst);
            free_chunks_.push_back(chunk);
            continue;
        }
        ++class_chunks_[class_id];
        if (chunks_[chunk].used != ~std::uint64_t{0}) open_chunks_[class_id].push_back(chunk);
    }
}

}  // namespace reeve::plm
