// HistoryFile: whatever is told in whatever order, the views give each attempt once, as told last.
#include "plm/ledger/history_file.h"

#include <map>
#include <random>
#include <tuple>

#include <unistd.h>

#include "tests/support/catch.h"
#include "tests/support/page_cache.h"
#include "tests/support/temp_directory.h"

#include "plm/ledger/history.h"

using namespace reeve;
using namespace reeve::plm;
using reeve::test::TempDirectory;

namespace {

constexpr std::uint64_t kWhen = 1'763'800'000'000'000'000ULL;

struct Told {
    EndedRow row;
    std::string worker;
    std::string detail;
    std::string result;
};
using Key = std::tuple<std::uint64_t, std::uint64_t, std::uint32_t>;
using Truth = std::map<Key, Told>;

void tell(HistoryRows& rows, Truth& truth, Told told) {
    told.row.worker_name = rows.keep(told.worker);
    told.row.detail = rows.keep(told.detail);
    told.row.result = rows.keep(told.result);
    rows.ended.push_back(told.row);
    truth[{told.row.job, told.row.element, told.row.as.attempt}] = told;
}

Told ended(std::uint64_t job, std::uint64_t element, std::uint32_t attempt = 1) {
    Told told;
    told.row.job = job;
    told.row.element = element;
    told.row.as.attempt = attempt;
    told.row.as.outcome = Outcome::kSucceeded;
    told.row.as.terminal = true;
    told.row.as.submit_ns = kWhen + job;
    told.row.as.worker = {3, 7};
    told.row.assigned_ns = kWhen + job + 1'000 + element;
    told.row.started_ns = told.row.assigned_ns + 5'000;
    told.row.ended_ns = told.row.started_ns + element % 7;
    told.worker = "worker-3";
    return told;
}

std::map<Key, std::string> results_in(const std::string& path) {
    auto db = Database::open(path, Database::Mode::kReadOnly);
    REQUIRE(db);
    auto select = db->prepare("SELECT job, element, attempt, bytes FROM result");
    REQUIRE(select);
    std::map<Key, std::string> out;
    while (*select->step()) {
        const Key key{select->column_unsigned(0), select->column_unsigned(1),
                      static_cast<std::uint32_t>(select->column(2))};
        CHECK(out.emplace(key, select->column_blob(3)).second);
    }
    return out;
}

void check_views(const std::string& path, const Truth& truth) {
    auto reader = HistoryReader::open(path);
    REQUIRE(reader);
    TaskQuery all;
    all.terminal_only = false;
    all.limit = 1'000'000;
    const auto rows = (*reader)->tasks(all);
    REQUIRE(rows);
    REQUIRE(rows->size() == truth.size());
    const auto results = results_in(path);
    std::size_t with_result = 0;
    auto at = truth.begin();
    for (const AttemptRow& row : *rows) {
        const Told& told = at++->second;
        const EndedRow& is = told.row;
        INFO("job " << row.job << " element " << row.element << " attempt " << row.attempt);
        REQUIRE(row.job == is.job);
        REQUIRE(row.element == is.element);
        REQUIRE(row.attempt == is.as.attempt);
        CHECK(row.outcome == to_string(is.as.outcome));
        CHECK(row.exit_code == is.as.exit_code);
        CHECK(row.core_dumped == is.as.core_dumped);
        CHECK(row.detail == told.detail);
        CHECK(row.submit_ns == is.as.submit_ns);
        CHECK(row.assigned_ns == is.assigned_ns);
        CHECK(row.started_ns == is.started_ns);
        CHECK(row.ended_ns == is.ended_ns);
        CHECK(row.user_us == is.user_us);
        CHECK(row.system_us == is.system_us);
        CHECK(row.max_rss_bytes == is.max_rss_bytes);
        CHECK(row.worker_number == is.as.worker.number);
        CHECK(row.worker_incarnation == is.as.worker.incarnation);
        CHECK(row.worker_name == told.worker);
        CHECK(row.terminal == is.as.terminal);
        CHECK(row.deaths == is.as.deaths);
        CHECK(row.price_micro == is.as.price_micro);
        const auto result = results.find({row.job, row.element, row.attempt});
        CHECK((result == results.end() ? "" : result->second) == told.result);
        with_result += told.result.empty() ? 0U : 1U;
    }
    CHECK(results.size() == with_result);
}

std::int64_t count_in(const std::string& path, const char* table) {
    auto db = Database::open(path, Database::Mode::kReadOnly);
    REQUIRE(db);
    return *db->query_integer((std::string("SELECT count(*) FROM ") + table).c_str());
}

// As version 3 made it, with one job of three attempts.
constexpr const char* kVersion3 =
    "CREATE TABLE job(id INTEGER PRIMARY KEY, uid INTEGER, name TEXT, priority INTEGER,"
    " submit_ns INTEGER, start_ns INTEGER, end_ns INTEGER, elements INTEGER, succeeded INTEGER,"
    " failed INTEGER, cancelled INTEGER, state TEXT, reason TEXT, spec BLOB,"
    " sla INTEGER, cost_nano INTEGER);"
    "CREATE TABLE attempt(job INTEGER, element INTEGER, attempt INTEGER, outcome TEXT,"
    " exit_code INTEGER, core_dumped INTEGER, detail TEXT, submit_ns INTEGER,"
    " assigned_ns INTEGER, started_ns INTEGER, ended_ns INTEGER, user_us INTEGER,"
    " system_us INTEGER, max_rss_bytes INTEGER, worker_number INTEGER,"
    " worker_incarnation INTEGER, worker_name TEXT, terminal INTEGER,"
    " deaths INTEGER, price_micro INTEGER, PRIMARY KEY(job, element, attempt)) WITHOUT ROWID;"
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value);"
    "CREATE VIEW task AS SELECT * FROM attempt WHERE terminal = 1;"
    "CREATE TABLE result(job INTEGER, element INTEGER, attempt INTEGER, bytes BLOB,"
    " PRIMARY KEY(job, element, attempt)) WITHOUT ROWID;"
    "PRAGMA application_id=1380469075; PRAGMA user_version=3;"
    "INSERT INTO job VALUES(1,1000,'old',5,1,2,3,2,1,1,0,'ended','','the spec',3,77);"
    "INSERT INTO attempt VALUES(1,0,1,'succeeded',0,0,'',1,2,2,3,4,5,6,7,8,'w',1,0,9);"
    "INSERT INTO attempt VALUES(1,1,1,'requeued',0,0,'its worker died',1,2,2,3,0,0,0,7,8,'w',0,0,"
    "9);"
    "INSERT INTO attempt VALUES(1,1,2,'failed',1,0,'',1,4,4,5,0,0,0,7,9,'w',1,1,9);"
    "INSERT INTO result VALUES(1,0,1,'bytes');"
    "INSERT INTO meta VALUES('last_seq',5);";

