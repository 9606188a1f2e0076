// Ledger: what commit() acknowledged is there after any end; a failed flush or a full disk stops
// acknowledgements until it is over; snapshots replace what they cover.
#include "plm/ledger/ledger.h"

#include <csignal>
#include <fstream>
#include <thread>

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/plm/flush_fault.h"

#include "common/base/clock.h"
#include "plm/ledger/frame.h"

using namespace reeve;
using namespace reeve::plm;
using reeve::test::TempDirectory;

namespace {

std::unique_ptr<Ledger> open_good(const std::string& path, const LedgerOptions& options = {}) {
    auto ledger = Ledger::open(path, options);
    INFO((ledger ? std::string() : ledger.error().message));
    REQUIRE(ledger);
    return std::move(*ledger);
}

std::string frames_of(std::uint64_t seq, std::size_t bytes = 100) {
    FrameWriter writer;
    writer.append(std::string(bytes, static_cast<char>('a' + seq % 26)));
    writer.append(std::to_string(seq));
    return std::string(writer.bytes());
}

void commit_some(Ledger& ledger, std::uint64_t count, std::size_t bytes = 100) {
    for (std::uint64_t i = 0; i < count; ++i) {
        const Status done =
            ledger.commit(frames_of(ledger.last_seq() + 1, bytes), ledger.next_leaf(), 2);
        INFO((done ? std::string() : done.error().message));
        REQUIRE(done);
    }
}

// The seqs found after `after`, each checked against what commit_some wrote.
std::vector<std::uint64_t> seqs_after(Ledger& ledger, std::uint64_t after,
                                      std::size_t bytes = 100) {
    std::vector<std::uint64_t> seqs;
    const Status read = ledger.for_each_batch(after, [&](const Batch& batch) -> Status {
        CHECK(batch.frames == frames_of(batch.seq, bytes));
        CHECK(batch.first_leaf == (batch.seq - 1) * 2);
        seqs.push_back(batch.seq);
        return {};
    });
    INFO((read ? std::string() : read.error().message));
    REQUIRE(read);
    return seqs;
}

LedgerOptions by_hand() {
    LedgerOptions options;
    options.maintenance = false;
    options.passive_bytes = 1;
    return options;
}

}  // namespace

TEST_CASE("Ledger: a new one is empty, 0600, and remembers batches and meta", "[ledger]") {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    {
        auto ledger = open_good(path);
        CHECK(ledger->last_seq() == 0);
        CHECK(ledger->get_meta("cell").error().code == ErrorCode::kNotFound);
        REQUIRE(ledger->put_meta("cell", std::string("a\0b", 3)));
        REQUIRE(ledger->put_meta("cell", std::string("c\0d", 3)));
        commit_some(*ledger, 150);
        CHECK(ledger->last_seq() == 150);
        CHECK(ledger->next_leaf() == 300);
        CHECK(ledger->commits() == 150);
        for (const char* suffix : {"", "-wal", "-shm"}) {
            struct stat info {};
            REQUIRE(stat((path + suffix).c_str(), &info) == 0);
            CHECK((info.st_mode & 0777) == 0600);
        }
    }
    auto ledger = open_good(path);
    CHECK(ledger->last_seq() == 150);
    CHECK(ledger->next_leaf() == 300);
    CHECK(*ledger->get_meta("cell") == std::string("c\0d", 3));
    CHECK(seqs_after(*ledger, 0).size() == 150);
    CHECK(seqs_after(*ledger, 149) == std::vector<std::uint64_t>{150});
    CHECK(seqs_after(*ledger, 150).empty());
    CHECK(ledger->warning().empty());
}

