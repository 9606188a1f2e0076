// What clients ask: each Backend call is queued for the core thread and answered after the commit.

#include <algorithm>
#include <unordered_set>

#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/rpc/wants.h"
#include "common/shm/class_wants.h"
#include "common/shm/resource_names.h"
#include "common/shm/wake.h"
#include "plm/core/core.h"
#include "common/base/version.h"

namespace reeve::plm {
namespace {

constexpr std::uint64_t kDiskReserveBytes = 8ULL << 20;

std::string trimmed(const char* format, double value) {
    char text[48];
    std::snprintf(text, sizeof text, format, value);
    std::string out = text;
    if (out.find('.') == std::string::npos) return out;
    out.erase(out.find_last_not_of('0') + 1);
    if (out.back() == '.') out.pop_back();
    return out;
}

std::string cpus_text(std::uint32_t milli) {
    return trimmed("%.3f", milli / 1000.0);
}

std::string memory_text(std::uint64_t bytes) {
    const auto mib = static_cast<double>(bytes) / (1 << 20);
    return mib < 1024 ? trimmed("%.1f", mib) + "M" : trimmed("%.1f", mib / 1024) + "G";
}

// Which job of several is refused, as a job file counts them.
Error at_job(std::size_t jobs, std::size_t index, Error error) {
    if (jobs == 1) return error;
    return std::move(error).with("jobs[" + std::to_string(index) + "]");
}

// What no worker has enough of, each by the field's name.
template <typename AddNamed>
std::string beyond(const Resources& wanted, const Resources& largest, AddNamed&& add_named) {
    std::string out;
    const auto add = [&](const char* field, const std::string& asked, const std::string& most) {
        out += (out.empty() ? "" : ", and ") + std::string("resources.") + field + ": asks for " +
               asked + ", the most a worker has is " + most;
    };
    if (wanted.cpu_milli > largest.cpu_milli) {
        add("cpu", cpus_text(wanted.cpu_milli), cpus_text(largest.cpu_milli));
    }
    if (wanted.memory_bytes > largest.memory_bytes) {
        add("memory", memory_text(wanted.memory_bytes), memory_text(largest.memory_bytes));
    }
    if (wanted.gpus > largest.gpus) {
        add("gpu", std::to_string(wanted.gpus), std::to_string(largest.gpus));
    }
    if (!wanted.named.fits(largest.named)) add_named(out);
    if (out.empty()) out = "resources: no single worker has all of it";
    return out;
}

template <typename A>
bool same_list(const A& a, const A& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
        if constexpr (requires { x.SerializeAsString(); }) {
            return x.SerializeAsString() == y.SerializeAsString();
        } else {
            return x == y;
        }
    });
}

// What a key stands for: what runs, with what and how often. Where it runs from, its environment
// and its limits may differ from one attempt to submit it to the next.
const char* difference(const v1::JobSpec& a, const v1::JobSpec& b) {
    const auto& one = a.task();
    const auto& two = b.task();
    const auto& want = one.resources();
    const auto& other = two.resources();
    if (one.function() != two.function()) return "function";
    if (!same_list(one.argv(), two.argv()) || one.stdin_data() != two.stdin_data()) {
        return "command";
    }
    if (one.data() != two.data() || !same_list(a.element_data(), b.element_data())) return "data";
    if (want.cpu_milli() != other.cpu_milli() || want.gpus() != other.gpus() ||
        want.memory_bytes() != other.memory_bytes() || !same_list(a.resources(), b.resources())) {
        return "resources";
    }
    if (!same_list(a.elements(), b.elements()) ||
        !same_list(a.element_values(), b.element_values())) {
        return "elements";
    }
    return nullptr;
}

bool has_labels(const shm::WorkerSlot& worker, const v1::JobSpec& spec) {
    if (spec.node_labels().empty() && spec.node_name().empty()) return true;
    const auto labels = shm::labels_of(worker);
    const auto has = [&labels](const std::string& label) {
        return std::find(labels.begin(), labels.end(), label) != labels.end();
    };
    return std::all_of(spec.node_labels().begin(), spec.node_labels().end(), has) &&
           (spec.node_name().empty() || has(std::string(kNodeLabel) + spec.node_name()));
}

}  // namespace

