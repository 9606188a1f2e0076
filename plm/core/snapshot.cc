// Model::save and Model::load: the whole model as bytes, for the ledger's snapshots.

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

#include "common/base/bytes.h"
#include "plm/core/model.h"

namespace reeve::plm {
namespace {

constexpr std::uint32_t kSnapshotVersion = 1;

void put_set(ByteWriter& out, const IntervalSet& set) {
    const auto ranges = set.ranges();
    out.put(static_cast<std::uint64_t>(ranges.size()));
    for (const auto& [first, last] : ranges) {
        out.put(first);
        out.put(last);
    }
}

void get_set(ByteReader& in, IntervalSet& set) {
    const auto count = in.get<std::uint64_t>();
    for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
        const auto first = in.get<std::uint64_t>();
        const auto last = in.get<std::uint64_t>();
        if (in.ok() && first <= last) set.add(first, last);
    }
}

void put_chain(ByteWriter& out, const Chain& chain) {
    out.put(chain.next_seq);
    out.put(chain.last_leaf);
}

Chain get_chain(ByteReader& in) {
    Chain chain;
    chain.next_seq = in.get<std::uint64_t>();
    chain.last_leaf = in.get<std::uint64_t>();
    return chain;
}

void put_task(ByteWriter& out, const Task& task) {
    out.put(task.state);
    out.put(task.attempt);
    out.put(task.retries_used);
    out.put(task.deaths);
    out.put(task.intent);
    out.put(task.worker.number);
    out.put(task.worker.incarnation);
    out.put(task.assigned_ns);
    out.put(task.started_ns);
}

Task get_task(ByteReader& in) {
    Task task;
    task.state = in.get<SlotState>();
    task.attempt = in.get<std::uint16_t>();
    task.retries_used = in.get<std::uint32_t>();
    task.deaths = in.get<std::uint32_t>();
    task.intent = in.get<std::uint32_t>();
    task.worker.number = in.get<std::uint64_t>();
    task.worker.incarnation = in.get<std::uint64_t>();
    task.assigned_ns = in.get<std::uint64_t>();
    task.started_ns = in.get<std::uint64_t>();
    return task;
}

void put_job(ByteWriter& out, const Job& job) {
    out.put(job.id);
    out.put(job.uid);
    out.put(job.gid);
    out.put(job.submit_ns);
    out.put(job.first_sequence);
    out.put_bytes(job.spec.view());
    out.put(job.priority);
    out.put(static_cast<std::uint8_t>((job.held ? 1 : 0) | (job.ended ? 2 : 0) |
                                      (job.rest_cancelled ? 4 : 0)));
    out.put(job.time_limit_ns);
    out.put(job.start_ns);
    out.put(job.end_ns);
    out.put(job.exit_code);
    out.put_bytes(*job.reason);
    out.put(job.cursor);
    put_set(out, job.ok);
    put_set(out, job.failed);
    put_set(out, job.cancelled);
    put_set(out, job.held_elements);
    put_set(out, job.closed);
    out.put(static_cast<std::uint64_t>(job.failed_attempts->size()));
    for (const auto& [ordinal, failed] : *job.failed_attempts) {
        out.put(ordinal);
        out.put(failed.attempt);
        out.put(failed.worker.number);
        out.put(failed.worker.incarnation);
    }
    out.put(static_cast<std::uint64_t>(job.tasks->size()));
    job.tasks->for_each([&out](std::uint64_t ordinal, const Task& task) {
        out.put(ordinal);
        put_task(out, task);
    });
}

// The chains of a job's tasks, each with its task's id.
template <typename Visit>
void for_each_chain(const Job& job, Visit visit) {
    const auto tell = [&](Element element, const Chain& chain) {
        if (chain.next_seq != 0) visit(TaskId{job.id, element}, chain);
    };
    tell(job.array ? kHeaderElement : 0, job.chain);
    if (!job.array) return;
    job.tasks->for_each([&](std::uint64_t ordinal, const Task& task) {
        tell(job.element_of(ordinal), task.chain);
    });
    for (const auto& [ordinal, failed] : *job.failed_attempts) {
        tell(job.element_of(ordinal), failed.chain);
    }
}

}  // namespace

