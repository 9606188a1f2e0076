// The figures a simulated schedule is judged by, and how they are computed.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace reeve::sim {

// `progress(done, total)` is called now and then; it may be empty.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

// One finished job. Times in seconds.
struct JobRecord {
    std::int64_t id = 0;
    std::int64_t submit = 0;
    std::int64_t start = 0;  // of its first attempt
    std::int64_t end = 0;
    std::int64_t run = 0;
    std::int64_t size = 1;
};

struct Metrics {
    std::string policy;
    std::uint64_t jobs = 0;
    std::int64_t capacity = 0;
    double wait_mean = 0, wait_p50 = 0, wait_p95 = 0, wait_max = 0;
    double bsld_mean = 0, bsld_p50 = 0, bsld_p95 = 0, bsld_max = 0;
    double completion_mean = 0;  // end - submit
    double util = 0, util_submit_window = 0;
    std::int64_t makespan = 0;
    std::uint64_t preemptions = 0, deadlines = 0, deadline_misses = 0;
    double cost = 0;
    std::uint64_t decisions = 0;
    double decisions_per_s = 0;
    std::uint64_t backfilled = 0, max_queue = 0, skipped = 0, ignored_lines = 0;
    std::string schedule_sha256;
};

// Linear interpolation between order statistics; `sorted` ascending.
double percentile(std::span<const double> sorted, double share);

// Fills everything that follows from the records alone, the schedule's hash included.
void summarise(std::span<const JobRecord> records, std::int64_t capacity, Metrics& metrics);

// "id start" lines sorted by (id, start).
std::string schedule_text(std::span<const JobRecord> records);

// Names come from files: no control character of theirs reaches a terminal.
std::string printable(const std::string& text);

std::string to_json(const Metrics& metrics);
std::string to_table(const Metrics& metrics);

}  // namespace reeve::sim