// A key that is known stands for the same job, or the submission is refused.
Status Core::check_key(const v1::JobSpec& spec, JobId known) {
    const Job* job = model_.find(known);
    v1::JobSpec before;
    if (job == nullptr || !job->spec.parse(before)) return {};
    const char* what = difference(before, spec);
    if (what == nullptr) return {};
    return fail(ErrorCode::kAlreadyExists, "key \"" + spec.key() + "\" belongs to job " +
                                               std::to_string(known) + ", which has another " +
                                               what + "; choose another key");
}

void Core::submit(Submission submission, Done<v1::SubmitReply> done) {
    if (segment_->header().acknowledging.load() == 0) {
        done(fail(ErrorCode::kResourceExhausted,
                  "the ledger cannot be written (disk full?); free space in " + cell_.dir +
                      " and submit again"));
        return;
    }
    auto shared = std::make_shared<Submission>(std::move(submission));
    post(
        [this, shared, done] {
            auto reply = accept(*shared);
            if (!reply) {
                done(fail(std::move(reply).error()));
                return;
            }
            open_.acks.push_back([done, reply = std::move(*reply)] { done(reply); });
        },
        refusal(done), MayRun::kBesideFlush);
}

Result<v1::SubmitReply> Core::accept(Submission& submission) {
    std::vector<JobId> ids(submission.jobs.size(), 0);
    REEVE_TRY(check_submission(submission, ids));
    v1::SubmitReply reply;
    auto next = model_.next_job;
    std::vector<bool> existed;
    for (auto& id : ids) {
        existed.push_back(id != 0);
        if (id == 0) id = next++;
    }
    REEVE_TRY(resolve_labels(submission, ids));
    if (submission.validate_only) return reply;
    const auto fair_milli =
        model_.usage.points_milli(submission.who.uid, submission.who.gid, wall_ns());
    for (std::size_t i = 0; i < ids.size(); ++i) {
        reply.add_job_ids(ids[i]);
        reply.add_existed(existed[i]);
        if (existed[i]) continue;
        const auto now = wall_ns();
        batch_.emit(JobSubmitted{ids[i], submission.who.uid, submission.who.gid, now,
                                 model_.next_sequence, std::move(submission.jobs[i].bytes),
                                 fair_milli, &submission.jobs[i].spec});
        Job& job = *model_.find(ids[i]);
        gated_ = gated_ || !job.extras->policy.limits.empty();
        gangs_ = gangs_ || job.gang();
        if (job.extras->policy.deadline_ns != 0) {
            (void)settle_urgency(job, now);
            watch_deadline(job);
        }
        record_submitted(job, job.count, audit::kNoIndex);
        if (submission.sink) result_sinks_.emplace(job.id, submission.sink);
        if (job.held) record_job_held(job, audit::Kind::kHeld);
        // What it depends on may have ended already.
        if (!job.extras->after.empty()) check_dependencies(ids[i]);
    }
    return reply;
}

// Looks at most every 10 ms: a busy stream asks thousands of times a second.
bool Core::disk_full() {
    const auto now = boot_ns();
    if (now - disk_looked_ns_ < kDiskLookNs) return disk_full_;
    disk_looked_ns_ = now;
    struct statvfs disk {};
    disk_full_ =
        statvfs(cell_.dir.c_str(), &disk) == 0 && disk.f_bavail * disk.f_frsize < kDiskReserveBytes;
    return disk_full_;
}

