// The commands that look, against a cell that exists only as files and shared memory: every JSON
// form is held against its committed schema, and a garbled segment must not bring one down.
#include <cstdio>
#include <filesystem>
#include <functional>
#include <random>

#include <sqlite3.h>
#include <unistd.h>

#include "cli/explain.h"
#include "cli/history_command.h"
#include "cli/logs.h"
#include "cli/ls.h"
#include "cli/nodes.h"
#include "cli/shm_command.h"
#include "common/base/clock.h"
#include "common/shm/job_table.h"
#include "common/shm/task_heap.h"
#include "tests/support/catch.h"
#include "tests/unit/cli/schema.h"

namespace reeve::cli {

namespace {

using nlohmann::json;
using shm::SlotState;
using shm::SlotWord;

constexpr const char* kHistorySchema =
    "CREATE TABLE job(id INTEGER PRIMARY KEY, uid, name, priority, submit_ns, start_ns, end_ns, "
    "elements, succeeded, failed, cancelled, state TEXT, reason TEXT, spec BLOB);"
    "CREATE TABLE attempt(job, element, attempt, outcome TEXT, exit_code, core_dumped, detail, "
    "submit_ns, assigned_ns, started_ns, ended_ns, user_us, system_us, max_rss_bytes, "
    "worker_number, worker_incarnation, worker_name TEXT, terminal INTEGER, deaths INTEGER, "
    "PRIMARY KEY(job, element, attempt)) WITHOUT ROWID;"
    "INSERT INTO job VALUES(1, 0, 'old', 5, 1000000000, 2000000000, 3000000000, 2, 1, 1, 0, "
    "'ended', 'a reason', NULL);"
    "INSERT INTO attempt VALUES(1, 0, 1, 'failed', 3, 0, 'exit status 3', 1, 2, 3, 4, 5, 6, 7, 1, "
    "1, 'w', 0, 0);"
    "INSERT INTO attempt VALUES(1, 0, 2, 'succeeded', 0, 0, '', 1, 2, 3, 4, 5, 6, 7, 1, 1, 'w', 1, "
    "0);"
    "INSERT INTO attempt VALUES(1, 1, 1, 'failed', -9, 1, 'x', 1, 2, 3, 4, 5, 6, 7, 1, 1, 'w', 1, "
    "0);";

// A cell with one worker, a running task, two queued ones, and a history of one job.
class FakeCell {
public:
    FakeCell() {
        char name[] = "/tmp/reeve-cli-cell-XXXXXX";
        directory_ = mkdtemp(name);
        context.cell = *find_cell(directory_);
        REQUIRE(create_cell_directories(context.cell));
        make_segment();
        make_history();
    }
    ~FakeCell() {
        shm::Segment::remove(segment->name());
        std::filesystem::remove_all(directory_);
        std::filesystem::remove_all(context.cell.runtime_dir);
    }

    void put(std::uint32_t slot, std::uint64_t job, SlotState state, std::uint16_t owner) {
        auto& task = segment->task(slot);
        task.job = job;
        task.class_id = 0;
        task.key.store(slot + 1);
        task.submit_wall_ns = wall_ns();
        if (owner >= shm::kOwnerFirstWorker) {
            task.claim.store(1);
            task.holder_number.store(7);
        }
        const std::uint16_t attempt = owner >= shm::kOwnerFirstWorker ? 1 : 0;
        task.word.store(SlotWord::make(1, attempt, owner, state).raw);
        shm::BasicTaskHeap<shm::LivePolicy>(*segment).touch(slot);
        shm::JobRecord record;
        record.job = job;
        record.state = shm::JobState::kActive;
        record.elements = 1;
        record.queued = state == SlotState::kQueued ? 1 : 0;
        record.running = state == SlotState::kRunning ? 1 : 0;
        record.submit_wall_ns = wall_ns();
        record.request = request();
        std::snprintf(record.name, sizeof record.name, "evil\x1b[2J\nname %u", slot);
        shm::write_job(segment->job(slot), record);
    }
    static Resources request() {
        Resources out;
        out.cpu_milli = 1500;
        out.memory_bytes = 1 << 20;
        return out;
    }

