// Function tasks through a submit stream: batches of arrays down, results up, a window in flight.
//
//   stream_bench DIR [--batch 64] [--window 16384] [--seconds 3] [--bytes 64] [--function echo]
//   stream_bench DIR --queue N       N tasks are queued, held, and left there
//   stream_bench DIR --latency N     one task in flight, N times: p50 and p99
//   stream_bench --echo ...          against a server of its own that answers every batch at once
//                                    with the same messages and does nothing else: gRPC's ceiling
//   stream_bench --echo --latency N  unary calls to such a server in another process
//
// DIR is the state directory of a running cell. With --latency and a handler that answers with its
// own wall clock in nanoseconds (clock_plugin.c: `clock`) the time from submission to the handler's
// first line is told, too. Prints JSON lines.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/rpc/client.h"

namespace reeve::bench {
namespace {

struct Options {
    std::string dir;
    std::string function = "echo";
    int batch = 64;
    long window = 16384;
    double seconds = 3;
    std::size_t bytes = 64;
    int latency = 0;
    long queue = 0;
    bool echo = false;
};

using ClientStream = grpc::ClientReaderWriter<v1::SubmitRequest, v1::SubmitReply>;

// Answers each batch with what a cell would say of it: an acknowledgement, then its results.
class EchoServer final : public v1::Reeve::CallbackService {
    class Stream final : public grpc::ServerBidiReactor<v1::SubmitRequest, v1::SubmitReply> {
    public:
        Stream() { StartRead(&request_); }
        void OnReadDone(bool ok) override {
            if (!ok) {
                Finish(grpc::Status::OK);
                return;
            }
            acknowledgement_.Clear();
            results_.Clear();
            for (auto& job : *request_.mutable_jobs()) {
                acknowledgement_.add_job_ids(++last_);
                acknowledgement_.add_existed(false);
                auto& results = *results_.add_results();
                results.set_job(last_);
                std::uint64_t element = 0;
                for (auto& data : *job.mutable_element_data()) {
                    results.add_elements(++element);
                    results.add_results(std::move(data));
                }
                results.set_ended(true);
            }
            acknowledged_ = false;
            StartWrite(&acknowledgement_);
        }
        void OnWriteDone(bool) override {
            if (std::exchange(acknowledged_, true)) {
                StartRead(&request_);
            } else {
                StartWrite(&results_);
            }
        }
        void OnDone() override { delete this; }

    private:
        v1::SubmitRequest request_;
        v1::SubmitReply acknowledgement_;
        v1::SubmitReply results_;
        bool acknowledged_ = false;
        std::uint64_t last_ = 0;
    };
    grpc::ServerBidiReactor<v1::SubmitRequest, v1::SubmitReply>* SubmitStream(
        grpc::CallbackServerContext*) override {
        return new Stream;
    }
    grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context,
                                     const v1::SubmitRequest* request,
                                     v1::SubmitReply* reply) override {
        for (int i = 0; i < request->jobs_size(); ++i) reply->add_job_ids(1);
        auto* reactor = context->DefaultReactor();
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }
};

v1::SubmitRequest make_batch(const Options& options) {
    v1::SubmitRequest request;
    request.set_results(true);
    auto& job = *request.add_jobs();
    job.mutable_task()->set_function(options.function);
    auto& range = *job.add_elements();
    range.set_first(1);
    range.set_last(static_cast<std::uint64_t>(options.batch));
    for (int i = 0; i < options.batch; ++i) {
        job.add_element_data(std::string(options.bytes, static_cast<char>('a' + i % 26)));
    }
    return request;
}

void tell(const char* name, std::vector<double>& values) {
    if (values.empty()) return;
    std::sort(values.begin(), values.end());
    std::printf("{\"name\":\"%s_p50_us\",\"value\":%.1f,\"unit\":\"us\"}\n", name,
                values[values.size() / 2]);
    std::printf("{\"name\":\"%s_p99_us\",\"value\":%.1f,\"unit\":\"us\"}\n", name,
                values[values.size() * 99 / 100]);
}

class Load {
public:
    Load(const Options& options, v1::Reeve::Stub& stub)
        : options_(options), stream_(stub.SubmitStream(&context_)) {}

    int run() {
        const auto request = make_batch(options_);
        std::thread reader([this] { read(); });
        const auto begun = boot_ns();
        const auto until = begun + static_cast<std::uint64_t>(options_.seconds * 1e9);
        std::uint64_t from_ns = 0;
        long from = 0;
        while (boot_ns() < until && !broken_.load()) {
            {
                std::unique_lock hold(mutex_);
                room_.wait(hold, [this] {
                    return sent_ - done_ + options_.batch <= options_.window || broken_.load();
                });
            }
            if (!stream_->Write(request)) break;
            sent_ += options_.batch;
            // The first fifth warms up.
            if (from_ns == 0 && boot_ns() - begun > (until - begun) / 5) {
                from_ns = boot_ns();
                from = done_;
            }
        }
        const auto count = done_ - from;
        const auto took = static_cast<double>(boot_ns() - from_ns) / 1e9;
        stream_->WritesDone();
        reader.join();
        const auto status = stream_->Finish();
        if (!status.ok() || done_ != sent_) {
            std::fprintf(stderr, "stream_bench: %ld of %ld: %s\n", done_.load(), sent_.load(),
                         status.error_message().c_str());
            return 1;
        }
        std::printf("{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"tasks/s\",\"tasks\":%ld}\n",
                    options_.echo ? "grpc_echo" : "class_b", static_cast<double>(count) / took,
                    sent_.load());
        return 0;
    }