// Refuses the whole submission, or fills `existing` with the ids of jobs whose key is known.
Status Core::check_submission(Submission& submission, std::vector<JobId>& existing) {
    if (disk_full()) {
        return fail(ErrorCode::kResourceExhausted,
                    "the disk of " + cell_.dir + " is full; free space and submit again");
    }
    if (model_.jobs().size() + submission.jobs.size() > kLiveJobsMax) {
        return fail(ErrorCode::kResourceExhausted, "the queue holds its limit of " +
                                                       std::to_string(kLiveJobsMax) +
                                                       " jobs; wait until some have ended");
    }
    std::unordered_set<std::string> keys;
    for (std::size_t i = 0; i < submission.jobs.size(); ++i) {
        const auto& spec = submission.jobs[i].spec;
        if (!spec.key().empty()) {
            existing[i] = model_.by_key(submission.who.uid, spec.key());
            if (!keys.insert(spec.key()).second) {
                return fail(
                    at_job(submission.jobs.size(), i,
                           Error{ErrorCode::kInvalidArgument,
                                 "key \"" + spec.key() +
                                     "\" is used twice in one submission; give each job its own"}));
            }
        }
        for (const auto& dependency : spec.after()) {
            const auto id = dependency.job();
            if (!dependency.label().empty()) continue;
            if (id == 0 || id >= model_.next_job) {
                return fail(at_job(
                    submission.jobs.size(), i,
                    Error{ErrorCode::kNotFound, "after: there is no job " + std::to_string(id) +
                                                    "; see which exist with: reeve ls --all"}));
            }
        }
        auto fits = existing[i] == 0 ? check_capacity(spec) : check_key(spec, existing[i]);
        if (fits && existing[i] == 0) fits = check_gates(spec, submission.who.uid);
        if (!fits) return fail(at_job(submission.jobs.size(), i, fits.error()));
    }
    return {};
}

// What no living worker could ever run is refused; with no worker at all it may wait, and for one
// with the labels it asks for, too.
Status Core::check_capacity(const v1::JobSpec& spec) const {
    const auto& wanted = spec.task().resources();
    Resources request{wanted.cpu_milli(), wanted.gpus(), wanted.memory_bytes()};
    const auto wants = rpc::wants_of(spec);
    request.named = shm::find_counts(*segment_, wants.resources);
    const auto nodes = std::max(spec.nodes(), 1U);
    std::uint32_t able = 0;
    bool any = false;
    Resources largest;
    for (std::uint32_t i = 0; i < segment_->config().workers; ++i) {
        const auto& worker = segment_->worker(i);
        const auto state = worker.state.load();
        if (state != shm::WorkerState::kAlive && state != shm::WorkerState::kDraining) continue;
        if (!has_labels(worker, spec)) continue;
        if (request.fits(worker.capacity) && ++able == nodes) return {};
        any = true;
        largest.cpu_milli = std::max(largest.cpu_milli, worker.capacity.cpu_milli);
        largest.gpus = std::max(largest.gpus, worker.capacity.gpus);
        largest.memory_bytes = std::max(largest.memory_bytes, worker.capacity.memory_bytes);
        for (std::size_t n = 0; n < NamedCounts::kNamedMax; ++n) {
            largest.named.set(n, std::max(largest.named[n], worker.capacity.named[n]));
        }
    }
    if (!any) return {};
    if (able != 0) {
        return fail(ErrorCode::kInvalidArgument,
                    "nodes: asks for " + std::to_string(nodes) + " workers with so much each, " +
                        std::to_string(able) + (able == 1 ? " has it" : " have it") +
                        "; ask for fewer, or start more workers first");
    }
    const auto add_named = [&](std::string& out) {
        for (const auto& each : wants.resources) {
            const auto number = shm::find_resource(*segment_, each.name);
            const auto most = number ? largest.named[*number] : 0;
            if (each.count <= most) continue;
            out += (out.empty() ? "" : ", and ") + std::string("resources.") + each.name +
                   ": asks for " + std::to_string(each.count) +
                   (most == 0 ? ", no worker has any (reeve up --resource " + each.name + "=N)"
                              : ", the most a worker has is " + std::to_string(most));
        }
    };
    return fail(ErrorCode::kInvalidArgument, beyond(request, largest, add_named) +
                                                 "; ask for less, or start a larger worker first");
}

