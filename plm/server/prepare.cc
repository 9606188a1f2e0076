#include "plm/server/prepare.h"

#include <unistd.h>

#include "common/base/assert.h"
#include "plm/server/validate.h"

namespace reeve::plm {

namespace {

constexpr char kTaskTag = (v1::JobSpec::kTaskFieldNumber << 3) | 2;  // length-delimited
static_assert(v1::JobSpec::kTaskFieldNumber == 1, "the first field, and a tag of one byte");

}  // namespace

bool locate_task(SubmittedJob& job) {
    if (job.bytes.empty() || job.bytes[0] != kTaskTag) return false;
    std::size_t at = 1;
    std::uint64_t size = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (at >= job.bytes.size()) return false;
        const auto byte = static_cast<unsigned char>(job.bytes[at++]);
        size |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
        if ((byte & 0x80) != 0) continue;
        if (size > job.bytes.size() - at) return false;
        job.task_offset = static_cast<std::uint32_t>(at);
        job.task_size = static_cast<std::uint32_t>(size);
        return true;
    }
    return false;
}

Result<Submission> prepare(v1::SubmitRequest&& request, const Identity& who) {
    REEVE_TRY(validate(request));
    Submission submission;
    submission.who = who;
    submission.validate_only = request.validate_only();
    const bool foreign_root = who.uid == 0 && geteuid() != 0;
    submission.jobs.reserve(static_cast<std::size_t>(request.jobs_size()));
    for (v1::JobSpec& spec : *request.mutable_jobs()) {
        spec.mutable_task()->set_uid(foreign_root ? geteuid() : who.uid);
        spec.mutable_task()->set_gid(foreign_root ? getegid() : who.gid);
        SubmittedJob& job = submission.jobs.emplace_back();
        job.spec = std::move(spec);
        const bool written = job.spec.SerializeToString(&job.bytes);
        REEVE_ASSERT(written && locate_task(job));
        REEVE_ASSERT(job.task_size == static_cast<std::uint32_t>(job.spec.task().GetCachedSize()));
    }
    return submission;
}

}  // namespace reeve::plm
