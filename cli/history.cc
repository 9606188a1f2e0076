// The history file's half of look.h.
#include <sys/stat.h>
#include <unistd.h>

#include "cli/history_sql.h"
#include "cli/look.h"

namespace reeve::cli {

namespace {

constexpr int kBusyMs = 2'000;

constexpr const char* kJobColumns =
    "id, uid, name, priority, submit_ns, start_ns, end_ns, elements, succeeded, failed, cancelled, "
    "state, reason";
// A history that no PLM of this version has opened has no columns for cost.
constexpr const char* kCostColumn = ", cost_nano";

// The code of the first failure: a pack's number tells the order, of single rows their end.
std::string code_column(bool packed) {
    const auto first = [](const std::string& table, const std::string& order) {
        return "(SELECT a.exit_code FROM " + table +
               " a WHERE a.job = job.id AND a.terminal = 1 AND a.outcome NOT IN ('succeeded',"
               " 'cancelled') ORDER BY a." +
               order + " LIMIT 1)";
    };
    const auto rows = first(packed ? "attempt_row" : "attempt", "ended_ns");
    return ", CASE WHEN failed > 0 THEN coalesce(" +
           (packed ? first("attempt_pack", "number") + ", " : "") + rows + ", 0) ELSE 0 END";
}

v1::JobStatus read_job_row(const Statement& row, bool with_spec) {
    v1::JobStatus out;
    out.set_job(row.number(0));
    out.set_uid(static_cast<std::uint32_t>(row.number(1)));
    out.set_name(row.text(2));
    out.set_priority(row.integer(3));
    out.set_submit_ns(row.number(4));
    out.set_start_ns(row.number(5));
    out.set_end_ns(row.number(6));
    out.set_elements(row.number(7));
    out.set_succeeded(row.number(8));
    out.set_failed(row.number(9));
    out.set_cancelled(row.number(10));
    out.set_state(row.text(11));
    out.set_reason(row.text(12));
    out.set_cost_nano(row.number(13));
    out.set_exit_code(row.integer(14));
    if (with_spec && out.mutable_spec()->ParseFromString(row.text(15))) {
        *out.mutable_after() = out.spec().after();
    } else {
        out.clear_spec();
    }
    return out;
}

std::string state_condition(const std::string& word) {
    if (word == "succeeded") return " AND state = 'ended' AND failed = 0 AND cancelled = 0";
    if (word == "failed") return " AND state = 'ended' AND failed > 0";
    if (word == "cancelled") return " AND state = 'ended' AND failed = 0 AND cancelled > 0";
    return "";
}

}  // namespace

Result<std::unique_ptr<History>> History::open(const Cell& cell) {
    struct stat about {};
    if (stat(cell.history.c_str(), &about) != 0) {
        if (access(cell.ledger.c_str(), F_OK) != 0) return fail(cell_is_down(cell));
        return fail(ErrorCode::kNotFound,
                    "there is no history in " + cell.dir + " yet; start the cell with reeve up");
    }
    sqlite3* database = nullptr;
    const int code = sqlite3_open_v2(cell.history.c_str(), &database,
                                     SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
    auto history = std::unique_ptr<History>(new History(database));
    if (code != SQLITE_OK) {
        return fail(ErrorCode::kInternal, cell.history + " cannot be read: " +
                                              sqlite3_errstr(code) + "; check its owner and mode");
    }
    sqlite3_busy_timeout(database, kBusyMs);
    if (Statement probe(database, "SELECT 1 FROM job LIMIT 1"); !probe.good()) {
        return fail(ErrorCode::kDataLoss, cell.history +
                                              " cannot be read: " + sqlite3_errmsg(database) +
                                              "; the PLM rebuilds it when it is deleted");
    }
    const bool priced = Statement(database, "SELECT cost_nano, sla FROM job LIMIT 0").good();
    history->packed_ = Statement(database, "SELECT number FROM attempt_pack LIMIT 0").good();
    history->job_columns_ =
        std::string(kJobColumns) + (priced ? kCostColumn : ", 0") + code_column(history->packed_);
    history->priced_ = priced;
    return history;
}

History::~History() {
    sqlite3_close(database_);
}

std::optional<v1::JobStatus> History::job(std::uint64_t id, bool with_spec) {
    Statement row(database_, "SELECT " + job_columns_ + (with_spec ? ", spec" : "") +
                                 " FROM job WHERE id = ?");
    if (!row.good()) return std::nullopt;
    row.bind(id);
    if (!row.step()) return std::nullopt;
    return read_job_row(row, with_spec);
}

Result<std::vector<v1::JobStatus>> History::jobs(const JobQuery& query) {
    std::string sql = "SELECT " + job_columns_ + " FROM job WHERE 1";
    if (query.before != 0) sql += " AND id < " + std::to_string(query.before);
    if (query.since_ns != 0) sql += " AND end_ns >= " + std::to_string(query.since_ns);
    if (query.ended_only) sql += " AND state = 'ended'";
    if (!query.name_glob.empty()) sql += " AND name GLOB ?";
    sql +=
        state_condition(query.outcome) + " ORDER BY id DESC LIMIT " + std::to_string(query.limit);
    Statement row(database_, sql);
    if (!row.good()) {
        return fail(ErrorCode::kDataLoss,
                    std::string("the history cannot be read: ") + sqlite3_errmsg(database_));
    }
    if (!query.name_glob.empty()) row.bind(query.name_glob);
    std::vector<v1::JobStatus> out;
    while (row.step()) out.push_back(read_job_row(row, false));
    return out;
}

Result<std::vector<History::CostRow>> History::costs(const JobQuery& query, bool by_user) {
    std::vector<CostRow> out;
    const std::string group = by_user ? "uid" : "sla";
    std::string sql = "SELECT " + (priced_ || by_user ? group : std::string("1")) +
                      " AS part, count(*), sum(succeeded + failed + cancelled), " +
                      (priced_ ? "sum(cost_nano)" : "0") + " FROM job WHERE 1";
    if (query.since_ns != 0) {
        sql += " AND (end_ns = 0 OR end_ns >= " + std::to_string(query.since_ns) + ")";
    }
    if (!query.name_glob.empty()) sql += " AND name GLOB ?";
    sql += state_condition(query.outcome) + " GROUP BY part ORDER BY 4 DESC, 1";
    Statement row(database_, sql);
    if (!row.good()) {
        return fail(ErrorCode::kDataLoss,
                    std::string("the history cannot be read: ") + sqlite3_errmsg(database_));
    }
    if (!query.name_glob.empty()) row.bind(query.name_glob);
    while (row.step()) {
        out.push_back({static_cast<std::uint32_t>(row.number(0)), row.number(1), row.number(2),
                       row.number(3)});
    }
    return out;
}

std::uint64_t History::count_ended() {
    Statement row(database_, "SELECT count(*) FROM job WHERE state = 'ended'");
    return row.step() ? row.number(0) : 0;
}

std::uint64_t History::last_job() {
    Statement row(database_, "SELECT max(id) FROM job");
    return row.step() ? row.number(0) : 0;
}

}  // namespace reeve::cli
