#include "common/audit/text.h"
#include "common/audit/tree_writer.h"
#include "common/audit/verify.h"
#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;
using reeve::test::TempDirectory;

namespace {

std::vector<std::string> story_entries(std::size_t at_least) {
    Story story;
    story.worker(Kind::kWorkerJoined, 1);
    story.worker(Kind::kWorkerJoined, 2);
    for (std::uint64_t job = 1; story.entries.size() < at_least; ++job) story.run_task(job, 2);
    story.lose_task(1'000'000, 1, 2);
    return story.entries;
}

// A log in a directory, which tests then spoil.
struct Fixture {
    TempDirectory directory;
    std::vector<std::string> entries;
    std::string note;
    SigningKey key;

    explicit Fixture(std::size_t size = 70000)
        : entries(story_entries(size)),
          note(write_log(directory.path(), entries)),
          key(*SigningKey::load(directory.file("audit.key"))) {}

    std::string path(const std::string& name) const { return directory.file("audit/" + name); }
    VerifyOptions options() const {
        VerifyOptions options;
        options.directory = directory.file("audit");
        options.policy = Policy::trust(key.verifier());
        return options;
    }
    VerifyReport verify(const VerifyOptions& given) const {
        auto report = verify_directory(given);
        REQUIRE(report);
        return *report;
    }
    VerifyReport verify() const { return verify(options()); }

    // The refusal's kind, and that it names this place.
    void check(RefusalKind kind, std::optional<std::uint64_t> index,
               const std::string& tile) const {
        const auto report = verify();
        REQUIRE(report.refusal);
        INFO(report.refusal->to_string());
        CHECK(to_string(report.refusal->kind) == to_string(kind));
        CHECK(report.refusal->index == index);
        CHECK(report.refusal->tile == tile);
    }
    void flip(const std::string& name, std::size_t byte) const {
        std::string bytes = read_file(path(name));
        REQUIRE(byte < bytes.size());
        bytes[byte] = static_cast<char>(bytes[byte] ^ 1);
        write_file(path(name), bytes);
    }
    // Writes other entries over the directory, all tiles consistent; signed anew when asked.
    void rewrite(const std::vector<std::string>& other, bool sign) const {
        TreeWriter writer(options().directory);
        for (const auto& entry : other) writer.append(entry);
        REQUIRE(writer.write());
        if (!sign) return;
        write_file(path("checkpoint"),
                   sign_checkpoint({key.verifier().name, writer.size(), writer.root()}, key));
    }
};

constexpr std::size_t kEntryStride = 98;  // u16 length and 96 bytes

}  // namespace

TEST_CASE("Verify: a good log passes, in one thread and in many", "[audit]") {
    const Fixture log;
    for (const unsigned threads : {1U, 2U, 5U}) {
        auto options = log.options();
        options.threads = threads;
        const auto report = log.verify(options);
        if (report.refusal) WARN(report.refusal->to_string());
        REQUIRE_FALSE(report.refusal);
        CHECK(report.entries == log.entries.size());
        CHECK(report.tasks > 17000);
        CHECK(report.open_tasks == 0);
        CHECK(report.tiles == 274 + 2 + 1);
    }
}

TEST_CASE("Verify: an empty log passes", "[audit]") {
    TempDirectory directory;
    const std::vector<std::string> none;
    write_log(directory.path(), none);
    VerifyOptions options;
    options.directory = directory.file("audit");
    options.policy = *policy_of_directory(options.directory);
    const auto report = verify_directory(options);
    REQUIRE(report);
    CHECK_FALSE(report->refusal);
    CHECK(report->entries == 0);
}

