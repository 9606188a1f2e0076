// A job file: one job, a list of jobs, or {"defaults": {...}, "jobs": [...]}, as JSON.
//
//   {"job_id": "sum", "command": "sort -n in.txt", "resources": {"cpu": 2, "memory": "8G", "gpu":
//   0},
//    "priority": 10, "output": "out/%j.txt", "after": ["prepare", "afterany:12"]}
//
// Every field of the form is in docs/formats/json.md. A file is taken whole or not at all: the
// first thing that is wrong is named as `jobs[2].resources.memory (line 14): ...` with its cure.
#pragma once

#include <string_view>
#include <vector>

#include "cli/job_draft.h"
#include "cli/json_tree.h"

namespace reeve::cli {

inline constexpr std::size_t kJobsPerFileMax = 65'536;

// Drafts in the file's order, with labels checked: none twice, none unknown, no cycle.
Result<std::vector<JobDraft>> parse_job_file(std::string_view text);

// Labels of one batch: refuses the same label twice, a job waiting for itself, an unknown label and
// a cycle (naming its jobs). `places` names each draft in messages.
Status check_labels(const std::vector<JobDraft>& drafts, const std::vector<std::string>& places);

}  // namespace reeve::cli
