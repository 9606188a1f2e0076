#include "plm/ledger/history.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "common/log/log.h"
#include "plm/ledger/history_file.h"

namespace reeve::plm {

namespace {

constexpr std::size_t kQueueBatchesMax = 65'536;
constexpr auto kRetryPause = std::chrono::seconds(1);
// A round of so many rows is followed by a rest: a row of a job that goes on is then written once
// for many changes, and more of its attempts share a pack.
constexpr std::size_t kBusyRows = 1'000;
constexpr auto kRest = std::chrono::milliseconds(100);
// One of a few is followed by a shorter one, which ends when a job does: people look at that.
constexpr std::size_t kFewRows = 8;
constexpr auto kShortRest = std::chrono::milliseconds(25);
// Any other begins a little later: the task whose rows they are has the processors until then.
constexpr auto kGather = std::chrono::milliseconds(5);
constexpr std::size_t kSparesMax = 4;
constexpr std::size_t kSpareRowsMax = 16'384;
constexpr std::size_t kSpareBytesMax = 2 << 20;
constexpr std::size_t kSpareJobsMax = 1'024;  // each with its strings: 0.3 MB

}  // namespace

struct History::Impl {
    std::string path;
    CatchUp catch_up;
    HistoryOptions options;

    HistoryFile file;
    std::size_t round_rows = 0;  // written in the round under way

    std::mutex mutex;
    std::condition_variable wake;
    std::condition_variable idle;
    std::deque<HistoryRows> queue;
    std::size_t queued_rows = 0;
    std::vector<HistoryRows> spares;
    bool resting = false;
    bool hurried = false;    // somebody is about to look
    bool job_ended = false;  // in what is queued
    bool busy = true;        // rows were taken and are not in the file yet
    bool stopping = false;
    std::atomic<bool> behind{true};
    std::atomic<std::uint64_t> last_seq{0};
    std::uint64_t pushed_seq = 0;    // newest seq given to push()
    std::uint64_t flush_wanted = 0;  // make_durable waits for this seq, 0: nobody does
    std::uint64_t flushes_asked = 0;
    std::uint64_t flushes_done = 0;
    std::thread thread;

