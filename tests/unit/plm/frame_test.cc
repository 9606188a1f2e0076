// Frames: what was written comes back, and any changed byte is refused with batch and offset.
#include <random>

#include "tests/support/catch.h"

#include "plm/ledger/frame.h"

using namespace reeve;
using namespace reeve::plm;

namespace {

struct ReadBack {
    std::vector<std::string> payloads;
    std::string error;
};

ReadBack read_all(std::string_view frames) {
    ReadBack out;
    FrameReader reader(7, frames);
    while (true) {
        auto next = reader.next();
        if (!next) {
            CHECK(next.error().code == ErrorCode::kDataLoss);
            out.error = next.error().message;
            return out;
        }
        if (!*next) return out;
        out.payloads.emplace_back(**next);
    }
}

std::string sample(std::vector<std::string>& payloads) {
    FrameWriter writer;
    for (const std::string& payload : payloads) writer.append(payload);
    return std::string(writer.bytes());
}

}  // namespace

TEST_CASE("FrameReader: gives back what FrameWriter wrote, empty payloads too", "[ledger]") {
    std::vector<std::string> payloads{"one", "", std::string(70'000, 'x'), "four"};
    const ReadBack back = read_all(sample(payloads));
    CHECK(back.error.empty());
    CHECK(back.payloads == payloads);
    CHECK(read_all("").payloads.empty());
}

TEST_CASE("FrameWriter: a payload built in place is the same as one appended", "[ledger]") {
    FrameWriter one;
    one.append("hello");
    FrameWriter two;
    two.open() += "hel";
    two.close();
    two.clear();
    two.open() += "hello";
    two.close();
    CHECK(one.bytes() == two.bytes());
    CHECK(two.count() == 1);
}

TEST_CASE("FrameReader: every single flipped bit is refused, with the offset of its frame",
          "[ledger]") {
    std::vector<std::string> payloads{"alpha", "", "gamma and more", "d"};
    const std::string sound = sample(payloads);
    for (std::size_t bit = 0; bit < sound.size() * 8; ++bit) {
        std::string bad = sound;
        bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
        const ReadBack back = read_all(bad);
        REQUIRE(!back.error.empty());
        REQUIRE(back.error.find("ledger batch 7") != std::string::npos);
        REQUIRE(back.payloads.size() < payloads.size());
        for (std::size_t i = 0; i < back.payloads.size(); ++i) {
            REQUIRE(back.payloads[i] == payloads[i]);
        }
    }
}

TEST_CASE("FrameReader: cut anywhere but between frames is refused", "[ledger]") {
    std::vector<std::string> payloads{"alpha", "", "gamma"};
    const std::string sound = sample(payloads);
    int whole = 0;
    for (std::size_t size = 0; size < sound.size(); ++size) {
        const ReadBack back = read_all(std::string_view(sound).substr(0, size));
        if (back.error.empty()) ++whole;
    }
    CHECK(whole == 3);  // nothing, one frame, two frames: the ledger's row checksum sees those
}

TEST_CASE("FrameReader: random bytes never run past their end", "[ledger]") {
    const char* given = std::getenv("REEVE_SEED");
    const unsigned long seed =
        given != nullptr ? std::strtoul(given, nullptr, 10) : std::random_device{}();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 20'000; ++round) {
        std::string bytes(random() % 64, '\0');
        for (char& byte : bytes) byte = static_cast<char>(random());
        if (round % 2 == 0 && bytes.size() >= 4) bytes[1] = bytes[2] = bytes[3] = 0;
        (void)read_all(std::string(bytes));
    }
}