    int run_queue() {
        auto request = make_batch(options_);
        request.set_results(false);
        request.mutable_jobs(0)->set_hold(true);
        std::thread reader([this] {
            v1::SubmitReply reply;
            while (stream_->Read(&reply)) done_ += options_.batch;
        });
        for (; sent_ < options_.queue && stream_->Write(request); sent_ += options_.batch) {
        }
        stream_->WritesDone();
        reader.join();
        const auto status = stream_->Finish();
        std::printf("{\"name\":\"queued\",\"value\":%ld,\"unit\":\"tasks\"}\n", done_.load());
        return status.ok() && done_ == sent_ ? 0 : 1;
    }

    int run_latency() {
        auto options = options_;
        options.batch = 1;
        const auto request = make_batch(options);
        std::vector<double> whole;
        std::vector<double> start;
        v1::SubmitReply reply;
        for (int i = 0; i < options.latency; ++i) {
            const auto before = boot_ns();
            const auto wall = wall_ns();
            stream_->Write(request);
            bool ended = false;
            std::string result;
            while (!ended && stream_->Read(&reply)) {
                for (const auto& one : reply.results()) {
                    ended = ended || one.ended();
                    if (one.results_size() > 0) result = one.results(0);
                }
            }
            if (!ended) return 1;
            whole.push_back(static_cast<double>(boot_ns() - before) / 1000);
            const auto began = std::strtoull(result.c_str(), nullptr, 10);
            if (began > wall) start.push_back(static_cast<double>(began - wall) / 1000);
            ::usleep(2000);
        }
        stream_->WritesDone();
        while (stream_->Read(&reply)) {
        }
        (void)stream_->Finish();
        tell("class_c_result", whole);
        tell("class_c", start);
        return 0;
    }

private:
    void read() {
        v1::SubmitReply reply;
        while (stream_->Read(&reply)) {
            long count = 0;
            for (const auto& one : reply.results()) {
                count += one.elements_size() + one.others_size();
            }
            if (count == 0) continue;
            done_ += count;
            const std::lock_guard hold(mutex_);
            room_.notify_one();
        }
        broken_.store(true);
        const std::lock_guard hold(mutex_);
        room_.notify_one();
    }

    const Options& options_;
    grpc::ClientContext context_;
    std::unique_ptr<ClientStream> stream_;
    std::mutex mutex_;
    std::condition_variable room_;
    std::atomic<long> sent_{0};
    std::atomic<long> done_{0};
    std::atomic<bool> broken_{false};
};

// In a process of its own, as a cell's is.
class EchoProcess {
public:
    EchoProcess() : path_("unix:/tmp/reeve-echo-" + std::to_string(::getpid())), pid_(::fork()) {
        if (pid_ != 0) return;
        EchoServer service;
        grpc::ServerBuilder builder;
        builder.AddListeningPort(path_, grpc::InsecureServerCredentials());
        builder.RegisterService(&service);
        builder.BuildAndStart()->Wait();
        ::_exit(0);
    }
    ~EchoProcess() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        ::unlink(path_.c_str() + std::strlen("unix:"));
    }
    EchoProcess(const EchoProcess&) = delete;
    EchoProcess& operator=(const EchoProcess&) = delete;

    std::unique_ptr<v1::Reeve::Stub> stub() const {
        auto channel = grpc::CreateChannel(path_, grpc::InsecureChannelCredentials());
        const auto until = std::chrono::system_clock::now() + std::chrono::seconds(10);
        if (!channel->WaitForConnected(until)) std::fprintf(stderr, "no echo server\n");
        return v1::Reeve::NewStub(channel);
    }

private:
    std::string path_;
    pid_t pid_;
};

// Unary calls, as far apart as run_latency's tasks.
int round_trips(const Options& options) {
    const EchoProcess server;
    const auto stub = server.stub();
    auto one = options;
    one.batch = 1;
    const auto request = make_batch(one);
    std::vector<double> took;
    while (static_cast<int>(took.size()) < options.latency) {
        grpc::ClientContext context;
        v1::SubmitReply reply;
        const auto before = boot_ns();
        if (!stub->Submit(&context, request, &reply).ok()) break;
        took.push_back(static_cast<double>(boot_ns() - before) / 1000);
        ::usleep(2000);
    }
    tell("grpc_round_trip", took);
    return static_cast<int>(took.size()) < options.latency ? 1 : 0;
}

int against_echo(const Options& options) {
    const EchoProcess server;
    const auto stub = server.stub();
    return Load(options, *stub).run();
}

int main_with(const Options& options) {
    if (options.echo) return options.latency > 0 ? round_trips(options) : against_echo(options);
    const auto cell = find_cell(options.dir);
    auto client = cell ? rpc::Client::connect(*cell) : fail(cell.error());
    if (!client) {
        std::fprintf(stderr, "stream_bench: %s\n", client.error().message.c_str());
        return 1;
    }
    Load load(options, (*client)->stub());
    if (options.queue > 0) return load.run_queue();
    return options.latency > 0 ? load.run_latency() : load.run();
}

}  // namespace
}  // namespace reeve::bench

int main(int argc, char** argv) {
    reeve::bench::Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const auto value = [&]() -> const char* { return i + 1 < argc ? argv[++i] : ""; };
        if (word == "--echo") {
            options.echo = true;
        } else if (word == "--batch") {
            options.batch = std::max(1, std::atoi(value()));
        } else if (word == "--window") {
            options.window = std::atol(value());
        } else if (word == "--seconds") {
            options.seconds = std::atof(value());
        } else if (word == "--bytes") {
            options.bytes = static_cast<std::size_t>(std::atol(value()));
        } else if (word == "--function") {
            options.function = value();
        } else if (word == "--queue") {
            options.queue = std::atol(value());
        } else if (word == "--latency") {
            options.latency = std::atoi(value());
        } else {
            options.dir = word;
        }
    }
    return reeve::bench::main_with(options);
}
