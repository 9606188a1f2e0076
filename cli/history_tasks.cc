// The history's attempts and results: single rows of old files, packs of new ones.
//
// The views of history.db give the same, but they unpack with SQLite's JSON functions and know
// nothing of blocks: ten times as slow, and one element of a large job would unpack all of it.
#include <algorithm>

#include "cli/history_sql.h"
#include "cli/look.h"
#include "common/model/packed_rows.h"

namespace reeve::cli {

struct History::Told {
    AttemptRow row;
    std::string bytes;
};

namespace {

// Of the selected elements: rows of one, or of a block of so many that holds one.
std::string range_condition(const Selected& selected, const char* column, std::uint64_t so_many) {
    if (selected.elements.empty()) return "";
    std::string out;
    for (const auto& range : selected.elements) {
        out += out.empty() ? " AND (" : " OR ";
        out += std::string("(") + column + " BETWEEN " + std::to_string(range.first / so_many) +
               " AND " + std::to_string(range.last / so_many) + ")";
    }
    return out + ")";
}

constexpr const char* kCommonColumns =
    "job, attempt, outcome, exit_code, core_dumped, detail, submit_ns, worker_number, "
    "worker_incarnation, worker_name, terminal";
constexpr int kDeathsColumn = 11;  // and the price behind it
constexpr int kOwnColumns = 13;

void read_common(const Statement& row, bool& terminal, v1::TaskResult& out) {
    out.set_job(row.number(0));
    out.set_attempt(static_cast<std::uint32_t>(row.number(1)));
    out.set_state("ended");
    out.set_outcome(row.text(2));
    out.set_exit_code(row.integer(3));
    out.set_core_dumped(row.number(4) != 0);
    out.set_detail(row.text(5));
    out.set_submit_ns(row.number(6));
    out.set_worker_number(row.number(7));
    out.set_worker_incarnation(row.number(8));
    out.set_worker_name(row.text(9));
    terminal = row.number(10) != 0;
    out.set_deaths(static_cast<std::uint32_t>(row.number(kDeathsColumn)));
    out.set_price_micro(static_cast<std::uint32_t>(row.number(kDeathsColumn + 1)));
}

void set_own(v1::TaskResult& out, const PackedRow& row, std::uint64_t element) {
    out.set_element(element);
    out.set_assigned_ns(row.assigned_ns);
    out.set_started_ns(row.started_ns);
    out.set_ended_ns(row.ended_ns);
    out.set_user_us(row.user_us);
    out.set_system_us(row.system_us);
    out.set_max_rss_bytes(row.max_rss_bytes);
}

bool before(const v1::TaskResult& a, const v1::TaskResult& b) {
    if (a.element() != b.element()) return a.element() < b.element();
    return a.attempt() < b.attempt();
}

auto unreadable(sqlite3* database) {
    return fail(ErrorCode::kDataLoss,
                std::string("the history cannot be read: ") + sqlite3_errmsg(database));
}

}  // namespace

Status History::single_rows(const Selected& selected, std::uint64_t limit, bool results,
                            std::vector<Told>& out) {
    // Files of before have no such columns, or no results.
    const std::string from = packed_ ? "attempt_row" : "attempt";
    const std::string kept = packed_ ? "result_row" : "result";
    const bool has_deaths = Statement(database_, "SELECT deaths FROM attempt LIMIT 0").good();
    const bool has_results =
        results && Statement(database_, "SELECT bytes FROM " + kept + " LIMIT 0").good();
    const std::string bytes = "(SELECT bytes FROM " + kept +
                              " r WHERE r.job = a.job AND r.element = a.element AND"
                              " r.attempt = a.attempt)";
    Statement row(database_,
                  std::string("SELECT ") + kCommonColumns + (has_deaths ? ", deaths" : ", 0") +
                      (priced_ ? ", price_micro" : ", 0") +
                      ", element, assigned_ns, started_ns, ended_ns, user_us, system_us, "
                      "max_rss_bytes, " +
                      (has_results ? bytes : "NULL") + " FROM " + from + " a WHERE job = ?" +
                      range_condition(selected, "element", 1) +
                      " ORDER BY element, attempt LIMIT " + std::to_string(limit));
    if (!row.good()) return unreadable(database_);
    row.bind(selected.job);
    while (row.step()) {
        auto& told = out.emplace_back();
        read_common(row, told.row.terminal, told.row.result);
        PackedRow own;
        own.assigned_ns = row.number(kOwnColumns + 1);
        own.started_ns = row.number(kOwnColumns + 2);
        own.ended_ns = row.number(kOwnColumns + 3);
        own.user_us = row.number(kOwnColumns + 4);
        own.system_us = row.number(kOwnColumns + 5);
        own.max_rss_bytes = row.number(kOwnColumns + 6);
        set_own(told.row.result, own, row.number(kOwnColumns));
        told.bytes = row.text(kOwnColumns + 7);
    }
    return {};
}

Status History::packed_rows(const Selected& selected, std::uint64_t limit, bool results,
                            std::vector<Told>& out) {
    Statement pack(database_,
                   std::string("SELECT ") + kCommonColumns +
                       ", deaths, price_micro, block, rows, " + (results ? "results" : "NULL") +
                       " FROM attempt_pack WHERE job = ?" +
                       range_condition(selected, "block", kPackedBlock) + " ORDER BY job, block");
    if (!pack.good()) return unreadable(database_);
    pack.bind(selected.job);
    std::uint64_t last_block = 0;
    while (pack.step()) {
        const auto block = pack.number(kOwnColumns);
        if (block != last_block && out.size() >= limit) break;
        last_block = block;
        Told common;
        read_common(pack, common.row.terminal, common.row.result);
        const auto bytes = pack.view(kOwnColumns + 2);
        const bool whole = for_each_packed_row(
            pack.view(kOwnColumns + 1), common.row.result.submit_ns(), [&](const PackedRow& own) {
                const auto element = block * kPackedBlock + own.element;
                if (!selected.elements.empty() && !contains(selected, element)) return;
                auto& told = out.emplace_back(common);
                set_own(told.row.result, own, element);
                if (own.result_at <= bytes.size()) {
                    told.bytes = bytes.substr(own.result_at, own.result_size);
                }
            });
        if (!whole) {
            return fail(ErrorCode::kDataLoss,
                        "the history cannot be read: attempts of job " +
                            std::to_string(selected.job) +
                            " are damaged; the PLM rebuilds it when it is deleted");
        }
    }
    return {};
}

// Attempts in order of element and attempt.
Result<std::vector<History::Told>> History::told(const Selected& selected, std::uint64_t limit,
                                                 bool results) {
    std::vector<Told> singles;
    REEVE_TRY(single_rows(selected, limit, results, singles));
    if (!packed_) return singles;
    std::vector<Told> out;
    REEVE_TRY(packed_rows(selected, limit, results, out));
    out.insert(out.end(), std::make_move_iterator(singles.begin()),
               std::make_move_iterator(singles.end()));
    std::stable_sort(out.begin(), out.end(), [](const Told& a, const Told& b) {
        return before(a.row.result, b.row.result);
    });
    if (out.size() > limit) out.resize(limit);
    return out;
}

Result<std::vector<History::AttemptRow>> History::attempts(const Selected& selected,
                                                           std::uint64_t limit) {
    REEVE_TRY_ASSIGN(auto found, told(selected, limit, false));
    std::vector<AttemptRow> out;
    out.reserve(found.size());
    for (auto& one : found) out.push_back(std::move(one.row));
    return out;
}

std::vector<History::FunctionResult> History::function_results(const Selected& selected,
                                                               std::uint64_t limit) {
    std::vector<FunctionResult> out;
    // Most tasks have one attempt; those with more are read once again with room for all.
    for (std::uint64_t room = limit;; room = room > INT64_MAX / 2 ? INT64_MAX : room * 2) {
        auto found = told(selected, room, true);
        if (!found) return {};
        out.clear();
        for (auto& one : *found) {
            if (!one.row.terminal) continue;
            const auto& result = one.row.result;
            if (!out.empty() && out.back().element == result.element()) out.pop_back();
            if (out.size() == limit) return out;
            out.push_back({result.element(), result.attempt(), result.outcome(), result.detail(),
                           std::move(one.bytes), result.exit_code()});
        }
        if (found->size() < room || room >= INT64_MAX) return out;
        if (out.size() < limit) continue;
        // The last one's newest attempt may lie beyond what was read.
        if (found->back().row.result.element() != out.back().element) return out;
    }
}

std::vector<History::Ending> History::endings(const Selected& selected) {
    std::vector<Ending> out;
    const auto found = told(selected, INT64_MAX, false);
    if (!found) return out;
    for (const auto& one : *found) {
        if (!one.row.terminal) continue;
        const auto element = one.row.result.element();
        if (!out.empty() && out.back().element == element) out.pop_back();
        out.push_back({element, one.row.result.outcome() == "succeeded"});
    }
    return out;
}

}  // namespace reeve::cli
