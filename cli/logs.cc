#include "cli/logs.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include "cli/catalogue.h"
#include "cli/json_writer.h"
#include "cli/render.h"
#include "cli/text.h"
#include "common/base/clock.h"
#include "common/rpc/client.h"

namespace reeve::cli {

namespace {

constexpr std::chrono::milliseconds kFollowPoll{100};

bool write_all(int fd, const char* data, std::size_t size) {
    while (size > 0) {
        const auto put = write(fd, data, size);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            if (fd == STDOUT_FILENO) note_output_error(put < 0 ? errno : EIO);
            return false;
        }
        data += put;
        size -= static_cast<std::size_t>(put);
    }
    return true;
}

// The attempt asked for, of each element: the newest one unless a number is given.
std::vector<v1::TaskResult> choose_attempts(const JobDetail& detail, std::uint32_t attempt) {
    std::vector<v1::TaskResult> out;
    for (const auto& task : detail.tasks) {
        if (attempt != 0 && task.attempt() != attempt) continue;
        if (attempt == 0 && !out.empty() && out.back().element() == task.element()) {
            out.back() = task;
        } else {
            out.push_back(task);
        }
    }
    return out;
}

struct Target {
    std::shared_ptr<const v1::TaskSpec> spec;
    v1::TaskResult task;
    bool array = false;
    std::uint32_t newest = 0;  // attempt, where an older one was asked for
};

int follow(const Context& context, Gatherer& gatherer, const Target& target, Stream stream) {
    auto task = target.task;
    std::uint32_t hint = shm::kNone32;
    auto path = output_path(context.cell, *target.spec, task, stream);
    auto follower = std::make_unique<Follower>(path);
    auto shown = task.attempt();
    auto look_ns = boot_ns() + kSecond;
    while (true) {
        gatherer.refresh();
        bool down = false;
        if (const auto now = boot_ns(); now >= look_ns) {
            down = !rpc::cell_is_run(context.cell);
            look_ns = now + kSecond;
        }
        if (const auto now = current_attempt(gatherer, task.job(), task.element(), hint))
            task = *now;
        const bool ended = task.state() == "ended";
        // What was written before the end was seen is complete after one more look.
        for (; shown < task.attempt(); ++shown) {  // short ones may come and go between two looks
            auto next = task;
            next.set_attempt(shown + 1);
            const auto where = output_path(context.cell, *target.spec, next, stream);
            if (where == path) continue;
            if (!follower->pump(STDOUT_FILENO)) return kExitOk;
            path = where;
            follower = std::make_unique<Follower>(path);
        }
        if (!follower->pump(STDOUT_FILENO)) return kExitOk;
        if (ended) return kExitOk;
        if (down) {
            const auto id = task_id(target.task, target.array);
            warn(rpc::unreachable(context.cell, "task " + id + " has not ended, and no cell runs")
                     .message);
            return kExitUnreachable;
        }
        std::this_thread::sleep_for(kFollowPoll);
    }
}

int print_one(const Context& context, const Target& target, Stream stream) {
    const auto id = task_id(target.task, target.array);
    if (target.task.attempt() == 0 && target.task.state() == "ended") {
        warn("task " + id + " was " + task_state(target.task) +
             " before it started and has no output; to run it, submit it again");
        return kExitNotFound;
    }
    if (target.task.attempt() == 0) {
        warn("task " + id +
             " has not started and has no output yet; follow it with: reeve logs -f " + id);
        return kExitNotFound;
    }
    const auto path = output_path(context.cell, *target.spec, target.task, stream);
    if (path.empty()) {
        warn("task " + id + " keeps no output; it was submitted with output none");
        return kExitNotFound;
    }
    if (target.newest > target.task.attempt()) {
        auto newest = target.task;
        newest.set_attempt(target.newest);
        if (output_path(context.cell, *target.spec, newest, stream) == path) {
            warn("the attempts of task " + id +
                 " write the same file: what is there is of attempt " +
                 std::to_string(target.newest) + "; keep each with %x in --output");
        }
    }
    Follower follower(path);
    if (!follower.pump(STDOUT_FILENO)) return kExitOk;
    if (follower.opened()) return kExitOk;
    warn("task " + id + " has no output file: " + path + ": " + std::strerror(errno));
    return kExitNotFound;
}

int print_paths(const Context& context, const std::vector<Target>& targets, Stream stream) {
    JsonWriter json;
    json.begin_object().field("schema", "reeve.logs.v1").key("files").begin_array();
    for (const auto& target : targets) {
        if (target.task.attempt() == 0) continue;
        const auto path = output_path(context.cell, *target.spec, target.task, stream);
        json.begin_object().field("job", target.task.job());
        json.field("element", target.task.element()).field("attempt", target.task.attempt());
        json.field("path", path).end_object();
        if (!context.json) write_out(escape(path) + "\n");
    }
    json.end_array().end_object();
    if (context.json) json.print();
    return finish(kExitOk);
}

Result<std::vector<Target>> find_targets(const Context& context, const LogsOptions& options,
                                         Gatherer& gatherer) {
    REEVE_TRY_ASSIGN(const auto selectors, parse_selectors(options.selectors));
    REEVE_TRY_ASSIGN(const auto selected, select_jobs(context, selectors, Scope::kKnown));
    std::vector<Target> targets;
    std::uint32_t highest = 0;  // attempt there is
    for (const auto& one : selected) {
        REEVE_TRY_ASSIGN(auto detail, gatherer.detail(one, {true, options.limit, true}));
        if (!detail.has_spec) {
            return fail(ErrorCode::kNotFound,
                        "where job " + std::to_string(one.job) +
                            " writes is not known here; start the cell with reeve up");
        }
        if (detail.tasks.empty() && one.elements.empty() && detail.status.elements() == 1) {
            v1::TaskResult waiting;
            waiting.set_job(one.job);
            const bool ended = detail.status.state() == "ended";
            waiting.set_state(ended ? "ended" : "queued");
            if (ended) waiting.set_outcome(std::string(to_string(Outcome::kCancelled)));
            const auto& elements = detail.status.spec().elements();
            if (!elements.empty()) waiting.set_element(elements[0].first());
            detail.tasks.push_back(waiting);
        }
        const auto spec = std::make_shared<const v1::TaskSpec>(detail.status.spec().task());
        std::map<std::uint64_t, std::uint32_t> newest;
        if (options.attempt != 0) {
            for (const auto& task : detail.tasks) {
                auto& known = newest[task.element()];
                known = std::max(known, task.attempt());
                highest = std::max(highest, task.attempt());
            }
        }
        for (auto& task : choose_attempts(detail, options.attempt)) {
            const auto last = options.attempt == 0 ? 0 : newest[task.element()];
            targets.push_back({spec, std::move(task), detail.status.elements() > 1, last});
        }
        if (detail.tasks_cut > 0) {
            warn("not all tasks of job " + std::to_string(one.job) +
                 " are shown; raise --limit or name elements, like " + std::to_string(one.job) +
                 ".1-100");
        }
    }
    if (targets.empty() && highest > 0 && highest < options.attempt) {
        return fail(ErrorCode::kNotFound, "there is no attempt " + std::to_string(options.attempt) +
                                              "; the newest one is " + std::to_string(highest));
    }
    if (targets.empty()) {
        return fail(ErrorCode::kNotFound,
                    "no such task has started yet; follow it with: reeve logs -f");
    }
    return targets;
}

}  // namespace

