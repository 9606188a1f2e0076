#include <cstring>

#include "plm/ledger/history.h"
#include "plm/ledger/sqlite.h"

namespace reeve::plm {

namespace {

constexpr const char* kJobColumns =
    "SELECT id, uid, name, priority, submit_ns, start_ns, end_ns, elements, succeeded, failed,"
    " cancelled, state, reason, sla, cost_nano";

JobRow read_job(const Statement& row) {
    JobRow job;
    job.id = row.column_unsigned(0);
    job.uid = static_cast<std::uint32_t>(row.column(1));
    job.name = row.column_blob(2);
    job.priority = row.column(3);
    job.submit_ns = row.column_unsigned(4);
    job.start_ns = row.column_unsigned(5);
    job.end_ns = row.column_unsigned(6);
    job.elements = row.column_unsigned(7);
    job.succeeded = row.column_unsigned(8);
    job.failed = row.column_unsigned(9);
    job.cancelled = row.column_unsigned(10);
    job.state = row.column_blob(11);
    job.reason = row.column_blob(12);
    job.sla = static_cast<SlaClass>(row.column(13));
    job.cost_nano = row.column_unsigned(14);
    return job;
}

AttemptRow read_attempt(const Statement& row) {
    AttemptRow attempt;
    attempt.job = row.column_unsigned(0);
    attempt.element = row.column_unsigned(1);
    attempt.attempt = static_cast<std::uint32_t>(row.column(2));
    attempt.outcome = row.column_blob(3);
    attempt.exit_code = static_cast<std::int32_t>(row.column(4));
    attempt.core_dumped = row.column(5) != 0;
    attempt.detail = row.column_blob(6);
    attempt.submit_ns = row.column_unsigned(7);
    attempt.assigned_ns = row.column_unsigned(8);
    attempt.started_ns = row.column_unsigned(9);
    attempt.ended_ns = row.column_unsigned(10);
    attempt.user_us = row.column_unsigned(11);
    attempt.system_us = row.column_unsigned(12);
    attempt.max_rss_bytes = row.column_unsigned(13);
    attempt.worker_number = row.column_unsigned(14);
    attempt.worker_incarnation = row.column_unsigned(15);
    attempt.worker_name = row.column_blob(16);
    attempt.terminal = row.column(17) != 0;
    attempt.deaths = static_cast<std::uint32_t>(row.column(18));
    attempt.price_micro = static_cast<std::uint32_t>(row.column(19));
    return attempt;
}

Result<std::vector<AttemptRow>> collect_attempts(Statement& select) {
    std::vector<AttemptRow> rows;
    while (true) {
        REEVE_TRY_ASSIGN(const bool row, select.step());
        if (!row) return rows;
        rows.push_back(read_attempt(select));
    }
}

}  // namespace

struct HistoryReader::Impl {
    Database db;
};

HistoryReader::HistoryReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HistoryReader::~HistoryReader() = default;

Result<std::unique_ptr<HistoryReader>> HistoryReader::open(const std::string& path) {
    auto impl = std::make_unique<Impl>();
    REEVE_TRY_ASSIGN(impl->db, Database::open(path, Database::Mode::kReadOnly));
    return std::unique_ptr<HistoryReader>(new HistoryReader(std::move(impl)));
}

Result<JobRow> HistoryReader::job(std::uint64_t id, bool with_spec) {
    const std::string sql =
        std::string(kJobColumns) + (with_spec ? ", spec" : "") + " FROM job WHERE id = ?";
    REEVE_TRY_ASSIGN(Statement select, impl_->db.prepare(sql.c_str()));
    select.bind(1, id);
    REEVE_TRY_ASSIGN(const bool row, select.step());
    if (!row) return fail(ErrorCode::kNotFound, "no job " + std::to_string(id));
    JobRow job = read_job(select);
    if (with_spec) job.spec = select.column_blob(15);
    return job;
}

Result<std::vector<JobRow>> HistoryReader::newest_jobs(std::uint32_t limit,
                                                       std::uint64_t before_id) {
    const std::string sql =
        std::string(kJobColumns) + " FROM job WHERE id < ? ORDER BY id DESC LIMIT ?";
    REEVE_TRY_ASSIGN(Statement select, impl_->db.prepare(sql.c_str()));
    select.bind(1, before_id == 0 ? INT64_MAX : static_cast<std::int64_t>(before_id));
    select.bind(2, std::uint64_t{limit});
    std::vector<JobRow> jobs;
    while (true) {
        REEVE_TRY_ASSIGN(const bool row, select.step());
        if (!row) return jobs;
        jobs.push_back(read_job(select));
    }
}

Result<std::vector<AttemptRow>> HistoryReader::tasks(const TaskQuery& query) {
    std::string sql = "SELECT * FROM attempt WHERE 1";
    if (query.job != 0) sql += " AND job = ?1";
    if (!query.from_start) sql += " AND element > ?2";
    if (query.terminal_only) sql += " AND terminal = 1";
    sql += " ORDER BY job, element, attempt LIMIT ?3";
    REEVE_TRY_ASSIGN(Statement select, impl_->db.prepare(sql.c_str()));
    if (query.job != 0) select.bind(1, query.job);
    if (!query.from_start) select.bind(2, query.after_element);
    select.bind(3, std::uint64_t{query.limit});
    return collect_attempts(select);
}

Result<std::vector<AttemptRow>> HistoryReader::attempts(std::uint64_t job, std::uint64_t element) {
    REEVE_TRY_ASSIGN(Statement select,
                     impl_->db.prepare("SELECT * FROM attempt WHERE job = ? AND element = ?"
                                       " ORDER BY attempt"));
    select.bind(1, job);
    select.bind(2, element);
    return collect_attempts(select);
}

}  // namespace reeve::plm
