#include "cli/client/client.h"

#include <unistd.h>

#include "cli/catalogue.h"
#include "cli/client/job_stream.h"
#include "cli/gather.h"
#include "cli/job_draft.h"
#include "cli/json_writer.h"
#include "cli/output_path.h"
#include "cli/result.h"
#include "cli/wait.h"
#include "common/process/small_file.h"

namespace reeve {

namespace {

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

}  // namespace

class Client::Impl {
public:
    Impl(cli::Context given, std::unique_ptr<rpc::Client> rpc)
        : context(std::move(given)), client(std::move(rpc)), stream(context, *client) {}

    cli::Context context;
    std::unique_ptr<rpc::Client> client;
    cli::JobStream stream;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

Answer<std::unique_ptr<Client>> Client::connect(const std::string& state_dir) {
    using Made = std::unique_ptr<Client>;
    auto cell = find_cell(state_dir);
    if (!cell) return failure<Made>(cell.error());
    auto rpc = rpc::Client::connect(*cell);
    if (!rpc) return failure<Made>(rpc.error());
    cli::Context context;
    context.state_dir = state_dir;
    context.cell = std::move(*cell);
    return Made(new Client(std::make_unique<Impl>(std::move(context), std::move(*rpc))));
}

void Client::stream(const Job& job, std::function<void(TaskOutcome)> each, Finished finished) {
    auto spec = to_spec(job);
    if (const auto text = cli::check_text(spec); !text) {
        finished(failure<Outcomes>(text.error()));
        return;
    }
    impl_->stream.submit(std::move(spec), std::move(each), std::move(finished));
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
    v1::SubmitRequest request;
    *request.add_jobs() = to_spec(job);
    if (const auto text = cli::check_text(request.jobs(0)); !text) {
        return failure<std::uint64_t>(text.error());
    }
    request.mutable_jobs(0)->set_key(impl_->stream.next_key());
    while (true) {
        auto reply = impl_->client->call(&v1::Reeve::Stub::Submit, request);
        if (reply) return reply->job_ids(0);
        const bool again =
            reply.error().code == ErrorCode::kUnavailable && rpc::cell_is_run(impl_->context.cell);
        if (!again) return failure<std::uint64_t>(reply.error());
        std::this_thread::sleep_for(std::chrono::milliseconds(rpc::kBackoffMs));
    }
}

Answer<bool> Client::wait(std::uint64_t job, std::chrono::milliseconds timeout) {
    cli::WaitOptions options;
    options.timeout_ms = static_cast<std::uint64_t>(std::max<long>(1, timeout.count()));
    const auto states = cli::watch_jobs(impl_->context, *impl_->client, {{job, {}}}, options,
                                        [](const cli::JobStates&) { return true; });
    if (states) return true;
    if (states.error().code == ErrorCode::kDeadlineExceeded) return false;
    return failure<bool>(states.error());
}

Answer<Client::Outcomes> Client::results(std::uint64_t job) {
    auto rows = cli::results_of(impl_->context, {job, {}}, ~std::uint32_t{0});
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
    v1::ActRequest request;
    request.set_action(v1::ACTION_CANCEL);
    request.set_reason(reason);
    request.add_selections()->set_job(job);
    auto reply = impl_->client->call(&v1::Reeve::Stub::Act, request);
    if (!reply) return failure<std::uint64_t>(reply.error());
    const auto& result = reply->results(0);
    if (result.changed() == 0) return Answer<std::uint64_t>::failure(result.message());
    return result.changed();
}

Answer<std::string> Client::logs(std::uint64_t job, std::uint64_t element) {
    cli::Gatherer gatherer(impl_->context);
    auto detail = gatherer.detail({job, {{element, element}}}, {});
    if (!detail) return failure<std::string>(detail.error());
    if (!detail->has_spec || detail->tasks.empty()) {
        return Answer<std::string>::failure("no such task has started yet");
    }
    const auto path = cli::output_path(impl_->context.cell, detail->status.spec().task(),
                                       detail->tasks.back(), cli::Stream::kOutput);
    auto text = read_whole(path, std::size_t{1} << 30);
    if (!text) return failure<std::string>(text.error());
    return std::move(*text);
}

std::size_t Client::open_jobs() const {
    return impl_->stream.open_jobs();
}

}  // namespace reeve
