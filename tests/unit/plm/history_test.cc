// History: rows arrive once, in order, whatever is pushed twice, dropped or interrupted.
#include "plm/ledger/history.h"

#include <atomic>
#include <fstream>
#include <map>
#include <mutex>

#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"

#include "common/base/clock.h"
#include "plm/ledger/sqlite.h"

using namespace reeve;
using namespace reeve::plm;
using reeve::test::TempDirectory;

namespace {

// What the core's ledger would give back: all batches, by seq.
class FakeLedger {
public:
    void add(const HistoryRows& rows) {
        const std::lock_guard hold(mutex_);
        batches_[rows.seq] = rows;
    }
    History::CatchUp catch_up() {
        return [this](std::uint64_t after, const History::Take& take) -> Status {
            ++calls;
            if (failing > 0) {
                --failing;
                return fail(ErrorCode::kUnavailable, "the ledger is busy");
            }
            for (std::uint64_t seq = after + 1;; ++seq) {
                HistoryRows rows;
                {
                    const std::lock_guard hold(mutex_);
                    const auto found = batches_.find(seq);
                    if (found == batches_.end()) return {};
                    rows = found->second;
                }
                if (!take(std::move(rows))) return {};
            }
        };
    }
    std::atomic<int> calls{0};
    std::atomic<int> failing{0};

private:
    std::mutex mutex_;
    std::map<std::uint64_t, HistoryRows> batches_;
};

HistoryRows rows_of(std::uint64_t seq) {
    HistoryRows rows;
    rows.seq = seq;
    JobRow job;
    job.id = seq;
    job.name = "job-" + std::to_string(seq);
    job.state = "ended";
    job.elements = 2;
    job.spec = "spec";
    rows.jobs.push_back(job);
    for (std::uint64_t element = 0; element < 2; ++element) {
        EndedRow row;
        row.job = seq;
        row.element = element;
        row.as.attempt = 1;
        row.as.outcome = element == 0 ? Outcome::kSucceeded : Outcome::kFailed;
        row.as.exit_code = -static_cast<std::int32_t>(element * 9);
        row.as.terminal = true;
        row.ended_ns = 1'700'000'000'000'000'000ULL + seq;
        row.worker_name = rows.keep("w");
        rows.ended.push_back(row);
    }
    return rows;
}

void check_all(const std::string& path, std::uint64_t last) {
    auto reader = HistoryReader::open(path);
    REQUIRE(reader);
    TaskQuery query;
    query.limit = 1'000'000;
    auto tasks = (*reader)->tasks(query);
    REQUIRE(tasks);
    REQUIRE(tasks->size() == last * 2);
    for (std::size_t i = 0; i < tasks->size(); ++i) {
        CHECK((*tasks)[i].job == i / 2 + 1);
        CHECK((*tasks)[i].element == i % 2);
    }
    CHECK((*reader)->newest_jobs(10'000'000)->size() == last);
}

std::unique_ptr<History> open_good(const std::string& path, FakeLedger& ledger,
                                   const HistoryOptions& options = {}) {
    auto history = History::open(path, ledger.catch_up(), options);
    INFO((history ? std::string() : history.error().message));
    REQUIRE(history);
    return std::move(*history);
}

}  // namespace

