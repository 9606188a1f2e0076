// A ledger that is not durable: what a power cut may take of it, and what it may not.
#include <random>

#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/catch.h"
#include "tests/support/files.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/plm/flush_fault.h"

#include "plm/ledger/frame.h"
#include "plm/ledger/ledger.h"

using namespace reeve;
using namespace reeve::plm;
using reeve::test::read_file;
using reeve::test::TempDirectory;
using reeve::test::write_file;

namespace {

constexpr std::uint64_t kFlushed = 6;  // of these batches, the first so many
constexpr std::uint64_t kBatches = 20;

std::string frames_of(std::uint64_t seq) {
    FrameWriter writer;
    writer.append("batch " + std::to_string(seq) + std::string(40 + seq * 300, 'x'));
    return std::string(writer.bytes());
}

bool exists(const std::string& path) {
    return access(path.c_str(), F_OK) == 0;
}

LedgerOptions by_hand(bool durable) {
    LedgerOptions options;
    options.maintenance = false;
    options.durable = durable;
    return options;
}

void add(Ledger& ledger, std::uint64_t first, std::uint64_t last) {
    for (auto seq = first; seq <= last; ++seq) {
        REQUIRE(ledger.commit(frames_of(seq), seq * 10, 10));
    }
}

// How many batches there are; each is what was committed.
std::uint64_t count(Ledger& ledger) {
    std::uint64_t found = 0;
    REQUIRE(ledger.for_each_batch(0, [&](const Batch& batch) -> Status {
        CHECK(batch.seq == ++found);
        CHECK(batch.frames == frames_of(batch.seq));
        return {};
    }));
    return found;
}

struct Cut {
    std::string main;
    std::string wal;
    std::size_t flushed = 0;  // bytes of the log
};

Cut sample() {
    const TempDirectory dir;
    const auto path = dir.file("ledger.db");
    auto ledger = Ledger::open(path, by_hand(false));
    REQUIRE(ledger);
    add(**ledger, 1, kFlushed);
    const auto flushes = test::flush_count.load();
    REQUIRE((*ledger)->flush());
    CHECK(test::flush_count.load() == flushes + 1);
    Cut cut;
    cut.flushed = read_file(path + "-wal").size();
    add(**ledger, kFlushed + 1, kBatches);
    CHECK(test::flush_count.load() == flushes + 1);  // a commit flushes nothing
    cut.main = read_file(path);
    cut.wal = read_file(path + "-wal");
    return cut;
}

// Any 4 KiB blocks of what was not flushed may have reached the disk, and any not.
std::string torn(const Cut& cut, std::mt19937& random) {
    auto wal = cut.wal;
    for (auto at = cut.flushed; at < wal.size(); at += 4096) {
        const auto size = std::min<std::size_t>(4096, wal.size() - at);
        if (random() % 4 == 0) wal.replace(at, size, size, '\0');
    }
    if (random() % 4 == 0) wal.resize(cut.flushed + random() % (wal.size() - cut.flushed));
    return wal;
}

}  // namespace

TEST_CASE("Ledger: a power cut takes only what was not flushed, and only the newest of it",
          "[ledger]") {
    const Cut cut = sample();
    const TempDirectory dir;
    const auto path = dir.file("ledger.db");
    std::mt19937 random(7);
    int lost = 0;
    int refused = 0;
    test::flushes_free = true;
    for (int round = 0; round < 200; ++round) {
        const auto wal = torn(cut, random);
        const auto lay = [&] {
            write_file(path, cut.main);
            write_file(path + "-wal", wal);
            unlink((path + "-shm").c_str());
        };
        lay();
        write_file(path + "-async", "");
        {
            auto ledger = Ledger::open(path, by_hand(round % 2 == 0));
            REQUIRE(ledger);
            const auto found = count(**ledger);
            REQUIRE(found >= kFlushed);
            lost += found < kBatches ? 1 : 0;
            add(**ledger, found + 1, found + 3);
            REQUIRE(count(**ledger) == found + 3);
        }
        // Of a durable ledger the same is damage, unless one transaction explains it.
        unlink((path + "-async").c_str());
        lay();
        const auto ledger = Ledger::open(path, by_hand(true));
        refused += ledger ? 0 : 1;
    }
    test::flushes_free = false;
    CHECK(lost > 150);
    CHECK(refused > 100);
}

TEST_CASE("Ledger: it is marked as long as its log may hold what is not flushed", "[ledger]") {
    const TempDirectory dir;
    const auto path = dir.file("ledger.db");
    {
        auto ledger = Ledger::open(path, by_hand(false));
        REQUIRE(ledger);
        CHECK(exists(path + "-async"));
        add(**ledger, 1, 3);
    }
    auto ledger = Ledger::open(path, by_hand(true));
    REQUIRE(ledger);
    CHECK_FALSE(exists(path + "-async"));
    CHECK(count(**ledger) == 3);
    const auto flushes = test::flush_count.load();
    add(**ledger, 4, 4);
    CHECK(test::flush_count.load() > flushes);
}

TEST_CASE("Ledger: a commit that has to be flushed is, and one whose flush failed is not lost",
          "[ledger]") {
    const TempDirectory dir;
    auto ledger = Ledger::open(dir.file("ledger.db"), by_hand(false));
    REQUIRE(ledger);
    add(**ledger, 1, 1);
    const auto flushes = test::flush_count.load();
    REQUIRE((*ledger)->commit(frames_of(2), 20, 10, true));
    CHECK(test::flush_count.load() == flushes + 1);
    add(**ledger, 3, 3);
    test::flushes_left = 0;
    CHECK_FALSE((*ledger)->flush());
    CHECK_FALSE((*ledger)->flush());  // the kernel tells of it once only
    CHECK_FALSE((*ledger)->commit(frames_of(4), 40, 10));
    CHECK((*ledger)->failed());
    CHECK_FALSE((*ledger)->resume_commit(frames_of(4), 40, 10));
    test::flushes_left = -1;
    REQUIRE((*ledger)->resume_commit(frames_of(4), 40, 10));
    add(**ledger, 5, 5);
    REQUIRE((*ledger)->flush());
    CHECK(count(**ledger) == 5);

    test::flushes_left = 0;
    CHECK_FALSE((*ledger)->commit(frames_of(6), 60, 10, true));
    test::flushes_left = -1;
    REQUIRE((*ledger)->resume_commit(frames_of(6), 60, 10));  // it is there already
    CHECK(count(**ledger) == 6);
}
