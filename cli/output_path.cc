#include "cli/output_path.h"

#include <array>
#include <utility>

#include "common/process/users.h"
#include "cli/text.h"

namespace reeve::cli {

namespace {

constexpr const char* kDefaultOutput = "/%j/%a.%x.out";  // below the cell's out directory

std::string value_of(std::string_view name, const PathFacts& facts, bool& known) {
    known = true;
    if (name == "j" || name == "A" || name == "{JOB_ID}") return std::to_string(facts.job);
    if (name == "a" || name == "{TASK_ID}") return std::to_string(facts.element);
    if (name == "x" || name == "{ATTEMPT}" || name == "{INSTANCE_ID}") {
        return std::to_string(facts.attempt);
    }
    if (name == "u") return user_name(facts.uid);
    if (name == "N") return facts.node;
    if (name == "{CWD}") return facts.cwd;
    if (name == "%") return "%";
    known = false;
    return "";
}

}  // namespace

std::string expand_path(const std::string& pattern, const PathFacts& facts) {
    std::string out;
    for (std::size_t at = 0; at < pattern.size();) {
        if (pattern[at] != '%' || at + 1 >= pattern.size()) {
            out += pattern[at++];
            continue;
        }
        std::string_view name = std::string_view(pattern).substr(at + 1, 1);
        if (name == "{") {
            const auto end = pattern.find('}', at);
            name = end == std::string::npos ? std::string_view()
                                            : std::string_view(pattern).substr(at + 1, end - at);
        }
        bool known = false;
        const auto value = name.empty() ? "" : value_of(name, facts, known);
        if (!known) {
            out += pattern[at++];
            continue;
        }
        out += value;
        at += 1 + name.size();
    }
    return out;
}

std::string output_path(const Cell& cell, const v1::TaskSpec& task, const v1::TaskResult& result,
                        Stream stream) {
    std::string pattern =
        stream == Stream::kError && !task.error().empty() ? task.error() : task.output();
    if (pattern == "none") return "";
    if (pattern.empty()) pattern = cell.output + kDefaultOutput;
    PathFacts facts{result.job(), result.element(),     result.attempt(),
                    task.uid(),   result.worker_name(), ""};
    facts.cwd = expand_path(task.cwd(), facts);
    auto path = expand_path(pattern, facts);
    return path[0] == '/' ? path : facts.cwd + "/" + path;
}

}  // namespace reeve::cli
