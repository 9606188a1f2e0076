// StreamedResults gathers what a submit stream is told of its jobs' ends: the JobResults of one
// reply, in the form in which they go over the wire.
//
// A message with a string for each result would be built on the core's thread and given back on
// gRPC's: two allocations a task, which wander from one thread to the other. Here the results of a
// job are one string, and the reply carries it as a field that it does not know: its bytes go out
// as they are, and the client reads SubmitReply::results.
//
// Tested in tests/unit/plm/streamed_results_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::plm {

class StreamedResults {
public:
    void add(JobId job, Element element, std::string_view result);
    void add_other(JobId job, const v1::TaskResult& other);
    void add_ended(JobId job);

    std::size_t jobs_ended() const { return jobs_ended_; }
    // Everything so far; then empty.
    v1::SubmitReply take();

private:
    void of_job(JobId job);
    void close();

    v1::SubmitReply reply_;
    JobId job_ = 0;         // of what follows; 0: none
    std::string elements_;  // packed
    std::string results_;
    std::string others_;
    bool ended_ = false;
    std::size_t jobs_ended_ = 0;
};

}  // namespace reeve::plm
