// The rows of history.db as they are handed over and read back.
//
// The core hands over an EndedRow per attempt, without an allocation of its own: its texts lie in
// HistoryRows::bytes. AttemptRow is what a reader gets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/assert.h"
#include "common/base/ids.h"
#include "common/model/outcome.h"
#include "common/model/sla.h"

namespace reeve::plm {

struct JobRow {
    std::uint64_t id = 0;
    std::uint32_t uid = 0;
    std::string name;
    std::int64_t priority = 0;
    std::uint64_t submit_ns = 0;
    std::uint64_t start_ns = 0;
    std::uint64_t end_ns = 0;
    std::uint64_t elements = 0;
    std::uint64_t succeeded = 0;
    std::uint64_t failed = 0;
    std::uint64_t cancelled = 0;
    std::string state;  // waiting held active ended
    std::string reason;
    std::string spec;  // serialised JobSpec; empty: keep the stored one
    SlaClass sla = SlaClass::kStandard;
    std::uint64_t cost_nano = 0;  // of its attempts that ended
};

struct AttemptRow {
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    std::uint32_t attempt = 0;  // 0: ended without ever running
    std::string outcome;
    std::int32_t exit_code = 0;
    bool core_dumped = false;
    std::string detail;
    std::uint64_t submit_ns = 0;
    std::uint64_t assigned_ns = 0;
    std::uint64_t started_ns = 0;
    std::uint64_t ended_ns = 0;
    std::uint64_t user_us = 0;
    std::uint64_t system_us = 0;
    std::uint64_t max_rss_bytes = 0;
    std::uint64_t worker_number = 0;
    std::uint64_t worker_incarnation = 0;
    std::string worker_name;
    bool terminal = false;          // the task's one ending, as opposed to a requeued attempt
    std::uint32_t deaths = 0;       // workers that died under the task until then
    std::uint32_t price_micro = 0;  // of an hour of its worker
};

// A piece of HistoryRows::bytes.
struct RowText {
    std::uint32_t at = 0;
    std::uint32_t size = 0;
};

// What the attempts of one job often have in common.
struct EndedAs {
    std::uint64_t submit_ns = 0;
    WorkerId worker;
    std::uint32_t attempt = 0;
    std::uint32_t deaths = 0;
    std::uint32_t price_micro = 0;
    std::int32_t exit_code = 0;
    Outcome outcome = Outcome::kNone;
    bool core_dumped = false;
    bool terminal = false;
    bool operator==(const EndedAs&) const = default;
};

struct EndedRow {
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    EndedAs as;
    std::uint64_t assigned_ns = 0;
    std::uint64_t started_ns = 0;
    std::uint64_t ended_ns = 0;
    std::uint64_t user_us = 0;
    std::uint64_t system_us = 0;
    std::uint64_t max_rss_bytes = 0;
    RowText worker_name;
    RowText detail;
    RowText result;  // of a function task
};

// The rows of one ledger batch. Seqs rise; batches without rows may be left out.
struct HistoryRows {
    std::uint64_t seq = 0;
    std::vector<JobRow> jobs;
    std::vector<EndedRow> ended;
    std::string bytes;

    RowText keep(std::string_view text) {
        const auto at = bytes.size();
        if (text.empty()) return {};
        REEVE_ASSERT(at + text.size() <= UINT32_MAX);
        bytes.append(text);
        return {static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(text.size())};
    }
    std::string_view text(RowText piece) const {
        return std::string_view(bytes).substr(piece.at, piece.size);
    }
    // What they cost to write, about: with one for the mark.
    std::size_t weight() const { return jobs.size() + ended.size() + 1; }
    void clear() {
        seq = 0;
        jobs.clear();
        ended.clear();
        bytes.clear();
    }
};

}  // namespace reeve::plm
