// Calls is what reeve::Client and the commands ask a PLM, in the protocol's own messages, over its
// restarts: a submission is repeated under its keys, a watch goes on where it was.
//
// Thread-safe after construction.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/selectors.h"
#include "common/rpc/client.h"

namespace reeve::cli {

using JobStates = std::map<std::uint64_t, v1::JobStatus>;

class Calls {
public:
    // Errors as rpc::Client::connect.
    static Result<std::unique_ptr<Calls>> connect(const Context& context, rpc::TellLate tell = {});
    Calls(Context context, std::unique_ptr<rpc::Client> rpc)
        : context_(std::move(context)), rpc_(std::move(rpc)) {}

    const Context& context() const { return context_; }
    rpc::Client& rpc() { return *rpc_; }

    // One request, accepted whole or not at all. A job without a key is given one (unless there are
    // very many), so that the request may be repeated when the PLM died before its answer arrived.
    // Errors: the PLM's; kUnavailable with what to do then.
    Result<v1::SubmitReply> submit(v1::SubmitRequest& request);

    // Follows the jobs until all have ended. `changed` is called after every message with what is
    // known so far and may end the wait by returning false. A lost PLM is waited for while somebody
    // runs the cell. 0 ms: for ever. Errors: kDeadlineExceeded, kNotFound (an unknown job),
    // kUnavailable, kCancelled (`changed`).
    Result<JobStates> watch(const std::vector<Selected>& selected, std::uint64_t timeout_ms,
                            const std::function<bool(const JobStates&)>& changed);

    // Not repeated: kUnavailable when the PLM went away meanwhile, and a part of it may be done.
    Result<v1::ActReply> act(const v1::ActRequest& request);
    Result<v1::ActResult> cancel(std::uint64_t job, const std::string& reason);

private:
    Context context_;
    std::unique_ptr<rpc::Client> rpc_;
};

// A key nobody else has; `prefix` tells who made it.
std::string random_key(const std::string& prefix);

bool all_ended(const JobStates& jobs, const std::vector<Selected>& selected);
// The history file's words for jobs that ended: all of them where nobody else can be asked, else
// those the PLM only remembers by their verdict (it tells no times then).
void fill_from_history(const Context& context, const std::vector<Selected>& selected,
                       JobStates& jobs);

}  // namespace reeve::cli