TEST_CASE("Ledger: an open file that is too open is narrowed", "[ledger]") {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    open_good(path).reset();
    REQUIRE(chmod(path.c_str(), 0644) == 0);
    open_good(path).reset();
    struct stat info {};
    REQUIRE(stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("Ledger: a batch that does not continue the leaves is refused", "[ledger]") {
    const TempDirectory dir;
    auto ledger = open_good(dir.file("ledger.db"));
    commit_some(*ledger, 1);
    CHECK(ledger->commit("x", 5, 1).error().code == ErrorCode::kInternal);
    CHECK(!ledger->failed());
    commit_some(*ledger, 1);
}

TEST_CASE("Ledger: SIGKILL loses nothing that was acknowledged", "[ledger]") {
    for (int round = 0; round < 4; ++round) {
        const TempDirectory dir;
        const std::string path = dir.file("ledger.db");
        int told[2];
        REQUIRE(pipe(told) == 0);
        const pid_t child = fork();
        if (child == 0) {
            auto ledger = Ledger::open(path, by_hand());
            for (std::uint64_t i = 1; ledger; ++i) {
                if (!(*ledger)->commit(frames_of(i, 3000), (i - 1) * 2, 2)) _exit(1);
                if (i % 20 == 0) (void)(*ledger)->maintain();
                (void)!write(told[1], &i, sizeof i);
            }
            _exit(1);
        }
        close(told[1]);
        std::uint64_t acknowledged = 0;
        const std::uint64_t enough = 30 + static_cast<std::uint64_t>(round) * 17;
        while (acknowledged < enough) {
            REQUIRE(read(told[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged);
        }
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
        std::uint64_t more = 0;
        while (read(told[0], &more, sizeof more) == sizeof more) acknowledged = more;
        close(told[0]);
        auto ledger = open_good(path);
        CHECK(ledger->last_seq() >= acknowledged);
        CHECK(seqs_after(*ledger, 0, 3000).size() == ledger->last_seq());
        commit_some(*ledger, 3, 3000);
    }
}

TEST_CASE("Ledger: a reader sees batches while the PLM writes, and says what was dropped",
          "[ledger]") {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    auto ledger = open_good(path, by_hand());
    commit_some(*ledger, 200);
    auto reader = LedgerReader::open(path);
    REQUIRE(reader);
    std::uint64_t seen = 0;
    const auto count = [&](const Batch& batch) -> Status {
        seen = batch.seq;
        if (batch.seq == 100) {
            CHECK(ledger->commit(frames_of(201), 400, 2));
        }
        return {};
    };
    REQUIRE((*reader)->for_each_batch(50, count));
    CHECK(seen == 201);
    REQUIRE(ledger->write_snapshot({"s"}, 120));
    REQUIRE(ledger->maintain());
    CHECK((*reader)->for_each_batch(50, count).error().code == ErrorCode::kOutOfRange);
    REQUIRE((*reader)->for_each_batch(120, count));
    CHECK(LedgerReader::open(dir.file("none.db")).error().code == ErrorCode::kNotFound);
}

TEST_CASE("Ledger: a callback's error stops the walk and comes out", "[ledger]") {
    const TempDirectory dir;
    auto ledger = open_good(dir.file("ledger.db"));
    commit_some(*ledger, 10);
    std::uint64_t seen = 0;
    const Status read = ledger->for_each_batch(0, [&](const Batch& batch) -> Status {
        seen = batch.seq;
        if (batch.seq == 4) return fail(ErrorCode::kAborted, "enough");
        return {};
    });
    CHECK(read.error().code == ErrorCode::kAborted);
    CHECK(seen == 4);
    commit_some(*ledger, 1);
}

TEST_CASE("Ledger: a snapshot replaces what it covers, the newest wins, kept batches stay",
          "[ledger]") {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    {
        auto ledger = open_good(path, by_hand());
        commit_some(*ledger, 100);
        CHECK(ledger->read_snapshot()->seq == 0);
        ledger->keep_batches_after(40);
        REQUIRE(ledger->write_snapshot({"part one", std::string(3u << 20, 'p'), ""}, 60));
        REQUIRE(ledger->maintain());
        CHECK(seqs_after(*ledger, 40).size() == 60);
        CHECK(ledger->for_each_batch(39, [](const Batch&) -> Status { return {}; }).error().code ==
              ErrorCode::kOutOfRange);
        ledger->keep_batches_after(~std::uint64_t{0});
        REQUIRE(ledger->maintain());
        CHECK(seqs_after(*ledger, 60).size() == 40);
        CHECK(ledger->write_snapshot({"x"}, 101).error().code == ErrorCode::kInvalidArgument);
        CHECK(ledger->write_snapshot({"x"}, 59).error().code == ErrorCode::kInvalidArgument);
    }
    auto ledger = open_good(path, by_hand());
    auto snapshot = ledger->read_snapshot();
    REQUIRE(snapshot);
    CHECK(snapshot->seq == 60);
    CHECK(snapshot->next_leaf == 120);
    REQUIRE(snapshot->parts.size() == 3);
    CHECK(snapshot->parts[0] == "part one");
    CHECK(snapshot->parts[1].size() == 3u << 20);
    REQUIRE(ledger->write_snapshot({"everything"}, 100));
    REQUIRE(ledger->maintain());
    CHECK(ledger->read_snapshot()->parts == std::vector<std::string>{"everything"});
    CHECK(seqs_after(*ledger, 100).empty());
    CHECK(ledger->last_seq() == 100);
    ledger.reset();
    ledger = open_good(path, by_hand());
    CHECK(ledger->last_seq() == 100);
    CHECK(ledger->next_leaf() == 200);
    commit_some(*ledger, 2);
    CHECK(seqs_after(*ledger, 100).size() == 2);
}

TEST_CASE("Ledger: dropped batches give their space back", "[ledger]") {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    LedgerOptions options = by_hand();
    options.spare_bytes = 1u << 20;
    auto ledger = open_good(path, options);
    commit_some(*ledger, 40, 1u << 20);
    REQUIRE(ledger->maintain());
    struct stat before {};
    REQUIRE(stat(path.c_str(), &before) == 0);
    CHECK(before.st_size > 40 << 20);
    REQUIRE(ledger->write_snapshot({"s"}, 40));
    struct stat after = before;
    for (int round = 0; round < 20 && after.st_size > 4 << 20; ++round) {
        REQUIRE(ledger->maintain());
        REQUIRE(stat(path.c_str(), &after) == 0);
    }
    CHECK(after.st_size <= 4 << 20);
}

TEST_CASE("Ledger: the maintenance thread bounds the WAL while commits go on", "[ledger]") {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    LedgerOptions options;
    options.wal_limit_bytes = 4u << 20;
    options.passive_bytes = 1u << 20;
    auto ledger = open_good(path, options);
    std::uint64_t most = 0;
    for (int i = 0; i < 400; ++i) {
        commit_some(*ledger, 1, 100'000);
        most = std::max(most, ledger->wal_bytes());
    }
    CHECK(most < 32u << 20);
    std::atomic<int> answers{0};
    std::atomic<bool> good{false};
    ledger->snapshot_in_background({"part"}, 400, [&](Status done) {
        good = done.has_value();
        ++answers;
    });
    const std::uint64_t deadline = boot_ns() + 20 * kSecond;
    while (answers == 0 && boot_ns() < deadline) std::this_thread::yield();
    CHECK(answers == 1);
    CHECK(good);
    CHECK(ledger->read_snapshot()->seq == 400);
}

TEST_CASE("Ledger: a failed flush stops acknowledgements until reopening worked", "[ledger]") {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    auto ledger = open_good(path, by_hand());
    commit_some(*ledger, 70);
    reeve::test::flushes_left = 0;
    const std::string frames = frames_of(71);
    const Status failed = ledger->commit(frames, 140, 2);
    REQUIRE(!failed);
    CHECK(failed.error().code == ErrorCode::kDataLoss);
    CHECK(failed.error().message.find(path) != std::string::npos);
    CHECK(ledger->failed());
    CHECK(!ledger->commit(frames, 140, 2));
    CHECK(!ledger->put_meta("a", "b"));
    CHECK(!ledger->get_meta("a"));
    CHECK(!ledger->write_snapshot({"x"}, 10));
    CHECK(!ledger->resume_commit(frames, 140, 2));
    CHECK(ledger->failed());
    reeve::test::flushes_left = -1;
    const Status resumed = ledger->resume_commit(frames, 140, 2);
    INFO((resumed ? std::string() : resumed.error().message));
    REQUIRE(resumed);
    CHECK(!ledger->failed());
    CHECK(ledger->last_seq() == 71);
    CHECK(ledger->next_leaf() == 142);
    commit_some(*ledger, 5);
    CHECK(seqs_after(*ledger, 0).size() == 76);
    ledger.reset();
    CHECK(seqs_after(*open_good(path), 0).size() == 76);
}

TEST_CASE("Ledger: a flush that fails at any point of a commit or of opening loses nothing",
          "[ledger]") {
    for (int after = 0; after < 12; ++after) {
        const TempDirectory dir;
        const std::string path = dir.file("ledger.db");
        std::uint64_t acknowledged = 0;
        reeve::test::flushes_left = after;
        if (auto ledger = Ledger::open(path, by_hand())) {
            for (std::uint64_t i = 1; i <= 6; ++i) {
                if (!(*ledger)->commit(frames_of(i), (i - 1) * 2, 2)) break;
                acknowledged = i;
                if (i == 3) (void)(*ledger)->maintain();
            }
        }
        reeve::test::flushes_left = -1;
        auto ledger = open_good(path);
        CHECK(ledger->last_seq() >= acknowledged);
        CHECK(ledger->last_seq() <= acknowledged + 1);
        CHECK(seqs_after(*ledger, 0).size() == ledger->last_seq());
    }
}

TEST_CASE("Ledger: on a full disk it refuses, and goes on by itself when space is back",
          "[ledger]") {
    const TempDirectory dir;
    if (geteuid() != 0 || mount("none", dir.path().c_str(), "tmpfs", 0, "size=4m") != 0) {
        WARN("skipped: mounting a small tmpfs needs root");
        return;
    }
    struct Unmount {
        const std::string path;
        ~Unmount() { umount2(path.c_str(), MNT_DETACH); }
    } const unmount{dir.path()};
    const std::string path = dir.file("ledger.db");
    auto ledger = open_good(path, by_hand());
    commit_some(*ledger, 20, 20'000);  // in the log only: settling it needs room in the main file
    const auto fill = [&] {
        std::ofstream filler(dir.file("filler"), std::ios::app);
        const std::string block(4096, 'f');
        while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
        }
    };
    fill();
    Status done;
    std::string frames;
    std::uint64_t leaf = 0;
    while (done) {
        frames = frames_of(ledger->last_seq() + 1, 20'000);
        leaf = ledger->next_leaf();
        done = ledger->commit(frames, leaf, 2);
    }
    INFO(done.error().message);
    CHECK(done.error().code == ErrorCode::kResourceExhausted);
    const std::uint64_t known = ledger->last_seq();
    fill();
    for (int i = 0; i < 3; ++i) {
        const Status again = ledger->resume_commit(frames, leaf, 2);
        REQUIRE(!again);
        CHECK(again.error().code == ErrorCode::kResourceExhausted);
    }
    REQUIRE(unlink(dir.file("filler").c_str()) == 0);
    const Status resumed = ledger->resume_commit(frames, leaf, 2);
    INFO((resumed ? std::string() : resumed.error().message));
    CHECK(resumed);
    CHECK(ledger->last_seq() == known + 1);
    ledger.reset();
    ledger = open_good(path);
    CHECK(ledger->last_seq() == known + 1);
}
