#include "cli/client/calls.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <optional>
#include <thread>

#include <sys/random.h>

#include "cli/job_draft.h"
#include "cli/look.h"
#include "cli/text.h"
#include "common/base/clock.h"
#include "common/rpc/status.h"

namespace reeve::cli {

namespace {

// Above this many jobs in one request no keys are made up: the PLM would have to remember them all.
constexpr int kKeyedJobsMax = 1'000;
constexpr std::uint64_t kAnswerWithinMs = 60'000;  // repetitions included
constexpr std::chrono::seconds kActWithin{60};
constexpr std::uint64_t kLostPlmNs = 30 * kSecond;

// A PLM that ends may cancel its calls before it says why.
bool went_away(const Error& error) {
    return error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kCancelled;
}

class Watching {
public:
    Watching(const Context& context, rpc::Client& client, const std::vector<Selected>& selected,
             std::uint64_t timeout_ms)
        : context_(context),
          client_(client),
          selected_(selected),
          end_ns_(timeout_ms == 0 ? 0 : boot_ns() + timeout_ms * kMillisecond) {}

    Result<JobStates> run(const std::function<bool(const JobStates&)>& changed) {
        auto contact_ns = boot_ns();
        late_.emplace(context_.cell, client_.tell_late(), std::chrono::milliseconds(0));
        while (true) {
            const auto before = messages_;
            const auto status = stream(changed);
            if (messages_ != before) contact_ns = boot_ns();
            if (stop_) return stopped();
            if (all_ended(jobs_, selected_)) {
                fill_from_history(context_, selected_, jobs_);
                return std::move(jobs_);
            }
            // The call's deadline is of another clock and may be a moment early.
            const bool late = !status && status.error().code == ErrorCode::kDeadlineExceeded;
            if (end_ns_ != 0 && (late || boot_ns() >= end_ns_)) return timed_out();
            if (!status && !went_away(status.error())) return fail(status.error());
            if (boot_ns() - contact_ns > kLostPlmNs || !rpc::cell_is_run(context_.cell)) {
                return fail(rpc::unreachable(context_.cell, "the PLM went away"));
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(rpc::kBackoffMs));
            const auto now = boot_ns();
            const auto left_ms = end_ns_ == 0    ? std::uint64_t{1000}
                                 : end_ns_ > now ? (end_ns_ - now) / kMillisecond
                                                 : 0;
            client_.await_connection(
                std::chrono::milliseconds(std::min<std::uint64_t>(left_ms, 1000)));
        }
    }

private:
    static tl::unexpected<Error> stopped() { return fail(ErrorCode::kCancelled, "interrupted"); }
    tl::unexpected<Error> timed_out() const {
        std::size_t open = 0;
        for (const auto& one : selected_) {
            const auto found = jobs_.find(one.job);
            open += found == jobs_.end() || found->second.state() != "ended" ? 1U : 0U;
        }
        return fail(ErrorCode::kDeadlineExceeded,
                    "the time is up and " + std::to_string(open) +
                        (open == 1 ? " job has" : " jobs have") +
                        " not ended; wait longer or look with: reeve ls");
    }

    Status stream(const std::function<bool(const JobStates&)>& changed) {
        v1::WatchRequest request;
        for (const auto& one : selected_) {
            const auto found = jobs_.find(one.job);
            if (found != jobs_.end() && found->second.state() == "ended") continue;
            request.add_jobs(one.job);
        }
        grpc::ClientContext call;
        std::uint64_t left_ms = 0;
        if (end_ns_ != 0) {
            const auto now = boot_ns();
            left_ms = now >= end_ns_ ? 1 : (end_ns_ - now) / kMillisecond + 1;
        }
        rpc::Client::prepare(call, std::chrono::milliseconds(left_ms));
        auto reader = client_.stub().Watch(&call, request);
        v1::WatchReply reply;
        while (reader->Read(&reply)) {
            ++messages_;
            late_->answered();
            for (auto& status : *reply.mutable_jobs()) {
                const auto job = status.job();
                jobs_[job] = std::move(status);
            }
            if (!changed(jobs_)) {
                stop_ = true;
                call.TryCancel();
                break;
            }
            if (reply.done()) break;
        }
        const auto status = reader->Finish();
        return rpc::from_grpc(status);
    }

