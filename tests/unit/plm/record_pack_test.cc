#include "plm/core/record_pack.h"

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace reeve;
using namespace reeve::plm;

namespace {

template <typename T>
T one_of(std::mt19937_64& random, std::initializer_list<T> values) {
    return values.begin()[random() % values.size()];
}

TaskMoved some_moved(std::mt19937_64& random) {
    TaskMoved record;
    record.job = random() % 3;
    record.ordinal = random() % 4 == 0 ? random() : random() % 70;
    record.state = static_cast<shm::SlotState>(random() % shm::kSlotStates);
    record.attempt = static_cast<std::uint16_t>(one_of(random, {0U, 1U, 2U, 65'535U}));
    record.worker = {random() % 2, random() % 2 == 0 ? random() : 7};
    record.wall_ns = random();
    record.deaths = static_cast<std::uint32_t>(random() % 5 == 0 ? random() : 0);
    record.retries_used = static_cast<std::uint32_t>(random() % 5 == 0 ? random() : 1);
    record.intent = static_cast<std::uint32_t>(random() % 5 == 0 ? random() : 0);
    return record;
}

TaskEnded some_ended(std::mt19937_64& random) {
    TaskEnded record;
    record.job = random() % 3;
    record.ordinal = random() % 70;
    record.attempt = static_cast<std::uint16_t>(random() % 3);
    record.outcome = static_cast<Outcome>(random() % 9);
    record.final = random() % 2 == 0;
    record.core_dumped = random() % 2 == 0;
    record.exit_code = one_of(random, {0, 1, -9, INT32_MIN, INT32_MAX});
    record.worker = {random() % 2, random() % 2};
    record.assigned_ns = random() % 2 == 0 ? 0 : random();
    record.started_ns = random() % 2 == 0 ? ~0ULL : random();
    record.ended_ns = random();
    record.user_us = random() % 100;
    record.system_us = random() % 100;
    record.max_rss_bytes = random() % 2 == 0 ? 0 : random();
    record.detail.assign(random() % 3 == 0 ? random() % 200 : 0, 'd');
    record.result.assign(random() % 3 == 0 ? random() % 300 : 0, static_cast<char>(random()));
    record.deaths = static_cast<std::uint32_t>(random() % 3);
    return record;
}

struct Row {
    std::string bytes;
    std::vector<std::string> plain;  // its records, by their plain form
};

Row some_row(std::mt19937_64& random, RecordPacker& packer, std::size_t count) {
    Row row;
    packer.begin();
    for (std::size_t i = 0; i < count; ++i) {
        if (random() % 2 == 0) {
            const auto record = some_moved(random);
            packer.add(row.bytes, record);
            row.plain.push_back(encode(record));
        } else {
            const auto record = some_ended(random);
            packer.add(row.bytes, record);
            row.plain.push_back(encode(record));
        }
    }
    return row;
}

TaskMoved moved(std::uint64_t ordinal, shm::SlotState state, std::uint64_t at) {
    TaskMoved record;
    record.job = 9;
    record.ordinal = ordinal;
    record.state = state;
    record.attempt = 1;
    record.worker = {1, 1};
    record.wall_ns = at;
    return record;
}

}  // namespace

TEST_CASE("packed records come back as they were, row after row", "[plm][record_pack]") {
    std::mt19937_64 random(test::seed());
    RecordPacker packer;
    for (const std::size_t count : {0U, 1U, 2U, 500U, 3U, 1'000U}) {
        const auto row = some_row(random, packer, count);
        std::vector<std::string> back;
        REQUIRE(unpack_records(row.bytes, [&](const Record& record) -> Status {
            back.push_back(encode(record));
            return {};
        }));
        CHECK(back == row.plain);
    }
}

TEST_CASE("tasks that went alike take few bytes", "[plm][record_pack]") {
    constexpr std::uint64_t kTasks = 64;
    RecordPacker packer;
    packer.begin();
    std::string bytes;
    for (std::uint64_t i = 0; i < kTasks; ++i) {
        const auto at = 1'700'000'000'000'000'000ULL + i * 7'000;
        const WorkerId worker{1, 1};
        packer.add(bytes, moved(i, shm::SlotState::kAssigned, at));
        packer.add(bytes, moved(i, shm::SlotState::kRunning, at + 50'000));
        TaskEnded ended;
        ended.job = 9;
        ended.ordinal = i;
        ended.attempt = 1;
        ended.outcome = Outcome::kSucceeded;
        ended.worker = worker;
        ended.assigned_ns = at;
        ended.started_ns = at + 50'000;
        ended.ended_ns = at + 60'000;
        packer.add(bytes, ended);
    }
    CHECK(bytes.size() <= 25 * kTasks);
}

TEST_CASE("damaged packed records are refused or are others, and nothing beyond is read",
          "[plm][record_pack]") {
    std::mt19937_64 random(test::seed());
    RecordPacker packer;
    const auto row = some_row(random, packer, 20);
    const auto count = [](std::string_view bytes) -> std::optional<std::size_t> {
        std::size_t records = 0;
        const auto read = unpack_records(bytes, [&](const Record&) -> Status {
            ++records;
            return {};
        });
        if (read) return records;
        CHECK(read.error().code == ErrorCode::kDataLoss);
        return std::nullopt;
    };
    for (std::size_t size = 0; size < row.bytes.size(); ++size) {
        // On its own memory: a sanitizer sees a step beyond.
        const std::vector<char> cut(row.bytes.begin(),
                                    row.bytes.begin() + static_cast<std::ptrdiff_t>(size));
        const auto found = count({cut.data(), cut.size()});
        CHECK((!found || *found < row.plain.size()));
    }
    for (int i = 0; i < 2'000; ++i) {
        auto flipped = row.bytes;
        flipped[random() % flipped.size()] ^= static_cast<char>(1 << random() % 8);
        (void)count(flipped);
    }
    CHECK_FALSE(count(std::string("\x20\x00\x00", 3)));  // no such kind
}
