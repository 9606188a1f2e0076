// JobDraft is a job on its way from a command line, a script's #REEVE lines or a JSON file to a
// v1::JobSpec.
//
// All three set the same options by the same rules (option_rules()), so a value that is refused in
// one is refused in the others, with the same words; only the name of the place differs. complete()
// adds what the submitter's surroundings give (cwd, environment, names) and check() looks whether
// the program, the directories and the files exist.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::cli {

// Keys made by the CLI itself, so that a submission whose answer was lost can be repeated.
inline constexpr const char* kOwnKeyPrefix = "auto-";
// The key of one of several jobs that were submitted under one.
std::string key_of_draft(const std::string& key, std::size_t index, std::size_t drafts);

// The PLM's own limits (plm/server/validate.h), so that a refusal names the place in the file.
inline constexpr std::size_t kJobNameMax = 255;
inline constexpr std::size_t kLabelMax = 128;
inline constexpr std::size_t kFunctionNameMax = 64;
inline constexpr std::size_t kFunctionDataMax = (1U << 20) - 4096;
inline constexpr int kArgumentsMax = 16'384;
inline constexpr std::size_t kCommandBytesMax = 128 * 1024;  // arguments and environment together
inline constexpr std::size_t kElementValuesMax = 1'000'000;
inline constexpr std::size_t kRequestBytesMax = 16U << 20;
inline constexpr std::int64_t kPriorityMost = 500'000;
inline constexpr std::uint64_t kMinimumRunMaxMs = 30ULL * 24 * 3'600'000;
inline constexpr std::uint64_t kGraceMaxMs = 24ULL * 3'600'000;

struct JobDraft {
    v1::JobSpec spec;
    bool shell = false;      // argv is joined and given to /bin/sh -c
    bool parameter = false;  // element_values come from --param (not --each-line)
};

enum class OptionKind : std::uint8_t { kText, kNumber, kCount, kFlag, kTextOrCount, kList };

struct OptionRule {
    const char* field;  // in a JSON job: "time_limit", "resources.memory"
    const char* flags;  // on the command line: "-t,--time"; "" when there is none
    const char* value;  // what help calls the value: "SIZE"
    OptionKind kind;    // what JSON may hold; kList: set for each of a list
    const char* help;
    std::function<Status(JobDraft&, const std::string&)> set;  // flags get "true" or "false"
    const char* example;  // a value that is right, for "write for example ..."
};
std::span<const OptionRule> option_rules();

const char* preempt_words(v1::PreemptMode mode);  // "requeue", "cancel", "never"
std::optional<v1::PreemptMode> preempt_of(std::string_view text);

// NAME=VALUE, or NAME to copy it from here. Errors: not set here, no name.
Status add_environment(JobDraft& draft, const std::string& text);
// `12`, `afterok:12`, `afterany:12:13`, `afternotok:label`, comma separated; `@` forms are left as
// labels for the caller to resolve.
Status add_dependencies(JobDraft& draft, const std::string& text);

// `licence`, `licence:2`, comma separated: what each task takes of the cell's named limits.
Status add_limits(JobDraft& draft, const std::string& text);
// "fpga=2,port": how many of named resources each task holds.
Status add_resources(JobDraft& draft, const std::string& text);
std::string limit_words(const v1::JobSpec& spec);

// A text split into words as a shell would, without any expansion: quotes and backslashes only.
// Unquoted | & ; < > ` and $NAME are refused: they need a shell.
Result<std::vector<std::string>> split_command(std::string_view text);

// Lines of an --each-line file (without empty ones), or the values of `--param NAME=a,b,c`.
Status set_element_values(JobDraft& draft, const std::string& variable,
                          std::vector<std::string> values);

struct Surroundings {
    std::string cwd;
    std::function<const char*(const char*)> getenv;
    std::uint64_t now_ms = 0;
};
Surroundings here();

// Fills what was left open; refuses a job without a command, bad names and over-long commands.
Status complete(JobDraft& draft, const Surroundings& surroundings);

// Whether all that is sent as text is UTF-8.
Status check_text(const v1::JobSpec& spec);

// Whether the program, the working directory, the input and the places of the output exist.
Status check(const v1::JobSpec& spec);

// The values a task of this job sees for {NAME} in its words: rewritten to a shell's "$NAME".
bool uses_element_value(const JobDraft& draft);

std::uint64_t elements_of(const v1::JobSpec& spec);

}  // namespace reeve::cli
