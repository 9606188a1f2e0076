// run: submit one task, stream what it writes, end with its exit code; the other half of submit.h.
#include <atomic>
#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>

#include <unistd.h>

#include "cli/client/own_client.h"
#include "cli/logs.h"
#include "cli/render.h"
#include "cli/submit.h"
#include "cli/wait.h"
#include "common/base/clock.h"

namespace reeve::cli {

namespace {

constexpr int kExitTimeLimit = 124;
constexpr std::uint64_t kHistoryLagNs = 10 * kSecond;
constexpr std::chrono::milliseconds kPoll{50};

std::atomic<int> interrupts{0};

void count_interrupt(int) {
    interrupts.fetch_add(1);
}

int own_failure(const Error& error) {
    report(error);
    return kExitOwnFailure;
}

// What the task wrote may be beyond us to pass on; that is no code of the task's.
int end_with(int code) {
    return finish(code) == code ? code : kExitOwnFailure;
}

int code_of(const v1::TaskResult& result) {
    if (result.outcome() == "succeeded") return 0;
    if (result.outcome() == "timed-out") return kExitTimeLimit;
    if (result.exit_code() < 0) return 128 - result.exit_code();
    if (result.exit_code() > 0 && result.outcome() == "failed") return result.exit_code();
    if (result.outcome() == "cancelled") return 128 + SIGTERM;
    if (result.outcome() == "out-of-memory") return 128 + SIGKILL;
    return result.exit_code() > 0 ? result.exit_code() : kExitOwnFailure;
}

// Streams the task's files until told to stop. A new attempt has files of its own.
class Attachment {
public:
    Attachment(const Context& context, const v1::TaskSpec& spec, std::uint64_t job,
               std::uint64_t element)
        : context_(context), spec_(spec), job_(job), element_(element), gatherer_(context) {}

    void pump() {
        gatherer_.refresh();
        const auto now = current_attempt(gatherer_, job_, element_, hint_);
        if (now && now->attempt() > 0) {
            open_until(*now);
        }
        if (output_) output_->pump(STDOUT_FILENO);
        if (error_) error_->pump(STDERR_FILENO);
    }
    // The record of the task's end; the history file may be a moment behind the PLM.
    std::optional<v1::TaskResult> ending() {
        const auto give_up = boot_ns() + kHistoryLagNs;
        while (true) {
            gatherer_.refresh();
            const auto now = current_attempt(gatherer_, job_, element_, hint_);
            if (now && now->state() == "ended" && !now->outcome().empty()) {
                open_until(*now);
                return now;
            }
            if (boot_ns() > give_up) return std::nullopt;
            std::this_thread::sleep_for(kPoll);
        }
    }

private:
    // Short attempts may come and go between two looks: each is shown whole.
    void open_until(const v1::TaskResult& now) {
        for (auto attempt = task_.attempt() + 1; attempt <= now.attempt(); ++attempt) {
            auto next = now;
            next.set_attempt(attempt);
            open(next);
        }
        task_ = now;
    }
    void open(const v1::TaskResult& task) {
        if (output_) output_->pump(STDOUT_FILENO);
        if (error_) error_->pump(STDERR_FILENO);
        const auto out = output_path(context_.cell, spec_, task, Stream::kOutput);
        const auto err = output_path(context_.cell, spec_, task, Stream::kError);
        output_ = out.empty() ? nullptr : std::make_unique<Follower>(out);
        error_ = err.empty() || err == out ? nullptr : std::make_unique<Follower>(err);
    }