void make_version_3(const std::string& path) {
    auto db = Database::open(path, Database::Mode::kCreate);
    REQUIRE(db);
    REQUIRE(db->exec(kVersion3));
}

}  // namespace

TEST_CASE("HistoryFile: what ended alike shares a row, and the views give each task", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    HistoryFile file;
    REQUIRE(file.open(path));
    Truth truth;
    HistoryRows rows;
    rows.seq = 1;
    for (std::uint64_t element = 0; element < 64; ++element) {
        auto told = ended(9, element);
        told.result = "echo " + std::to_string(element) + std::string(element % 3, '\0');
        tell(rows, truth, told);
    }
    for (std::uint64_t element = 1'000; element < 1'100; ++element) {  // over a block's end
        tell(rows, truth, ended(10, element));
    }
    auto unlike = ended(9, 70);
    unlike.row.as.outcome = Outcome::kFailed;
    unlike.row.as.exit_code = -9;
    unlike.row.as.core_dumped = true;
    unlike.row.user_us = 1;
    unlike.row.system_us = 22;
    unlike.row.max_rss_bytes = 333'333'333'333;
    unlike.detail = "killed by a 'signal', \"[9]\"";
    tell(rows, truth, unlike);
    auto never = ended(9, 71, 0);  // cancelled before it ran
    never.row.as.outcome = Outcome::kCancelled;
    never.row.as.worker = {};
    never.row.assigned_ns = never.row.started_ns = 0;
    never.worker.clear();
    tell(rows, truth, never);
    REQUIRE(file.add(rows));
    CHECK(file.rows() == truth.size() + 1);
    REQUIRE(file.commit());
    CHECK(file.last_seq() == 1);
    CHECK(count_in(path, "attempt_pack") == 5);
    CHECK(count_in(path, "attempt_row") == 0);
    check_views(path, truth);
    CHECK(count_in(path, "task WHERE job = 10 AND element BETWEEN 1023 AND 1024") == 2);
}

