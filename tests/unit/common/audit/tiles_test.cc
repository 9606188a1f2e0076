#include <sys/stat.h>

#include "common/audit/files.h"
#include "common/audit/tiles.h"
#include "common/audit/tree_writer.h"
#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;
using reeve::test::TempDirectory;

TEST_CASE("Tiles: paths have one spelling", "[audit]") {
    CHECK(TileName{0, 0, 256}.path() == "tile/0/000");
    CHECK(TileName{0, 999, 256}.path() == "tile/0/999");
    CHECK(TileName{0, 1000, 256}.path() == "tile/0/x001/000");
    CHECK(TileName{kEntryLevel, 1234067, 256}.path() == "tile/entries/x001/x234/067");
    CHECK(TileName{1, 0, 44}.path() == "tile/1/000.p/44");
    for (const char* good :
         {"tile/0/000", "tile/63/999", "tile/0/x001/000", "tile/entries/x001/x234/067",
          "tile/1/000.p/1", "tile/entries/000.p/255", "tile/0/x001/000.p/17"}) {
        const auto name = parse_tile_path(good);
        REQUIRE(name);
        CHECK(name->path() == good);
    }
    for (const char* bad : {"",
                            "tile",
                            "tile/",
                            "tile/0",
                            "tile/0/",
                            "tile/0/0",
                            "tile/0/00",
                            "tile/0/0000",
                            "tile/00/000",
                            "tile/64/000",
                            "tile/-1/000",
                            "tile/+1/000",
                            "tile/0/x000/001",
                            "tile/0/001/000",
                            "tile/0/x001",
                            "tile/0/x001/",
                            "tile/0/x001/x000",
                            "tile/0/x01/000",
                            "tile/0/000.p",
                            "tile/0/000.p/",
                            "tile/0/000.p/0",
                            "tile/0/000.p/256",
                            "tile/0/000.p/01",
                            "tile/0/000.p/-1",
                            "tile/0/000.p/1/",
                            "tile/0/000/",
                            "/tile/0/000",
                            "tile/0/00a",
                            "tile/0/0 0",
                            "tile//000",
                            "tile/entries",
                            "tile/entry/000",
                            "tile/0/x001/000.p/x1",
                            "tile/0/x999/x999/x999/x999/x999/x999/x999/999"}) {
        INFO(bad);
        CHECK_FALSE(parse_tile_path(bad));
    }
}

TEST_CASE("Tiles: a tree of 70000 has the tiles the format says", "[audit]") {
    CHECK(tile_width(70000, 0, 272) == 256);
    CHECK(tile_width(70000, 0, 273) == 112);
    CHECK(tile_width(70000, 0, 274) == 0);
    CHECK(tile_width(70000, 1, 0) == 256);
    CHECK(tile_width(70000, 1, 1) == 17);
    CHECK(tile_width(70000, 2, 0) == 1);
    CHECK(tile_width(70000, 3, 0) == 0);
    CHECK(tile_width(256, 0, 0) == 256);
    CHECK(tile_width(256, 1, 0) == 1);
    CHECK(tile_width(0, 0, 0) == 0);
    CHECK(tile_width(70000, kEntryLevel, 273) == 112);
}

TEST_CASE("Tiles: a bundle splits into exactly its entries", "[audit]") {
    const std::string bundle("\0\1a\0\0\0\2bc", 9);
    const auto entries = split_bundle(bundle, 3);
    REQUIRE(entries);
    CHECK(*entries == std::vector<std::string_view>{"a", "", "bc"});
    CHECK_FALSE(split_bundle(bundle, 2));
    CHECK_FALSE(split_bundle(bundle, 4));
    CHECK_FALSE(split_bundle(bundle + "x", 3));
    CHECK_FALSE(split_bundle(bundle.substr(0, 8), 3));
    CHECK_FALSE(split_bundle(bundle.substr(0, 6), 3));
    CHECK_FALSE(split_bundle("", 1));
}

TEST_CASE("TreeWriter: the files give back every root, whatever the steps were", "[audit]") {
    TempDirectory directory;
    TreeWriter writer(directory.path());
    merkle::CompactRange range;
    std::vector<merkle::Hash> roots{range.root()};
    for (const std::uint64_t stop : {1U, 5U, 255U, 256U, 257U, 300U, 511U, 512U, 1025U, 66000U}) {
        while (writer.size() < stop) {
            const std::string entry = "entry " + std::to_string(writer.size());
            writer.append(entry);
            range.append(merkle::leaf_hash(entry));
            roots.push_back(range.root());
        }
        REQUIRE(writer.write());
        REQUIRE(writer.root() == range.root());
        TileReader reader(directory.path(), stop);
        REQUIRE(*reader.root(stop) == range.root());
        REQUIRE(*reader.compact_range(stop) == range);
        for (std::uint64_t size = 0; size <= stop; size += 1 + stop / 40) {
            REQUIRE(*reader.root(size) == roots[size]);
        }
        REQUIRE(*reader.entry(stop - 1) == "entry " + std::to_string(stop - 1));
        auto again = TreeWriter::at_end_of(reader);
        REQUIRE(again);
        REQUIRE(again->root() == range.root());
        writer = std::move(*again);
    }
    // An old reader finds the first hashes in the full tile once the partial one is gone.
    std::filesystem::remove_all(directory.file("tile/0/000.p"));
    std::filesystem::remove_all(directory.file("tile/entries/000.p"));
    TileReader old(directory.path(), 5);
    CHECK(*old.root(5) == roots[5]);
    CHECK(*old.entry(4) == "entry 4");
}

TEST_CASE("TileReader: a tile of the wrong length or kind is named", "[audit]") {
    TempDirectory directory;
    TreeWriter writer(directory.path());
    for (int i = 0; i < 300; ++i) writer.append("x");
    REQUIRE(writer.write());
    TileReader reader(directory.path(), 300);
    write_file(directory.file("tile/0/000"), std::string(8191, 'x'));
    auto tile = reader.hash_tile(0, 0);
    REQUIRE_FALSE(tile);
    CHECK(tile.error().code == ErrorCode::kDataLoss);
    CHECK(tile.error().message.find("tile/0/000") != std::string::npos);
    std::filesystem::remove(directory.file("tile/0/000"));
    CHECK(reader.hash_tile(0, 0).error().code == ErrorCode::kNotFound);
    REQUIRE(mkfifo(directory.file("tile/0/000").c_str(), 0600) == 0);
    CHECK(reader.hash_tile(0, 0).error().code == ErrorCode::kDataLoss);
}
