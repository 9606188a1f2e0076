// SIGKILL at every file operation of a publish: the next writer continues the same log.
//
// The test program runs itself with REEVE_FP set; the child appends and publishes in three steps
// and dies at the n-th pass of a crash point, n growing until it survives.
#include <cstdlib>

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/audit/verify.h"
#include "tests/support/catch.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;

namespace {

std::vector<std::string> crash_entries() {
    Story story;
    story.worker(Kind::kWorkerJoined, 1);
    for (std::uint64_t job = 1; story.entries.size() < 600; ++job) story.run_task(job, 1);
    return story.entries;
}

// True when the child died by SIGKILL, false when it ran through.
bool run_child(const std::string& directory, const std::string& failpoint) {
    const std::string fp = "REEVE_FP=" + failpoint;
    const std::string where = "REEVE_TEST_CRASH_DIR=" + directory;
    char program[] = "/proc/self/exe";
    char name[] = "AuditLog: child of the crash test";
    char out[] = "-o";
    char null[] = "/dev/null";
    char* arguments[] = {program, name, out, null, nullptr};
    char* environment[] = {const_cast<char*>(fp.c_str()), const_cast<char*>(where.c_str()),
                           nullptr};
    pid_t child = 0;
    REQUIRE(posix_spawn(&child, program, nullptr, nullptr, arguments, environment) == 0);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) {
        REQUIRE(WTERMSIG(status) == SIGKILL);
        return true;
    }
    REQUIRE(WEXITSTATUS(status) == 0);
    return false;
}

void check_survivor(const std::string& directory, const std::vector<std::string>& entries) {
    if (std::filesystem::exists(directory + "/audit/checkpoint")) {
        VerifyOptions options;
        options.directory = directory + "/audit";
        options.policy = *policy_of_directory(options.directory);
        const auto report = verify_directory(options);
        REQUIRE(report);
        INFO((report->refusal ? report->refusal->to_string() : ""));
        REQUIRE_FALSE(report->refusal);
    }
    const std::string note = write_log(directory, entries);
    INFO(note);
    REQUIRE(note.starts_with("reeve.example/test\n" + std::to_string(entries.size()) + "\n"));
}

}  // namespace

TEST_CASE("AuditLog: child of the crash test", "[.child]") {
    const char* directory = std::getenv("REEVE_TEST_CRASH_DIR");
    if (directory == nullptr) return;
    const auto entries = crash_entries();
    auto log = AuditLog::open(options_in(directory), ledger_of(entries));
    REQUIRE(log);
    for (const std::size_t stop : {100UL, 300UL, entries.size()}) {
        const std::size_t begin = log->size();
        if (begin >= stop) continue;
        log->append(std::span(entries).subspan(begin, stop - begin));
        if (stop == entries.size()) REQUIRE(log->advance());
        REQUIRE(log->publish());
    }
    REQUIRE(log->sync_tiles());
}

TEST_CASE("AuditLog: a kill between any two file operations leaves a log to go on with",
          "[audit][kill]") {
    const auto entries = crash_entries();
    int kills = 0;
    for (const char* point :
         {"audit.file_written", "audit.before_rename", "audit.after_rename", "audit.directory_made",
          "audit.before_checkpoint", "audit.after_checkpoint"}) {
        for (int pass = 1;; ++pass) {
            reeve::test::TempDirectory directory;
            const std::string failpoint = std::string(point) + ":kill:" + std::to_string(pass);
            INFO(failpoint);
            if (!run_child(directory.path(), failpoint)) break;
            ++kills;
            check_survivor(directory.path(), entries);
        }
    }
    // Killed again and again in one directory, it still arrives.
    reeve::test::TempDirectory directory;
    int rounds = 0;
    while (run_child(directory.path(), "audit.after_rename:kill:" + std::to_string(3 + rounds))) {
        REQUIRE(++rounds < 30);
    }
    check_survivor(directory.path(), entries);
    CHECK(kills >= 40);
    CHECK(rounds > 1);
}
