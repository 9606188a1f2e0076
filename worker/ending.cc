#include "worker/ending.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

namespace reeve::worker {
namespace {

constexpr std::size_t kDetailMax = sizeof(EndedRecord{}.detail) - 1;
constexpr int kExitNotFound = 127;
constexpr int kExitNotExecutable = 126;
constexpr int kExitNotStarted = 125;

std::string error_text(int number) {
    const char* text = ::strerrordesc_np(number);
    return text != nullptr ? text : "error " + std::to_string(number);
}

// before + 'subject' + after, the subject cut at its front until all fits.
std::string fit(const std::string& before, std::string subject, const std::string& after) {
    const auto fixed = before.size() + after.size();
    if (fixed + subject.size() > kDetailMax) {
        const auto room = fixed + 3 < kDetailMax ? kDetailMax - fixed - 3 : 0;
        subject = "..." + (subject.size() > room ? subject.substr(subject.size() - room) : subject);
    }
    return (before + subject + after).substr(0, kDetailMax);
}

std::string describe_exec_failure(const ChildReport& report) {
    const std::string name = report.subject;
    switch (report.hint) {
        case ExecHint::kExistsHere:
            return fit("no program '", name, "' in PATH; ./ has one");
        case ExecHint::kInterpreterMissing:
            return fit("", name, ": the interpreter in its #! line is missing");
        case ExecHint::kNotExecutable:
            return fit("", name, " is not executable: chmod +x it");
        case ExecHint::kDirectory:
            return fit("", name, " is a directory, not a program");
        case ExecHint::kNone:
            break;
    }
    switch (report.error) {
        case ENOENT:
            return name.find('/') == std::string::npos ? fit("no program '", name, "' in PATH")
                                                       : fit("no program ", name, "");
        case ENOEXEC:
            return fit("", name, " is no program: a script needs a #! line");
        case E2BIG:
            return "arguments and environment are too long for exec";
        default:
            return fit("execute ", name, ": " + error_text(report.error));
    }
}

const char* stage_text(ChildStage stage) {
    switch (stage) {
        case ChildStage::kNothing:
            return "start";
        case ChildStage::kCgroup:
            return "cgroup ";
        case ChildStage::kSession:
            return "session ";
        case ChildStage::kLimit:
            return "set ";
        case ChildStage::kAffinity:
            return "set ";
        case ChildStage::kUser:
            return "become ";
        case ChildStage::kOutput:
            return "output ";
        case ChildStage::kError:
            return "error file ";
        case ChildStage::kInput:
            return "input ";
        case ChildStage::kDirectory:
            return "directory ";
        case ChildStage::kPrivilege:
            return "set ";
        case ChildStage::kExec:
            return "execute ";
        case ChildStage::kTemporary:
            return "temporary directory ";
    }
    return "start ";
}

std::string file_error(const ChildReport& report) {
    switch (report.error) {
        case ELOOP:
            return ": is a symlink, refused";
        case ENXIO:
            return ": a fifo without a reader";
        case EISDIR:
            return ": is a directory";
        case EACCES:
            return ": permission denied";
        case ENOENT:
            return ": does not exist";
        case ENOTDIR:
            return ": a parent is no directory";
        default:
            return ": " + error_text(report.error);
    }
}

std::string milliseconds(std::uint64_t ns) {
    char text[48];
    if (ns % 1'000'000'000 == 0) {
        std::snprintf(text, sizeof text, "%llu s",
                      static_cast<unsigned long long>(ns / 1'000'000'000));
    } else {
        std::snprintf(text, sizeof text, "%llu ms",
                      static_cast<unsigned long long>(ns / 1'000'000));
    }
    return text;
}

std::string mebibytes(std::uint64_t bytes) {
    char text[48];
    std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / 1048576.0);
    return text;
}

void set_detail(EndedRecord& out, const std::string& text) {
    std::snprintf(out.detail, sizeof out.detail, "%s", text.c_str());
}

void describe_natural(const EndingFacts& facts, EndedRecord& out) {
    if (facts.oom_kills > 0 && out.exit_code != 0) {
        out.outcome = Outcome::kOutOfMemory;
        set_detail(out, "memory limit of " + mebibytes(facts.memory_limit_bytes) + " exceeded");
        return;
    }
    if (out.exit_code == 0) {
        out.outcome = Outcome::kSucceeded;
        return;
    }
    out.outcome = Outcome::kFailed;
    if (out.exit_code > 0) {
        set_detail(out, "exit status " + std::to_string(out.exit_code));
        return;
    }
    const auto number = "signal " + std::to_string(-out.exit_code);
    const auto name = signal_name(-out.exit_code);
    set_detail(out, number + (name == number ? "" : " (" + name + ")") +
                        (out.core_dumped != 0 ? ", core dumped" : ""));
}

}  // namespace

void describe_stopped(const EndingFacts& facts, EndedRecord& out) {
    switch (facts.reason) {
        case StopReason::kCancel:
            out.outcome = Outcome::kCancelled;
            set_detail(out, "cancelled");
            break;
        case StopReason::kTimeLimit:
            out.outcome = Outcome::kTimedOut;
            set_detail(out, "time limit of " + milliseconds(facts.time_limit_ns) + " reached");
            break;
        default:
            out.outcome = Outcome::kRequeued;
            set_detail(out, facts.reason == StopReason::kRequeue ? "stopped to be queued again"
                                                                 : "its worker stopped");
            break;
    }
}

std::string signal_name(int number) {
    const char* name = ::sigabbrev_np(number);
    return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(number);
}

std::string describe_start_failure(const ChildReport& report) {
    if (report.stage == ChildStage::kExec) return describe_exec_failure(report);
    return fit(stage_text(report.stage), report.subject, file_error(report));
}

void describe_ending(const EndingFacts& facts, EndedRecord& out) {
    if (WIFSIGNALED(facts.wait_status)) {
        out.exit_code = -WTERMSIG(facts.wait_status);
        out.core_dumped = WCOREDUMP(facts.wait_status) ? 1 : 0;
    } else {
        out.exit_code = WEXITSTATUS(facts.wait_status);
    }
    out.stopped_for = facts.reason;
    if (facts.reason != StopReason::kNone) {
        describe_stopped(facts, out);
        return;
    }
    if (facts.stillborn) {
        out.outcome = Outcome::kRequeued;
        set_detail(out, "somebody killed its cgroup before it began");
        return;
    }
    if (facts.report.stage != ChildStage::kNothing) {
        out.outcome = Outcome::kFailed;
        const bool executing = facts.report.stage == ChildStage::kExec;
        out.exit_code = !executing                     ? kExitNotStarted
                        : facts.report.error == ENOENT ? kExitNotFound
                                                       : kExitNotExecutable;
        set_detail(out, describe_start_failure(facts.report));
        return;
    }
    describe_natural(facts, out);
}

}  // namespace reeve::worker