// Labels of the same batch become job ids; a cycle refuses everything.
Status Core::resolve_labels(Submission& submission, const std::vector<JobId>& ids) {
    std::unordered_map<std::string, std::size_t> labels;
    bool any = false;
    for (std::size_t i = 0; i < submission.jobs.size(); ++i) {
        const auto& spec = submission.jobs[i].spec;
        if (!spec.label().empty() && !labels.emplace(spec.label(), i).second) {
            return fail(ErrorCode::kInvalidArgument,
                        "job_id \"" + spec.label() + "\" is used twice; give each job its own");
        }
        for (const auto& dependency : spec.after()) any = any || !dependency.label().empty();
    }
    if (!any) return {};
    std::vector<std::vector<std::size_t>> dependents(ids.size());
    std::vector<std::size_t> open(ids.size(), 0);
    for (std::size_t i = 0; i < ids.size(); ++i) {
        auto& job = submission.jobs[i];
        bool changed = false;
        for (auto& dependency : *job.spec.mutable_after()) {
            if (dependency.label().empty()) continue;
            const auto found = labels.find(dependency.label());
            if (found == labels.end()) {
                return fail(ErrorCode::kInvalidArgument,
                            "after: no job of this submission is called \"" + dependency.label() +
                                "\"; write the job_id of one");
            }
            dependents[found->second].push_back(i);
            ++open[i];
            dependency.set_job(ids[found->second]);
            dependency.clear_label();
            changed = true;
        }
        if (changed) job.bytes = job.spec.SerializeAsString();
    }
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < open.size(); ++i) {
        if (open[i] == 0) ready.push_back(i);
    }
    std::size_t sorted = 0;
    for (; sorted < ready.size(); ++sorted) {
        for (const auto next : dependents[ready[sorted]]) {
            if (--open[next] == 0) ready.push_back(next);
        }
    }
    if (sorted == ids.size()) return {};
    const auto stuck = std::find_if(open.begin(), open.end(), [](auto n) { return n != 0; });
    const auto& label =
        submission.jobs[static_cast<std::size_t>(stuck - open.begin())].spec.label();
    return fail(ErrorCode::kInvalidArgument, "after: the dependencies form a cycle through \"" +
                                                 label + "\"; nothing was queued");
}

// True when all are met; `broken` is the first that can never be, or 0.
bool Core::dependencies_met(Job& job, JobId& broken) const {
    bool met = true;
    broken = 0;
    for (const auto& edge : job.extras->after) {
        const bool ok = model_.ended_ok(edge.job);
        const bool not_ok = model_.ended_not_ok(edge.job);
        if (!ok && !not_ok) {
            met = false;
        } else if ((edge.kind == DependencyKind::kAfterOk && not_ok) ||
                   (edge.kind == DependencyKind::kAfterNotOk && ok)) {
            if (broken == 0) broken = edge.job;
        }
    }
    return met && broken == 0;
}

// Jobs that waited for one that ended: they may start now, or can never.
void Core::resolve_dependencies() {
    while (!model_.just_ended().empty()) {
        const auto ended = std::move(model_.just_ended());
        model_.just_ended().clear();
        for (const auto id : ended) {
            note_job_ended(id);
            const auto dependents = std::move(model_.dependents(id));
            model_.forget_dependents(id);
            for (const auto dependent : dependents) check_dependencies(dependent);
            open_.others_waited |= !dependents.empty();
        }
    }
}

void Core::check_dependencies(JobId id) {
    Job* job = model_.find(id);
    if (job == nullptr || job->ended) return;
    JobId broken = 0;
    (void)dependencies_met(*job, broken);
    model_.mark(*job);
    if (broken == 0) return;
    const Job* other = model_.find(broken);
    const bool cancelled =
        other != nullptr && other->failed.count() == 0 && other->cancelled.count() > 0;
    const char* end = model_.ended_ok(broken) ? "succeeded"
                      : cancelled             ? "was cancelled"
                                              : "failed";
    cancel_job(*job, kCodeDependency,
               "job " + std::to_string(broken) + ", which it depends on, " + end);
}