TEST_CASE("HistoryFile: an attempt that is told again takes the old one's place", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    Truth truth;
    HistoryFile file;
    const auto batch = [&](std::uint64_t seq, std::uint64_t first, std::uint64_t last) {
        HistoryRows rows;
        rows.seq = seq;
        for (auto element = first; element <= last; ++element) {
            auto told = ended(2, element);
            told.row.ended_ns += seq;
            told.result = std::to_string(seq * 1000 + element);
            if (seq > 1) told.row.as.outcome = Outcome::kCancelled;
            tell(rows, truth, told);
        }
        REQUIRE(file.add(rows));
    };
    REQUIRE(file.open(path));
    batch(1, 0, 99);
    SECTION("later") {
        REQUIRE(file.commit());
    }
    SECTION("before the commit") {}
    batch(2, 50, 59);
    batch(3, 55, 56);
    REQUIRE(file.commit());
    check_views(path, truth);
    // A batch that is in already changes nothing, also for another process.
    HistoryRows again;
    again.seq = 3;
    Truth other;
    tell(again, other, ended(3, 3));
    REQUIRE(file.add(again));
    CHECK(file.rows() == 0);
    REQUIRE(file.open(path));
    REQUIRE(file.add(again));
    REQUIRE(file.commit());
    check_views(path, truth);
    batch(4, 0, 99);
    REQUIRE(file.commit());
    CHECK(count_in(path, "attempt_pack") == 1);
    check_views(path, truth);
}

TEST_CASE("HistoryFile: what was not committed is nowhere", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    Truth truth;
    HistoryFile file;
    REQUIRE(file.open(path));
    HistoryRows rows;
    rows.seq = 1;
    JobRow job;
    job.id = 1;
    job.spec = "spec";
    rows.jobs.push_back(job);
    tell(rows, truth, ended(1, 0));
    tell(rows, truth, ended(1, 0));  // told twice: the first is written before the commit
    HistoryRows copy = rows;
    REQUIRE(file.add(rows));
    REQUIRE(file.open(path));
    CHECK(file.last_seq() == 0);
    CHECK(count_in(path, "attempt") == 0);
    CHECK(count_in(path, "job") == 0);
    REQUIRE(file.add(copy));
    REQUIRE(file.commit());
    check_views(path, truth);
    CHECK((*HistoryReader::open(path))->job(1, true)->spec == "spec");
}

TEST_CASE("HistoryFile: a job's row holds its last change and keeps its spec", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    HistoryFile file;
    REQUIRE(file.open(path));
    const auto change = [&](std::uint64_t seq, const std::string& state, const std::string& spec) {
        HistoryRows rows;
        rows.seq = seq;
        JobRow row;
        row.id = 4;
        row.uid = 1000;
        row.state = state;
        row.spec = spec;
        row.succeeded = seq;
        rows.jobs.push_back(row);
        REQUIRE(file.add(rows));
    };
    change(1, "active", "spec");
    change(2, "active", "");
    REQUIRE(file.commit());
    change(3, "active", "");
    change(4, "ended", "");
    REQUIRE(file.commit());
    const auto job = (*HistoryReader::open(path))->job(4, true);
    REQUIRE(job);
    CHECK(job->state == "ended");
    CHECK(job->succeeded == 4);
    CHECK(job->spec == "spec");
    CHECK(job->uid == 1000);
}

