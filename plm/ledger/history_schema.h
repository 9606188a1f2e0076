// The schema of history.db (docs/formats/ledger.md) and the steps to it from older ones.
//
// People and the CLI read the views job, attempt, task and result; the PLM writes the tables below
// them.
#pragma once

#include <array>
#include <cstdint>

namespace reeve::plm::history {

inline constexpr std::int64_t kApplicationId = 0x52484953;  // "RHIS"
inline constexpr std::int64_t kVersion = 4;

// What version 3 had, under the names of version 4.
inline constexpr const char* kTables =
    "CREATE TABLE job_row(id INTEGER PRIMARY KEY, uid INTEGER, name TEXT, priority INTEGER,"
    " submit_ns INTEGER, start_ns INTEGER, end_ns INTEGER, elements INTEGER, succeeded INTEGER,"
    " failed INTEGER, cancelled INTEGER, state TEXT, reason TEXT, spec BLOB,"
    " sla INTEGER, cost_nano INTEGER);"
    "CREATE TABLE attempt_row(job INTEGER, element INTEGER, attempt INTEGER, outcome TEXT,"
    " exit_code INTEGER, core_dumped INTEGER, detail TEXT, submit_ns INTEGER,"
    " assigned_ns INTEGER, started_ns INTEGER, ended_ns INTEGER, user_us INTEGER,"
    " system_us INTEGER, max_rss_bytes INTEGER, worker_number INTEGER,"
    " worker_incarnation INTEGER, worker_name TEXT, terminal INTEGER,"
    " deaths INTEGER, price_micro INTEGER, PRIMARY KEY(job, element, attempt)) WITHOUT ROWID;"
    "CREATE TABLE result_row(job INTEGER, element INTEGER, attempt INTEGER, bytes BLOB,"
    " PRIMARY KEY(job, element, attempt)) WITHOUT ROWID;"
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value);";

// What ran before cost nothing, and of whatever class it was, standard is what is known. A history
// from before function tasks has no results.
inline constexpr std::array<const char*, 3> kUpgrades = {
    "ALTER TABLE attempt ADD COLUMN deaths INTEGER DEFAULT 0;",
    "ALTER TABLE attempt ADD COLUMN price_micro INTEGER DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN sla INTEGER DEFAULT 1;"
    "ALTER TABLE job ADD COLUMN cost_nano INTEGER DEFAULT 0;",
    "CREATE TABLE IF NOT EXISTS result(job INTEGER, element INTEGER, attempt INTEGER, bytes BLOB,"
    " PRIMARY KEY(job, element, attempt)) WITHOUT ROWID;"
    "DROP VIEW task; ALTER TABLE job RENAME TO job_row;"
    "ALTER TABLE attempt RENAME TO attempt_row; ALTER TABLE result RENAME TO result_row;",
};

// New in version 4.
inline constexpr const char* kPacksAndViews =
    "CREATE TABLE job_spec(id INTEGER PRIMARY KEY, spec BLOB);"
    "CREATE TABLE attempt_pack(number INTEGER PRIMARY KEY, job INTEGER, block INTEGER,"
    " first INTEGER, last INTEGER, count INTEGER, attempt INTEGER, outcome TEXT,"
    " exit_code INTEGER, core_dumped INTEGER, detail TEXT, submit_ns INTEGER,"
    " first_end_ns INTEGER, last_end_ns INTEGER, worker_number INTEGER,"
    " worker_incarnation INTEGER, worker_name TEXT, terminal INTEGER, deaths INTEGER,"
    " price_micro INTEGER, rows TEXT, results BLOB);"
    "CREATE INDEX attempt_pack_job ON attempt_pack(job, block);"
    "CREATE INDEX job_user ON job_row(uid);"
    "CREATE INDEX job_ended ON job_row(end_ns) WHERE state = 'ended';"
    "CREATE INDEX job_failed ON job_row(id) WHERE state = 'ended' AND failed > 0;"
    "CREATE INDEX job_cancelled ON job_row(id)"
    " WHERE state = 'ended' AND failed = 0 AND cancelled > 0;"
    "CREATE VIEW job AS SELECT id, uid, name, priority, submit_ns, start_ns, end_ns, elements,"
    " succeeded, failed, cancelled, state, reason,"
    " coalesce(spec, (SELECT s.spec FROM job_spec s WHERE s.id = job_row.id)) AS spec,"
    " sla, cost_nano FROM job_row;"
    "CREATE VIEW attempt AS SELECT job, element, attempt, outcome, exit_code, core_dumped, detail,"
    " submit_ns, assigned_ns, started_ns, ended_ns, user_us, system_us, max_rss_bytes,"
    " worker_number, worker_incarnation, worker_name, terminal, deaths, price_micro"
    " FROM attempt_row UNION ALL SELECT p.job, p.block * 1024 + (r.value ->> 0), p.attempt,"
    " p.outcome, p.exit_code, p.core_dumped, p.detail, p.submit_ns,"
    " p.submit_ns + coalesce(r.value ->> 1, 0),"
    " p.submit_ns + coalesce(r.value ->> 1, 0) + coalesce(r.value ->> 2, 0),"
    " p.submit_ns + coalesce(r.value ->> 1, 0) + coalesce(r.value ->> 2, 0)"
    " + coalesce(r.value ->> 3, 0), coalesce(r.value ->> 6, 0), coalesce(r.value ->> 7, 0),"
    " coalesce(r.value ->> 8, 0), p.worker_number, p.worker_incarnation, p.worker_name,"
    " p.terminal, p.deaths, p.price_micro FROM attempt_pack p, json_each(p.rows) r;"
    "CREATE VIEW task AS SELECT * FROM attempt WHERE terminal = 1;"
    "CREATE VIEW result AS SELECT job, element, attempt, bytes FROM result_row UNION ALL"
    " SELECT p.job, p.block * 1024 + (r.value ->> 0), p.attempt,"
    " substr(p.results, (r.value ->> 4) + 1, r.value ->> 5)"
    " FROM attempt_pack p, json_each(p.rows) r WHERE (r.value ->> 5) > 0;"
    "PRAGMA application_id=1380469075; PRAGMA user_version=4;";
static_assert(kApplicationId == 1380469075);

}  // namespace reeve::plm::history
