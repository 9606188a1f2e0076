#include "cli/client/client.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

#include <unistd.h>

#include "cli/client/job_stream.h"
#include "cli/client/own_client.h"
#include "cli/gather.h"
#include "cli/job_draft.h"
#include "cli/json_writer.h"
#include "cli/output_path.h"
#include "cli/result.h"
#include "common/process/small_file.h"

namespace reeve {

namespace {

constexpr std::chrono::milliseconds kPause{5};
constexpr std::chrono::seconds kPatience{2};

v1::JobSpec to_spec(const Job& job) {
    v1::JobSpec spec;
    auto& task = *spec.mutable_task();
    task.set_function(job.function);
    for (const auto& word : job.argv) task.add_argv(word);
    if (job.function.empty()) {
        char here[4096];
        task.set_cwd(!job.cwd.empty()                       ? job.cwd
                     : getcwd(here, sizeof here) != nullptr ? here
                                                            : "/");
        for (const auto& [name, value] : job.environment) {
            auto& variable = *task.add_env();
            variable.set_name(name);
            variable.set_value(value);
        }
    }
    task.set_output(job.output);
    task.set_name(!job.name.empty()      ? job.name
                  : job.function.empty() ? job.argv.empty() ? "" : job.argv.front()
                                         : job.function);
    task.set_time_limit_ms(static_cast<std::uint64_t>(job.time_limit.count()));
    if (job.at_most_once) task.set_retry_mode(v1::RETRY_NEVER);
    auto& resources = *task.mutable_resources();
    resources.set_cpu_milli(static_cast<std::uint32_t>(job.cpus * 1000 + 0.5));
    resources.set_memory_bytes(job.memory_bytes);
    const auto count = job.function.empty() ? job.elements : job.data.size();
    if (job.data.size() == 1) {
        task.set_data(job.data.front());
    } else if (count > 0) {
        auto& all = *spec.add_elements();
        all.set_first(1);
        all.set_last(count);
        for (const auto& data : job.data) spec.add_element_data(data);
    }
    spec.set_priority(job.priority);
    spec.set_retries(job.retries);
    spec.set_hold(job.hold);
    for (const auto id : job.after) spec.add_after()->set_job(id);
    return spec;
}

template <typename T>
Answer<T> failure(const Error& error) {
    return Answer<T>::failure(error.message);
}

// A task whose slot is free again and whose row is not yet in the history is waited for.
Result<cli::JobDetail> detail_of(const cli::Context& context, std::uint64_t job,
                                 std::uint64_t element) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (true) {
        cli::Gatherer gatherer(context);
        auto detail = gatherer.detail({job, {{element, element}}}, {});
        if (!detail || detail->status.state() != "ended") return detail;
        const bool known = !detail->tasks.empty() && detail->tasks.back().state() == "ended";
        if (known || std::chrono::steady_clock::now() >= until) return detail;
        std::this_thread::sleep_for(kPause);
    }
}

}  // namespace

class Client::Impl {
public:
    explicit Impl(std::unique_ptr<cli::Calls> made) : calls(std::move(made)) {}

    // Begun when it is first needed: it has threads of its own.
    cli::JobStream& stream() {
        const std::lock_guard hold(mutex);
        if (!jobs) jobs = std::make_unique<cli::JobStream>(calls->context(), calls->rpc());
        return *jobs;
    }

