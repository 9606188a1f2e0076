// The frequent records, TaskMoved and TaskEnded, as the ledger keeps them: a row of them in one
// frame, each saying only what is not as expected after the one before it of the same kind (the
// next element of the same job, on the same worker, ...). A tenth of their plain form, without the
// results. They come back exactly. Pure.
//
// Per record: its kind (u8: the state of a TaskMoved; 16 + the outcome of a TaskEnded), a mask (u16
// LE), then per bit i < 15 of the mask, in this order, by how much number i is beyond what was
// expected: a signed difference modulo 2^64, zigzag, base 128, low digits first. Expected is the
// number of the record before it of the same kind, for the ordinal that plus one; before the first
// all are zero. The numbers:
//
//   both       0 job, 1 ordinal, 2 attempt, 3 worker's number, 4 its incarnation, 5 deaths
//   TaskMoved  6 time, 7 retries used, 8 intent
//   TaskEnded  6 time of the assignment, 7 of the start, 8 of the end, 9 exit code, 10 user us,
//              11 system us, 12 bytes of memory, 13 flags (1 final, 2 core dumped)
//
// A TaskEnded goes on with its detail where bit 15 says that it is another one, and its result:
// length (base 128) and bytes each.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "plm/core/records.h"

namespace reeve::plm {

inline constexpr unsigned kPackedKinds = 32;
inline constexpr unsigned kPackedNumbers = 14;

// What writer and reader remember of the records before, by kind.
struct PackContext {
    using Numbers = std::array<std::uint64_t, kPackedNumbers>;
    struct Last {
        Numbers expected{};
        std::string detail;
    };
    std::array<Last, kPackedKinds> last;
};

class RecordPacker {
public:
    void begin();  // a new row
    void add(std::string& out, const TaskMoved& record);
    void add(std::string& out, const TaskEnded& record);

private:
    PackContext context_;
    std::uint32_t used_ = 0;  // kinds, as bits
};

// Hands over the records of a row in order, until one is refused. kDataLoss when the bytes are not
// such a row.
Status unpack_records(std::string_view packed, const std::function<Status(const Record&)>& take);

}  // namespace reeve::plm
