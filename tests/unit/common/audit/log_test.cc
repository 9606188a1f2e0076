#include <atomic>
#include <thread>

#include "common/audit/files.h"
#include "common/audit/log.h"
#include "common/audit/verify.h"
#include "tests/support/catch.h"
#include "tests/support/page_cache.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;
using reeve::test::TempDirectory;

namespace {

std::vector<std::string> plain_entries(std::size_t count) {
    Story story;
    story.worker(Kind::kWorkerJoined, 1);
    for (std::uint64_t job = 1; story.entries.size() < count; ++job) story.run_task(job, 1);
    story.entries.resize(count);
    return story.entries;
}

VerifyReport verified(const std::string& directory) {
    VerifyOptions options;
    options.directory = directory + "/audit";
    options.policy = *policy_of_directory(options.directory);
    auto report = verify_directory(options);
    REQUIRE(report);
    return *report;
}

bool is_good(const std::string& directory, std::uint64_t size) {
    const auto report = verified(directory);
    if (report.refusal) UNSCOPED_INFO(report.refusal->to_string());
    return !report.refusal && report.entries == size;
}

void forget_boot(const std::string& directory) {
    const std::string path = directory + "/audit/tiles.synced";
    const std::string text = read_file(path);
    write_file(path, text.substr(0, text.find(' ')) + " another-boot\n");
}

}  // namespace

TEST_CASE("AuditLog: the demo's entries give the demo's files and signature", "[audit]") {
    TempDirectory directory;
    write_file(directory.file("audit.key"), demo("log_skey") + "\n");
    std::filesystem::permissions(directory.file("audit.key"), std::filesystem::perms(0600));
    const auto entries = demo_entries();
    const std::string note = write_log(directory.path(), entries);
    const std::string golden = demo("checkpoint");
    const std::string witness_line = golden.substr(golden.rfind("\xE2\x80\x94"));
    CHECK(note + witness_line == golden);
    CHECK(merkle::to_hex(merkle::sha256(read_file(
              directory.file("audit/tile/entries/000.p/10")))) == demo("bundle_0_p10_sha256"));
    CHECK(merkle::to_hex(merkle::sha256(read_file(directory.file("audit/tile/0/000.p/10")))) ==
          demo("tile_0_000_p10_sha256"));
    CHECK(read_file(directory.file("audit/log.vkey")) == demo("log_vkey") + "\n");
    CHECK(is_good(directory.path(), 10));

    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE(log);
    const auto witness = *parse_vkey(demo("witness_vkey"));
    CHECK_FALSE(log->add_cosignature(witness, witness_line.substr(1)));
    REQUIRE(log->add_cosignature(witness, witness_line));
    REQUIRE(log->add_cosignature(witness, witness_line));
    CHECK(read_file(directory.file("audit/checkpoint")) == golden);
}

TEST_CASE("AuditLog: grows over many publishes and reopenings", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(1500);
    std::size_t written = 0;
    std::size_t step = 1;
    while (written < entries.size()) {
        auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
        REQUIRE(log);
        REQUIRE(log->size() == written);
        REQUIRE(log->published_size() == written);
        for (int publishes = 0; publishes < 3 && written < entries.size(); ++publishes) {
            const std::size_t count = std::min(step, entries.size() - written);
            REQUIRE(log->append(std::span(entries).subspan(written, count)) == written);
            REQUIRE(log->published_size() == written);
            REQUIRE(log->publish());
            written += count;
            REQUIRE(log->published_size() == written);
            REQUIRE(is_good(directory.path(), written));
        }
        step = step * 2 + 1;
    }
    // Partial tiles of full ones are gone, those of the last checkpoint are there.
    CHECK_FALSE(std::filesystem::exists(directory.file("audit/tile/0/000.p")));
    CHECK_FALSE(std::filesystem::exists(directory.file("audit/tile/entries/004.p")));
    CHECK(std::filesystem::exists(directory.file("audit/tile/0/005.p/220")));
}

