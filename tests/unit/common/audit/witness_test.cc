#include "common/audit/log_view.h"
#include "common/audit/text.h"
#include "common/audit/tree_writer.h"
#include "common/audit/witness.h"
#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;
using reeve::test::TempDirectory;

namespace {

constexpr std::uint64_t kNow = 1763760060;

SigningKey key_of(const std::string& name, KeyType type, std::uint8_t seed) {
    KeyBytes bytes{};
    bytes[0] = seed;
    return *SigningKey::from_seed(name, type, bytes);
}

// A log whose every size can be asked for, and one that differs from entry 5 on.
struct Logs {
    TempDirectory directory;
    SigningKey key = key_of("log", KeyType::kNote, 1);
    explicit Logs(int fork_at = 1000) {
        TreeWriter writer(directory.path());
        for (int i = 0; i < 40; ++i) {
            writer.append((i >= fork_at ? "forked " : "entry ") + std::to_string(i));
            REQUIRE(writer.write());
        }
    }
    std::string checkpoint(std::uint64_t size) const {
        TileReader reader(directory.path(), size);
        return sign_checkpoint({"log", size, *reader.root(size)}, key);
    }
    std::string request(std::uint64_t old_size, std::uint64_t size) const {
        AddCheckpoint request;
        request.old_size = old_size;
        request.checkpoint = checkpoint(size);
        TileReader reader(directory.path(), size);
        if (old_size > 0 && old_size <= size) {
            request.hashes = *merkle::consistency_proof(old_size, size, reader.subtree_hash());
        }
        return request.to_string();
    }
};

Result<Witness> open_witness(const TempDirectory& directory) {
    return Witness::open(directory.file("state"), key_of("witness", KeyType::kCosignature, 2),
                         {key_of("log", KeyType::kNote, 1).verifier()});
}

}  // namespace

TEST_CASE("Witness: follows the demo log from 0 to 10", "[audit]") {
    TempDirectory directory;
    KeyBytes seed;
    const std::string bytes = unhex(demo("witness_seed"));
    std::copy(bytes.begin(), bytes.end(), seed.begin());
    auto key = SigningKey::from_seed("worker-1.reeve.example", KeyType::kCosignature, seed);
    auto witness = Witness::open(directory.file("state"), *key, {*parse_vkey(demo("log_vkey"))});
    REQUIRE(witness);
    const std::string request = demo("add_checkpoint_6_to_10");
    CHECK(witness->add_checkpoint(request, kNow).status == 409);
    const std::string from_zero = "old 0\n" + request.substr(request.find("\n\n") + 1);
    const auto answer = witness->add_checkpoint(from_zero, kNow);
    CHECK(answer.status == 200);
    CHECK(demo("checkpoint").ends_with(answer.body));
}

TEST_CASE("Witness: cosigns growth, and remembers it over a restart", "[audit]") {
    const Logs log;
    TempDirectory directory;
    {
        auto witness = open_witness(directory);
        REQUIRE(witness);
        CHECK_FALSE(witness->last_seen());
        CHECK(witness->add_checkpoint(log.request(0, 0), kNow).status == 200);
        CHECK(witness->add_checkpoint(log.request(0, 6), kNow).status == 200);
        CHECK(witness->add_checkpoint(log.request(6, 6), kNow).status == 200);
        CHECK(witness->add_checkpoint(log.request(6, 17), kNow).status == 200);
        const auto second = open_witness(directory);
        REQUIRE_FALSE(second);
        CHECK(second.error().code == ErrorCode::kFailedPrecondition);
    }
    auto witness = open_witness(directory);
    REQUIRE(witness);
    REQUIRE(witness->last_seen());
    CHECK(witness->last_seen()->size == 17);
    const auto stale = witness->add_checkpoint(log.request(6, 20), kNow);
    CHECK(stale.status == 409);
    CHECK(stale.body == "17\n");
    const auto good = witness->add_checkpoint(log.request(17, 40), kNow);
    CHECK(good.status == 200);
    const std::string note = log.checkpoint(40) + good.body;
    const auto vkey = log.key.verifier();
    const auto opened = open_checkpoint(note, {&vkey, 1}, {&witness->vkey(), 1});
    REQUIRE(opened);
    CHECK(opened->cosignatures.size() == 1);
}

