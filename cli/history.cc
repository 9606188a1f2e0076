// The history file's half of look.h.
#include <sqlite3.h>
#include <sys/stat.h>

#include "cli/look.h"

namespace reeve::cli {

namespace {

constexpr int kBusyMs = 2'000;

// One prepared statement; columns are read by position.
class Statement {
public:
    Statement(sqlite3* database, const std::string& sql) {
        if (sqlite3_prepare_v2(database, sql.c_str(), -1, &statement_, nullptr) != SQLITE_OK) {
            statement_ = nullptr;
        }
    }
    ~Statement() { sqlite3_finalize(statement_); }
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

    bool good() const { return statement_ != nullptr; }
    void bind(std::uint64_t value) {
        sqlite3_bind_int64(statement_, ++bound_, static_cast<sqlite3_int64>(value));
    }
    void bind(const std::string& text) {
        sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                          SQLITE_TRANSIENT);
    }
    bool step() { return statement_ != nullptr && sqlite3_step(statement_) == SQLITE_ROW; }
    std::uint64_t number(int column) const {
        return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
    }
    std::int32_t integer(int column) const { return sqlite3_column_int(statement_, column); }
    std::string text(int column) const {
        const void* data = sqlite3_column_blob(statement_, column);
        const int size = sqlite3_column_bytes(statement_, column);
        if (data == nullptr || size <= 0) return "";
        return std::string(static_cast<const char*>(data), static_cast<std::size_t>(size));
    }

private:
    sqlite3_stmt* statement_ = nullptr;
    int bound_ = 0;
};

constexpr const char* kJobColumns =
    "id, uid, name, priority, submit_ns, start_ns, end_ns, elements, succeeded, failed, cancelled, "
    "state, reason, spec";
// A history that no PLM of this version has opened has no columns for cost.
constexpr const char* kCostColumn = ", cost_nano";

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
    out.set_cost_nano(row.number(14));
    if (with_spec && out.mutable_spec()->ParseFromString(row.text(13))) {
        *out.mutable_after() = out.spec().after();
    } else {
        out.clear_spec();
    }
    return out;
}

std::string element_condition(const Selected& selected) {
    if (selected.elements.empty()) return "";
    std::string out;
    for (const auto& range : selected.elements) {
        out += out.empty() ? " AND (" : " OR ";
        out += "(element BETWEEN " + std::to_string(range.first) + " AND " +
               std::to_string(range.last) + ")";
    }
    return out + ")";
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
    history->select_jobs_ =
        std::string("SELECT ") + kJobColumns + (priced ? kCostColumn : ", 0") + " FROM job";
    history->priced_ = priced;
    return history;
}

History::~History() {
    sqlite3_close(database_);
}

std::optional<v1::JobStatus> History::job(std::uint64_t id, bool with_spec) {
    Statement row(database_, select_jobs_ + " WHERE id = ?");
    if (!row.good()) return std::nullopt;
    row.bind(id);
    if (!row.step()) return std::nullopt;
    return read_job_row(row, with_spec);
}

Result<std::vector<v1::JobStatus>> History::jobs(const JobQuery& query) {
    std::string sql = select_jobs_ + " WHERE 1";
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

Result<std::vector<History::AttemptRow>> History::attempts(const Selected& selected,
                                                           std::uint64_t limit) {
    // A history written before deaths were kept in it has no such column.
    const bool has_deaths = Statement(database_, "SELECT deaths FROM attempt LIMIT 0").good();
    Statement row(database_,
                  "SELECT job, element, attempt, outcome, exit_code, core_dumped, detail, "
                  "submit_ns, assigned_ns, started_ns, ended_ns, user_us, system_us, "
                  "max_rss_bytes, worker_number, worker_incarnation, worker_name, terminal, " +
                      std::string(has_deaths ? "deaths" : "0") +
                      (priced_ ? ", price_micro" : ", 0") + " FROM attempt WHERE job = ?" +
                      element_condition(selected) + " ORDER BY element, attempt LIMIT " +
                      std::to_string(limit));
    if (!row.good()) {
        return fail(ErrorCode::kDataLoss,
                    std::string("the history cannot be read: ") + sqlite3_errmsg(database_));
    }
    row.bind(selected.job);
    std::vector<AttemptRow> out;
    while (row.step()) {
        AttemptRow attempt;
        auto& result = attempt.result;
        result.set_job(row.number(0));
        result.set_element(row.number(1));
        result.set_attempt(static_cast<std::uint32_t>(row.number(2)));
        result.set_state("ended");
        result.set_outcome(row.text(3));
        result.set_exit_code(row.integer(4));
        result.set_core_dumped(row.number(5) != 0);
        result.set_detail(row.text(6));
        result.set_submit_ns(row.number(7));
        result.set_assigned_ns(row.number(8));
        result.set_started_ns(row.number(9));
        result.set_ended_ns(row.number(10));
        result.set_user_us(row.number(11));
        result.set_system_us(row.number(12));
        result.set_max_rss_bytes(row.number(13));
        result.set_worker_number(row.number(14));
        result.set_worker_incarnation(row.number(15));
        result.set_worker_name(row.text(16));
        attempt.terminal = row.number(17) != 0;
        result.set_deaths(static_cast<std::uint32_t>(row.number(18)));
        result.set_price_micro(static_cast<std::uint32_t>(row.number(19)));
        out.push_back(std::move(attempt));
    }
    return out;
}

std::vector<History::FunctionResult> History::function_results(const Selected& selected,
                                                               std::uint64_t limit) {
    // A history from before function tasks has no such table.
    Statement probe(database_, "SELECT 1 FROM result LIMIT 1");
    const std::string bytes =
        probe.good() ? "(SELECT bytes FROM result r WHERE r.job = a.job AND r.element = a.element "
                       "AND r.attempt = a.attempt)"
                     : "NULL";
    Statement row(database_, "SELECT element, max(attempt), outcome, detail, " + bytes +
                                 ", exit_code" + " FROM attempt a WHERE job = ? AND terminal = 1" +
                                 element_condition(selected) +
                                 " GROUP BY element ORDER BY element LIMIT " +
                                 std::to_string(limit));
    std::vector<FunctionResult> out;
    if (!row.good()) return out;
    row.bind(selected.job);
    while (row.step()) {
        out.push_back({row.number(0), static_cast<std::uint32_t>(row.number(1)), row.text(2),
                       row.text(3), row.text(4), row.integer(5)});
    }
    return out;
}

std::vector<History::Ending> History::endings(const Selected& selected) {
    Statement row(database_,
                  "SELECT element, outcome = 'succeeded', max(attempt) FROM attempt "
                  "WHERE job = ? AND terminal = 1" +
                      element_condition(selected) + " GROUP BY element ORDER BY element");
    std::vector<Ending> out;
    if (!row.good()) return out;
    row.bind(selected.job);
    while (row.step()) out.push_back({row.number(0), row.number(1) != 0});
    return out;
}

}  // namespace reeve::cli