TEST_CASE("AuditLog: what advance wrote is seen by nobody before the next checkpoint", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(20'000);
    const auto bundle_of = [&](std::size_t begin, std::size_t end) {
        std::string bundle;
        for (; begin < end; ++begin) {
            bundle += static_cast<char>(entries[begin].size() >> 8);
            bundle += static_cast<char>(entries[begin].size());
            bundle += entries[begin];
        }
        return bundle;
    };
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE(log);
    log->append_bundle(bundle_of(0, 300), 300);
    REQUIRE(log->publish());
    const auto note = log->checkpoint();
    // Some of these are longer than a chunk of memory, some share one.
    std::size_t at = 300;
    for (const std::size_t end : {310UL, 400UL, 9'000UL, 9'001UL, 12'000UL}) {
        auto buffer = bundle_of(at, end);
        const auto bytes = buffer.size();
        CHECK(log->append_buffer(buffer, end - at) == at);
        CHECK(buffer.size() == (bytes < 256 << 10 ? bytes : 0));
        at = end;
        CHECK(log->unpublished_bytes() == bytes);
        REQUIRE(log->advance());
        CHECK(log->unpublished_bytes() == 0);
    }
    CHECK(log->published_size() == 300);
    CHECK(read_file(directory.file("audit/checkpoint")) == note);
    CHECK(is_good(directory.path(), 300));
    CHECK(std::filesystem::exists(directory.file("audit/tile/entries/045")));
    SECTION("a kill here leaves the old head, and the ledger gives the rest") {
        { const AuditLog gone = std::move(*log); }
        log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
        REQUIRE(log);
        REQUIRE(log->size() == 300);
        log->append_bundle(bundle_of(300, at), at - 300);
    }
    log->append_bundle(bundle_of(at, entries.size()), entries.size() - at);
    REQUIRE(log->publish());
    CHECK(is_good(directory.path(), entries.size()));
    CHECK_FALSE(std::filesystem::exists(directory.file("audit/tile/entries/001.p")));
}

TEST_CASE("AuditLog: publishing nothing new touches no file", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(10);
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE(log);
    log->append(entries);
    REQUIRE(log->publish());
    const auto before = std::filesystem::last_write_time(directory.file("audit/checkpoint"));
    const auto note = log->checkpoint();
    REQUIRE(log->publish());
    CHECK(std::filesystem::last_write_time(directory.file("audit/checkpoint")) == before);
    CHECK(log->checkpoint() == note);
}

TEST_CASE("AuditLog: signs nothing before the ledger was flushed", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(300);
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE(log);
    log->append(std::span(entries).first(100));
    REQUIRE(log->publish());
    const auto before = log->checkpoint();
    log->append(std::span(entries).subspan(100));
    int asked = 0;
    const auto broken = [&]() -> Status {
        ++asked;
        CHECK(read_file(directory.file("audit/checkpoint")) == before);
        return fail(ErrorCode::kDataLoss, "the flush failed");
    };
    CHECK_FALSE(log->publish(broken));
    CHECK(asked == 1);
    CHECK(read_file(directory.file("audit/checkpoint")) == before);
    CHECK(log->published_size() == 100);
    CHECK(is_good(directory.path(), 100));
    REQUIRE(log->publish([] { return Status{}; }));
    CHECK(is_good(directory.path(), 300));
    REQUIRE(log->publish(broken));  // nothing new: nobody is asked
    CHECK(asked == 1);
}

TEST_CASE("AuditLog: a second writer is refused", "[audit]") {
    TempDirectory directory;
    const std::vector<std::string> none;
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(none));
    REQUIRE(log);
    auto second = AuditLog::open(options_in(directory.path()), ledger_of(none));
    REQUIRE_FALSE(second);
    CHECK(second.error().code == ErrorCode::kFailedPrecondition);
}

TEST_CASE("AuditLog: a checkpoint changed by others stops the signing", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(20);
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE(log);
    log->append(std::span(entries).first(10));
    REQUIRE(log->publish());
    const std::string old = read_file(directory.file("audit/checkpoint"));
    write_file(directory.file("audit/checkpoint"), old + " ");
    log->append(std::span(entries).subspan(10));
    REQUIRE_FALSE(log->publish());
    CHECK(log->published_size() == 10);
    write_file(directory.file("audit/checkpoint"), old);
    REQUIRE(log->publish());
    CHECK(is_good(directory.path(), 20));
}

TEST_CASE("AuditLog: a ledger shorter than the signed size is a fork and refused", "[audit]") {
    TempDirectory directory;
    auto entries = plain_entries(600);
    write_log(directory.path(), entries);
    entries.resize(599);
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE_FALSE(log);
    CHECK(log.error().code == ErrorCode::kFailedPrecondition);
    CHECK(log.error().message.find("fork") != std::string::npos);
}

TEST_CASE("AuditLog: another key's checkpoint and a lost key are refused", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(30);
    write_log(directory.path(), entries);
    std::filesystem::remove(directory.file("audit.key"));
    auto lost = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE_FALSE(lost);
    CHECK(lost.error().code == ErrorCode::kFailedPrecondition);
    CHECK_FALSE(std::filesystem::exists(directory.file("audit.key")));

    REQUIRE(SigningKey::generate("reeve.example/test", KeyType::kNote)
                ->store(directory.file("audit.key")));
    auto other = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE_FALSE(other);
    std::filesystem::remove(directory.file("audit/log.vkey"));
    other = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE_FALSE(other);
    CHECK(other.error().code == ErrorCode::kUnauthenticated);
}

TEST_CASE("AuditLog: damaged tiles are written again from the ledger", "[audit]") {
    const auto entries = plain_entries(700);
    for (const char* victim : {"tile/0/002.p/188", "tile/entries/002.p/188", "tile/1/000.p/2"}) {
        for (const bool missing : {true, false}) {
            TempDirectory directory;
            write_log(directory.path(), entries);
            const std::string path = directory.file(std::string("audit/") + victim);
            std::string bytes = read_file(path);
            bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
            if (missing) {
                std::filesystem::remove(path);
            } else {
                write_file(path, bytes);
            }
            INFO(victim);
            REQUIRE_FALSE(is_good(directory.path(), 700));
            auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
            REQUIRE(log);
            CHECK(log->size() == 700);
            CHECK(is_good(directory.path(), 700));
        }
    }
}

TEST_CASE("AuditLog: after a power cut everything not flushed is written again", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(2000);
    {
        auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
        REQUIRE(log);
        log->append(std::span(entries).first(1000));
        REQUIRE(log->publish());
        REQUIRE(*log->sync_tiles() == 1000);
        log->append(std::span(entries).subspan(1000));
        REQUIRE(log->publish());
    }
    // A tile in the middle lost its bytes, as files do that nobody flushed.
    write_file(directory.file("audit/tile/0/004"), "");
    write_file(directory.file("audit/tile/entries/005"), std::string(100, '\0'));
    forget_boot(directory.path());
    SECTION("the ledger has them") {
        auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
        REQUIRE(log);
        CHECK(is_good(directory.path(), 2000));
    }
    SECTION("the ledger has just what was not flushed") {
        auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries, 768));
        REQUIRE(log);
        CHECK(is_good(directory.path(), 2000));
    }
    SECTION("the ledger has dropped some of it") {
        auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries, 1300));
        REQUIRE_FALSE(log);
        CHECK(log.error().code == ErrorCode::kDataLoss);
    }
}

