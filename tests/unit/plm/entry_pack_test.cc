#include "plm/core/entry_pack.h"

#include <random>

#include "common/audit/entry.h"
#include "common/base/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace reeve;

namespace {

std::string bundle_of(const std::vector<std::string>& entries) {
    std::string bundle;
    for (const auto& entry : entries) {
        char length[2];
        put_big_endian(length, static_cast<std::uint16_t>(entry.size()));
        bundle.append(length, 2).append(entry);
    }
    return bundle;
}

// A life of tasks as a busy cell writes it, with some oddities.
std::vector<std::string> some_entries(std::mt19937_64& random, std::size_t count) {
    constexpr audit::Kind kKinds[] = {audit::Kind::kTaskSubmitted, audit::Kind::kAssigned,
                                      audit::Kind::kStarted,       audit::Kind::kFinished,
                                      audit::Kind::kRequeued,      audit::Kind::kAdmin};
    std::vector<std::string> entries;
    for (std::size_t i = 0; i < count; ++i) {
        audit::Entry entry;
        entry.kind = kKinds[random() % std::size(kKinds)];
        entry.task = audit::to_id(TaskId{random() % 3, i});
        entry.worker = audit::to_id(WorkerId{random() % 2 + 1, random() % 2 + 1});
        entry.attempt = static_cast<std::uint16_t>(random() % 3);
        entry.seq = random() % 4;
        entry.time_ns = random();
        entry.prev = random() % 5 == 0 ? audit::kNoIndex : random();
        entry.code = static_cast<std::int32_t>(random() % 3) - 1;
        const std::string detail(random() % 3 == 0 ? random() % 70 : 0,
                                 static_cast<char>('a' + random() % 2));
        entry.detail = detail;
        audit::encode_to(entries.emplace_back(), entry);
    }
    return entries;
}

}  // namespace

TEST_CASE("packed entries come back byte for byte", "[plm][entry_pack]") {
    std::mt19937_64 random(test::seed());
    for (const std::size_t count : {0U, 1U, 2U, 500U}) {
        const auto entries = some_entries(random, count);
        std::string packed;
        plm::pack_entries(packed, bundle_of(entries), static_cast<std::uint32_t>(count));
        const auto back = plm::unpack_entries(packed, static_cast<std::uint32_t>(count));
        REQUIRE(back.has_value());
        CHECK(*back == entries);
    }
}

TEST_CASE("entries of one array pack into a third", "[plm][entry_pack]") {
    std::vector<std::string> entries;
    for (std::uint64_t i = 0; i < 400; ++i) {
        audit::Entry entry;
        entry.kind = audit::Kind::kStarted;
        entry.task = audit::to_id(TaskId{7, i});
        entry.worker = audit::to_id(WorkerId{1, 1});
        entry.seq = 2;
        entry.time_ns = 1'700'000'000'000'000'000 + i;
        entry.prev = 9'000 + i;
        audit::encode_to(entries.emplace_back(), entry);
    }
    std::string packed;
    plm::pack_entries(packed, bundle_of(entries), 400);
    CHECK(packed.size() * 3 < bundle_of(entries).size());
}

TEST_CASE("damaged packed entries are refused or other entries, never read beyond",
          "[plm][entry_pack]") {
    std::mt19937_64 random(test::seed());
    const auto entries = some_entries(random, 50);
    std::string packed;
    plm::pack_entries(packed, bundle_of(entries), 50);
    for (std::size_t cut = 0; cut < packed.size(); ++cut) {
        CHECK_FALSE(plm::unpack_entries(packed.substr(0, cut), 50).has_value());
    }
    CHECK_FALSE(plm::unpack_entries(packed + "x", 50).has_value());
    CHECK_FALSE(plm::unpack_entries(packed, 51).has_value());
    for (int round = 0; round < 2'000; ++round) {
        auto damaged = packed;
        damaged[random() % damaged.size()] ^= static_cast<char>(1 + random() % 255);
        const auto back = plm::unpack_entries(damaged, 50);
        if (!back) continue;
        REQUIRE(back->size() == 50);
        for (const auto& entry : *back) {
            CHECK(entry.size() == 96U + get_big_endian<std::uint16_t>(entry.data() + 94));
        }
    }
}
