// Known answers: the eight-leaf reference tree and its proofs (tests/data/audit_vectors.json).
#include <fstream>

#include <nlohmann/json.hpp>

#include "common/merkle/compact_range.h"
#include "common/merkle/proof.h"
#include "tests/support/catch.h"

using namespace reeve;
using namespace reeve::merkle;

namespace {

std::string unhex(const std::string& hex) {
    std::string out;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
        out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    return out;
}

std::vector<Hash> hashes(const nlohmann::json& list) {
    std::vector<Hash> out;
    for (const auto& hex : list) out.push_back(to_hash(unhex(hex.get<std::string>())));
    return out;
}

nlohmann::json reference_tree() {
    std::ifstream file(REEVE_TEST_DATA "/audit_vectors.json");
    return nlohmann::json::parse(file).at("rfc6962");
}

}  // namespace

TEST_CASE("Reference tree: leaves and roots are the known ones", "[merkle]") {
    const auto vectors = reference_tree();
    const auto roots = hashes(vectors["roots"]);
    const auto leaf_hashes = hashes(vectors["leaf_hashes"]);
    CompactRange range;
    REQUIRE(roots.size() == 9);
    for (std::size_t i = 0; i < 8; ++i) {
        CHECK(range.root() == roots[i]);
        CHECK(leaf_hash(unhex(vectors["leaves"][i].get<std::string>())) == leaf_hashes[i]);
        range.append(leaf_hashes[i]);
    }
    CHECK(range.root() == roots[8]);
}

TEST_CASE("Reference tree: the published proofs verify", "[merkle]") {
    const auto vectors = reference_tree();
    const auto roots = hashes(vectors["roots"]);
    const auto leaves = hashes(vectors["leaf_hashes"]);
    for (const auto& one : vectors["inclusion"]) {
        const auto index = one["index"].get<std::uint64_t>();
        const auto size = one["size"].get<std::uint64_t>();
        CHECK(verify_inclusion(index, size, leaves[index], hashes(one["proof"]), roots[size]));
    }
    for (const auto& one : vectors["consistency"]) {
        const auto size1 = one["size1"].get<std::uint64_t>();
        const auto size2 = one["size2"].get<std::uint64_t>();
        CHECK(verify_consistency(size1, size2, roots[size1], roots[size2], hashes(one["proof"])));
    }
}
