// The agent's part that looks after an ended attempt's files, before its ending is told: what it
// printed, what it says about its failure, its temporary directory. Reads and removes files, so
// none of it is under the mutex but the look at the names.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/process/task_space.h"
#include "worker/agent.h"

namespace reeve::worker {
namespace {

// Only a file of the task's own, and with no more rights than it had itself.
void remove_output(const std::string& path, std::uint32_t uid, std::uint32_t gid) {
    if (path.empty()) return;
    const bool other_user = uid != ::geteuid();
    if (other_user) {
        ::setfsgid(gid);  // of this thread only
        ::setfsuid(uid);
    }
    struct stat about {};
    if (::lstat(path.c_str(), &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == uid) {
        ::unlink(path.c_str());
    }
    if (other_user) {
        ::setfsuid(::geteuid());
        ::setfsgid(::getegid());
    }
}

void set_detail(EndedRecord& record, const std::string& text) {
    std::snprintf(record.detail, sizeof record.detail, "%s", text.c_str());
}

// As much of the text as the slot's line holds, no character cut in two.
std::string first_line(const std::string& text) {
    constexpr std::size_t kMost = sizeof(EndedRecord{}.detail) - 1;
    auto line = text.substr(0, text.find('\n'));
    if (line.size() <= kMost && line.size() == text.size()) return line;
    constexpr std::string_view kMore = "...";
    line.resize(std::min(line.size(), kMost - kMore.size()));
    while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0xC0) == 0x80) {
        line.pop_back();
    }
    if (!line.empty() && static_cast<unsigned char>(line.back()) >= 0xC0) line.pop_back();
    return line.append(kMore);
}

}  // namespace

void Agent::make_spaces() {
    const auto make = [this](bool other_user) -> std::string {
        const auto root = task_space_root(cell_, other_user);
        const auto space = worker_space(root, id_);
        const auto made = make_worker_space(root, space, other_user);
        if (made) return space;
        log::warn("no place for the tasks' temporary directories", {{"why", made.error().message}});
        return {};
    };
    context_.own_space = make(false);
    // Only root runs other users' tasks.
    context_.other_space = context_.uid == 0 ? make(true) : std::string();
}

// The task's own words take the place of "exit status 3".
void Agent::hear_task(EndedRecord& record, const std::string& file, std::uint32_t uid) {
    const auto text = read_error_text(file, uid);
    if (!text) {
        if (text.error().code != ErrorCode::kNotFound) {
            set_detail(record, std::string(record.detail) + "; its error file cannot be read");
        }
        return;
    }
    if (text->empty()) {
        set_detail(record, std::string(record.detail) + "; its error file is empty");
        return;
    }
    const auto line = first_line(*text);
    if (line != *text) {
        const TaskId task{record.name.job, record.name.element};
        const auto left = leave_text(cell_, task, record.name.attempt, *text);
        record.has_text = left ? 1 : 0;
        if (!left) log::warn("a task's error text was cut", {{"why", left.error().message}});
    }
    set_detail(record, line);
}

void Agent::clear_space(EndedRecord& record, bool other_user) {
    const auto& space = other_user ? context_.other_space : context_.own_space;
    if (space.empty()) return;
    const TaskId task{record.name.job, record.name.element};
    const auto place = attempt_space(space, task, record.name.attempt);
    const auto file = error_file(place, other_user);
    if (record.outcome == Outcome::kFailed) {
        struct stat about {};
        const bool theirs = other_user && ::lstat(place.c_str(), &about) == 0;
        hear_task(record, file, theirs ? about.st_uid : context_.uid);
    }
    ::unlink(file.c_str());
    if (::rmdir(place.c_str()) == 0 || errno == ENOENT) return;
    if (!remove_tree(place)) {
        log::warn("a task's temporary directory cannot be removed", {{"path", place}});
    }
}

Agent::Files Agent::files_of_running(std::uint64_t id) const {
    const auto found = running_.find(id);
    return found == running_.end() ? Files() : found->second.files;
}

Agent::OutputDigest Agent::look_after(EndedRecord& record, const Files& files) {
    // Where its space is depends on its user, who is not known of one that a former agent started.
    const bool ours = files.known && files.uid == context_.uid;
    const bool theirs = files.known && !ours;
    if (!theirs) clear_space(record, false);
    if (context_.uid == 0 && !ours) clear_space(record, true);
    if (record.outcome != Outcome::kSucceeded) return std::nullopt;
    auto digest = digest_output(files.output, files.error, files.uid);
    if (files.remove) {
        remove_output(files.output, files.uid, files.gid);
        remove_output(files.error, files.uid, files.gid);
    }
    return digest;
}

// What an attempt writes, for look_after().
Agent::Files Agent::files_of(const StartText& start, const v1::TaskSpec& spec) {
    Files files;
    files.known = true;
    if ((start.head.flags & kStartNoOutput) == 0) files.output = start.output;
    if (start.error != start.output) files.error = start.error;
    files.uid = start.head.uid;
    files.gid = start.head.gid;
    files.remove = spec.delete_output();
    return files;
}

}  // namespace reeve::worker