Follower::~Follower() {
    if (fd_ >= 0) close(fd_);
}

bool Follower::pump(int out_fd) {
    if (fd_ < 0) {
        fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd_ < 0) return true;
    }
    // What --output-limit cut off in front is a hole.
    const auto data = lseek(fd_, 0, SEEK_DATA);
    if (data > 0 && static_cast<std::uint64_t>(data) > offset_) {
        offset_ = static_cast<std::uint64_t>(data);
    }
    std::string chunk(1 << 18, '\0');
    while (true) {
        const auto got = pread(fd_, chunk.data(), chunk.size(), static_cast<off_t>(offset_));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return true;
        if (!write_all(out_fd, chunk.data(), static_cast<std::size_t>(got))) return false;
        offset_ += static_cast<std::uint64_t>(got);
    }
}

std::optional<v1::TaskResult> current_attempt(Gatherer& gatherer, std::uint64_t job,
                                              std::uint64_t element, std::uint32_t& slot_hint) {
    const auto* segment = gatherer.segment();
    const auto matches = [&](const std::optional<TaskView>& view) {
        return view && view->result.job() == job && view->result.element() == element;
    };
    const auto named = [&](TaskView& view) {
        view.result.set_worker_name(gatherer.worker_name(view.result.worker_number()));
        return view.result;
    };
    if (segment != nullptr) {
        auto view = view_task(*segment, slot_hint);
        if (matches(view)) return named(*view);
        for (auto& other : tasks_of_job(*segment, job)) {
            if (other.result.element() != element) continue;
            slot_hint = other.slot;
            return named(other);
        }
    }
    if (gatherer.history() == nullptr) return std::nullopt;
    const auto attempts = gatherer.history()->attempts({job, {{element, element}}}, 100'000);
    if (!attempts || attempts->empty()) return std::nullopt;
    auto result = attempts->back().result;
    if (!attempts->back().terminal) result.set_state("queued");
    return result;
}

int logs_command(const Context& context, const LogsOptions& options) {
    Gatherer gatherer(context);
    if (gatherer.nothing()) return report(gatherer.segment_error());
    const auto targets = find_targets(context, options, gatherer);
    if (!targets) return report(targets.error());
    const auto stream = options.error ? Stream::kError : Stream::kOutput;
    if (options.paths || context.json) return print_paths(context, *targets, stream);
    int code = kExitOk;
    for (const auto& target : *targets) {
        if (targets->size() > 1 && !context.quiet) {
            write_out("==> " + task_id(target.task, target.array) + " <==\n");
        }
        flush_out();
        const int one = options.follow ? follow(context, gatherer, target, stream)
                                       : print_one(context, target, stream);
        if (code == kExitOk) code = one;
    }
    return finish(code);
}

}  // namespace reeve::cli