class ModelSnapshot {
public:
    static Status load_job(Model& model, ByteReader& in) {
        const auto id = in.get<std::uint64_t>();
        Job& job = model.jobs_[id];
        job.id = id;
        job.uid = in.get<std::uint32_t>();
        job.gid = in.get<std::uint32_t>();
        job.submit_ns = in.get<std::uint64_t>();
        job.first_sequence = in.get<std::uint64_t>();
        job.spec = SpecBytes(in.get_bytes());
        REEVE_TRY(parse_spec(job));
        job.priority = in.get<std::int32_t>();
        const auto flags = in.get<std::uint8_t>();
        job.held = (flags & 1) != 0;
        job.ended = (flags & 2) != 0;
        job.rest_cancelled = (flags & 4) != 0;
        job.time_limit_ns = in.get<std::uint64_t>();
        job.start_ns = in.get<std::uint64_t>();
        job.end_ns = in.get<std::uint64_t>();
        job.exit_code = in.get<std::int32_t>();
        job.reason = std::string(in.get_bytes());
        job.cursor = in.get<std::uint64_t>();
        get_set(in, job.ok);
        get_set(in, job.failed);
        get_set(in, job.cancelled);
        get_set(in, job.held_elements);
        get_set(in, job.closed);
        const auto failed = in.get<std::uint64_t>();
        for (std::uint64_t i = 0; i < failed && in.ok(); ++i) {
            const auto ordinal = in.get<std::uint64_t>();
            auto& attempt = job.failed_attempts.edit()[ordinal];
            attempt.attempt = in.get<std::uint16_t>();
            attempt.worker.number = in.get<std::uint64_t>();
            attempt.worker.incarnation = in.get<std::uint64_t>();
        }
        const auto tasks = in.get<std::uint64_t>();
        for (std::uint64_t i = 0; i < tasks && in.ok(); ++i) {
            const auto ordinal = in.get<std::uint64_t>();
            Task* task = job.tasks.edit().add(ordinal, job.count, get_task(in));
            if (task != nullptr) model.enter_state(job, ordinal, *task);
        }
        if (!in.ok()) return fail(ErrorCode::kDataLoss, "ledger snapshot is cut short");
        job.settle_passed();
        model.index_job(job);
        model.mark(job);
        return {};
    }

    static void save_rest(const Model& model, ByteWriter& out) {
        put_set(out, model.jobs_ok_);
        put_set(out, model.jobs_not_ok_);
        out.put(static_cast<std::uint64_t>(model.ended_order_.size()));
        for (const auto id : model.ended_order_) out.put(id);
        out.put(static_cast<std::uint64_t>(model.workers_.size()));
        for (const auto& [incarnation, worker] : model.workers_) {
            out.put(worker.id.number);
            out.put(incarnation);
            out.put_bytes(worker.name);
            out.put(static_cast<std::uint8_t>((worker.alive ? 1 : 0) | (worker.dead ? 2 : 0)));
            out.put(worker.death_leaf);
        }
    }

    // Keys of jobs that are forgotten otherwise.
    static void save_keys(const Model& model, ByteWriter& out) {
        out.put(static_cast<std::uint64_t>(model.old_keys_.size()));
        for (const auto& key : model.old_keys_) {
            out.put(key.first);
            out.put_bytes(key.second);
            out.put(model.keys_.at(key));
        }
    }

