// validate() decides whether a job may enter the cell, from the JobSpec alone (pure: no files, no
// clock, no state), and fills the defaults that are safe to fill.
//
// One line names the field, what is wrong and the cure: `task.argv: is empty; give the program to
// run`. In a batch of several jobs the line starts with the job: `jobs[3]: ...`. The limits are
// named here; docs/operations.md lists them.
#pragma once

#include <cstdint>
#include <string_view>

#include "reeve/v1/reeve.pb.h"

#include "common/base/result.h"

namespace reeve::plm {

inline constexpr std::size_t kMessageBytesMax = 16u << 20;    // one request
inline constexpr std::size_t kTaskBytesMax = 1u << 20;        // one serialised TaskSpec
inline constexpr std::size_t kArgumentBytesMax = 128u << 10;  // argv and env together; one value
inline constexpr std::size_t kFunctionNameMax = 64;
inline constexpr std::uint32_t kFunctionCpuMilli = 15;  // unless asked for otherwise: 1/64 cpu
inline constexpr int kArgumentsMax = 16'384;
inline constexpr std::size_t kPathBytesMax = 4095;
inline constexpr std::size_t kNameBytesMax = 255;  // name, label, key
inline constexpr std::size_t kNodeNameBytesMax = 63;
inline constexpr int kJobsPerRequestMax = 65'536;
inline constexpr int kElementRangesMax = 65'536;
inline constexpr std::uint64_t kElementsMax = 100'000'000;
inline constexpr std::uint64_t kElementIndexMax = 0xFFFF'FFFFULL;
inline constexpr int kDependenciesMax = 4096;
inline constexpr std::int32_t kPriorityMax = 500'000;
inline constexpr std::uint64_t kMinimumRunMsMax = 30ULL * 24 * 3'600'000;
inline constexpr int kLimitsMax = 16;
inline constexpr std::uint32_t kRetriesMax = 10'000;
inline constexpr std::uint32_t kCpuMilliMax = 4096u * 1000u;
inline constexpr std::uint64_t kMemoryBytesMax = 1ULL << 50;
inline constexpr std::uint32_t kGpusMax = 64;
inline constexpr std::uint64_t kTimeLimitMsMax = 10ULL * 366 * 24 * 3600 * 1000;
// 2261-12-31: in nanoseconds it fits 63 bits.
inline constexpr std::uint64_t kNotBeforeMsMax = 9'214'646'399'000ULL;
inline constexpr std::uint64_t kGraceMsMax = 24ULL * 3600 * 1000;
inline constexpr std::size_t kReasonBytesMax = 1024;

// Defaults filled: cwd "/", cpu_milli 1000. No element ranges stay none: one task, element 0.
Status validate(v1::JobSpec& spec);

// Every job, then what concerns the batch as a whole: labels unique and known, no cycle.
Status validate(v1::SubmitRequest& request);

Status validate(const v1::ActRequest& request);

// True for a name a person may be shown: no control characters (also not C1), not empty.
bool printable_name(std::string_view name);

}  // namespace reeve::plm
