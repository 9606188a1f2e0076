// prepare() turns a SubmitRequest into a Submission on a gRPC thread: validated, owned, serialised.
#pragma once

#include "reeve/v1/reeve.pb.h"

#include "common/base/result.h"
#include "plm/server/backend.h"

namespace reeve::plm {

// Takes the jobs out of `request`. Tasks run as the caller; root's jobs in another user's cell run
// as the cell's owner, who could not become root.
Result<Submission> prepare(v1::SubmitRequest&& request, const Identity& who);

// Where the TaskSpec lies in a serialised JobSpec (it is its first field); also used by recovery,
// which finds `bytes` in the ledger. False: these bytes are not a JobSpec with a task.
bool locate_task(SubmittedJob& job);

}  // namespace reeve::plm