    Context context;
    std::unique_ptr<shm::Segment> segment;

private:
    void make_segment() {
        shm::SegmentConfig config;
        config.task_slots = 256;
        config.classes = 16;
        config.workers = 4;
        config.jobs = 64;
        config.role_event_ring = 64;
        config.worker_event_ring = 64;
        config.dispatch_ring = 64;
        config.completion_ring = 64;
        config.arena_bytes = 1 << 16;
        const auto name = "/reeve-cli-test-" + std::to_string(getpid());
        shm::Segment::remove(name);
        auto made = shm::Segment::create(name, config, 42, 1);
        REQUIRE(made);
        segment = std::move(*made);
        segment->header().phase.store(shm::Phase::kReady);
        REQUIRE(write_segment_name(context.cell, name));
        auto& entry = segment->task_class(0);
        entry.request = request();
        entry.live.store(1);
        for (std::uint32_t i = 0; i < segment->layout().chunks; ++i) {
            segment->chunk_owner(i).store(i == 0 ? 0 : shm::kNone32);
        }
        auto& worker = segment->worker(0);
        std::snprintf(worker.name, sizeof worker.name, "w1");
        worker.number.store(7);
        worker.incarnation.store(8);
        worker.capacity.cpu_milli = 2000;
        worker.capacity.memory_bytes = 1 << 30;
        worker.used = request();
        worker.state.store(shm::WorkerState::kAlive);
        put(0, 3, SlotState::kRunning, shm::kOwnerFirstWorker);
        put(1, 4, SlotState::kQueued, shm::kOwnerNone);
        put(2, 5, SlotState::kQueued, shm::kOwnerNone);
    }
    void make_history() {
        sqlite3* database = nullptr;
        REQUIRE(sqlite3_open(context.cell.history.c_str(), &database) == SQLITE_OK);
        CHECK(sqlite3_exec(database, kHistorySchema, nullptr, nullptr, nullptr) == SQLITE_OK);
        sqlite3_close(database);
    }

