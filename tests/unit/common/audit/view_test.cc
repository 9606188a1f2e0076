#include "common/audit/log_view.h"
#include "common/audit/verify.h"
#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;
using reeve::test::TempDirectory;

namespace {

// Worker 1 dies with task 500 in the middle of many others.
struct Fixture {
    TempDirectory directory;
    Story story;
    std::string audit;
    Policy policy;

    Fixture() {
        for (const std::uint64_t worker : {1U, 2U, 3U}) story.worker(Kind::kWorkerJoined, worker);
        for (std::uint64_t job = 1; job <= 100; ++job) story.run_task(job, 1 + job % 3);
        story.lose_task(500, 1, 2);
        story.submit(501);
        story.assign(501, 2);
        story.requeue(501);
        story.task(Kind::kHeld, 501);
        story.task(Kind::kReleased, 501);
        story.assign(501, 3);
        for (std::uint64_t job = 101; job <= 200; ++job) story.run_task(job, 2 + job % 2);
        write_log(directory.path(), story.entries);
        audit = directory.file("audit");
        policy = *policy_of_directory(audit);
    }
    LogView view() { return *LogView::open(audit, policy); }
};

Evidence without(Evidence evidence, std::size_t at) {
    evidence.entries.erase(evidence.entries.begin() + static_cast<std::ptrdiff_t>(at));
    return evidence;
}

}  // namespace

TEST_CASE("LogView: history finds all entries of a task with good proofs", "[audit]") {
    Fixture fixture;
    auto view = fixture.view();
    const auto history = view.history({500, 0});
    REQUIRE(history);
    REQUIRE(history->size() == 7);
    CHECK(decode(history->front().bytes)->kind == Kind::kTaskSubmitted);
    CHECK(decode(history->back().bytes)->kind == Kind::kFinished);
    CHECK(view.history({999, 0}).error().code == ErrorCode::kNotFound);
    CHECK(view.entry(100000).error().code == ErrorCode::kNotFound);
}

TEST_CASE("LogView: a reassignment is proven by four entries, offline", "[audit]") {
    Fixture fixture;
    auto view = fixture.view();
    const auto evidence = view.reassigned({500, 0}, {});
    REQUIRE(evidence);
    REQUIRE(evidence->entries.size() == 4);
    const auto text = evidence->to_string();
    const auto again = parse_evidence(text);
    REQUIRE(again);
    CHECK(again->to_string() == text);
    const auto found = check_evidence(*again, fixture.policy);
    REQUIRE(found);
    CHECK(found->task == Id{500, 0});
    CHECK(found->from == Id{1, 1});
    CHECK(found->to == Id{2, 1});
    CHECK(found->attempt == 2);
    REQUIRE(found->death);
    CHECK(decode(fixture.story.entries[*found->death])->kind == Kind::kWorkerDead);
}

TEST_CASE("LogView: a retraction with a hold between is proven without a death", "[audit]") {
    Fixture fixture;
    auto view = fixture.view();
    const auto evidence = view.reassigned({501, 0}, {});
    REQUIRE(evidence);
    CHECK(evidence->entries.size() == 5);
    const auto found = check_evidence(*evidence, fixture.policy);
    REQUIRE(found);
    CHECK_FALSE(found->death);
    CHECK(found->to == Id{3, 1});
    CHECK(view.reassigned({501, 0}, 2).has_value());
    CHECK(view.reassigned({501, 0}, 3).error().code == ErrorCode::kNotFound);
    CHECK(view.reassigned({5, 0}, {}).error().code == ErrorCode::kNotFound);
}

TEST_CASE("Evidence: anything missing, changed or borrowed is refused", "[audit]") {
    Fixture fixture;
    auto view = fixture.view();
    const auto good = *view.reassigned({500, 0}, {});
    REQUIRE(check_evidence(good, fixture.policy));
    for (std::size_t i = 0; i < good.entries.size(); ++i) {
        CHECK_FALSE(check_evidence(without(good, i), fixture.policy));
        auto changed = good;
        changed.entries[i].bytes.back() = static_cast<char>(changed.entries[i].bytes.back() ^ 1);
        CHECK_FALSE(check_evidence(changed, fixture.policy));
        changed = good;
        changed.entries[i].index += 1;
        CHECK_FALSE(check_evidence(changed, fixture.policy));
        changed = good;
        changed.entries[i].hashes.pop_back();
        CHECK_FALSE(check_evidence(changed, fixture.policy));
    }
    auto reordered = good;
    std::swap(reordered.entries[0], reordered.entries[3]);
    CHECK_FALSE(check_evidence(reordered, fixture.policy));
    auto doubled = good;
    doubled.entries.insert(doubled.entries.begin() + 1, doubled.entries[1]);
    CHECK_FALSE(check_evidence(doubled, fixture.policy));
    // Entries of another task, each proven, in the place of one of ours.
    auto borrowed = good;
    const auto other = view.entry(20);
    borrowed.entries[0] = {"before", other->index, other->bytes, other->proof};
    CHECK_FALSE(check_evidence(borrowed, fixture.policy));
    // Under another key it is worth nothing.
    const auto stranger = SigningKey::generate("reeve.example/test", KeyType::kNote);
    CHECK_FALSE(check_evidence(good, Policy::trust(stranger->verifier())));
}

TEST_CASE("Evidence: the one-step REASSIGNED of the demo log is proven by three", "[audit]") {
    TempDirectory directory;
    write_log(directory.path(), demo_entries());
    const auto policy = *policy_of_directory(directory.file("audit"));
    auto view = *LogView::open(directory.file("audit"), policy);
    const auto task = *id_from_hex("00112233445566778899aabbccddeeff");
    const auto evidence = view.reassigned(task, {});
    REQUIRE(evidence);
    CHECK(evidence->entries.size() == 3);
    const auto found = check_evidence(*evidence, policy);
    REQUIRE(found);
    CHECK(found->death == 6);
    CHECK(found->taken == 7);
    CHECK(found->assigned == 7);
}

TEST_CASE("LogView: proofs come out as the demo's", "[audit]") {
    TempDirectory directory;
    write_file(directory.file("audit.key"), demo("log_skey") + "\n");
    std::filesystem::permissions(directory.file("audit.key"), std::filesystem::perms(0600));
    const auto entries = demo_entries();
    write_log(directory.path(), entries);
    write_file(directory.file("audit/checkpoint"), demo("checkpoint"));
    const auto policy = *policy_of_directory(directory.file("audit"));
    auto view = *LogView::open(directory.file("audit"), policy);
    auto proof = *view.prove(7);
    CHECK(proof.extra == entries[7]);
    CHECK(check_proof(proof, merkle::leaf_hash(*proof.extra), policy));
    proof.extra.reset();
    CHECK(proof.to_string() == demo("tlog_proof_7"));
    CHECK(view.consistency(6)->to_string() == demo("add_checkpoint_6_to_10"));
    CHECK(view.consistency(10)->hashes.empty());
    CHECK(view.consistency(0)->hashes.empty());
    CHECK(view.consistency(11).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("LogView: an edited tile or entry surfaces instead of a proof", "[audit]") {
    Fixture fixture;
    const std::string path = fixture.audit + "/tile/0/000";
    std::string bytes = read_file(path);
    bytes[40] = static_cast<char>(bytes[40] ^ 4);
    write_file(path, bytes);
    auto view = fixture.view();
    CHECK(view.entry(0).error().code == ErrorCode::kDataLoss);  // its sibling's hash
    std::filesystem::remove(path);
    auto again = fixture.view();
    CHECK(again.entry(1).error().code == ErrorCode::kDataLoss);
}