TEST_CASE("Verify: one bit in an entry names the entry", "[audit]") {
    const Fixture log(600);
    SECTION("in a full bundle") {
        log.flip("tile/entries/001", 7 * kEntryStride + 50);
        log.check(RefusalKind::kEditedEntry, 256 + 7, "tile/0/001");
    }
    SECTION("in the last bundle") {
        const auto width = log.entries.size() % 256;
        const std::string tile = "000.p/" + std::to_string(width);
        log.flip("tile/entries/002.p/" + std::to_string(width), 3 * kEntryStride + 90);
        log.check(RefusalKind::kEditedEntry, 512 + 3, "tile/0/002.p/" + std::to_string(width));
    }
    SECTION("and its hash") {
        log.flip("tile/entries/001", 7 * kEntryStride + 50);
        std::string bytes = read_file(log.path("tile/entries/001"));
        std::string tile = read_file(log.path("tile/0/001"));
        const auto hash =
            merkle::leaf_hash(std::string_view(bytes).substr(7 * kEntryStride + 2, 96));
        tile.replace(7 * 32, 32, merkle::as_bytes(hash));
        write_file(log.path("tile/0/001"), tile);
        log.check(RefusalKind::kEditedEntry, 256, "tile/1/000.p/2");
    }
}

TEST_CASE("Verify: one bit in a tile of any level names the tile", "[audit]") {
    const Fixture log;
    SECTION("level 0") {
        log.flip("tile/0/100", 5 * 32);
        log.check(RefusalKind::kTileMismatch, 25605, "tile/0/100");
    }
    SECTION("level 1, full") {
        log.flip("tile/1/000", 9 * 32 + 31);
        log.check(RefusalKind::kTileMismatch, 9 * 256, "tile/1/000");
    }
    SECTION("level 1, partial") {
        log.flip("tile/1/001.p/17", 32);
        log.check(RefusalKind::kTileMismatch, 257 * 256, "tile/1/001.p/17");
    }
    SECTION("level 2") {
        log.flip("tile/2/000.p/1", 0);
        log.check(RefusalKind::kTileMismatch, 0, "tile/2/000.p/1");
    }
}

TEST_CASE("Verify: files missing, short, long or odd are refused", "[audit]") {
    const Fixture log(2000);
    SECTION("missing leaf tile") {
        std::filesystem::remove(log.path("tile/0/003"));
        log.check(RefusalKind::kTruncated, 768, "tile/0/003");
    }
    SECTION("missing upper tile") {
        std::filesystem::remove(log.path("tile/1/000.p/7"));
        log.check(RefusalKind::kTruncated, 0, "tile/1/000.p/7");
    }
    SECTION("missing bundle") {
        std::filesystem::remove(log.path("tile/entries/003"));
        log.check(RefusalKind::kTruncated, 768, "tile/entries/003");
    }
    SECTION("all tiles gone") {
        std::filesystem::remove_all(log.path("tile"));
        log.check(RefusalKind::kTruncated, 0, "tile/entries/000");
    }
    SECTION("short tile") {
        write_file(log.path("tile/0/003"), read_file(log.path("tile/0/003")).substr(0, 8160));
        log.check(RefusalKind::kTileMismatch, 768, "tile/0/003");
    }
    SECTION("odd tile") {
        write_file(log.path("tile/0/003"), read_file(log.path("tile/0/003")).substr(0, 8191));
        log.check(RefusalKind::kTileMismatch, 768, "tile/0/003");
    }
    SECTION("long tile") {
        write_file(log.path("tile/0/003"),
                   read_file(log.path("tile/0/003")) + std::string(32, 'x'));
        log.check(RefusalKind::kTileMismatch, 768, "tile/0/003");
    }
    SECTION("cut bundle") {
        write_file(log.path("tile/entries/003"),
                   read_file(log.path("tile/entries/003")).substr(0, 5000));
        log.check(RefusalKind::kTruncated, 768, "tile/entries/003");
    }
    SECTION("emptied bundle") {
        write_file(log.path("tile/entries/003"), "");
        log.check(RefusalKind::kTruncated, 768, "tile/entries/003");
    }
    SECTION("bundle with a trailing byte") {
        write_file(log.path("tile/entries/003"), read_file(log.path("tile/entries/003")) + "x");
        log.check(RefusalKind::kTileMismatch, 768, "tile/entries/003");
    }
    SECTION("bundle with an entry too many") {
        const std::string bytes = read_file(log.path("tile/entries/003"));
        write_file(log.path("tile/entries/003"), bytes + bytes.substr(0, kEntryStride));
        log.check(RefusalKind::kTileMismatch, 768, "tile/entries/003");
    }
    SECTION("an entry that overruns") {
        log.flip("tile/entries/003", 255 * kEntryStride);
        log.check(RefusalKind::kTruncated, 768, "tile/entries/003");
    }
    SECTION("a directory in a tile's place") {
        std::filesystem::remove(log.path("tile/0/003"));
        std::filesystem::create_directory(log.path("tile/0/003"));
        log.check(RefusalKind::kTileMismatch, 768, "tile/0/003");
    }
}