TEST_CASE("HistoryFile: files of versions 1 to 3 are taken over with all they hold", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    make_version_3(path);
    const int version = GENERATE(1, 2, 3);
    if (version < 3) {
        auto db = Database::open(path, Database::Mode::kReadWrite);
        REQUIRE(
            db->exec("ALTER TABLE attempt DROP COLUMN price_micro;"
                     "ALTER TABLE job DROP COLUMN sla; ALTER TABLE job DROP COLUMN cost_nano;"
                     "PRAGMA user_version=2;"));
        if (version == 1) {
            REQUIRE(
                db->exec("ALTER TABLE attempt DROP COLUMN deaths; DROP TABLE result;"
                         "PRAGMA user_version=1;"));
        }
    }
    HistoryFile file;
    REQUIRE(file.open(path));
    CHECK(access((path + ".damaged").c_str(), F_OK) != 0);
    CHECK(file.last_seq() == 5);
    auto reader = std::move(*HistoryReader::open(path));
    const auto job = reader->job(1, true);
    CHECK(job->spec == "the spec");
    CHECK(job->sla == (version < 3 ? SlaClass::kStandard : SlaClass::kSpot));
    CHECK(job->cost_nano == (version < 3 ? 0 : 77));
    CHECK(reader->attempts(1, 1)->size() == 2);
    CHECK(reader->attempts(1, 1)->back().deaths == (version == 1 ? 0 : 1));
    CHECK(reader->attempts(1, 0)->front().price_micro == (version < 3 ? 0 : 9));
    CHECK(results_in(path).size() == (version == 1 ? 0 : 1));
    // A task of the old file is cancelled after a retry: told again under the same attempt.
    HistoryRows rows;
    rows.seq = 6;
    Truth truth;
    auto told = ended(1, 0);
    told.row.as.outcome = Outcome::kCancelled;
    tell(rows, truth, told);
    tell(rows, truth, ended(6, 0));
    REQUIRE(file.add(rows));
    REQUIRE(file.commit());
    const auto again = reader->attempts(1, 0);
    REQUIRE(again->size() == 1);
    CHECK(again->front().outcome == "cancelled");
    CHECK(results_in(path).empty());
    CHECK(reader->attempts(1, 1)->size() == 2);
    CHECK(reader->attempts(6, 0)->size() == 1);
}

TEST_CASE("HistoryFile: a file of a version to come is put aside", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    {
        HistoryFile file;
        REQUIRE(file.open(path));
    }
    {
        auto db = Database::open(path, Database::Mode::kReadWrite);
        REQUIRE(db->exec("PRAGMA user_version=5"));
    }
    HistoryFile file;
    REQUIRE(file.open(path));
    CHECK(access((path + ".damaged").c_str(), F_OK) == 0);
}

TEST_CASE("HistoryFile: queries by job, user, state and time use an index", "[history]") {
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    HistoryFile file;
    REQUIRE(file.open(path));
    auto db = Database::open(path, Database::Mode::kReadOnly);
    const auto plan = [&](const std::string& sql) {
        auto select = db->prepare(("EXPLAIN QUERY PLAN " + sql).c_str());
        REQUIRE(select);
        std::string text;
        while (*select->step()) text += std::string(select->column_blob(3)) + "\n";
        return text;
    };
    for (const char* sql :
         {"SELECT * FROM job WHERE id = 7", "SELECT * FROM job WHERE uid = 7",
          "SELECT * FROM job WHERE state = 'ended' AND end_ns >= 7",
          "SELECT count(*) FROM job WHERE state = 'ended'",
          "SELECT * FROM job WHERE state = 'ended' AND failed > 0 ORDER BY id DESC LIMIT 5",
          "SELECT * FROM attempt WHERE job = 7", "SELECT * FROM result WHERE job = 7"}) {
        const auto text = plan(sql);
        INFO(sql << "\n" << text);
        CHECK(text.find("SCAN job_row\n") == std::string::npos);
        CHECK(text.find("SCAN attempt_row\n") == std::string::npos);
        CHECK(text.find("SCAN p\n") == std::string::npos);
    }
}

