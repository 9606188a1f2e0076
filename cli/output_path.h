// Where a task's output lies: the placeholders of its paths filled in, as the worker does it.
//
//   %j %{JOB_ID} job   %a %{TASK_ID} element   %A the array's job   %x %{ATTEMPT} %{INSTANCE_ID}
//   %u user            %N node                 %{CWD} working directory    %% a percent sign
#pragma once

#include <cstdint>
#include <string>

#include "common/process/cell.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::cli {

struct PathFacts {
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    std::uint32_t attempt = 1;
    std::uint32_t uid = 0;
    std::string node;
    std::string cwd;
};
std::string expand_path(const std::string& pattern, const PathFacts& facts);

enum class Stream { kOutput, kError };
// The file of one attempt; "" when the task was told to keep none. Errors go to the output's file
// when they have none of their own.
std::string output_path(const Cell& cell, const v1::TaskSpec& task, const v1::TaskResult& result,
                        Stream stream);

}  // namespace reeve::cli
