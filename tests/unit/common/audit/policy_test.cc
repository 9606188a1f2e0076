#include "common/audit/policy.h"
#include "tests/support/catch.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;

namespace {

std::string vkey(const std::string& name, KeyType type, int seed) {
    KeyBytes bytes{};
    bytes[0] = static_cast<std::uint8_t>(seed);
    return SigningKey::from_seed(name, type, bytes)->verifier().to_string();
}
std::string log_line() {
    return "log " + vkey("log", KeyType::kNote, 100) + "\n";
}
std::string witness_line(const std::string& name, int seed) {
    return "witness " + name + " " + vkey("key-" + name, KeyType::kCosignature, seed) + "\n";
}
std::string three() {
    return log_line() + witness_line("w0", 0) + witness_line("w1", 1) + witness_line("w2", 2);
}

bool met(const std::string& text, std::vector<std::size_t> cosigned) {
    const auto policy = Policy::parse(text);
    REQUIRE(policy);
    std::vector<Cosignature> list;
    for (const auto witness : cosigned) list.push_back({witness, 1});
    return policy->quorum_met(list);
}

}  // namespace

TEST_CASE("Policy: thresholds count witnesses, each once", "[audit]") {
    const std::string text = three() + "group workers 2 w0 w1 w2\nquorum workers\n";
    CHECK_FALSE(met(text, {}));
    CHECK_FALSE(met(text, {1}));
    CHECK_FALSE(met(text, {1, 1, 1}));
    CHECK(met(text, {0, 2}));
    CHECK(met(text, {0, 1, 2}));
    CHECK(met(three() + "quorum none\n", {}));
    CHECK(met(three() + "quorum w1\n", {1}));
    CHECK_FALSE(met(three() + "quorum w1\n", {0, 2}));
    CHECK(met(three() + "group g any w0 w1\nquorum g\n", {1}));
    CHECK_FALSE(met(three() + "group g all w0 w1\nquorum g\n", {1}));
    const std::string nested = three() + "group a any w0 w1\ngroup b all a w2\nquorum b\n";
    CHECK(met(nested, {1, 2}));
    CHECK_FALSE(met(nested, {0, 1}));
}

TEST_CASE("Policy: blanks, comments and urls are fine", "[audit]") {
    const auto policy = Policy::parse("# a comment\n\n \t log\t" + vkey("log", KeyType::kNote, 1) +
                                      "  https://example.com \n  # more\nquorum none\n");
    REQUIRE(policy);
    CHECK(policy->logs().size() == 1);
    CHECK(policy->logs()[0].name == "log");
}

TEST_CASE("Policy: everything ambiguous is refused", "[audit]") {
    const std::string good = three();
    for (const std::string& bad : {
             good,                                 // no quorum
             good + "quorum none\nquorum none\n",  // two
             good + "quorum w9\n",
             good + "quorum\n",
             good + "quorum w0 w1\n",
             good + "group g 0 w0\nquorum g\n",
             good + "group g 2 w0\nquorum g\n",
             good + "group g 01 w0\nquorum g\n",
             good + "group g some w0\nquorum g\n",
             good + "group g any\nquorum g\n",
             good + "group g any w0 w0\nquorum g\n",
             good + "group g any w0\ngroup h any w0 g\nquorum h\n",  // w0 twice
             good + "group g any h\ngroup h any w0\nquorum g\n",     // used before
             good + "group w0 any w1\nquorum w0\n",                  // name twice
             good + "group none any w1\nquorum none\n",
             good + "group g any none\nquorum g\n",
             good + witness_line("w0", 5) + "quorum none\n",
             good + witness_line("w5", 1) + "quorum none\n",  // key twice
             good + log_line() + "quorum none\n",
             good + "witness x " + vkey("x", KeyType::kNote, 9) + "\nquorum none\n",
             "log " + vkey("x", KeyType::kCosignature, 9) + "\nquorum none\n",
             good + "witness x\nquorum none\n",
             good + "log\nquorum none\n",
             good + "speak friend\nquorum none\n",
             good + "quorum none\r\n",
             good + "log not-a-key\nquorum none\n",
         }) {
        INFO(bad);
        CHECK_FALSE(Policy::parse(bad));
    }
    CHECK(Policy::parse(good + "quorum none").has_value());
    const auto error = Policy::parse(good + "quorum w9\n").error();
    CHECK(error.message == "policy line 5: 'w9' is not defined above");
}