    const Context& context_;
    const v1::TaskSpec& spec_;
    std::uint64_t job_;
    std::uint64_t element_;
    Gatherer gatherer_;
    std::uint32_t hint_ = shm::kNone32;
    v1::TaskResult task_;
    std::unique_ptr<Follower> output_;
    std::unique_ptr<Follower> error_;
};

// stdout and stderr of `run` stay apart unless files were asked for.
void split_streams(const Context& context, v1::TaskSpec& task) {
    if (!task.output().empty() || !task.error().empty()) return;
    task.set_output(context.cell.output + "/%j/%a.%x.out");
    task.set_error(context.cell.output + "/%j/%a.%x.err");
}

Result<JobDraft> prepare_one(const Context& context, const SubmitOptions& options) {
    std::vector<std::string> warnings;
    auto forwarding = options;
    forwarding.forward_stdin = isatty(STDIN_FILENO) == 0;
    REEVE_TRY_ASSIGN(auto drafts, prepare(forwarding, warnings));
    if (drafts.size() != 1 || elements_of(drafts[0].spec) != 1) {
        return fail(ErrorCode::kInvalidArgument,
                    "run attaches to one task only; use reeve submit --wait for many");
    }
    for (const auto& warning : warnings) warn(warning);
    split_streams(context, *drafts[0].spec.mutable_task());
    return std::move(drafts[0]);
}

// A plain exit status speaks for itself; everything else is said.
void tell_ending(std::uint64_t job, const v1::TaskResult& ending) {
    const auto& detail = ending.detail();
    if (ending.outcome() == "failed" && detail.rfind("exit status ", 0) == 0) return;
    std::string text = "job " + std::to_string(job) + " " + ending.outcome();
    if (!detail.empty() && detail != ending.outcome()) text += ": " + detail;
    warn(text);
}

// The cell was stopped or is gone: what becomes of the task.
Error with_job(Error error, std::uint64_t job, const v1::JobSpec& spec) {
    if (error.code != ErrorCode::kUnavailable) return error;
    const auto id = std::to_string(job);
    const bool never = spec.task().retry_mode() == v1::RETRY_NEVER;
    error.message += "; job " + id +
                     (never ? " is not started again, see reeve show " + id
                            : " is kept and runs again then, see it with: reeve logs -f " + id);
    return error;
}

// Waits in a thread of its own while the caller streams.
struct Waiter {
    std::atomic<bool> ended{false};
    std::atomic<bool> stop{false};
    Result<JobStates> states = fail(ErrorCode::kUnknown, "");
    std::thread thread;

    Waiter(Client& client, const std::vector<Selected>& jobs)
        : thread([this, &client, &jobs] {
              states =
                  client.calls().watch(jobs, 0, [this](const JobStates&) { return !stop.load(); });
              ended.store(true);
          }) {}
    ~Waiter() {
        stop.store(true);
        thread.join();
    }
};

}  // namespace

int run_command(const Context& context, const SubmitOptions& options) {
    auto draft = prepare_one(context, options);
    if (!draft) return own_failure(draft.error());
    auto client = connect_client(context);
    if (!client) return own_failure(client.error());
    std::vector<JobDraft> drafts{std::move(*draft)};
    std::signal(SIGINT, count_interrupt);
    std::signal(SIGTERM, count_interrupt);
    const auto reply = send(**client, drafts, false);
    if (!reply) return own_failure(reply.error());
    const auto job = reply->job_ids(0);
    const auto& spec = drafts[0].spec;
    const std::uint64_t element = spec.elements().empty() ? 0 : spec.elements(0).first();
    if (stderr_is_terminal_for(context)) warn("job " + std::to_string(job));

    const std::vector<Selected> selected{{job, {}}};
    Attachment attachment(context, spec.task(), job, element);
    auto waiter = std::make_unique<Waiter>(**client, selected);
    int handled = 0;
    while (!waiter->ended.load()) {
        attachment.pump();
        const int seen = interrupts.load();
        if (seen > handled) {
            handled = seen;
            if (handled > 1) {
                warn("left job " + std::to_string(job) + " ending by itself");
                std::_Exit(130);
            }
            const auto cancelled = (*client)->cancel(job, "interrupted in reeve run");
            if (!cancelled) warn(cancelled.error());
        }
        std::this_thread::sleep_for(kPoll);
    }
    if (!waiter->states) return own_failure(with_job(waiter->states.error(), job, spec));
    const auto ending = attachment.ending();
    attachment.pump();
    const auto& status = waiter->states->at(job);
    if (!ending) {
        if (status.succeeded() > 0) return end_with(kExitOk);
        return end_with(status.exit_code() < 0 ? 128 - status.exit_code()
                                               : std::max(status.exit_code(), 1));
    }
    const int code = code_of(*ending);
    if (code != 0 && !context.quiet) tell_ending(job, *ending);
    return end_with(code);
}

}  // namespace reeve::cli