    Status prepare();
    void run();
    Status round();
    Status catch_up_now();
    Status write_queue();
    Status write(HistoryRows& rows);
    Status finish_transaction();
    void rest(std::unique_lock<std::mutex>& hold);
    void keep_spare(HistoryRows rows);
    Status flush_if_wanted();
    bool flush_is_due() const { return flushes_done != flushes_asked && last_seq >= flush_wanted; }
    void abandon();
};

Status History::Impl::prepare() {
    REEVE_TRY(file.open(path));
    last_seq = file.last_seq();
    return {};
}

void History::Impl::run() {
    std::unique_lock hold(mutex);
    while (true) {
        busy = behind && catch_up;
        if (!busy && queue.empty()) idle.notify_all();
        wake.wait(hold, [this] {
            return stopping || !queue.empty() || (behind && catch_up) || flush_is_due();
        });
        if (stopping && queue.empty()) return;
        busy = true;
        rest(hold);
        round_rows = 0;
        hold.unlock();
        const Status done = round();
        hold.lock();
        if (done) continue;
        log::warn("history: cannot write, will catch up from the ledger",
                  {{"path", path}, {"error", done.error().message}});
        queue.clear();
        queued_rows = 0;
        behind = true;
        if (stopping) return;
        wake.wait_for(hold, kRetryPause, [this] { return stopping; });
        hold.unlock();
        abandon();
        hold.lock();
    }
}

void History::Impl::rest(std::unique_lock<std::mutex>& hold) {
    const auto cut = [this] {
        return stopping || behind || hurried || flushes_done != flushes_asked ||
               queued_rows >= options.transaction_rows;
    };
    resting = true;
    if (round_rows >= kBusyRows) {
        wake.wait_for(hold, kRest, cut);
    } else {
        if (round_rows >= kFewRows) {
            wake.wait_for(hold, kShortRest, [&] { return cut() || job_ended; });
        }
        wake.wait_for(hold, kGather, cut);
    }
    resting = hurried = job_ended = false;
}

// After an error the connection is opened anew (this also replaces a damaged file).
void History::Impl::abandon() {
    file.close();
    if (auto opened = prepare(); !opened) {
        log::warn("history: cannot open", {{"path", path}, {"error", opened.error().message}});
    }
}

Status History::Impl::round() {
    if (!file.is_open()) return fail(ErrorCode::kUnavailable, path + " is not open");
    if (behind && catch_up) {
        behind = false;  // from here on pushes are queued again
        if (auto caught = catch_up_now(); !caught) return caught;
    }
    REEVE_TRY(write_queue());
    return flush_if_wanted();
}

// A checkpoint flushes the log before it copies it: everything committed is safe from then on.
Status History::Impl::flush_if_wanted() {
    std::uint64_t asked = 0;
    {
        const std::lock_guard hold(mutex);
        if (!flush_is_due()) return {};
        asked = flushes_asked;
    }
    REEVE_TRY(file.flush());
    {
        const std::lock_guard hold(mutex);
        flushes_done = asked;
    }
    idle.notify_all();
    return {};
}

Status History::Impl::catch_up_now() {
    Status written;
    const Status read = catch_up(last_seq, [&](HistoryRows rows) {
        written = write(rows);
        return written.has_value();
    });
    REEVE_TRY(written);
    REEVE_TRY(finish_transaction());
    if (!read && read.error().code == ErrorCode::kOutOfRange) {
        log::warn("history: the ledger no longer holds all that is missing",
                  {{"path", path}, {"error", read.error().message}});
        return {};
    }
    return read;
}

Status History::Impl::write_queue() {
    std::deque<HistoryRows> todo;
    {
        const std::lock_guard hold(mutex);
        todo.swap(queue);
        queued_rows = 0;
    }
    for (HistoryRows& rows : todo) {
        REEVE_TRY(write(rows));
        keep_spare(std::move(rows));
    }
    return finish_transaction();
}

Status History::Impl::write(HistoryRows& rows) {
    round_rows += rows.weight();
    REEVE_TRY(file.add(rows));
    if (file.rows() >= options.transaction_rows) return finish_transaction();
    return {};
}

Status History::Impl::finish_transaction() {
    if (options.before_commit && file.rows() != 0) REEVE_TRY(options.before_commit());
    REEVE_TRY(file.commit());
    last_seq = file.last_seq();
    return {};
}

void History::Impl::keep_spare(HistoryRows rows) {
    if (rows.ended.capacity() > kSpareRowsMax || rows.bytes.capacity() > kSpareBytesMax ||
        rows.jobs.capacity() > kSpareJobsMax) {
        return;
    }
    rows.clear();
    const std::lock_guard hold(mutex);
    if (spares.size() < kSparesMax) spares.push_back(std::move(rows));
}

History::History(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

History::~History() {
    {
        const std::lock_guard hold(impl_->mutex);
        impl_->stopping = true;
    }
    impl_->wake.notify_all();
    if (impl_->thread.joinable()) impl_->thread.join();
}

Result<std::unique_ptr<History>> History::open(const std::string& path, CatchUp catch_up,
                                               const HistoryOptions& options) {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    impl->catch_up = std::move(catch_up);
    impl->options = options;
    if (!impl->catch_up) impl->behind = false;
    REEVE_TRY(impl->prepare());
    impl->thread = std::thread([raw = impl.get()] { raw->run(); });
    return std::unique_ptr<History>(new History(std::move(impl)));
}

bool History::push(HistoryRows rows) {
    Impl& impl = *impl_;
    const std::size_t size = rows.weight();
    {
        const std::lock_guard hold(impl.mutex);
        impl.pushed_seq = rows.seq;
        if (impl.behind && impl.catch_up) return false;
        if (impl.queue.size() < kQueueBatchesMax &&
            impl.queued_rows + size <= impl.options.queue_rows) {
            impl.queued_rows += size;
            const bool first =
                !impl.job_ended && std::any_of(rows.jobs.begin(), rows.jobs.end(),
                                               [](const JobRow& job) { return job.end_ns != 0; });
            impl.job_ended = impl.job_ended || first;
            impl.queue.push_back(std::move(rows));
            // Who rests is not disturbed before there is enough for a transaction.
            if (!impl.resting || first || impl.queued_rows >= impl.options.transaction_rows) {
                impl.wake.notify_one();
            }
            return true;
        }
        impl.behind = true;
    }
    impl.wake.notify_one();
    return false;
}

void History::hurry() {
    {
        const std::lock_guard hold(impl_->mutex);
        impl_->hurried = true;
    }
    impl_->wake.notify_one();
}

HistoryRows History::spare() {
    const std::lock_guard hold(impl_->mutex);
    if (impl_->spares.empty()) return {};
    HistoryRows rows = std::move(impl_->spares.back());
    impl_->spares.pop_back();
    return rows;
}

std::uint64_t History::last_seq() const {
    return impl_->last_seq;
}
bool History::behind() const {
    return impl_->behind;
}

Status History::make_durable(std::uint64_t timeout_ms) {
    Impl& impl = *impl_;
    std::unique_lock hold(impl.mutex);
    impl.flush_wanted = impl.pushed_seq;
    const std::uint64_t mine = ++impl.flushes_asked;
    impl.wake.notify_one();
    const bool done = impl.idle.wait_for(hold, std::chrono::milliseconds(timeout_ms),
                                         [&] { return impl.flushes_done >= mine; });
    if (done) return {};
    return fail(ErrorCode::kDeadlineExceeded,
                impl.path + ": the history is still behind; it will be tried again");
}

bool History::wait_idle(std::uint64_t timeout_ms) {
    std::unique_lock hold(impl_->mutex);
    return impl_->idle.wait_for(hold, std::chrono::milliseconds(timeout_ms), [this] {
        return impl_->queue.empty() && !impl_->busy && !impl_->behind;
    });
}

}  // namespace reeve::plm