    static void load_keys(Model& model, ByteReader& in) {
        if (in.at_end()) return;
        const auto count = in.get<std::uint64_t>();
        for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
            const auto uid = in.get<std::uint32_t>();
            Model::Key key{uid, std::string(in.get_bytes())};
            model.keys_[key] = in.get<std::uint64_t>();
            model.old_keys_.push_back(std::move(key));
        }
    }

    // What later versions added: older snapshots end before it.
    static void save_late(const Model& model, ByteWriter& out) {
        std::vector<std::tuple<JobId, std::uint64_t, std::uint32_t>> pushed;
        std::vector<std::pair<JobId, std::uint16_t>> fair;
        for (const auto& [id, job] : model.jobs_) {
            const auto milli = job.fair_milli;
            if (milli != 0) fair.emplace_back(id, milli);
            job.tasks->for_each([&, job_id = id](std::uint64_t ordinal, const Task& task) {
                if (task.pushed != 0) pushed.emplace_back(job_id, ordinal, task.pushed);
            });
        }
        out.put(static_cast<std::uint64_t>(pushed.size()));
        for (const auto& [id, ordinal, times] : pushed) {
            out.put(id);
            out.put(ordinal);
            out.put(times);
        }
        out.put(static_cast<std::uint64_t>(fair.size()));
        for (const auto& [id, milli] : fair) {
            out.put(id);
            out.put(milli);
        }
        Usage usage = model.usage;
        usage.save(out);
    }

    static void load_late(Model& model, ByteReader& in) {
        if (in.at_end()) return;
        const auto pushed = in.get<std::uint64_t>();
        for (std::uint64_t i = 0; i < pushed && in.ok(); ++i) {
            const auto id = in.get<std::uint64_t>();
            const auto ordinal = in.get<std::uint64_t>();
            const auto times = in.get<std::uint32_t>();
            if (Task* task = model.find_task(id, ordinal)) task->pushed = times;
        }
        const auto fair = in.get<std::uint64_t>();
        for (std::uint64_t i = 0; i < fair && in.ok(); ++i) {
            const auto id = in.get<std::uint64_t>();
            const auto milli = in.get<std::uint16_t>();
            if (Job* job = model.find(id)) job->fair_milli = milli;
        }
        model.usage.load(in);
    }

    // Run times, and what they cost whom: last of all.
    static void save_run_times(const Model& model, ByteWriter& out) {
        std::vector<std::pair<JobId, std::uint16_t>> lengths;
        for (const auto& [id, job] : model.jobs_) {
            if (job.length_milli != 0) lengths.emplace_back(id, job.length_milli);
        }
        out.put(static_cast<std::uint64_t>(lengths.size()));
        for (const auto& [id, milli] : lengths) {
            out.put(id);
            out.put(milli);
        }
        model.run_times.save(out);
    }

    static void load_run_times(Model& model, ByteReader& in) {
        if (in.at_end()) return;
        const auto lengths = in.get<std::uint64_t>();
        for (std::uint64_t i = 0; i < lengths && in.ok(); ++i) {
            const auto id = in.get<std::uint64_t>();
            const auto milli = in.get<std::uint16_t>();
            if (Job* job = model.find(id)) job->length_milli = milli;
        }
        model.run_times.load(in);
    }

    static void load_rest(Model& model, ByteReader& in) {
        get_set(in, model.jobs_ok_);
        get_set(in, model.jobs_not_ok_);
        const auto ended = in.get<std::uint64_t>();
        for (std::uint64_t i = 0; i < ended && in.ok(); ++i) {
            model.ended_order_.push_back(in.get<std::uint64_t>());
        }
        const auto workers = in.get<std::uint64_t>();
        for (std::uint64_t i = 0; i < workers && in.ok(); ++i) {
            WorkerRecord worker;
            worker.id.number = in.get<std::uint64_t>();
            worker.id.incarnation = in.get<std::uint64_t>();
            worker.name = in.get_bytes();
            const auto flags = in.get<std::uint8_t>();
            worker.alive = (flags & 1) != 0;
            worker.dead = (flags & 2) != 0;
            worker.death_leaf = in.get<std::uint64_t>();
            model.workers_[worker.id.incarnation] = worker;
        }
    }
};

namespace {

// Moves what fills a part out of `bytes`, which then has its memory for the next.
void cut_parts(std::string& bytes, std::size_t part_bytes, std::vector<std::string>& parts) {
    if (bytes.size() < part_bytes) return;
    std::size_t at = 0;
    for (; bytes.size() - at >= part_bytes; at += part_bytes) {
        parts.push_back(bytes.substr(at, part_bytes));
    }
    bytes.erase(0, at);
}

}  // namespace