void Core::get(Identity, v1::GetRequest request, Done<v1::GetReply> done) {
    post(
        [this, request = std::move(request), done] {
            v1::GetReply reply;
            reply.set_live_jobs(model_.jobs().size());
            reply.set_last_job_id(model_.next_job - 1);
            for (const auto id : request.jobs()) {
                if (Job* job = model_.find(id)) {
                    *reply.add_jobs() = status_of(*job, request.with_spec(), request.with_tasks());
                }
            }
            const auto limit = request.limit() == 0 ? 1000 : request.limit();
            for (auto at = model_.jobs().rbegin();
                 request.jobs().empty() && at != model_.jobs().rend(); ++at) {
                if (static_cast<std::uint32_t>(reply.jobs_size()) >= limit) break;
                if (at->second.ended) continue;
                *reply.add_jobs() =
                    status_of(at->second, request.with_spec(), request.with_tasks());
            }
            // Not only durable: but nothing here precedes the commit by more than one batch, and
            // the answer waits for it.
            open_.acks.push_back([done, reply = std::move(reply)] { done(reply); });
        },
        refusal(done));
}

void Core::audit_head(v1::AuditHeadRequest request, Done<v1::AuditHeadReply> done) {
    post(
        [this, request, done] {
            open_.acks_read_model = true;
            open_.acks.push_back([this, request, done] {
                if (request.publish()) {
                    if (auto published = publish_audit(); !published) {
                        done(fail(std::move(published).error()));
                        return;
                    }
                }
                v1::AuditHeadReply reply;
                reply.set_checkpoint(audit_log_->checkpoint());
                reply.set_durable_leaves(model_.next_leaf);
                done(reply);
            });
        },
        refusal(done));
}

void Core::info(Done<v1::ServerInfoReply> done) {
    post(
        [this, done] {
            v1::ServerInfoReply reply;
            reply.set_version(kVersion);
            reply.set_cell_id(segment_->header().cell_id);
            reply.set_epoch(model_.epoch);
            reply.set_pid(static_cast<std::uint64_t>(getpid()));
            reply.set_segment(segment_->name());
            reply.set_last_job_id(model_.next_job - 1);
            reply.set_acknowledging(segment_->header().acknowledging.load() != 0);
            reply.set_commits(commits_);
            reply.set_wal_bytes(ledger_->wal_bytes());
            done(reply);
        },
        refusal(done));
}

void Core::ledger(v1::LedgerRequest request, Done<v1::LedgerReply> done) {
    const auto work = [this, request, done] {
        const bool prune = request.action() == v1::LEDGER_PRUNE;
        auto parts = prune ? snapshot_parts() : std::vector<std::string>();
        // Everything acknowledged before is in; what comes later is the next caller's.
        ledger_->in_background(
            [this, done, prune, parts = std::move(parts), seq = ledger_seq_,
             leaves = model_.next_leaf] {
                const auto before = ledger_->extent();
                const auto tidy = [&]() -> Status {
                    REEVE_TRY(make_files_durable(leaves));
                    if (prune) REEVE_TRY(ledger_->write_snapshot(parts, seq));
                    ledger_->keep_batches_after(history_->last_seq());
                    return ledger_->tidy(prune);
                };
                const auto tidied = tidy();
                const auto after = ledger_->extent();
                if (!tidied || !before || !after) {
                    done(fail(!tidied ? tidied.error() : (!before ? before : after).error()));
                    return;
                }
                v1::LedgerReply reply;
                reply.set_bytes_before(before->bytes);
                reply.set_bytes_after(after->bytes);
                reply.set_batches_before(before->batches);
                reply.set_batches_after(after->batches);
                reply.set_durable_seq(seq);
                reply.set_audit_leaves(leaves);
                done(std::move(reply));
            },
            refusal(done));
    };
    post(
        [this, work] {
            open_.acks_read_model = true;
            open_.acks.push_back(work);
        },
        refusal(done));
}

void Core::events(std::shared_ptr<EventSink> sink) {
    const std::lock_guard lock(events_mutex_);
    if (sink->published(audit_log_->published_size())) event_sinks_.push_back(std::move(sink));
}

}  // namespace reeve::plm
