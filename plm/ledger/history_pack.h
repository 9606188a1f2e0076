// PackBuilder gathers the attempts of one history transaction into packs: the attempts of one job
// that ended alike, of one block of elements, become one row of `attempt_pack`.
//
// What they have in common (outcome, worker, ...) is kept once, the rest is a packed row each
// (common/model/packed_rows.h), results lie behind one another. 64 tasks of an array that succeed
// on one worker are one insertion, where a row each and another per result took 4 us a task. Not
// thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/model/packed_rows.h"
#include "plm/ledger/history_rows.h"

namespace reeve::plm {

// Which elements of a block.
class ElementSet {
public:
    bool has(std::uint64_t element) const {
        return (words_[element / 64] >> element % 64 & 1) != 0;
    }
    void add(std::uint64_t element) { words_[element / 64] |= std::uint64_t{1} << element % 64; }
    bool meets(const ElementSet& other) const {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            if ((words_[i] & other.words_[i]) != 0) return true;
        }
        return false;
    }

private:
    std::array<std::uint64_t, kPackedBlock / 64> words_{};
};

struct Pack {
    std::uint64_t job = 0;
    std::uint64_t block = 0;  // its elements are block * kPackedBlock and those that follow
    EndedAs as;
    std::string worker_name;
    std::string detail;
    ElementSet elements;
    std::uint64_t first = 0;  // within the block
    std::uint64_t last = 0;
    std::uint64_t count = 0;
    std::uint64_t first_end_ns = 0;
    std::uint64_t last_end_ns = 0;
    std::string rows;  // without the closing bracket
    std::string results;
    std::uint32_t next = 0;  // the pack before it of the same job and block, plus 1
};

class PackBuilder {
public:
    // False: this attempt was added already; take() the packs first.
    bool add(const HistoryRows& rows, const EndedRow& row);
    std::vector<Pack>& packs() { return packs_; }
    void clear();

private:
    struct Place {
        std::uint64_t job = 0;
        std::uint64_t block = 0;
        bool operator==(const Place&) const = default;
    };
    struct PlaceHash {
        std::size_t operator()(const Place& place) const {
            return (place.job * 0x9E3779B97F4A7C15ULL) ^ (place.block * 0xC2B2AE3D27D4EB4FULL);
        }
    };
    std::vector<Pack> packs_;
    std::unordered_map<Place, std::uint32_t, PlaceHash> newest_;  // index plus 1
};

}  // namespace reeve::plm
