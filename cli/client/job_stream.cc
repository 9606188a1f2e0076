#include "cli/client/job_stream.h"

#include <algorithm>
#include <chrono>

#include "cli/client/calls.h"
#include "cli/gather.h"
#include "cli/result.h"
#include "common/base/clock.h"
#include "common/rpc/status.h"

namespace reeve::cli {

namespace {

constexpr std::chrono::milliseconds kFollowPause{50};
constexpr std::uint64_t kLostPlmNs = 30 * kSecond;

TaskOutcome to_outcome(const v1::TaskResult& result) {
    return {result.job(),       result.element(), result.outcome(),
            result.exit_code(), result.detail(),  result.result()};
}

// What says no to the job rather than "not now".
bool is_refusal(ErrorCode code) {
    return code == ErrorCode::kInvalidArgument || code == ErrorCode::kNotFound ||
           code == ErrorCode::kPermissionDenied || code == ErrorCode::kFailedPrecondition ||
           code == ErrorCode::kResourceExhausted || code == ErrorCode::kUnauthenticated;
}

}  // namespace

JobStream::JobStream(const Context& context, rpc::Client& client)
    : context_(context), client_(client) {
    key_ = random_key("client-");
    contact_ns_ = boot_ns();
    runner_ = std::thread([this] { run(); });
    follower_ = std::thread([this] { follow(); });
}

JobStream::~JobStream() {
    {
        const std::lock_guard hold(mutex_);
        stopping_ = true;
        if (call_ != nullptr) call_->TryCancel();
    }
    changed_.notify_all();
    runner_.join();
    follower_.join();
    fail_all("the client was closed");
}

std::string JobStream::next_key() {
    const std::lock_guard hold(mutex_);
    return key_ + "-" + std::to_string(++next_);
}

std::size_t JobStream::open_jobs() const {
    const std::lock_guard hold(mutex_);
    return unanswered_.size() + open_.size() + followed_.size();
}

void JobStream::submit(v1::JobSpec spec, std::function<void(TaskOutcome)> each,
                       reeve::Client::Finished finished) {
    auto entry = std::make_shared<Entry>();
    entry->spec = std::move(spec);
    entry->spec.set_key(next_key());
    entry->each = std::move(each);
    entry->finished = std::move(finished);
    {
        const std::lock_guard hold(mutex_);
        unanswered_.push_back(std::move(entry));
    }
    changed_.notify_all();
}

void JobStream::run() {
    while (true) {
        {
            std::unique_lock hold(mutex_);
            if (unanswered_.empty()) {
                changed_.wait(hold, [this] { return stopping_ || !unanswered_.empty(); });
                contact_ns_ = boot_ns();  // nobody was asked until now
            }
            if (stopping_) return;
        }
        const auto status = one_stream();
        after_stream(status);
        if (status || is_refusal(status.error().code)) {
            contact_ns_ = boot_ns();
            continue;
        }
        const bool lost = boot_ns() - contact_ns_ > kLostPlmNs || !rpc::cell_is_run(context_.cell);
        if (lost) fail_all(rpc::unreachable(context_.cell, "the PLM went away").message);
        std::this_thread::sleep_for(std::chrono::milliseconds(rpc::kBackoffMs));
    }
}

Status JobStream::one_stream() {
    grpc::ClientContext call;
    rpc::Client::prepare(call, std::chrono::milliseconds(0));
    const auto stream = client_.stub().SubmitStream(&call);
    {
        const std::lock_guard hold(mutex_);
        if (stopping_) call.TryCancel();
        call_ = &call;
        broken_ = false;
        sent_ = 0;
    }
    std::thread writer([this, &stream] { write(*stream); });
    read(*stream);
    {
        const std::lock_guard hold(mutex_);
        broken_ = true;
        call_ = nullptr;
    }
    changed_.notify_all();
    writer.join();
    return rpc::from_grpc(stream->Finish());
}

void JobStream::write(Stream& stream) {
    std::unique_lock hold(mutex_);
    while (true) {
        changed_.wait(hold, [this] { return broken_ || sent_ < unanswered_.size(); });
        if (broken_) return;
        v1::SubmitRequest request;
        request.set_results(true);
        *request.add_jobs() = unanswered_[sent_++]->spec;
        hold.unlock();
        const bool written = stream.Write(request);
        hold.lock();
        if (!written) return;
    }
}

void JobStream::read(Stream& stream) {
    v1::SubmitReply reply;
    while (stream.Read(&reply)) {
        contact_ns_ = boot_ns();
        if (reply.job_ids_size() > 0) take_answer(reply);
        for (auto& results : *reply.mutable_results()) take_results(results);
    }
}

void JobStream::take_answer(const v1::SubmitReply& reply) {
    const std::lock_guard hold(mutex_);
    if (unanswered_.empty() || sent_ == 0) return;
    auto entry = std::move(unanswered_.front());
    unanswered_.pop_front();
    --sent_;
    entry->spec.Clear();
    auto& target = reply.existed(0) ? followed_ : open_;
    target.emplace(reply.job_ids(0), std::move(entry));
    changed_.notify_all();
}

void JobStream::tell(const EntryPtr& entry, TaskOutcome outcome) {
    if (entry->each) entry->each(std::move(outcome));
}

void JobStream::take_results(v1::JobResults& results) {
    EntryPtr entry;
    {
        const std::lock_guard hold(mutex_);
        const auto found = open_.find(results.job());
        if (found == open_.end()) return;
        entry = found->second;
        if (results.ended()) open_.erase(found);
        for (const auto element : results.elements()) entry->told[element] = true;
        for (const auto& one : results.others()) entry->told[one.element()] = true;
    }
    for (int i = 0; i < results.elements_size() && i < results.results_size(); ++i) {
        tell(entry, {results.job(), results.elements(i), "succeeded", 0, "",
                     std::move(*results.mutable_results(i))});
    }
    for (const auto& one : results.others()) tell(entry, to_outcome(one));
    if (results.ended()) entry->finished(reeve::Client::Outcomes{});
}

// The first unanswered job is the refused one; what was open is followed from now on.
void JobStream::after_stream(const Status& status) {
    EntryPtr refused;
    {
        const std::lock_guard hold(mutex_);
        if (!status && is_refusal(status.error().code) && !unanswered_.empty()) {
            refused = std::move(unanswered_.front());
            unanswered_.pop_front();
        }
        sent_ = 0;
        followed_.merge(open_);
        open_.clear();
    }
    changed_.notify_all();
    if (refused) {
        refused->finished(Answer<reeve::Client::Outcomes>::failure(status.error().message));
    }
}

void JobStream::follow() {
    while (true) {
        std::unordered_map<std::uint64_t, EntryPtr> jobs;
        {
            std::unique_lock hold(mutex_);
            changed_.wait(hold, [this] { return stopping_ || !followed_.empty(); });
            if (stopping_) return;
            jobs = followed_;
        }
        for (const auto& [job, entry] : jobs) {
            if (!follow_one(job, entry)) continue;
            {
                const std::lock_guard hold(mutex_);
                followed_.erase(job);
            }
            entry->finished(reeve::Client::Outcomes{});
        }
        std::this_thread::sleep_for(kFollowPause);
    }
}

// True once it has ended and everything of it was told.
bool JobStream::follow_one(std::uint64_t job, const EntryPtr& entry) {
    const auto status = Gatherer(context_).status(job);
    if (!status || status->state() != "ended") return false;
    auto rows = results_of(context_, {job, {}}, ~std::uint32_t{0});
    if (!rows) return false;
    for (auto& row : *rows) {
        if (!entry->told.emplace(row.element, true).second) continue;
        tell(entry, {job, row.element, std::move(row.outcome), row.exit_code, std::move(row.detail),
                     std::move(row.bytes)});
    }
    return true;
}

void JobStream::fail_all(const std::string& why) {
    std::vector<EntryPtr> all;
    {
        const std::lock_guard hold(mutex_);
        for (auto& entry : unanswered_) all.push_back(std::move(entry));
        for (auto* map : {&open_, &followed_}) {
            for (auto& [job, entry] : *map) all.push_back(std::move(entry));
            map->clear();
        }
        unanswered_.clear();
        sent_ = 0;
    }
    for (const auto& entry : all) {
        entry->finished(Answer<reeve::Client::Outcomes>::failure(why));
    }
}

}  // namespace reeve::cli