    std::string directory_;
};

struct Said {
    int code = 0;
    std::string text;
};

// What a command writes to stdout, and its exit code.
Said listen(const std::function<int()>& command) {
    std::fflush(stdout);
    std::FILE* file = std::tmpfile();
    const int saved = dup(STDOUT_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    Said out;
    out.code = command();
    std::fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    std::rewind(file);
    char chunk[4096];
    for (std::size_t got = 0; (got = std::fread(chunk, 1, sizeof chunk, file)) > 0;) {
        out.text.append(chunk, got);
    }
    std::fclose(file);
    return out;
}

using Command = std::function<int(const Context&)>;

// The command's JSON, held against its schema.
json checked(FakeCell& cell, const char* schema, const Command& command) {
    auto context = cell.context;
    context.json = true;
    const auto said = listen([&] { return command(context); });
    INFO(schema << ": " << said.text);
    const auto document = json::parse(said.text);
    test::SchemaChecker checker(REEVE_SCHEMA_DIRECTORY);
    for (const auto& problem : checker.check(document, schema)) FAIL_CHECK(problem);
    return document;
}

std::vector<Command> all_commands() {
    return {[](const Context& c) {
                return ls_command(c, {{}, "", true, 100});
            },
            [](const Context& c) {
                return show_command(c, {{"1-9"}, true, true, 100});
            },
            [](const Context& c) { return explain_command(c, {{"1-9"}}); },
            [](const Context& c) { return node_ls_command(c); },
            [](const Context& c) { return node_show_command(c, "w1"); },
            [](const Context& c) {
                return top_command(c, {0.1, 1});
            },
            [](const Context& c) { return history_command(c, {}); },
            [](const Context& c) {
                return logs_command(c, {{"all"}, false, false, true});
            },
            [](const Context& c) { return shm_dump_command(c, {}); },
            [](const Context& c) { return shm_stat_command(c, {}); }};
}

}  // namespace

TEST_CASE("commands: every JSON form keeps its schema, with no daemon at all", "[cli]") {
    FakeCell cell;
    const auto jobs =
        checked(cell, "jobs.v1.json", [](const Context& c) { return ls_command(c, {}); });
    CHECK(jobs["jobs"].size() == 3);
    CHECK(jobs["ended_hidden"] == 1);
    CHECK(jobs["jobs"][0]["state"] == "running");
    const auto all = checked(cell, "jobs.v1.json", [](const Context& c) {
        return ls_command(c, {{}, "", true, 100});
    });
    CHECK(all["jobs"].size() == 4);
    const auto failed = checked(cell, "jobs.v1.json", [](const Context& c) {
        return ls_command(c, {{}, "failed", false, 100});
    });
    CHECK(failed["jobs"].size() == 1);
    const auto job = checked(cell, "job.v1.json", [](const Context& c) {
        return show_command(c, {{"1", "3"}});
    });
    REQUIRE(job["jobs"].size() == 2);
    CHECK(job["jobs"][0]["tasks"].size() == 2);
    CHECK(job["jobs"][0]["tasks"][0]["state"] == "succeeded");
    CHECK(job["jobs"][0]["tasks"][1]["signal"] == 9);
    CHECK(job["jobs"][1]["tasks"][0]["worker_name"] == "w1");
    const auto why = checked(cell, "explain.v1.json",
                             [](const Context& c) { return explain_command(c, {{"4"}}); });
    CHECK(why["jobs"][0]["workers"][0]["held_by"][0]["job"] == 3);
    CHECK(why["jobs"][0]["workers"][0]["held_by"][0]["enough"] == true);
    checked(cell, "nodes.v1.json", [](const Context& c) { return node_ls_command(c); });
    const auto node =
        checked(cell, "node.v1.json", [](const Context& c) { return node_show_command(c, "7"); });
    CHECK(node["tasks"].size() == 1);
    checked(cell, "top.v1.json", [](const Context& c) { return top_command(c, {0.1, 1}); });
    checked(cell, "history.v1.json", [](const Context& c) { return history_command(c, {}); });
    const auto attempts = checked(cell, "attempts.v1.json", [](const Context& c) {
        HistoryOptions options;
        options.selectors = {"1"};
        return history_command(c, options);
    });
    CHECK(attempts["attempts"].size() == 3);
    checked(cell, "shm-dump.v1.json", [](const Context& c) { return shm_dump_command(c, {}); });
    checked(cell, "shm-stat.v1.json", [](const Context& c) { return shm_stat_command(c, {}); });
    const auto sound = checked(cell, "shm-check.v1.json",
                               [](const Context& c) { return shm_check_command(c, {}); });
    CHECK(sound["sound"] == true);
}

TEST_CASE("commands: exit codes and bare ids", "[cli]") {
    FakeCell cell;
    CHECK(listen([&] { return show_command(cell.context, {{"99"}}); }).code == kExitNotFound);
    CHECK(listen([&] { return show_command(cell.context, {{"x"}}); }).code == kExitUsage);
    CHECK(listen([&] { return node_show_command(cell.context, "no"); }).code == kExitNotFound);
    CHECK(listen([&] { return ls_command(cell.context, {{}, "runing"}); }).code == kExitUsage);
    auto parsable = cell.context;
    parsable.parsable = true;
    CHECK(listen([&] { return ls_command(parsable, {}); }).text == "3\n4\n5\n");
    auto nowhere = cell.context;
    nowhere.cell = *find_cell("/tmp/reeve-no-such-cell");
    CHECK(listen([&] { return ls_command(nowhere, {}); }).code == kExitUnreachable);
}

TEST_CASE("commands: nothing raw of others reaches the terminal", "[cli]") {
    FakeCell cell;
    for (const auto& command : all_commands()) {
        const auto said = listen([&] { return command(cell.context); });
        CHECK(said.text.find('\x1b') == std::string::npos);
        // What `logs` has no file for it says on stderr.
        CHECK((said.code != kExitOk || !said.text.empty()));
    }
}

TEST_CASE("shm check: finds what is planted", "[cli]") {
    FakeCell cell;
    auto& segment = *cell.segment;
    const auto codes = [&] {
        std::string out;
        for (const auto& finding : check_segment(segment)) out += finding.code + " ";
        return out;
    };
    CHECK(codes().empty());
    segment.worker(0).used.cpu_milli = 9'999;
    CHECK(codes() == "capacity used ");
    segment.worker(0).used = FakeCell::request();
    segment.worker(0).gpu_used_mask.store(2);
    CHECK(codes() == "gpu ");
    segment.worker(0).gpu_used_mask.store(0);
    // Neither in the books nor claimed: the sums agree, and its room is given out again.
    const auto claim = segment.task(0).claim.exchange(0);
    segment.worker(0).used = {};
    CHECK(codes() == "uncounted ");
    segment.task(0).claim.store(claim);
    segment.worker(0).used = FakeCell::request();
    segment.task(1).word.store(SlotWord::make(1, 0, shm::kOwnerNone, SlotState::kHeld).raw);
    CHECK(codes() == "heap-head ");
    segment.task(1).word.store(SlotWord::make(1, 0, 77, SlotState::kQueued).raw);
    CHECK(codes() == "slot-owner ");
    segment.task(1).word.store(SlotWord::make(1, 0, 0, SlotState::kQueued).raw);
    segment.task(2).job = 4;
    CHECK(codes() == "duplicate ");
    segment.task(2).job = 5;
    segment.task(1).payload_bytes = 100;
    segment.task(1).payload_offset = ~std::uint64_t{0} - 10;
    CHECK(codes() == "payload ");
    segment.task(1).payload_bytes = 0;
    segment.chunk_owner(0).store(3);
    CHECK(codes().find("chunk-owner") == 0);
}

TEST_CASE("check_settled: only what stays counts", "[cli]") {
    int look = 0;
    const auto findings = check_settled(
        [&] {
            ++look;
            std::vector<Finding> out{{"ring", "stays"}};
            if (look == 1) out.push_back({"used", "passes"});
            return out;
        },
        3, [] {});
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].text == "stays");
    CHECK(look == 3);
}