    const Context& context_;
    rpc::Client& client_;
    const std::vector<Selected>& selected_;
    std::uint64_t end_ns_;
    JobStates jobs_;
    std::optional<rpc::LateNotice> late_;
    std::uint64_t messages_ = 0;
    bool stop_ = false;
};

// Gives each job a key. The one of our own that they share, or "".
std::string complete_keys(v1::SubmitRequest& request, bool& keyed) {
    const auto own = random_key(kOwnKeyPrefix);
    bool used = false;
    const auto jobs = request.jobs_size();
    keyed = true;
    for (int i = 0; i < jobs; ++i) {
        auto& spec = *request.mutable_jobs(i);
        if (spec.key().empty() && !request.validate_only() && jobs <= kKeyedJobsMax) {
            spec.set_key(
                key_of_draft(own, static_cast<std::size_t>(i), static_cast<std::size_t>(jobs)));
            used = true;
        }
        keyed = keyed && !spec.key().empty();
    }
    return used ? own : "";
}

}  // namespace

bool all_ended(const JobStates& jobs, const std::vector<Selected>& selected) {
    return std::all_of(selected.begin(), selected.end(), [&](const Selected& one) {
        const auto found = jobs.find(one.job);
        return found != jobs.end() && found->second.state() == "ended";
    });
}

// The history file's words for jobs that ended: all of them where nobody else can be asked, else
// those the PLM only remembers by their verdict (it tells no times then).
void fill_from_history(const Context& context, const std::vector<Selected>& selected,
                       JobStates& jobs) {
    const auto thin = [&](const Selected& one) {
        const auto found = jobs.find(one.job);
        return found == jobs.end() || found->second.submit_ns() == 0;
    };
    if (std::none_of(selected.begin(), selected.end(), thin)) return;
    auto history = History::open(context.cell);
    if (!history) return;
    for (const auto& one : selected) {
        if (!thin(one)) continue;
        auto status = (*history)->job(one.job);
        if (status && status->state() == "ended") jobs[one.job] = std::move(*status);
    }
}

std::string random_key(const std::string& prefix) {
    std::array<unsigned char, 12> bytes{};
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) return "";
    std::string key = prefix;
    for (const auto byte : bytes) {
        char hex[4];
        std::snprintf(hex, sizeof hex, "%02x", byte);
        key += hex;
    }
    return key;
}

Result<std::unique_ptr<Calls>> Calls::connect(const Context& context, rpc::TellLate tell) {
    REEVE_TRY_ASSIGN(auto rpc, rpc::Client::connect(context.cell, std::move(tell)));
    return std::make_unique<Calls>(context, std::move(rpc));
}

Result<v1::SubmitReply> Calls::submit(v1::SubmitRequest& request) {
    bool keyed = false;
    const auto own_key = complete_keys(request, keyed);
    if (const auto bytes = request.ByteSizeLong(); bytes > kRequestBytesMax) {
        return fail(ErrorCode::kInvalidArgument,
                    "the submission is " + format_bytes(bytes) +
                        ", more than the 16M of one request; split it into several");
    }
    const auto give_up = boot_ns() + kAnswerWithinMs * kMillisecond;
    while (true) {
        const auto now = boot_ns();
        const auto left_ms = now < give_up ? (give_up - now) / kMillisecond + 1 : 1;
        auto reply =
            rpc_->call(&v1::Reeve::Stub::Submit, request, std::chrono::milliseconds(left_ms));
        if (reply || !went_away(reply.error())) return reply;
        if (!rpc::cell_is_run(rpc_->cell()) || request.validate_only()) return reply;
        // Under a key the repetition finds what the lost request may have made.
        if (!keyed) {
            return fail(ErrorCode::kUnavailable,
                        "the PLM went away before it answered; look with reeve ls whether the jobs "
                        "are there before you submit them again");
        }
        if (boot_ns() >= give_up) {
            return fail(ErrorCode::kUnavailable,
                        reply.error().message + "; repeat it " +
                            (own_key.empty() ? std::string("as it is") : "with --key " + own_key) +
                            ": what was queued is not queued again");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(rpc::kBackoffMs));
    }
}

Result<JobStates> Calls::watch(const std::vector<Selected>& selected, std::uint64_t timeout_ms,
                               const std::function<bool(const JobStates&)>& changed) {
    return Watching(context_, *rpc_, selected, timeout_ms).run(changed);
}

Result<v1::ActReply> Calls::act(const v1::ActRequest& request) {
    auto reply = rpc_->call(&v1::Reeve::Stub::Act, request, kActWithin);
    if (!reply && reply.error().code == ErrorCode::kCancelled) {
        return fail(ErrorCode::kUnavailable,
                    "the PLM ended while it answered, so part of it may be done; look with reeve "
                    "show, and ask again");
    }
    return reply;
}

Result<v1::ActResult> Calls::cancel(std::uint64_t job, const std::string& reason) {
    v1::ActRequest request;
    request.set_action(v1::ACTION_CANCEL);
    request.set_reason(reason);
    request.add_selections()->set_job(job);
    REEVE_TRY_ASSIGN(const auto reply, act(request));
    return reply.results(0);
}

}  // namespace reeve::cli
