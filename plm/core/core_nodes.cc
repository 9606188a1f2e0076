// Workers that are to take nothing new: drained by a person, or told that they will vanish.
#include <cstring>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/process/drained.h"
#include "common/shm/used_slots.h"
#include "common/shm/wake.h"
#include "plm/core/core.h"

namespace reeve::plm {

namespace {

bool is_member(const shm::WorkerSlot& worker) {
    const auto state = worker.state.load();
    return state == shm::WorkerState::kAlive || state == shm::WorkerState::kDraining;
}

}  // namespace

void Core::drain(Identity who, v1::DrainRequest request, Done<v1::DrainReply> done) {
    post(
        [this, who, request = std::move(request), done] {
            for (std::uint32_t i = 0; i < segment_->config().workers; ++i) {
                auto& worker = segment_->worker(i);
                if (!is_member(worker)) continue;
                const std::string name(worker.name, strnlen(worker.name, sizeof worker.name));
                if (name != request.worker() &&
                    std::to_string(worker.number.load()) != request.worker()) {
                    continue;
                }
                v1::DrainReply reply;
                // It is kept first: a worker is never drained until its next start only. A notice
                // is of the machine, not of the name.
                if (!request.notice()) {
                    if (auto kept = set_drained(cell_, name, request.drain()); !kept) {
                        done(fail(std::move(kept).error().with("keeping the drain")));
                        return;
                    }
                }
                const bool closing = request.drain() || request.notice();
                worker.drain_wanted.store(closing ? 1 : 0);
                if (!closing) worker.notice_wall_ns.store(0);
                if (request.notice()) note_notice(i, request.vanishes_in_ms(), reply);
                shm::wake(segment_->participant(shm::kParticipantRegister).wake);
                open_.acks.push_back([done, reply] { done(reply); });
                return;
            }
            // One that is gone is not drained any more when it comes back.
            if (!request.drain() && !request.notice()) {
                const auto kept = set_drained(cell_, request.worker(), false);
                if (!kept) return done(fail(kept.error()));
                if (*kept) return done(v1::DrainReply());
            }
            done(fail(ErrorCode::kNotFound, "there is no worker \"" + request.worker() +
                                                "\"; see which are here with: reeve node ls"));
        },
        refusal(done));
}

void Core::note_notice(std::uint32_t index, std::uint64_t in_ms, v1::DrainReply& reply) {
    auto& worker = segment_->worker(index);
    const auto now = wall_ns();
    worker.notice_wall_ns.store(now + in_ms * kMillisecond);
    audit::Entry entry;
    entry.kind = audit::Kind::kAdmin;
    entry.worker = audit::to_id(WorkerId{worker.number.load(), worker.incarnation.load()});
    entry.time_ns = now;
    entry.code = static_cast<std::int32_t>(in_ms / 1000);
    entry.detail = "notice";
    batch_.audit(entry);
    log::info("a worker will vanish", {{"worker", worker.number.load()}, {"in_ms", in_ms}});
    clear_noticed(index, reply);
}

// What cannot end in time goes back to the queue. What may start only once stays where it is: it is
// lost there at worst, and queued again it would start twice. Function tasks are over too soon to
// be stopped.
void Core::clear_noticed(std::uint32_t index, v1::DrainReply& reply) {
    const auto vanishes_ns = segment_->worker(index).notice_wall_ns.load();
    const auto now = wall_ns();
    shm::for_each_used_slot(*segment_, [&](std::uint32_t slot, const shm::TaskSlot& shared) {
        const auto word = shm::load_word(shared);
        if (!word.owned_by_worker() || word.worker_slot() != index) return;
        if (!shm::is_placed(word.state())) return;
        const auto& binding = slots_->binding(slot);
        Job* job = binding.job == 0 ? nullptr : model_.find(binding.job);
        Task* task = job == nullptr ? nullptr : model_.find_task(binding.job, binding.ordinal);
        // What the record does not know there yet is looked at by the next sweep.
        if (task == nullptr || binding.ended_durable || task->state == SlotState::kQueued) return;
        if ((task->intent & shm::kIntentStop) != 0) return;
        const auto started = task->started_ns != 0 ? task->started_ns : now;
        const bool in_time = job->time_limit_ns != 0 && started + job->time_limit_ns <= vanishes_ns;
        if (in_time || job->at_most_once || job->function) {
            reply.set_left(reply.left() + 1);
            return;
        }
        ask_holder(*job, binding.ordinal, *task, shm::kIntentRequeue);
        reply.set_requeued(reply.requeued() + 1);
    });
}

// Once a second: what was on its way to a worker when its notice came.
void Core::keep_noticed_clear() {
    for (std::uint32_t i = 0; i < segment_->config().workers; ++i) {
        const auto& worker = segment_->worker(i);
        if (worker.notice_wall_ns.load() == 0 || !is_member(worker)) continue;
        v1::DrainReply unused;
        clear_noticed(i, unused);
    }
}

const WorkerRecord* Core::death_of(WorkerId worker) {
    const auto found = model_.workers().find(worker.incarnation);
    const bool dead = found != model_.workers().end() && found->second.dead;
    return dead ? &found->second : nullptr;
}

}  // namespace reeve::plm