TEST_CASE("Verify: rewritten files under the old checkpoint are refused", "[audit]") {
    const Fixture log(1000);
    auto other = log.entries;
    SECTION("swapped") {
        std::swap(other[100], other[101]);
    }
    SECTION("one forged") {
        other[100].back() = 'x';
    }
    log.rewrite(other, false);
    const auto report = log.verify();
    REQUIRE(report.refusal);
    CHECK(report.refusal->kind == RefusalKind::kRewritten);
}

TEST_CASE("Verify: another key, an old signature, a spoiled checkpoint", "[audit]") {
    const Fixture log(600);
    SECTION("signed by another key of the same name") {
        const auto other = *SigningKey::generate(log.key.verifier().name, KeyType::kNote);
        auto head = log.verify().head->checkpoint;
        write_file(log.path("checkpoint"), sign_checkpoint(head, other));
        log.check(RefusalKind::kBadSignature, {}, "checkpoint");
    }
    SECTION("old signature on a new body") {
        std::string text = log.note;
        const std::string size = "\n" + std::to_string(log.entries.size()) + "\n";
        text.replace(text.find(size), size.size(), "\n500\n");
        write_file(log.path("checkpoint"), text);
        log.check(RefusalKind::kBadSignature, {}, "checkpoint");
    }
    SECTION("no note at all") {
        write_file(log.path("checkpoint"), "hello\n");
        log.check(RefusalKind::kMalformed, {}, "checkpoint");
    }
    SECTION("missing: unreadable, not refused") {
        std::filesystem::remove(log.path("checkpoint"));
        CHECK(verify_directory(log.options()).error().code == ErrorCode::kNotFound);
    }
}

TEST_CASE("Verify: memory refuses rollback and rewriting", "[audit]") {
    const Fixture log(600);
    auto options = log.options();
    options.remember_path = log.directory.file("seen");
    REQUIRE_FALSE(log.verify(options).refusal);
    CHECK(read_file(*options.remember_path) == log.note);
    const auto kind = [&] {
        const auto report = log.verify(options);
        REQUIRE(report.refusal);
        CHECK(read_file(*options.remember_path) == log.note);
        return report.refusal->kind;
    };
    auto shorter = log.entries;
    shorter.resize(500);
    auto longer = log.entries;
    for (std::uint64_t job = 0; job < 100; ++job) {
        Entry entry;
        entry.task = {5'000'000 + job, 0};
        longer.push_back(encode(entry));
    }
    SECTION("the same again passes, growth passes and is remembered") {
        REQUIRE_FALSE(log.verify(options).refusal);
        log.rewrite(longer, true);
        const auto report = log.verify(options);
        REQUIRE_FALSE(report.refusal);
        CHECK(report.remembered->size == log.entries.size());
        CHECK(read_file(*options.remember_path) == read_file(log.path("checkpoint")));
    }
    SECTION("rolled back, signed anew") {
        log.rewrite(shorter, true);
        REQUIRE_FALSE(log.verify().refusal);
        CHECK(kind() == RefusalKind::kRolledBack);
    }
    SECTION("rewritten at the same size, signed anew") {
        auto other = log.entries;
        other[2][70] = static_cast<char>(other[2][70] ^ 1);  // a time
        log.rewrite(other, true);
        REQUIRE_FALSE(log.verify().refusal);
        CHECK(kind() == RefusalKind::kRewritten);
    }
    SECTION("rewritten below, and grown, signed anew") {
        auto other = longer;
        other[2][70] = static_cast<char>(other[2][70] ^ 1);
        log.rewrite(other, true);
        REQUIRE_FALSE(log.verify().refusal);
        CHECK(kind() == RefusalKind::kRewritten);
    }
    SECTION("another log in its place") {
        const auto other = *SigningKey::generate("reeve.example/other", KeyType::kNote);
        auto head = log.verify().head->checkpoint;
        head.origin = "reeve.example/other";
        write_file(log.path("checkpoint"), sign_checkpoint(head, other));
        options.policy = Policy::trust(other.verifier());
        CHECK(kind() == RefusalKind::kRewritten);
    }
    SECTION("a spoiled memory is unreadable, and stays as it is") {
        write_file(*options.remember_path, "nonsense\n");
        CHECK_FALSE(verify_directory(options));
        CHECK(read_file(*options.remember_path) == "nonsense\n");
    }
}

