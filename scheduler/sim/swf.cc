#include "scheduler/sim/swf.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <unordered_set>

#include "scheduler/sim/lines.h"

namespace reeve::sim {
namespace {

constexpr std::array<std::string_view, 18> kFieldNames{
    "1 (job)",        "2 (submit)",     "3 (wait)",       "4 (run)",        "5 (allocated)",
    "6 (cpu)",        "7 (memory)",     "8 (requested)",  "9 (time limit)", "10 (memory)",
    "11 (status)",    "12 (user)",      "13 (group)",     "14 (program)",   "15 (queue)",
    "16 (partition)", "17 (preceding)", "18 (think time)"};
constexpr std::size_t kFieldsMin = 12;
constexpr double kMost = 9.0e15;  // exact in a double, and no sum of ours overflows
constexpr std::size_t kJobsMax = 50'000'000;

struct Fields {
    std::array<std::int64_t, 18> value{};
    std::size_t count = 0;
};

// "; MaxProcs: 128" -> 128
std::optional<std::int64_t> header_value(std::string_view line, std::string_view key) {
    const std::size_t at = line.find(key);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string rest(line.substr(at + key.size(), 32));
    char* end = nullptr;
    const long long value = std::strtoll(rest.c_str(), &end, 10);
    if (end == rest.c_str() || value <= 0) return std::nullopt;
    return value;
}

Status split(const LineReader& reader, std::string_view line, Fields& fields) {
    fields = Fields{};
    std::size_t at = 0;
    while (true) {
        at = line.find_first_not_of(" \t", at);
        if (at == std::string_view::npos) return {};
        const std::size_t end = std::min(line.find_first_of(" \t", at), line.size());
        if (fields.count < fields.value.size()) {
            double number = 0;
            const std::string_view text = line.substr(at, end - at);
            if (!parse_number(text, number) || number > kMost || number < -kMost) {
                return fail(
                    reader.error(kFieldNames[fields.count],
                                 "\"" + std::string(text.substr(0, 40)) + "\" is not a number"));
            }
            fields.value[fields.count++] = static_cast<std::int64_t>(number);
        }
        at = end;
    }
}

SwfJob job_of(const Fields& fields) {
    SwfJob out;
    out.job.id = fields.value[0];
    out.job.submit = fields.value[1];
    out.run = fields.value[3];
    out.job.size = std::max(fields.value[4], fields.value[7]);
    out.job.estimate = fields.value[8];
    out.job.user = fields.value[11];
    out.job.program = fields.count > 13 ? fields.value[13] : -1;
    return out;
}

// Applies the rules for estimates; false when the job takes no part.
bool normalise(SwfJob& job, std::int64_t machine) {
    if (job.job.submit < 0 || job.job.size <= 0 || job.run < 0 || job.job.size > machine) {
        return false;
    }
    if (job.job.estimate <= 0) job.job.estimate = std::max<std::int64_t>(job.run, 1);
    job.run = std::min(job.run, job.job.estimate);
    return true;
}

}  // namespace

Result<SwfTrace> read_swf(const std::string& path) {
    REEVE_TRY_ASSIGN(LineReader reader, LineReader::open(path));
    SwfTrace trace;
    std::optional<std::int64_t> procs;
    std::optional<std::int64_t> nodes;
    std::vector<SwfJob> read;
    std::unordered_set<std::int64_t> ids;
    std::string_view line;
    Fields fields;
    while (true) {
        REEVE_TRY_ASSIGN(const bool more, reader.next(line));
        if (!more) break;
        if (!line.empty() && line.front() == ';') {
            if (const auto value = header_value(line, "MaxProcs:")) procs = value;
            if (const auto value = header_value(line, "MaxNodes:")) nodes = value;
            continue;
        }
        REEVE_TRY(split(reader, line, fields));
        if (fields.count < kFieldsMin) {
            trace.ignored_lines += fields.count > 0 ? 1 : 0;
            continue;
        }
        if (!ids.insert(fields.value[0]).second) {
            return fail(reader.error(
                kFieldNames[0], "job " + std::to_string(fields.value[0]) + " was already listed"));
        }
        if (read.size() >= kJobsMax) return fail(reader.error(kFieldNames[0], "too many jobs"));
        read.push_back(job_of(fields));
    }
    std::int64_t widest = 0;
    for (const SwfJob& job : read) widest = std::max(widest, job.job.size);
    trace.machine = procs ? *procs : nodes ? *nodes : widest;
    for (SwfJob& job : read) {
        if (normalise(job, trace.machine)) {
            trace.jobs.push_back(job);
        } else {
            ++trace.skipped;
        }
    }
    std::sort(trace.jobs.begin(), trace.jobs.end(), [](const SwfJob& a, const SwfJob& b) {
        return std::pair(a.job.submit, a.job.id) < std::pair(b.job.submit, b.job.id);
    });
    return trace;
}

}  // namespace reeve::sim
