#include "plm/core/streamed_results.h"

#include <utility>

#include <google/protobuf/unknown_field_set.h>

#include "common/base/bytes.h"

namespace reeve::plm {
namespace {

enum WireType : std::uint32_t { kVarint = 0, kBytes = 2 };

void put_tag(std::string& out, int field, WireType type) {
    append_varint(out, static_cast<std::uint32_t>(field) << 3 | type);
}

void put_bytes(std::string& out, int field, std::string_view bytes) {
    put_tag(out, field, kBytes);
    append_varint(out, bytes.size());
    out.append(bytes);
}

}  // namespace

// Most come in rows of one job.
void StreamedResults::of_job(JobId job) {
    if (job == job_) return;
    close();
    job_ = job;
}

void StreamedResults::add(JobId job, Element element, std::string_view result) {
    of_job(job);
    append_varint(elements_, element);
    put_bytes(results_, v1::JobResults::kResultsFieldNumber, result);
}

void StreamedResults::add_other(JobId job, const v1::TaskResult& other) {
    of_job(job);
    put_bytes(others_, v1::JobResults::kOthersFieldNumber, other.SerializeAsString());
}

void StreamedResults::add_ended(JobId job) {
    of_job(job);
    ended_ = true;
    ++jobs_ended_;
}

void StreamedResults::close() {
    if (job_ == 0) return;
    auto* fields = reply_.GetReflection()->MutableUnknownFields(&reply_);
    auto& out = *fields->AddLengthDelimited(v1::SubmitReply::kResultsFieldNumber);
    constexpr std::size_t kAround = 64;  // job, tags, lengths
    out.reserve(kAround + elements_.size() + results_.size() + others_.size());
    put_tag(out, v1::JobResults::kJobFieldNumber, kVarint);
    append_varint(out, job_);
    if (!elements_.empty()) put_bytes(out, v1::JobResults::kElementsFieldNumber, elements_);
    out.append(results_).append(others_);
    if (ended_) {
        put_tag(out, v1::JobResults::kEndedFieldNumber, kVarint);
        append_varint(out, 1);
    }
    job_ = 0;
    elements_.clear();
    results_.clear();
    others_.clear();
    ended_ = false;
}

v1::SubmitReply StreamedResults::take() {
    close();
    jobs_ended_ = 0;
    return std::exchange(reply_, {});
}

}  // namespace reeve::plm