std::string Model::save() const {
    std::string bytes;
    for (const auto& part : save_parts(std::numeric_limits<std::size_t>::max())) bytes += part;
    return bytes;
}

std::vector<std::string> Model::save_parts(std::size_t part_bytes) const {
    std::vector<std::string> parts;
    std::string bytes;
    ByteWriter out(bytes);
    out.put(kSnapshotVersion);
    out.put(next_job);
    out.put(next_sequence);
    out.put(next_leaf);
    out.put(epoch);
    out.put(segment_generation);
    out.put(next_worker_number);
    out.put(next_worker_incarnation);
    ModelSnapshot::save_rest(*this, out);
    out.put(static_cast<std::uint64_t>(jobs_.size()));
    for (const auto& [id, job] : jobs_) {
        put_job(out, job);
        cut_parts(bytes, part_bytes, parts);
    }
    std::uint64_t chains = 0;
    for (const auto& [id, job] : jobs_) {
        for_each_chain(job, [&chains](TaskId, const Chain&) { ++chains; });
    }
    out.put(chains);
    for (const auto& [id, job] : jobs_) {
        for_each_chain(job, [&out](TaskId task, const Chain& chain) {
            out.put(task.job);
            out.put(task.element);
            put_chain(out, chain);
        });
        cut_parts(bytes, part_bytes, parts);
    }
    out.put(static_cast<std::uint64_t>(worker_chains.size()));
    for (const auto& [incarnation, chain] : worker_chains) {
        out.put(incarnation);
        put_chain(out, chain);
    }
    put_chain(out, scheduler_chain);
    ModelSnapshot::save_late(*this, out);
    spend.save(out);
    ModelSnapshot::save_keys(*this, out);
    ModelSnapshot::save_run_times(*this, out);
    cut_parts(bytes, part_bytes, parts);
    parts.push_back(std::move(bytes));
    return parts;
}

Status Model::load(std::string_view bytes) {
    ByteReader in(bytes);
    if (in.get<std::uint32_t>() != kSnapshotVersion) {
        return fail(ErrorCode::kDataLoss, "ledger snapshot of an unknown version");
    }
    next_job = in.get<std::uint64_t>();
    next_sequence = in.get<std::uint64_t>();
    next_leaf = in.get<std::uint64_t>();
    epoch = in.get<std::uint64_t>();
    segment_generation = in.get<std::uint32_t>();
    next_worker_number = in.get<std::uint64_t>();
    next_worker_incarnation = in.get<std::uint64_t>();
    ModelSnapshot::load_rest(*this, in);
    const auto jobs = in.get<std::uint64_t>();
    for (std::uint64_t i = 0; i < jobs && in.ok(); ++i) {
        REEVE_TRY(ModelSnapshot::load_job(*this, in));
    }
    for (const auto id : ended_order_) {
        if (const Job* job = find(id)) ended_bytes_ += job->spec.view().size();
    }
    const auto chains = in.get<std::uint64_t>();
    for (std::uint64_t i = 0; i < chains && in.ok(); ++i) {
        TaskId task;
        task.job = in.get<std::uint64_t>();
        task.element = in.get<std::uint64_t>();
        const auto chain = get_chain(in);
        if (Chain* placed = placed_chain(task)) *placed = chain;
    }
    const auto workers = in.get<std::uint64_t>();
    for (std::uint64_t i = 0; i < workers && in.ok(); ++i) {
        const auto incarnation = in.get<std::uint64_t>();
        worker_chains[incarnation] = get_chain(in);
    }
    scheduler_chain = get_chain(in);
    ModelSnapshot::load_late(*this, in);
    if (!in.at_end()) spend.load(in);  // older ones end here
    ModelSnapshot::load_keys(*this, in);
    ModelSnapshot::load_run_times(*this, in);
    if (!in.ok() || !in.at_end()) return fail(ErrorCode::kDataLoss, "ledger snapshot is damaged");
    return {};
}

}  // namespace reeve::plm
