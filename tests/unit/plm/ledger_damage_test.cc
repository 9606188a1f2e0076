// Damage: a ledger cut at any byte, or with any bit flipped, opens as a prefix of what was
// committed or is refused; never anything else, never a crash.
#include <random>

#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/catch.h"
#include "tests/support/files.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/plm/flush_fault.h"

#include "plm/ledger/frame.h"
#include "plm/ledger/ledger.h"
#include "plm/ledger/wal_check.h"

using namespace reeve;
using namespace reeve::plm;
using reeve::test::read_file;
using reeve::test::TempDirectory;
using reeve::test::write_file;

namespace {

constexpr std::uint64_t kBatches = 12;

std::string frames_of(std::uint64_t seq) {
    FrameWriter writer;
    writer.append("batch " + std::to_string(seq) + std::string(40 + seq * 700, 'x'));
    return std::string(writer.bytes());
}

struct Files {
    std::string main;
    std::string wal;
};

LedgerOptions by_hand() {
    LedgerOptions options;
    options.maintenance = false;
    return options;
}

// A ledger with some batches in the main file and the rest in the WAL, as after a SIGKILL.
Files sample(std::uint64_t in_main) {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    Files files;
    std::uint64_t seq = 1;
    const auto add = [&](Ledger& ledger, std::uint64_t up_to) {
        for (; seq <= up_to; ++seq) REQUIRE(ledger.commit(frames_of(seq), seq * 10, 10));
    };
    {
        auto ledger = Ledger::open(path, by_hand());
        REQUIRE(ledger);
        REQUIRE((*ledger)->put_meta("cell", "here"));
        add(**ledger, in_main);
    }  // a clean end moves all to the main file
    auto ledger = Ledger::open(path, by_hand());
    REQUIRE(ledger);
    add(**ledger, kBatches);
    files.main = read_file(path);
    files.wal = read_file(path + "-wal");
    return files;
}

struct Outcome {
    bool opened = false;
    bool refused_reading = false;
    std::uint64_t batches = 0;
    std::string error;
};

Outcome try_open(const std::string& path, const Files& files) {
    reeve::test::flushes_free = true;
    write_file(path, files.main);
    write_file(path + "-wal", files.wal);
    unlink((path + "-shm").c_str());
    Outcome outcome;
    auto ledger = Ledger::open(path, by_hand());
    reeve::test::flushes_free = false;
    if (!ledger) {
        outcome.error = ledger.error().message;
        CHECK(!outcome.error.empty());
        return outcome;
    }
    outcome.opened = true;
    if (auto cell = (*ledger)->get_meta("cell"); !cell || *cell != "here") {
        outcome.refused_reading = !cell;
        CHECK((!cell && cell.error().code == ErrorCode::kDataLoss));
    }
    const Status read = (*ledger)->for_each_batch(0, [&](const Batch& batch) -> Status {
        // Whatever is handed out is exactly what was committed.
        CHECK(batch.seq == outcome.batches + 1);
        CHECK(batch.first_leaf == batch.seq * 10);
        CHECK(batch.frames == frames_of(batch.seq));
        ++outcome.batches;
        return {};
    });
    if (!read) {
        outcome.refused_reading = true;
        outcome.error = read.error().message;
    }
    return outcome;
}

// REEVE_ROUNDS=50 for a night.
int factor() {
    const char* given = std::getenv("REEVE_ROUNDS");
    return given != nullptr ? std::max(1, std::atoi(given)) : 1;
}

std::uint64_t seed_of_run() {
    const char* given = std::getenv("REEVE_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

}  // namespace

TEST_CASE("Ledger: cut at any byte of the WAL it opens with a prefix", "[ledger]") {
    const Files whole = sample(3);
    const TempDirectory dir;
    std::uint64_t last = 3;
    const std::size_t step = 16'408 / 12;
    for (std::size_t size = 0; size <= whole.wal.size(); size += step) {
        Files cut{whole.main, whole.wal.substr(0, size)};
        const Outcome outcome = try_open(dir.file("ledger.db"), cut);
        INFO("cut at " << size << ": " << outcome.error);
        REQUIRE(outcome.opened);
        REQUIRE(!outcome.refused_reading);
        REQUIRE(outcome.batches >= last);  // a longer log never holds less
        last = outcome.batches;
    }
    const Outcome all = try_open(dir.file("ledger.db"), whole);
    CHECK(all.batches == kBatches);
}

TEST_CASE("Ledger: cut at any byte of the main file it is refused, or whole thanks to the WAL",
          "[ledger]") {
    const Files whole = sample(8);
    const TempDirectory dir;
    int refused = 0;
    const std::size_t step = whole.main.size() / 150 + 1;
    for (std::size_t size = 0; size < whole.main.size(); size += step) {
        const Outcome outcome =
            try_open(dir.file("ledger.db"), {whole.main.substr(0, size), whole.wal});
        INFO("cut at " << size << " of " << whole.main.size() << ": " << outcome.error);
        const bool prefix_lost =
            outcome.opened && !outcome.refused_reading && outcome.batches < kBatches;
        REQUIRE(!prefix_lost);
        if (!outcome.opened || outcome.refused_reading) ++refused;
    }
    CHECK(refused > 110);
    // Without its WAL the cut file must never pass for a shorter ledger.
    for (std::size_t size = 0; size < whole.main.size(); size += step) {
        const Outcome outcome = try_open(dir.file("ledger.db"), {whole.main.substr(0, size), ""});
        const bool short_one = outcome.opened && !outcome.refused_reading && outcome.batches < 8;
        INFO("cut at " << size << ", no WAL: " << outcome.batches);
        REQUIRE(!short_one);
    }
}

TEST_CASE("Ledger: a flipped bit in the main file is refused or harmless", "[ledger]") {
    const Files whole = sample(kBatches);
    CHECK(whole.wal.empty());
    const TempDirectory dir;
    const std::uint64_t seed = seed_of_run();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    int refused = 0;
    const int rounds = 400 * factor();
    for (int round = 0; round < rounds; ++round) {
        Files bad = whole;
        // Half of them in headers of pages, where structure lies.
        std::size_t byte = random() % bad.main.size();
        if (round % 2 == 0) byte = byte / 16384 * 16384 + byte % 128;
        const int bit = static_cast<int>(random() % 8);
        bad.main[byte] = static_cast<char>(bad.main[byte] ^ (1 << bit));
        const Outcome outcome = try_open(dir.file("ledger.db"), bad);
        INFO("byte " << byte << " bit " << bit << ": " << outcome.error);
        const bool silent =
            outcome.opened && !outcome.refused_reading && outcome.batches != kBatches;
        REQUIRE(!silent);
        if (!outcome.opened || outcome.refused_reading) ++refused;
    }
    CHECK(refused > rounds / 10);
}

TEST_CASE("Ledger: a flipped bit in the WAL is refused, or costs no more than the last commit",
          "[ledger]") {
    const Files whole = sample(2);
    const TempDirectory dir;
    const std::uint64_t seed = seed_of_run();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    int refused = 0;
    int torn = 0;
    const int rounds = 300 * factor();
    for (int round = 0; round < rounds; ++round) {
        Files bad = whole;
        std::size_t byte = random() % bad.wal.size();
        if (round % 2 == 0 && byte > 32) byte = 32 + (byte - 32) / 16408 * 16408 + byte % 24;
        bad.wal[byte] = static_cast<char>(bad.wal[byte] ^ (1 << (random() % 8)));
        const Outcome outcome = try_open(dir.file("ledger.db"), bad);
        INFO("byte " << byte << " of " << bad.wal.size() << ": " << outcome.error << " "
                     << outcome.batches);
        if (!outcome.opened) {
            ++refused;
            continue;
        }
        REQUIRE(!outcome.refused_reading);
        REQUIRE(outcome.batches >= kBatches - 1);
        if (outcome.batches == kBatches - 1) ++torn;
    }
    CHECK(refused > rounds / 2);
    CHECK(torn > 0);
}

TEST_CASE("Ledger: zeroed and swapped 4 KiB blocks are refused or cost only the last commit",
          "[ledger]") {
    const Files whole = sample(2);
    const TempDirectory dir;
    const auto check = [&](const Files& bad, const std::string& what) {
        const Outcome outcome = try_open(dir.file("ledger.db"), bad);
        INFO(what << ": " << outcome.error);
        if (!outcome.opened || outcome.refused_reading) return;
        REQUIRE(outcome.batches >= kBatches - 1);
    };
    for (std::size_t at = 0; at + 4096 <= whole.wal.size(); at += 4096) {
        Files bad = whole;
        bad.wal.replace(at, 4096, 4096, '\0');
        check(bad, "WAL zeroed at " + std::to_string(at));
        if (at + 8192 > whole.wal.size()) break;
        bad = whole;
        std::swap_ranges(bad.wal.begin() + static_cast<std::ptrdiff_t>(at),
                         bad.wal.begin() + static_cast<std::ptrdiff_t>(at + 4096),
                         bad.wal.begin() + static_cast<std::ptrdiff_t>(at + 4096));
        check(bad, "WAL swapped at " + std::to_string(at));
    }
    for (std::size_t at = 0; at + 4096 <= whole.main.size(); at += 4096) {
        Files bad = whole;
        bad.main.replace(at, 4096, 4096, '\0');
        check(bad, "main file zeroed at " + std::to_string(at));
    }
}

TEST_CASE("Ledger: what is not a ledger, or only half of one, is refused with the cure",
          "[ledger]") {
    const TempDirectory dir;
    const std::string path = dir.file("ledger.db");
    const auto refusal = [&] {
        auto ledger = Ledger::open(path, by_hand());
        REQUIRE(!ledger);
        CHECK(ledger.error().message.find(path) != std::string::npos);
        return ledger.error();
    };
    write_file(path, "");
    CHECK(refusal().code == ErrorCode::kDataLoss);
    write_file(path, "not a database at all, but long enough to look at " + std::string(500, '.'));
    CHECK(refusal().code == ErrorCode::kDataLoss);
    unlink(path.c_str());
    const Files whole = sample(2);
    write_file(path + "-wal", whole.wal);
    CHECK(refusal().code == ErrorCode::kDataLoss);
    unlink((path + "-wal").c_str());
    REQUIRE(symlink("/etc/passwd", path.c_str()) == 0);
    CHECK(refusal().code == ErrorCode::kFailedPrecondition);
}

TEST_CASE("check_wal: counts commits, and calls only one transaction a torn tail", "[ledger]") {
    const Files whole = sample(2);
    const TempDirectory dir;
    const std::string path = dir.file("x-wal");
    CHECK(check_wal(path)->bytes == 0);
    write_file(path, whole.wal);
    const auto sound = check_wal(path);
    REQUIRE(sound);
    CHECK(sound->torn_frames == 0);
    CHECK(sound->committed_frames == (whole.wal.size() - 32) / 16408);
    std::string tail = whole.wal;
    tail[tail.size() - 10] = static_cast<char>(tail[tail.size() - 10] ^ 1);
    write_file(path, tail);
    const auto torn = check_wal(path);
    REQUIRE(torn);
    CHECK(torn->torn_frames > 0);
    std::string middle = whole.wal;
    middle[40] = static_cast<char>(middle[40] ^ 1);
    write_file(path, middle);
    const auto damaged = check_wal(path);
    REQUIRE(!damaged);
    CHECK(damaged.error().code == ErrorCode::kDataLoss);
    CHECK(damaged.error().message.find("offset 32") != std::string::npos);
}
