#include "plm/core/record_pack.h"

#include <bit>

#include "common/base/assert.h"
#include "common/base/bytes.h"

namespace reeve::plm {
namespace {

using Numbers = PackContext::Numbers;
using Last = PackContext::Last;

constexpr unsigned kFirstEnded = 16;  // kinds below are states
constexpr unsigned kOrdinal = 1;
constexpr unsigned kMovedNumbers = 9;
constexpr unsigned kEndedNumbers = 14;
constexpr unsigned kDetailBit = 1U << 15;
constexpr std::uint64_t kFinal = 1;
constexpr std::uint64_t kCoreDumped = 2;
static_assert(shm::kSlotStates <= kFirstEnded);
static_assert(static_cast<unsigned>(Outcome::kRequeued) + kFirstEnded < kPackedKinds);

void put_text(std::string& out, std::string_view text) {
    append_varint(out, text.size());
    out.append(text);
}

std::uint64_t zigzag(std::uint64_t difference) {
    return (difference << 1) ^ (0 - (difference >> 63));
}
std::uint64_t unzigzag(std::uint64_t value) {
    return (value >> 1) ^ (0 - (value & 1));
}

// Kind, mask and numbers; `expected` then stands for the next record.
void put_numbers(std::string& out, unsigned kind, unsigned bits, const Numbers& numbers,
                 unsigned count, Numbers& expected) {
    char raw[3 + kPackedNumbers * kVarintBytesMax];
    char* to = raw + 3;
    unsigned mask = bits;
    for (unsigned i = 0; i < count; ++i) {
        if (numbers[i] == expected[i]) continue;
        mask |= 1U << i;
        to = put_varint(to, zigzag(numbers[i] - expected[i]));
        expected[i] = numbers[i];
    }
    ++expected[kOrdinal];
    raw[0] = static_cast<char>(kind);
    raw[1] = static_cast<char>(mask & 0xFF);
    raw[2] = static_cast<char>(mask >> 8);
    out.append(raw, to);
}

struct Reader {
    std::string_view in;
    bool ok = true;

    std::uint8_t byte() {
        if (in.empty()) {
            ok = false;
            return 0;
        }
        const auto value = static_cast<std::uint8_t>(in[0]);
        in.remove_prefix(1);
        return value;
    }
    std::uint64_t varint() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            const std::uint64_t digit = byte();
            value |= (digit & 0x7F) << shift;
            if (shift == 63 && digit > 1) ok = false;
            if ((digit & 0x80) == 0) return value;
        }
        ok = false;
        return value;
    }
    std::string_view text() {
        const auto size = varint();
        if (size > in.size()) ok = false;
        const auto out = in.substr(0, ok ? size : 0);
        in.remove_prefix(out.size());
        return out;
    }
    void numbers(unsigned mask, unsigned count, Numbers& expected) {
        for (unsigned i = 0; i < count; ++i) {
            if ((mask & 1U << i) != 0) expected[i] += unzigzag(varint());
        }
        if (mask >> count != 0) ok = false;
    }
    // A number that is narrower in its record.
    template <typename T>
    void narrow(T& to, std::uint64_t from) {
        to = static_cast<T>(from);
        if (static_cast<std::uint64_t>(to) != from) ok = false;
    }
};

TaskMoved read_moved(Reader& in, unsigned kind, Last& last) {
    const unsigned low = in.byte();
    const unsigned mask = low | static_cast<unsigned>(in.byte()) << 8;
    auto& n = last.expected;
    in.numbers(mask, kMovedNumbers, n);
    TaskMoved record;
    record.state = static_cast<shm::SlotState>(kind);
    record.job = n[0];
    record.ordinal = n[kOrdinal]++;
    in.narrow(record.attempt, n[2]);
    record.worker = {n[3], n[4]};
    in.narrow(record.deaths, n[5]);
    record.wall_ns = n[6];
    in.narrow(record.retries_used, n[7]);
    in.narrow(record.intent, n[8]);
    return record;
}

TaskEnded read_ended(Reader& in, unsigned kind, Last& last) {
    const unsigned low = in.byte();
    const unsigned mask = low | static_cast<unsigned>(in.byte()) << 8;
    auto& n = last.expected;
    in.numbers(mask & ~kDetailBit, kEndedNumbers, n);
    TaskEnded record;
    record.outcome = static_cast<Outcome>(kind - kFirstEnded);
    record.job = n[0];
    record.ordinal = n[kOrdinal]++;
    in.narrow(record.attempt, n[2]);
    record.worker = {n[3], n[4]};
    in.narrow(record.deaths, n[5]);
    record.assigned_ns = n[6];
    record.started_ns = n[7];
    record.ended_ns = n[8];
    in.narrow(record.exit_code, n[9]);
    record.user_us = n[10];
    record.system_us = n[11];
    record.max_rss_bytes = n[12];
    record.final = (n[13] & kFinal) != 0;
    record.core_dumped = (n[13] & kCoreDumped) != 0;
    if (n[13] > (kFinal | kCoreDumped)) in.ok = false;
    if ((mask & kDetailBit) != 0) last.detail = in.text();
    record.detail = last.detail;
    record.result = in.text();
    return record;
}

}  // namespace

void RecordPacker::begin() {
    for (; used_ != 0; used_ &= used_ - 1) {
        context_.last[static_cast<unsigned>(std::countr_zero(used_))] = {};
    }
}

void RecordPacker::add(std::string& out, const TaskMoved& r) {
    const auto kind = static_cast<unsigned>(r.state);
    REEVE_ASSERT(kind < kFirstEnded);
    used_ |= 1U << kind;
    const Numbers numbers{
        r.job,    r.ordinal, r.attempt,      r.worker.number, r.worker.incarnation,
        r.deaths, r.wall_ns, r.retries_used, r.intent};
    put_numbers(out, kind, 0, numbers, kMovedNumbers, context_.last[kind].expected);
}

void RecordPacker::add(std::string& out, const TaskEnded& r) {
    const auto kind = kFirstEnded + static_cast<unsigned>(r.outcome);
    REEVE_ASSERT(kind < kPackedKinds);
    used_ |= 1U << kind;
    const auto flags = (r.final ? kFinal : 0) | (r.core_dumped ? kCoreDumped : 0);
    const Numbers numbers{r.job,
                          r.ordinal,
                          r.attempt,
                          r.worker.number,
                          r.worker.incarnation,
                          r.deaths,
                          r.assigned_ns,
                          r.started_ns,
                          r.ended_ns,
                          static_cast<std::uint64_t>(r.exit_code),
                          r.user_us,
                          r.system_us,
                          r.max_rss_bytes,
                          flags};
    auto& last = context_.last[kind];
    const bool other_detail = r.detail != last.detail;
    put_numbers(out, kind, other_detail ? kDetailBit : 0, numbers, kEndedNumbers, last.expected);
    if (other_detail) {
        put_text(out, r.detail);
        last.detail = r.detail;
    }
    put_text(out, r.result);
}

Status unpack_records(std::string_view packed, const std::function<Status(const Record&)>& take) {
    PackContext context;
    Reader in{packed};
    while (!in.in.empty()) {
        const unsigned kind = in.byte();
        if (kind >= kPackedKinds) in.ok = false;
        Record record;
        if (in.ok && kind < kFirstEnded) {
            record = read_moved(in, kind, context.last[kind]);
        } else if (in.ok) {
            record = read_ended(in, kind, context.last[kind]);
        }
        if (!in.ok) return fail(ErrorCode::kDataLoss, "packed records are cut short or damaged");
        REEVE_TRY(take(record));
    }
    return {};
}

}  // namespace reeve::plm
