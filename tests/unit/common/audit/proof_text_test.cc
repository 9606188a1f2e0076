#include "common/audit/log_view.h"
#include "common/audit/proof_text.h"
#include "tests/support/catch.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;

namespace {

std::string replaced(std::string text, const std::string& what, const std::string& with) {
    const auto at = text.find(what);
    REQUIRE(at != std::string::npos);
    return text.replace(at, what.size(), with);
}

Policy demo_policy() {
    return Policy::trust(*parse_vkey(demo("log_vkey")));
}

bool proves(const std::string& text, const std::string& entry) {
    const auto proof = parse_tlog_proof(text);
    return proof && check_proof(*proof, merkle::leaf_hash(entry), demo_policy()).has_value();
}

}  // namespace

TEST_CASE("Proof text: the demo's proof and request read, verify and write back", "[audit]") {
    const auto proof = parse_tlog_proof(demo("tlog_proof_7"));
    REQUIRE(proof);
    CHECK(proof->index == 7);
    CHECK(proof->hashes.size() == 4);
    CHECK(proof->to_string() == demo("tlog_proof_7"));
    CHECK(proves(demo("tlog_proof_7"), demo_entries()[7]));

    const auto request = parse_add_checkpoint(demo("add_checkpoint_6_to_10"));
    REQUIRE(request);
    CHECK(request->old_size == 6);
    CHECK(request->to_string() == demo("add_checkpoint_6_to_10"));
}

TEST_CASE("Proof text: a changed proof is refused", "[audit]") {
    const std::string good = demo("tlog_proof_7");
    const std::string entry = demo_entries()[7];
    CHECK_FALSE(proves(good, demo_entries()[6]));
    CHECK_FALSE(proves(replaced(good, "index 7", "index 6"), entry));
    CHECK_FALSE(proves(replaced(good, "index 7", "index 10"), entry));
    CHECK_FALSE(proves(replaced(good, "index 7", "index 07"), entry));
    CHECK_FALSE(proves(replaced(good, "index 7", "index  7"), entry));
    CHECK_FALSE(proves(replaced(good, "index 7", "Index 7"), entry));
    CHECK_FALSE(proves(replaced(good, "@v1", "@v2"), entry));
    CHECK_FALSE(proves(replaced(good, "\n9dNA", "\n9dNB"), entry));
    CHECK_FALSE(proves(replaced(good, "=\n\n", "=\n"), entry));
    CHECK_FALSE(proves(replaced(good, "index 7\n", "index 7\n\n"), entry));
    CHECK_FALSE(proves(replaced(good, "index 7\n", "extra !\nindex 7\n"), entry));
    CHECK_FALSE(proves(replaced(good, "index 7\n", "extra \nindex 7\n"), entry));
    CHECK_FALSE(proves(replaced(good, "index 7\n", "index 7\nextra AAAA\n"), entry));
    CHECK_FALSE(proves(replaced(good, "\n10\n", "\n8\n"), entry));
    CHECK_FALSE(proves("\n" + good, entry));
    CHECK_FALSE(proves(good + "\n", entry));
    CHECK_FALSE(proves("", entry));
    CHECK(proves(replaced(good, "index 7\n", "extra AAAA\nindex 7\n"), entry));
    std::string padded = good;
    for (int i = 0; i < 64; ++i) {
        padded = replaced(padded, "index 7\n",
                          "index 7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    }
    CHECK_FALSE(parse_tlog_proof(padded));
}

TEST_CASE("Proof text: a request's numbers and hashes have one spelling", "[audit]") {
    const std::string good = demo("add_checkpoint_6_to_10");
    for (const std::string& bad :
         {replaced(good, "old 6", "old 06"), replaced(good, "old 6", "old -6"),
          replaced(good, "old 6", "old"), replaced(good, "old 6\n", ""),
          replaced(good, "tgQ4", "tgQ"), replaced(good, "BALk=\n", "BALl=\n"),
          good.substr(0, good.find("\n\n")), std::string()}) {
        CHECK_FALSE(parse_add_checkpoint(bad));
    }
}
