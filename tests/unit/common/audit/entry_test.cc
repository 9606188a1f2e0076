#include "common/audit/entry.h"
#include "common/merkle/hash.h"
#include "tests/support/catch.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;

namespace {

std::uint64_t index_or_none(const nlohmann::json& value) {
    return value.is_null() ? kNoIndex : value.get<std::uint64_t>();
}

std::string sample() {
    Entry entry;
    entry.kind = Kind::kRequeued;
    entry.attempt = 3;
    entry.seq = 9;
    entry.task = {12, 3};
    entry.peer = {7, 2};
    entry.code = -15;
    entry.detail = "why";
    return encode(entry);
}

}  // namespace

TEST_CASE("Entry: the demo log's entries decode to what their JSON says, and back", "[audit]") {
    for (const auto& golden : demo()["entries"]) {
        const std::string bytes = unhex(golden["hex"].get<std::string>());
        const auto& json = golden["json"];
        const auto entry = decode(bytes);
        REQUIRE(entry);
        CHECK(entry->attempt == json["attempt"].get<unsigned>());
        CHECK(entry->seq == json["seq"].get<std::uint64_t>());
        CHECK(to_hex(entry->task) == json["task"].get<std::string>());
        CHECK(to_hex(entry->worker) == json["worker"].get<std::string>());
        CHECK(to_hex(entry->peer) == json["peer"].get<std::string>());
        CHECK(entry->time_ns == json["time_ns"].get<std::uint64_t>());
        CHECK(entry->code == json["code"].get<std::int32_t>());
        CHECK(entry->prev == index_or_none(json["prev"]));
        CHECK(entry->cause == index_or_none(json["cause"]));
        CHECK(entry->detail == unhex(json["detail"].get<std::string>()));
        const auto kind = json["kind"].get<std::string>();
        CHECK(kind.ends_with(to_string(entry->kind)));
        CHECK(encode(*entry) == bytes);
        CHECK(merkle::to_hex(merkle::leaf_hash(bytes)) == golden["leaf_hash"].get<std::string>());
    }
}

TEST_CASE("Entry: fields survive the round trip", "[audit]") {
    const std::string bytes = sample();
    REQUIRE(bytes.size() == 99);
    const auto entry = decode(bytes);
    REQUIRE(entry);
    CHECK(entry->kind == Kind::kRequeued);
    CHECK(entry->task == to_id(TaskId{12, 3}));
    CHECK(entry->peer == to_id(WorkerId{7, 2}));
    CHECK(entry->code == -15);
    CHECK(entry->detail == "why");
    CHECK(entry->prev == kNoIndex);
}

TEST_CASE("Entry: what is not canonical is refused", "[audit]") {
    const std::string good = sample();
    const auto changed = [&](std::size_t at, int value) {
        std::string bytes = good;
        bytes[at] = static_cast<char>(value);
        return bytes;
    };
    CHECK_FALSE(decode(""));
    CHECK_FALSE(decode(good.substr(0, 95)));
    CHECK_FALSE(decode(good.substr(0, 98)));
    CHECK_FALSE(decode(good + "x"));
    CHECK_FALSE(decode(changed(0, 'X')));
    CHECK_FALSE(decode(changed(4, 0)));
    CHECK_FALSE(decode(changed(4, 14)));
    CHECK_FALSE(decode(changed(4, 19)));
    CHECK_FALSE(decode(changed(4, 37)));
    CHECK_FALSE(decode(changed(5, 1)));
    CHECK_FALSE(decode(changed(92, 1)));
    CHECK_FALSE(decode(changed(93, 1)));
    CHECK_FALSE(decode(changed(95, 2)));
    std::string long_detail(96 + 4097, '\0');
    std::copy(good.begin(), good.begin() + 96, long_detail.begin());
    long_detail[94] = 16;
    long_detail[95] = 1;
    CHECK_FALSE(decode(long_detail));
    long_detail.pop_back();
    long_detail[95] = 0;
    CHECK(decode(long_detail));
}

TEST_CASE("Entry: ids read and write as 32 hex digits", "[audit]") {
    const Id id{0x0011223344556677ULL, 0x8899aabbccddeeffULL};
    CHECK(to_hex(id) == "00112233445566778899aabbccddeeff");
    CHECK(id_from_hex(to_hex(id)) == id);
    CHECK_FALSE(id_from_hex("0011"));
    CHECK_FALSE(id_from_hex("0011223344556677889gaabbccddeeff"));
}