TEST_CASE("HistoryFile: random tellings end as the model says", "[history][model]") {
    const char* given = std::getenv("REEVE_SEED");
    const auto seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    const auto below = [&random](std::uint64_t limit) { return random() % limit; };
    const TempDirectory dir;
    const std::string path = dir.file("history.db");
    HistoryFile file;
    REQUIRE(file.open(path));
    Truth truth;
    for (std::uint64_t seq = 1; seq <= 300; ++seq) {
        HistoryRows rows;
        rows.seq = seq;
        for (auto left = below(40); left > 0; --left) {
            auto told = ended(1 + below(4), below(3) * 1'000 + below(60),
                              static_cast<std::uint32_t>(below(3)));
            told.row.as.outcome = static_cast<Outcome>(1 + below(8));
            told.row.as.terminal = below(3) != 0;
            told.row.as.exit_code = static_cast<std::int32_t>(below(2)) - 1;
            told.row.as.worker = {below(2), below(2)};
            told.row.as.deaths = static_cast<std::uint32_t>(below(2));
            told.row.ended_ns += below(1'000'000'000);
            told.row.user_us = below(2) * below(1'000);
            told.row.max_rss_bytes = below(2) * below(1ULL << 40);
            told.worker = below(2) == 0 ? "a" : "b";
            told.detail = below(4) == 0 ? "what it said" : "";
            if (below(2) == 0) told.result = std::string(below(200), static_cast<char>(below(256)));
            tell(rows, truth, told);
        }
        REQUIRE(file.add(rows));
        if (below(4) == 0) REQUIRE(file.commit());
        if (below(40) == 0) {
            REQUIRE(file.commit());
            REQUIRE(file.open(path));
        }
    }
    REQUIRE(file.commit());
    check_views(path, truth);
}

TEST_CASE("packed rows: what is cut short or no array of rows is refused", "[history]") {
    std::string rows;
    PackedRow row;
    row.element = 1'023;
    row.assigned_ns = 5;
    row.ended_ns = ~std::uint64_t{0};
    append_packed_row(rows, 7, row);
    row.element = 0;
    append_packed_row(rows, 7, row);
    const std::string whole = rows + "]";
    int told = 0;
    const auto count = [&told](const PackedRow&) { ++told; };
    CHECK(for_each_packed_row(whole, 7, count));
    CHECK(told == 2);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        INFO(whole.substr(0, size));
        CHECK_FALSE(for_each_packed_row(std::string_view(whole).substr(0, size), 7, count));
    }
    for (const char* bad :
         {"[]", "[[]]", "[[1],]", "[[1]]x", "[1]", "[[-1]]", "[[1024]]", "[[1,a]]",
          "[[99999999999999999999]]", "[[1,2,3,4,5,6,7,8,9,10]]", "{}"}) {
        INFO(bad);
        CHECK_FALSE(for_each_packed_row(bad, 0, count));
    }
}

TEST_CASE("HistoryFile: what was flushed leaves the page cache, but for its end", "[history]") {
    TempDirectory directory;
    if (!reeve::test::can_drop_cache(directory.path())) {
        WARN("this file system keeps what it was asked to drop");
        return;
    }
    const auto path = directory.file("history.db");
    HistoryFile file;
    REQUIRE(file.open(path));
    Truth truth;
    for (std::uint64_t job = 1; job <= 24; ++job) {
        HistoryRows rows;
        rows.seq = job;
        auto told = ended(job, 1);
        told.result.assign(1 << 20, static_cast<char>('a' + job % 26));
        tell(rows, truth, told);
        REQUIRE(file.add(rows));
        REQUIRE(file.commit());
    }
    REQUIRE(file.flush());
    struct stat info {};
    REQUIRE(::stat(path.c_str(), &info) == 0);
    REQUIRE(info.st_size > 20 << 20);
    CHECK(reeve::test::cached_bytes(path) < 8U << 20);
    const auto found = results_in(path);
    REQUIRE(found.size() == truth.size());
    CHECK(found.begin()->second == truth.begin()->second.result);
    // A reader of its own takes no locks from it.
    HistoryRows rows;
    rows.seq = 25;
    tell(rows, truth, ended(25, 1));
    REQUIRE(file.add(rows));
    REQUIRE(file.commit());
}