TEST_CASE("commands: a garbled segment is shown as far as it goes, never crashed on", "[cli]") {
    const char* given = std::getenv("REEVE_SEED");
    const auto seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    FakeCell cell;
    auto& segment = *cell.segment;
    const auto& layout = segment.layout();
    auto context = cell.context;
    context.json = true;
    for (int round = 0; round < 40; ++round) {
        // Everything behind the header may hold anything.
        char* bytes = segment.bytes(0);
        const auto first = layout.participants;
        for (int i = 0; i < 2'000; ++i) {
            bytes[first + random() % (layout.total_bytes - first)] = static_cast<char>(random());
        }
        // Likely places, so that states and owners are hit too.
        for (int i = 0; i < 20; ++i) {
            segment.task(static_cast<std::uint32_t>(random() % 256)).word.store(random());
            segment.task(static_cast<std::uint32_t>(random() % 256)).class_id =
                static_cast<std::uint32_t>(random());
            segment.worker(static_cast<std::uint32_t>(random() % 4))
                .state.store(static_cast<shm::WorkerState>(random() % 7));
        }
        for (const auto& command : all_commands()) {
            const auto said = listen([&] { return command(context); });
            if (!said.text.empty()) CHECK(json::accept(said.text));
        }
        (void)check_segment(segment);
    }
}

}  // namespace reeve::cli