TEST_CASE("AuditLog: a ledger that tells another story is refused and overwrites nothing",
          "[audit]") {
    TempDirectory directory;
    auto entries = plain_entries(700);
    write_log(directory.path(), entries);
    const std::string before = read_file(directory.file("audit/tile/entries/001"));
    entries[300].back() = static_cast<char>(entries[300].back() ^ 1);
    forget_boot(directory.path());
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE_FALSE(log);
    CHECK(log.error().code == ErrorCode::kDataLoss);
    CHECK(read_file(directory.file("audit/tile/entries/001")) == before);
}

TEST_CASE("AuditLog: an old copy of the directory that the ledger cannot catch up is refused",
          "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(700);
    auto some = entries;
    some.resize(300);
    write_log(directory.path(), some);
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries, 301));
    REQUIRE_FALSE(log);
    CHECK(log.error().code == ErrorCode::kDataLoss);
    CHECK(AuditLog::open(options_in(directory.path()), ledger_of(entries, 300))->size() == 300);
}

TEST_CASE("AuditLog: a lost checkpoint is made again only from the whole ledger", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(300);
    const std::string note = write_log(directory.path(), entries);
    std::filesystem::remove(directory.file("audit/checkpoint"));
    auto partial = AuditLog::open(options_in(directory.path()), ledger_of(entries, 10));
    REQUIRE_FALSE(partial);
    CHECK(partial.error().code == ErrorCode::kDataLoss);
    CHECK(write_log(directory.path(), entries) == note);
}

