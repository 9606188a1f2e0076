// reeve::Client: a C++ program's way to queue work in a cell of this machine and get its results.
//
//   auto client = reeve::Client::connect("");            // the cell of the environment
//   if (!client) { std::cerr << client.error() << "\n"; return 1; }
//   reeve::Job job;
//   job.function = "echo";
//   job.data = {"a", "b"};                               // a task for each
//   for (const auto& task : (*client)->submit(job).get()) use(task.result);
//
// All jobs of a client share one stream: submissions go out in batches as they come, and results
// come back in batches as they become durable. When the PLM goes away the client connects anew,
// repeats what was not acknowledged (under the same key: nothing is queued twice), and takes what
// ended meanwhile from the history. Thread-safe. Callbacks run on the client's own threads, one at
// a time for a job: they may submit, and must not wait for results.
//
// The library is C++20, of the same version as the cell; link `reeve::client`
// (find_package(reeve)).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace reeve {

namespace cli {
class Calls;
}

// A function (with data) or a command, once or as an array.
struct Job {
    std::string function;           // a handler's name, or
    std::vector<std::string> argv;  // a program
    std::vector<std::string> data;  // of a function: one task for each; none: one task without
    std::uint64_t elements = 0;     // of a command: an array 1..elements; 0: one task
    std::string name;
    std::string cwd;                                               // of a command; empty: here
    std::vector<std::pair<std::string, std::string>> environment;  // of a command
    std::string output;                                            // as --output
    double cpus = 0;                                               // 0: the default
    std::uint64_t memory_bytes = 0;
    std::int32_t priority = 0;
    std::chrono::milliseconds time_limit{0};
    std::uint32_t retries = 0;
    bool at_most_once = false;
    bool hold = false;
    std::vector<std::uint64_t> after;  // jobs that must have succeeded
    std::string key;                   // of queue(): the same key gives the same job again
};

struct TaskOutcome {
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    std::string outcome;  // succeeded failed cancelled timed-out ...
    int exit_code = 0;
    std::string detail;
    std::string result;  // of a function
    bool ok() const { return outcome == "succeeded"; }
};

// A value, or why there is none.
template <typename T>
class Answer {
public:
    Answer(T value) : held_(std::move(value)) {}  // NOLINT: meant to convert
    static Answer failure(std::string why) { return Answer(Why{std::move(why)}); }
    explicit operator bool() const { return std::holds_alternative<T>(held_); }
    T& operator*() { return std::get<T>(held_); }
    T* operator->() { return &std::get<T>(held_); }
    const std::string& error() const { return std::get<Why>(held_).text; }

private:
    struct Why {
        std::string text;
    };
    explicit Answer(Why why) : held_(std::move(why)) {}
    std::variant<T, Why> held_;
};

class Client {
public:
    using Outcomes = std::vector<TaskOutcome>;  // in the order of the elements
    // A job's end: its outcomes, or why it was refused (then nothing was queued).
    using Finished = std::function<void(Answer<Outcomes>)>;

    // The cell in `state_dir` ("": REEVE_STATE_DIR, else the default).
    static Answer<std::unique_ptr<Client>> connect(const std::string& state_dir);
    ~Client();  // what is queued stays queued; open futures get an error
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    // Throws nothing; a refusal is a future that holds a std::runtime_error.
    std::future<Outcomes> submit(const Job& job);
    void submit(const Job& job, Finished finished);
    // Each task as it ends, then `finished` with an empty list.
    void stream(const Job& job, std::function<void(TaskOutcome)> each, Finished finished);
    // Queues it and returns its id, without waiting for its end.
    Answer<std::uint64_t> queue(const Job& job);
    // All of them or none, as one request; their ids in the same order.
    Answer<std::vector<std::uint64_t>> queue(const std::vector<Job>& jobs);

    // True once it has ended; false: not within the timeout.
    Answer<bool> wait(std::uint64_t job, std::chrono::milliseconds timeout);
    Answer<Outcomes> results(std::uint64_t job);  // of a job that has ended
    Answer<std::uint64_t> cancel(std::uint64_t job, const std::string& reason = "");
    // What a task wrote, from its output file.
    Answer<std::string> logs(std::uint64_t job, std::uint64_t element = 0);
    // Jobs of this client that have not ended.
    std::size_t open_jobs() const;

    // What reeve's own commands do with it beside: the same in the protocol's messages.
    cli::Calls& calls();

    class Impl;
    explicit Client(std::unique_ptr<Impl> impl);

private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace reeve