TEST_CASE("Witness: the statuses of the protocol", "[audit]") {
    const Logs log;
    const Logs fork(5);
    TempDirectory directory;
    auto witness = open_witness(directory);
    REQUIRE(witness);
    REQUIRE(witness->add_checkpoint(log.request(0, 10), kNow).status == 200);
    const auto status = [&](const std::string& request) {
        const int answered = witness->add_checkpoint(request, kNow).status;
        REQUIRE(witness->last_seen()->size == 10);
        return answered;
    };
    const std::string good = log.request(10, 20);
    CHECK(status("") == 400);
    CHECK(status("old 010" + good.substr(6)) == 400);
    CHECK(status(good.substr(0, good.size() - 2)) == 400);
    CHECK(status(log.request(20, 10)) == 400);
    CHECK(status(log.request(0, 20)) == 409);
    CHECK(status(log.request(9, 20)) == 409);
    // Another origin, another key, a signature over something else.
    auto other = sign_checkpoint({"elsewhere", 20, {}}, key_of("elsewhere", KeyType::kNote, 3));
    CHECK(status("old 10\n\n" + other) == 404);
    other = sign_checkpoint({"log", 20, {}}, key_of("log", KeyType::kNote, 3));
    CHECK(status("old 10\n\n" + other) == 403);
    std::string edited = good;
    edited.replace(edited.find("\n20\n"), 4, "\n21\n");
    CHECK(status(edited) == 403);
    // Signed, but no extension: a fork, a proof of the wrong length, a shrink, another root.
    CHECK(status(fork.request(10, 20)) == 422);
    CHECK(status(fork.request(10, 10)) == 422);
    CHECK(status("old 10\n\n" + log.checkpoint(20)) == 422);
    const std::string hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    CHECK(status("old 10\n" + hash + good.substr(7)) == 422);
    CHECK(status("old 10\n" + hash + "\n" + log.checkpoint(10)) == 422);
    // The refused, signed requests are kept as evidence.
    std::size_t kept = 0;
    for (const auto& file : std::filesystem::directory_iterator(directory.path())) {
        kept += file.path().filename().string().starts_with("state.refused.") ? 1 : 0;
    }
    CHECK(kept == 5);
    CHECK(status(log.request(10, 10)) == 200);
}

TEST_CASE("Witness: size 0 has one root and an empty proof", "[audit]") {
    const Logs log;
    TempDirectory directory;
    auto witness = open_witness(directory);
    REQUIRE(witness);
    const std::string hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    CHECK(witness->add_checkpoint("old 0\n\n" + sign_checkpoint({"log", 0, {}}, log.key), kNow)
              .status == 422);
    CHECK(witness->add_checkpoint("old 0\n" + hash + "\n" + log.checkpoint(5), kNow).status == 422);
    CHECK_FALSE(witness->last_seen());
}

TEST_CASE("Witness: no state file, no cosignature", "[audit]") {
    const Logs log;
    TempDirectory directory;
    auto witness = open_witness(directory);
    REQUIRE(witness);
    std::filesystem::create_directory(directory.file("state"));
    const auto answer = witness->add_checkpoint(log.request(0, 5), kNow);
    CHECK(answer.status == 500);
    CHECK(answer.body.empty());
}

TEST_CASE("Witness: a spoiled state file is refused, not forgotten", "[audit]") {
    TempDirectory directory;
    write_file(directory.file("state"), "nonsense\n");
    const auto witness = open_witness(directory);
    REQUIRE_FALSE(witness);
    CHECK(witness.error().code == ErrorCode::kDataLoss);
}
