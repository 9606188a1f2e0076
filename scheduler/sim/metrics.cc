#include "scheduler/sim/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

namespace reeve::sim {
namespace {

double mean(std::span<const double> values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

std::string sha256_hex(const std::string& text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr);
    std::string hex;
    for (unsigned int i = 0; i < size; ++i) {
        std::array<char, 3> pair{};
        std::snprintf(pair.data(), pair.size(), "%02x", digest[i]);
        hex += pair.data();
    }
    return hex;
}

// Waits and bounded slowdowns, each sorted.
void summarise_waits(std::span<const JobRecord> records, Metrics& metrics) {
    std::vector<double> waits;
    std::vector<double> slowdowns;
    double completion = 0;
    for (const JobRecord& job : records) {
        const auto wait = static_cast<double>(job.start - job.submit);
        const auto run = static_cast<double>(job.run);
        waits.push_back(wait);
        slowdowns.push_back(std::max(1.0, (wait + run) / std::max(run, 10.0)));
        completion += static_cast<double>(job.end - job.submit);
    }
    metrics.wait_mean = mean(waits);
    metrics.bsld_mean = mean(slowdowns);
    metrics.completion_mean = completion / static_cast<double>(records.size());
    std::sort(waits.begin(), waits.end());
    std::sort(slowdowns.begin(), slowdowns.end());
    metrics.wait_p50 = percentile(waits, 0.5);
    metrics.wait_p95 = percentile(waits, 0.95);
    metrics.wait_max = waits.back();
    metrics.bsld_p50 = percentile(slowdowns, 0.5);
    metrics.bsld_p95 = percentile(slowdowns, 0.95);
    metrics.bsld_max = slowdowns.back();
}

}  // namespace

double percentile(std::span<const double> sorted, double share) {
    if (sorted.empty()) return 0;
    const double at = share * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<std::size_t>(at);
    const std::size_t high = std::min(low + 1, sorted.size() - 1);
    return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

std::string schedule_text(std::span<const JobRecord> records) {
    std::vector<std::pair<std::int64_t, std::int64_t>> starts;
    starts.reserve(records.size());
    for (const JobRecord& job : records) starts.emplace_back(job.id, job.start);
    std::sort(starts.begin(), starts.end());
    std::string text;
    for (const auto& [id, start] : starts) {
        text += std::to_string(id) + " " + std::to_string(start) + "\n";
    }
    return text;
}

void summarise(std::span<const JobRecord> records, std::int64_t capacity, Metrics& metrics) {
    metrics.jobs = records.size();
    metrics.capacity = capacity;
    metrics.schedule_sha256 = sha256_hex(schedule_text(records));
    if (records.empty()) return;
    summarise_waits(records, metrics);
    std::int64_t first = records.front().submit;
    std::int64_t last = first;
    std::int64_t end = first;
    for (const JobRecord& job : records) {
        first = std::min(first, job.submit);
        last = std::max(last, job.submit);
        end = std::max(end, job.end);
    }
    double all = 0;
    double inside = 0;
    for (const JobRecord& job : records) {
        const auto size = static_cast<double>(job.size);
        all += size * static_cast<double>(job.run);
        const std::int64_t from = std::max(job.start, first);
        const std::int64_t to = std::min(job.start + job.run, last);
        if (to > from) inside += size * static_cast<double>(to - from);
    }
    metrics.makespan = end - first;
    const auto machine = static_cast<double>(capacity);
    if (end > first) metrics.util = all / (machine * static_cast<double>(end - first));
    if (last > first) {
        metrics.util_submit_window = inside / (machine * static_cast<double>(last - first));
    }
}

std::string printable(const std::string& text) {
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        out += byte < 0x20 || byte == 0x7F ? '?' : c;
    }
    return out;
}

std::string to_json(const Metrics& m) {
    nlohmann::ordered_json out;
    out["policy"] = m.policy;
    out["jobs"] = m.jobs;
    out["capacity"] = m.capacity;
    out["wait_mean"] = m.wait_mean;
    out["wait_p50"] = m.wait_p50;
    out["wait_p95"] = m.wait_p95;
    out["wait_max"] = m.wait_max;
    out["bsld_mean"] = m.bsld_mean;
    out["bsld_p50"] = m.bsld_p50;
    out["bsld_p95"] = m.bsld_p95;
    out["bsld_max"] = m.bsld_max;
    out["completion_mean"] = m.completion_mean;
    out["util"] = m.util;
    out["util_submit_window"] = m.util_submit_window;
    out["makespan"] = m.makespan;
    out["preemptions"] = m.preemptions;
    out["deadlines"] = m.deadlines;
    out["deadline_misses"] = m.deadline_misses;
    out["cost"] = m.cost;
    out["decisions"] = m.decisions;
    out["decisions_per_s"] = m.decisions_per_s;
    out["backfilled"] = m.backfilled;
    out["max_queue"] = m.max_queue;
    out["skipped"] = m.skipped;
    out["ignored_lines"] = m.ignored_lines;
    out["schedule_sha256"] = m.schedule_sha256;
    return out.dump(2);
}

std::string to_table(const Metrics& m) {
    std::string out;
    const auto row = [&out](const char* name, const char* format, double value) {
        std::array<char, 96> line{};
        std::snprintf(line.data(), line.size(), "%-22s ", name);
        out += line.data();
        std::snprintf(line.data(), line.size(), format, value);
        out += line.data();
        out += '\n';
    };
    out += "policy                 " + m.policy + "\n";
    row("jobs", "%.0f", static_cast<double>(m.jobs));
    row("wait mean", "%.1f s", m.wait_mean);
    row("wait 95 %", "%.1f s", m.wait_p95);
    row("wait max", "%.0f s", m.wait_max);
    row("slowdown mean", "%.3f", m.bsld_mean);
    row("slowdown 95 %", "%.3f", m.bsld_p95);
    row("completion mean", "%.1f s", m.completion_mean);
    row("use (submit window)", "%.2f %%", 100 * m.util_submit_window);
    row("makespan", "%.0f s", static_cast<double>(m.makespan));
    if (m.preemptions > 0) row("preemptions", "%.0f", static_cast<double>(m.preemptions));
    if (m.deadlines > 0) row("deadline misses", "%.0f", static_cast<double>(m.deadline_misses));
    if (m.cost > 0) row("cost", "%.2f", m.cost);
    row("decisions per second", "%.0f", m.decisions_per_s);
    if (m.skipped > 0) row("skipped jobs", "%.0f", static_cast<double>(m.skipped));
    if (m.ignored_lines > 0) row("ignored lines", "%.0f", static_cast<double>(m.ignored_lines));
    return out;
}

}  // namespace reeve::sim