TEST_CASE("History: pushed rows are read back, attempt by attempt", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    FakeLedger ledger;
    auto history = open_good(path, ledger);
    REQUIRE(history->wait_idle(10'000));
    for (std::uint64_t seq = 1; seq <= 50; ++seq) CHECK(history->push(rows_of(seq)));
    REQUIRE(history->wait_idle(10'000));
    CHECK(history->last_seq() == 50);
    check_all(path, 50);
    auto reader = HistoryReader::open(path);
    REQUIRE(reader);
    CHECK((*reader)->job(7, true)->spec == "spec");
    CHECK((*reader)->job(7, false)->name == "job-7");
    CHECK((*reader)->job(51, false).error().code == ErrorCode::kNotFound);
    const auto one = (*reader)->attempts(7, 1);
    REQUIRE(one->size() == 1);
    CHECK(one->front().exit_code == -9);
    CHECK(one->front().ended_ns == 1'700'000'000'000'000'007ULL);
    TaskQuery query;
    query.job = 7;
    query.from_start = false;
    query.after_element = 0;
    CHECK((*reader)->tasks(query)->size() == 1);
    CHECK((*reader)->newest_jobs(3, 10)->front().id == 9);
    struct stat info {};
    REQUIRE(stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("History: holds nothing that the ledger has not flushed", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    FakeLedger ledger;
    std::atomic<bool> flushes{false};
    std::atomic<int> asked{0};
    HistoryOptions options;
    options.before_commit = [&]() -> Status {
        ++asked;
        if (flushes) return {};
        return fail(ErrorCode::kDataLoss, "the flush failed");
    };
    auto history = open_good(path, ledger, options);
    REQUIRE(history->wait_idle(10'000));
    CHECK(asked == 0);  // nothing to commit
    for (std::uint64_t seq = 1; seq <= 5; ++seq) {
        ledger.add(rows_of(seq));
        (void)history->push(rows_of(seq));
    }
    for (const auto deadline = boot_ns() + 10 * kSecond; asked == 0;) {
        REQUIRE(boot_ns() < deadline);
        ::usleep(1'000);
    }
    CHECK(history->last_seq() == 0);
    {
        auto reader = HistoryReader::open(path);
        REQUIRE(reader);
        CHECK((*reader)->newest_jobs(10)->empty());
    }
    flushes = true;
    REQUIRE(history->wait_idle(10'000));
    CHECK(history->last_seq() == 5);
    check_all(path, 5);
}

TEST_CASE("History: the same rows twice change nothing, later ones overwrite", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    FakeLedger ledger;
    auto history = open_good(path, ledger);
    REQUIRE(history->wait_idle(10'000));
    CHECK(history->push(rows_of(1)));
    CHECK(history->push(rows_of(1)));
    HistoryRows later;
    later.seq = 2;
    later.jobs = rows_of(1).jobs;
    later.jobs[0].spec.clear();
    later.jobs[0].state = "active";
    later.ended = rows_of(1).ended;
    later.bytes = rows_of(1).bytes;
    later.ended[0].as.outcome = Outcome::kRequeued;
    later.ended[0].as.terminal = false;
    CHECK(history->push(later));
    REQUIRE(history->wait_idle(10'000));
    auto reader = HistoryReader::open(path);
    REQUIRE(reader);
    CHECK((*reader)->job(1, true)->state == "active");
    CHECK((*reader)->job(1, true)->spec == "spec");
    TaskQuery all;
    all.terminal_only = false;
    CHECK((*reader)->tasks(all)->size() == 2);
    CHECK((*reader)->tasks(TaskQuery{})->size() == 1);
}

TEST_CASE("History: a full queue never blocks; what was dropped comes from the ledger",
          "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    FakeLedger ledger;
    HistoryOptions small;
    small.queue_rows = 20;
    small.transaction_rows = 7;
    auto history = open_good(path, ledger, small);
    const std::uint64_t last = 3000;
    int dropped = 0;
    for (std::uint64_t seq = 1; seq <= last; ++seq) {
        const HistoryRows rows = rows_of(seq);
        ledger.add(rows);  // the commit comes first, as in the core
        if (!history->push(rows)) ++dropped;
    }
    REQUIRE(history->wait_idle(30'000));
    CHECK(dropped > 0);
    CHECK(history->last_seq() == last);
    check_all(path, last);
}

TEST_CASE("History: a new process catches up from where the file is", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    FakeLedger ledger;
    for (std::uint64_t seq = 1; seq <= 40; ++seq) ledger.add(rows_of(seq));
    {
        auto history = open_good(path, ledger);
        REQUIRE(history->wait_idle(10'000));
        CHECK(history->last_seq() == 40);
    }
    for (std::uint64_t seq = 41; seq <= 60; ++seq) ledger.add(rows_of(seq));
    ledger.failing = 1;  // the first try fails and is repeated
    auto history = open_good(path, ledger);
    REQUIRE(history->wait_idle(20'000));
    CHECK(history->last_seq() == 60);
    check_all(path, 60);
}

TEST_CASE("History: after a large round it rests, and not when somebody is about to look",
          "[history]") {
    const TempDirectory dir;
    FakeLedger ledger;
    auto history = open_good(dir.file("history.db"), ledger);
    REQUIRE(history->wait_idle(10'000));
    std::uint64_t seq = 0;
    const auto time_of_one = [&](bool hurry) {
        for (int i = 0; i < 1'000; ++i) REQUIRE(history->push(rows_of(++seq)));
        REQUIRE(history->wait_idle(10'000));
        const auto begun = boot_ns();
        REQUIRE(history->push(rows_of(++seq)));
        if (hurry) history->hurry();
        REQUIRE(history->wait_idle(10'000));
        CHECK(history->last_seq() == seq);
        return boot_ns() - begun;
    };
    // On a busy machine the thousand may be several rounds, and anything may take long.
    std::uint64_t slowest = 0;
    for (int i = 0; i < 10 && slowest < 90 * kMillisecond; ++i) {
        slowest = std::max(slowest, time_of_one(false));
    }
    CHECK(slowest >= 90 * kMillisecond);
    auto fastest = ~std::uint64_t{0};
    for (int i = 0; i < 10 && fastest >= 50 * kMillisecond; ++i) {
        fastest = std::min(fastest, time_of_one(true));
    }
    CHECK(fastest < 50 * kMillisecond);
}

TEST_CASE("History: make_durable waits for what was pushed and flushes it", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    FakeLedger ledger;
    HistoryOptions small;
    small.queue_rows = 20;
    auto history = open_good(path, ledger, small);
    REQUIRE(history->make_durable(10'000));
    for (std::uint64_t seq = 1; seq <= 500; ++seq) {
        ledger.add(rows_of(seq));
        (void)history->push(rows_of(seq));
        if (seq % 100 == 0) {
            REQUIRE(history->make_durable(10'000));
            CHECK(history->last_seq() >= seq);
        }
    }
    // Rows that are pushed but cannot be had from the ledger while it is busy.
    ledger.failing = 1'000'000;
    std::uint64_t seq = 500;
    while (history->push(rows_of(++seq))) {
    }
    CHECK(history->make_durable(300).error().code == ErrorCode::kDeadlineExceeded);
}

TEST_CASE("History: a damaged file is put aside and rebuilt", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    FakeLedger ledger;
    for (std::uint64_t seq = 1; seq <= 10; ++seq) ledger.add(rows_of(seq));
    std::ofstream(path) << "this is no database, and it is long enough to be looked at by sqlite; "
                        << std::string(200, 'x');
    auto history = open_good(path, ledger);
    REQUIRE(history->wait_idle(10'000));
    check_all(path, 10);
    CHECK(access((path + ".damaged").c_str(), F_OK) == 0);
}

TEST_CASE("History: a task among many is found fast", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    FakeLedger ledger;
    HistoryOptions roomy;
    roomy.queue_rows = 2'000'000;
    auto history = open_good(path, ledger, roomy);
    REQUIRE(history->wait_idle(10'000));
    const std::uint64_t begin = boot_ns();
    const std::uint64_t count = 200'000;
    for (std::uint64_t seq = 1; seq <= count / 1000; ++seq) {
        HistoryRows rows;
        rows.seq = seq;
        for (std::uint64_t i = 0; i < 1000; ++i) {
            EndedRow row = rows_of(1).ended[0];
            row.worker_name = rows.keep("w");
            row.job = 1;
            row.element = (seq - 1) * 1000 + i;
            rows.ended.push_back(row);
        }
        REQUIRE(history->push(std::move(rows)));
    }
    REQUIRE(history->wait_idle(60'000));
    const double seconds = static_cast<double>(boot_ns() - begin) / 1e9;
    WARN("history rows per second: " << static_cast<double>(count) / seconds);
    auto reader = HistoryReader::open(path);
    REQUIRE(reader);
    CHECK((*reader)->attempts(1, 123'456)->size() == 1);
}