    std::unique_ptr<cli::Calls> calls;
    std::mutex mutex;
    std::unique_ptr<cli::JobStream> jobs;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;
cli::Calls& Client::calls() {
    return *impl_->calls;
}

Answer<std::unique_ptr<Client>> Client::connect(const std::string& state_dir) {
    using Made = std::unique_ptr<Client>;
    auto cell = find_cell(state_dir);
    if (!cell) return failure<Made>(cell.error());
    cli::Context context;
    context.state_dir = state_dir;
    context.cell = std::move(*cell);
    auto calls = cli::Calls::connect(context);
    if (!calls) return failure<Made>(calls.error());
    return std::make_unique<Client>(std::make_unique<Impl>(std::move(*calls)));
}

void Client::stream(const Job& job, std::function<void(TaskOutcome)> each, Finished finished) {
    auto spec = to_spec(job);
    if (const auto text = cli::check_text(spec); !text) {
        finished(failure<Outcomes>(text.error()));
        return;
    }
    impl_->stream().submit(std::move(spec), std::move(each), std::move(finished));
}

void Client::submit(const Job& job, Finished finished) {
    auto outcomes = std::make_shared<Outcomes>();
    stream(
        job, [outcomes](TaskOutcome one) { outcomes->push_back(std::move(one)); },
        [outcomes, finished = std::move(finished)](Answer<Outcomes> end) {
            std::sort(outcomes->begin(), outcomes->end(),
                      [](const auto& a, const auto& b) { return a.element < b.element; });
            finished(end ? Answer<Outcomes>(std::move(*outcomes)) : std::move(end));
        });
}

std::future<Client::Outcomes> Client::submit(const Job& job) {
    auto promise = std::make_shared<std::promise<Outcomes>>();
    auto future = promise->get_future();
    submit(job, [promise](Answer<Outcomes> end) {
        if (end) {
            promise->set_value(std::move(*end));
        } else {
            promise->set_exception(std::make_exception_ptr(std::runtime_error(end.error())));
        }
    });
    return future;
}

Answer<std::uint64_t> Client::queue(const Job& job) {
    auto ids = queue(std::vector<Job>{job});
    return ids ? Answer<std::uint64_t>((*ids)[0]) : Answer<std::uint64_t>::failure(ids.error());
}

Answer<std::vector<std::uint64_t>> Client::queue(const std::vector<Job>& jobs) {
    using Ids = std::vector<std::uint64_t>;
    v1::SubmitRequest request;
    for (const auto& job : jobs) {
        auto& spec = *request.add_jobs();
        spec = to_spec(job);
        spec.set_key(job.key);
        if (const auto text = cli::check_text(spec); !text) return failure<Ids>(text.error());
    }
    const auto reply = impl_->calls->submit(request);
    if (!reply) return failure<Ids>(reply.error());
    return Ids(reply->job_ids().begin(), reply->job_ids().end());
}

Answer<bool> Client::wait(std::uint64_t job, std::chrono::milliseconds timeout) {
    const auto ms = static_cast<std::uint64_t>(std::max<long>(1, timeout.count()));
    const auto states =
        impl_->calls->watch({{job, {}}}, ms, [](const cli::JobStates&) { return true; });
    if (states) return true;
    if (states.error().code == ErrorCode::kDeadlineExceeded) return false;
    return failure<bool>(states.error());
}

Answer<Client::Outcomes> Client::results(std::uint64_t job) {
    auto rows = cli::results_of(impl_->calls->context(), {job, {}}, ~std::uint32_t{0});
    if (!rows) return failure<Outcomes>(rows.error());
    Outcomes out;
    for (auto& row : *rows) {
        out.push_back({job, row.element, std::move(row.outcome), row.exit_code,
                       std::move(row.detail), std::move(row.bytes)});
    }
    return out;
}

Answer<std::uint64_t> Client::cancel(std::uint64_t job, const std::string& reason) {
    if (!cli::is_utf8(reason)) {
        return Answer<std::uint64_t>::failure("the reason is not UTF-8; write it in UTF-8");
    }
    const auto result = impl_->calls->cancel(job, reason);
    if (!result) return failure<std::uint64_t>(result.error());
    if (result->changed() == 0) return Answer<std::uint64_t>::failure(result->message());
    return result->changed();
}

Answer<std::string> Client::logs(std::uint64_t job, std::uint64_t element) {
    const auto& context = impl_->calls->context();
    auto detail = detail_of(context, job, element);
    if (!detail) return failure<std::string>(detail.error());
    if (!detail->has_spec || detail->tasks.empty()) {
        return Answer<std::string>::failure("no such task has started yet");
    }
    const auto path = cli::output_path(context.cell, detail->status.spec().task(),
                                       detail->tasks.back(), cli::Stream::kOutput);
    auto text = read_whole(path, std::size_t{1} << 30);
    if (!text) return failure<std::string>(text.error());
    return std::move(*text);
}

std::size_t Client::open_jobs() const {
    const std::lock_guard hold(impl_->mutex);
    return impl_->jobs ? impl_->jobs->open_jobs() : 0;
}

Result<std::unique_ptr<Client>> cli::connect_client(const Context& context) {
    REEVE_TRY_ASSIGN(auto calls, Calls::connect(context, warn));
    return std::make_unique<Client>(std::make_unique<Client::Impl>(std::move(calls)));
}

}  // namespace reeve