TEST_CASE("AuditLog: a full disk keeps the old checkpoint and loses nothing", "[audit]") {
    TempDirectory directory;
    const auto entries = plain_entries(600);
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE(log);
    log->append(std::span(entries).first(100));
    REQUIRE(log->publish());
    // A file where a directory belongs fails every write below it, as a full disk would.
    std::filesystem::rename(directory.file("audit/tile"), directory.file("tile.away"));
    write_file(directory.file("audit/tile"), "");
    log->append(std::span(entries).subspan(100));
    REQUIRE_FALSE(log->advance());
    REQUIRE_FALSE(log->publish());
    REQUIRE_FALSE(log->publish());
    CHECK(log->published_size() == 100);
    CHECK(log->size() == 600);
    std::filesystem::remove(directory.file("audit/tile"));
    std::filesystem::rename(directory.file("tile.away"), directory.file("audit/tile"));
    REQUIRE(log->publish());
    CHECK(is_good(directory.path(), 600));
}

TEST_CASE("AuditLog: one thread appends while another publishes", "[audit][threads]") {
    TempDirectory directory;
    const auto entries = plain_entries(20000);
    auto log = AuditLog::open(options_in(directory.path()), ledger_of(entries));
    REQUIRE(log);
    std::atomic<bool> done = false;
    std::atomic<bool> failed = false;
    std::thread publisher([&] {
        while (!done) {
            if (!log->publish()) failed = true;
        }
    });
    for (std::size_t at = 0; at < entries.size(); at += 40) {
        log->append(std::span(entries).subspan(at, 40));
    }
    while (log->published_size() < entries.size() && !failed) std::this_thread::yield();
    done = true;
    publisher.join();
    CHECK_FALSE(failed);
    CHECK(is_good(directory.path(), 20000));
}

TEST_CASE("AuditLog: flushed full tiles leave the page cache, and are still there", "[audit]") {
    TempDirectory directory;
    if (!reeve::test::can_drop_cache(directory.path())) {
        WARN("this file system keeps what it was asked to drop");
        return;
    }
    LogOptions options{directory.file("audit"), directory.file("audit.key"), "test"};
    auto log = AuditLog::open(options, {});
    REQUIRE(log);
    const auto entries = plain_entries(1300);
    log->append(entries);
    REQUIRE(log->publish());
    const auto bundle = directory.file("audit/tile/entries/003");
    const auto hashes = directory.file("audit/tile/0/003");
    CHECK(reeve::test::cached_bytes(bundle) > 0);
    CHECK(reeve::test::cached_bytes(hashes) > 0);
    REQUIRE(*log->sync_tiles() == 1300);
    CHECK(reeve::test::cached_bytes(bundle) == 0);
    CHECK(reeve::test::cached_bytes(hashes) == 0);
    CHECK(is_good(directory.path(), 1300));
}
