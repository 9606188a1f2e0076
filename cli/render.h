// How jobs, tasks and workers look as JSON and in tables; the schemas are in docs/formats/json.md.
#pragma once

#include <string>
#include <string_view>

#include "cli/json_writer.h"
#include "cli/look.h"
#include "common/shm/resource_names.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::cli {

// waiting held queued running succeeded failed cancelled: what people filter by.
std::string job_state(const v1::JobStatus& status);
// queued running ... for a live task, its outcome for an ended one.
std::string task_state(const v1::TaskResult& result);
// How an attempt ended, for a table: "exit 3", "signal 9 (SIGKILL): cancelled", "" for a success.
std::string note_words(const v1::TaskResult& result);
// "exit 3", "signal 9 (SIGKILL)", "" for 0.
std::string exit_words(std::int32_t code);
std::string task_id(std::uint64_t job, std::uint64_t element);
std::string task_id(const v1::TaskResult& result, bool array);
std::string worker_id(std::uint64_t number, std::uint64_t incarnation);
std::string dependency_words(const v1::Dependency& dependency);
std::string command_words(const v1::TaskSpec& task);

// What the attempt has cost, up to now while it runs, in billionths.
std::uint64_t cost_of(const v1::TaskResult& result);

void write_job(JsonWriter& json, const v1::JobStatus& status);
// The same with what its spec says of order and limits; null where there is no spec.
void write_listed_job(JsonWriter& json, const v1::JobStatus& status);
void write_spec(JsonWriter& json, const v1::JobSpec& spec);
void write_task(JsonWriter& json, const v1::TaskResult& result);
void write_worker(JsonWriter& json, const WorkerView& worker);
void write_time(JsonWriter& json, std::string_view name, std::uint64_t wall_ns);  // 0: null
void write_resources(JsonWriter& json, std::string_view key, const Resources& resources);
// What the named resources of the segment that is shown are called; once, when it is opened.
void know_resource_names(shm::ResourceNames names);
std::string resource_name(std::size_t number);
// "fpga=2,port=1"; "" for none.
std::string named_words(const NamedCounts& counts);
std::string named_words(const v1::JobSpec& spec);

Resources resources_of(const v1::ResourceRequest& request);
std::string resource_words(const Resources& resources);  // "2 cpus, 8G, 1 gpu"

}  // namespace reeve::cli
