// JobStream is the engine of reeve::Client: jobs down a submit stream, their results up, and what
// has to be done when the stream breaks.
//
//   unsent -> unanswered (its request is on the stream) -> open (it has an id) -> finished
//
// Three threads: one reads (and calls the callbacks), one writes, one follows what a broken stream
// left open: it asks the PLM now and then and takes what ended from the history. A new stream gets
// everything unanswered again, under the same keys; jobs the PLM had made already are followed,
// too. A refusal ends a stream after the answers before it, so it is the first unanswered job's.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>

#include "cli/client/client.h"
#include "cli/context.h"
#include "common/rpc/client.h"

namespace reeve::cli {

class JobStream {
public:
    JobStream(const Context& context, rpc::Client& client);
    ~JobStream();
    JobStream(const JobStream&) = delete;
    JobStream& operator=(const JobStream&) = delete;

    void submit(v1::JobSpec spec, std::function<void(TaskOutcome)> each,
                reeve::Client::Finished finished);
    std::string next_key();
    std::size_t open_jobs() const;

private:
    using Stream = grpc::ClientReaderWriter<v1::SubmitRequest, v1::SubmitReply>;
    struct Entry {
        v1::JobSpec spec;
        std::function<void(TaskOutcome)> each;
        reeve::Client::Finished finished;
        std::unordered_map<std::uint64_t, bool> told;  // elements, once a stream broke
    };
    using EntryPtr = std::shared_ptr<Entry>;

    void run();
    Status one_stream();
    void write(Stream& stream);
    void read(Stream& stream);
    void take_answer(const v1::SubmitReply& reply);
    void take_results(v1::JobResults& results);
    void after_stream(const Status& status);
    void follow();
    bool follow_one(std::uint64_t job, const EntryPtr& entry);
    void fail_all(const std::string& why);
    static void tell(const EntryPtr& entry, TaskOutcome outcome);

    const Context& context_;
    rpc::Client& client_;
    std::string key_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<EntryPtr> unanswered_;
    std::size_t sent_ = 0;  // the first so many of them are on this stream
    std::unordered_map<std::uint64_t, EntryPtr> open_;
    std::unordered_map<std::uint64_t, EntryPtr> followed_;
    std::uint64_t next_ = 0;
    grpc::ClientContext* call_ = nullptr;
    bool broken_ = false;  // this stream
    bool stopping_ = false;
    std::uint64_t contact_ns_ = 0;  // runner: when the PLM was last heard of
    std::thread runner_;
    std::thread follower_;
};

}  // namespace reeve::cli