TEST_CASE("Verify: the policy's quorum counts good cosignatures of this very checkpoint",
          "[audit]") {
    const Fixture log(300);
    std::vector<SigningKey> witnesses;
    KeyBytes seed{};
    std::string policy = "log " + log.key.verifier().to_string() + "\n";
    for (int i = 0; i < 3; ++i) {
        const std::string name = "w" + std::to_string(i);
        seed[0] = static_cast<std::uint8_t>(i);
        witnesses.push_back(*SigningKey::from_seed("key-" + name, KeyType::kCosignature, seed));
        policy += "witness " + name + " " + witnesses.back().verifier().to_string() + "\n";
    }
    auto options = log.options();
    options.policy = *Policy::parse(policy + "group workers 2 w0 w1 w2\nquorum workers\n");
    const std::string body = log.note.substr(0, log.note.find("\n\n") + 1);
    const auto kind_with = [&](const std::string& lines) -> std::string {
        write_file(log.path("checkpoint"), log.note + lines);
        const auto report = log.verify(options);
        return report.refusal ? std::string(to_string(report.refusal->kind)) : "ok";
    };
    const std::string w0 = cosign(body, witnesses[0], 1000);
    const std::string w1 = cosign(body, witnesses[1], 1001);
    CHECK(kind_with("") == "quorum");
    CHECK(kind_with(w0) == "quorum");
    CHECK(kind_with(w0 + w1) == "ok");
    CHECK(kind_with(w0 + cosign(body, witnesses[0], 2000)) == "quorum");
    CHECK(kind_with(w0 + signature_line(witnesses[1].verifier(), witnesses[1].sign(body))) ==
          "bad signature");
    const std::string other_size = "reeve.example/test\n1\n" + body.substr(body.size() - 45);
    CHECK(kind_with(w0 + cosign(other_size, witnesses[1], 1001)) == "bad signature");
    // One key under a second name does not count twice: the name is not in the policy.
    seed[0] = 0;
    const auto alias = *SigningKey::from_seed("key-w9", KeyType::kCosignature, seed);
    CHECK(kind_with(w0 + cosign(body, alias, 3)) == "quorum");
}

TEST_CASE("Verify: broken rules are found by a signed log's reader, hashes alone are not enough",
          "[audit]") {
    Fixture log(300);
    auto other = log.entries;
    SECTION("an entry dropped") {
        other.erase(other.begin() + 50);
    }
    SECTION("an entry doubled") {
        other.insert(other.begin() + 50, other[50]);
    }
    SECTION("an entry that is none") {
        other[50] = "not an entry";
    }
    log.rewrite(other, true);
    const auto report = log.verify();
    REQUIRE(report.refusal);
    CHECK(report.refusal->kind == RefusalKind::kAuditRule);
    REQUIRE(report.refusal->index);
    CHECK(*report.refusal->index >= 50);
    CHECK(*report.refusal->index < 56);
    auto options = log.options();
    options.hashes_only = true;
    CHECK_FALSE(log.verify(options).refusal);
}

TEST_CASE("Verify: damage outranks a broken rule", "[audit]") {
    const Fixture log(300);
    log.flip("tile/entries/000", 4);  // the kind of LOG_OPENED's magic
    log.check(RefusalKind::kEditedEntry, 0, "tile/0/000");
}
