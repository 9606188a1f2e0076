#include <algorithm>
#include <thread>

#include "common/merkle/compact_range.h"
#include "tests/support/catch.h"
#include "tests/unit/common/merkle/reference.h"

using namespace reeve;
using namespace reeve::merkle;
using namespace reeve::merkle::testing;

TEST_CASE("Hash: the constants of RFC 6962 come out", "[merkle]") {
    CHECK(to_hex(empty_root()) ==
          "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(to_hex(leaf_hash("")) ==
          "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    CHECK(to_hex(leaf_hash("L123456")) ==
          "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56");
    // The node's children are shorter than 32 bytes in the published constant.
    CHECK(to_hex(sha256(std::string("\x01N123N456"))) ==
          "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb");
}

TEST_CASE("Hash: a long leaf takes the same way as a short one", "[merkle]") {
    for (const std::size_t size : {254U, 255U, 256U, 257U, 5000U}) {
        const std::string data(size, 'x');
        CHECK(leaf_hash(data) == sha256(std::string(1, '\0') + data));
    }
}

TEST_CASE("Hash: threads do not share a context", "[merkle][threads]") {
    const Hash expected = reference_root(numbered_leaves(500));
    std::vector<Hash> found(4);
    std::vector<std::thread> threads;
    for (Hash& mine : found) {
        threads.emplace_back([&mine] { mine = reference_root(numbered_leaves(500)); });
    }
    for (auto& thread : threads) thread.join();
    for (const Hash& hash : found) CHECK(hash == expected);
}

TEST_CASE("CompactRange: has the root of the definition at every size to 300", "[merkle]") {
    const auto leaves = numbered_leaves(300);
    CompactRange range;
    for (std::size_t size = 0; size <= leaves.size(); ++size) {
        REQUIRE(range.size() == size);
        REQUIRE(range.root() == reference_root(std::span(leaves).first(size)));
        const auto again = CompactRange::parse(range.serialise());
        REQUIRE(again);
        REQUIRE(*again == range);
        if (size < leaves.size()) range.append(leaves[size]);
    }
}

TEST_CASE("CompactRange: whole subtrees append as their leaves do", "[merkle]") {
    const auto leaves = numbered_leaves(64);
    CompactRange by_leaf;
    for (const Hash& leaf : leaves) by_leaf.append(leaf);
    CompactRange by_subtree;
    for (std::size_t i = 0; i < 64; i += 16) {
        by_subtree.append_subtree(4, reference_root(std::span(leaves).subspan(i, 16)));
    }
    CHECK(by_leaf == by_subtree);
    CHECK(fold(leaves.front().data(), 64) == by_leaf.root());
    CHECK(fold(leaves.front().data(), 37) == reference_root(std::span(leaves).first(37)));
}

TEST_CASE("CompactRange: refuses bytes that are not one", "[merkle]") {
    CompactRange range;
    for (const Hash& leaf : numbered_leaves(5)) range.append(leaf);
    const std::string good = range.serialise();
    CHECK_FALSE(CompactRange::parse(good.substr(0, 7)));
    CHECK_FALSE(CompactRange::parse(good.substr(0, good.size() - 1)));
    CHECK_FALSE(CompactRange::parse(good + good.substr(8, 32)));
    CHECK_FALSE(CompactRange::parse(std::string(8, '\xFF')));
}
