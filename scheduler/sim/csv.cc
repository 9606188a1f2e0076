#include "scheduler/sim/csv.h"

#include <algorithm>
#include <unordered_set>

#include "scheduler/sim/lines.h"

namespace reeve::sim {
namespace {

constexpr std::size_t kRowsMax = 50'000'000;
constexpr double kMost = 9.0e15;

std::vector<std::string_view> split(std::string_view line) {
    std::vector<std::string_view> out;
    while (true) {
        const std::size_t comma = line.find(',');
        out.push_back(line.substr(0, comma));
        if (comma == std::string_view::npos) return out;
        line.remove_prefix(comma + 1);
    }
}

// One table: its header, and the current row's fields by column name.
class Table {
public:
    static Result<Table> open(const std::string& path) {
        REEVE_TRY_ASSIGN(LineReader reader, LineReader::open(path));
        Table table(std::move(reader));
        std::string_view line;
        REEVE_TRY_ASSIGN(const bool any, table.reader_.next(line));
        if (!any) return fail(table.reader_.error("header", "the file is empty"));
        for (const std::string_view name : split(line)) table.names_.emplace_back(name);
        return table;
    }
    Status require(std::string_view name) const {
        if (index(name) < names_.size()) return {};
        return fail(reader_.error(name, "the header has no such column"));
    }
    Result<bool> next() {
        std::string_view line;
        do {
            REEVE_TRY_ASSIGN(const bool more, reader_.next(line));
            if (!more) return false;
        } while (line.empty());
        if (++rows_ > kRowsMax) return fail(reader_.error("row", "too many rows"));
        fields_ = split(line);
        if (fields_.size() != names_.size()) {
            const std::size_t at = std::min(fields_.size(), names_.size() - 1);
            return fail(reader_.error(names_[at], std::to_string(fields_.size()) +
                                                      " fields where the header has " +
                                                      std::to_string(names_.size())));
        }
        return true;
    }
    std::string_view text(std::string_view name) const {
        const std::size_t at = index(name);
        return at < fields_.size() ? fields_[at] : std::string_view{};
    }
    // Not negative, or `missing` when the field is empty.
    Result<double> number(std::string_view name, double missing) const {
        const std::string_view field = text(name);
        if (field.empty()) return missing;
        double value = 0;
        if (!parse_number(field, value) || value > kMost) {
            return fail(reader_.error(
                name, "\"" + std::string(field.substr(0, 40)) + "\" is not a number"));
        }
        if (value < 0) return fail(reader_.error(name, "is negative"));
        return value;
    }
    Status integer(std::string_view name, std::int64_t& out) const {
        REEVE_TRY_ASSIGN(const double value, number(name, static_cast<double>(out)));
        out = static_cast<std::int64_t>(value);
        return {};
    }
    Status unique_id(std::string& out) {
        out = std::string(fields_.front());
        if (out.empty()) return fail(reader_.error(names_.front(), "is empty"));
        if (!ids_.insert(out).second) {
            return fail(reader_.error(names_.front(), "\"" + out + "\" was already listed"));
        }
        return {};
    }
    Error error(std::string_view field, std::string_view what) const {
        return reader_.error(field, what);
    }

private:
    explicit Table(LineReader reader) : reader_(std::move(reader)) {}
    std::size_t index(std::string_view name) const {
        return static_cast<std::size_t>(std::find(names_.begin(), names_.end(), name) -
                                        names_.begin());
    }

    LineReader reader_;
    std::vector<std::string> names_;
    std::vector<std::string_view> fields_;
    std::unordered_set<std::string> ids_;
    std::size_t rows_ = 0;
};

Status fill_job(Table& table, GpuJob& job) {
    REEVE_TRY(table.unique_id(job.id));
    if (table.text("submit_s").empty()) return fail(table.error("submit_s", "is empty"));
    if (table.text("run_s").empty()) return fail(table.error("run_s", "is empty"));
    REEVE_TRY(table.integer("submit_s", job.submit));
    REEVE_TRY(table.integer("run_s", job.run));
    job.run = std::max<std::int64_t>(job.run, 1);
    REEVE_TRY(table.integer("cpu_milli", job.cpu_milli));
    REEVE_TRY(table.integer("mem_mib", job.mem_mib));
    REEVE_TRY(table.integer("gpus", job.gpus));
    REEVE_TRY(table.integer("gpu_milli", job.gpu_milli));
    if (job.gpu_milli > 1000) return fail(table.error("gpu_milli", "is above 1000"));
    if (job.gpu_milli < 1000 && job.gpus > 1) {
        return fail(table.error("gpu_milli", "a shared GPU needs gpus = 1"));
    }
    job.gpu_model = std::string(table.text("gpu_model"));
    REEVE_TRY(table.integer("priority", job.priority));
    job.sla = std::string(table.text("sla"));
    REEVE_TRY(table.integer("deadline_s", job.deadline));
    job.user = std::string(table.text("user"));
    return {};
}

Status fill_node(Table& table, GpuNode& node) {
    REEVE_TRY(table.unique_id(node.id));
    REEVE_TRY(table.integer("cpu_milli", node.cpu_milli));
    REEVE_TRY(table.integer("mem_mib", node.mem_mib));
    REEVE_TRY(table.integer("gpus", node.gpus));
    if (node.gpus > 64) return fail(table.error("gpus", "a node has at most 64"));
    node.gpu_model = std::string(table.text("gpu_model"));
    REEVE_TRY_ASSIGN(node.price_per_hour, table.number("usd_per_h", 0));
    REEVE_TRY_ASSIGN(node.spot_price_per_hour, table.number("spot_usd_per_h", 0));
    const std::string_view spot = table.text("spot");
    if (spot != "" && spot != "0" && spot != "1") return fail(table.error("spot", "is not 0 or 1"));
    node.spot = spot == "1";
    return {};
}

}  // namespace

Result<std::vector<GpuJob>> read_gpu_jobs(const std::string& path) {
    REEVE_TRY_ASSIGN(Table table, Table::open(path));
    for (const char* name : {"job_id", "submit_s", "run_s", "gpus"}) REEVE_TRY(table.require(name));
    std::vector<GpuJob> jobs;
    while (true) {
        REEVE_TRY_ASSIGN(const bool more, table.next());
        if (!more) return jobs;
        GpuJob job;
        REEVE_TRY(fill_job(table, job));
        jobs.push_back(std::move(job));
    }
}

Result<std::vector<GpuNode>> read_gpu_nodes(const std::string& path) {
    REEVE_TRY_ASSIGN(Table table, Table::open(path));
    for (const char* name : {"node_id", "cpu_milli", "mem_mib", "gpus"}) {
        REEVE_TRY(table.require(name));
    }
    std::vector<GpuNode> nodes;
    while (true) {
        REEVE_TRY_ASSIGN(const bool more, table.next());
        if (!more) return nodes;
        GpuNode node;
        REEVE_TRY(fill_node(table, node));
        nodes.push_back(std::move(node));
    }
}

}  // namespace reeve::sim
