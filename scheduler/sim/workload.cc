// Reads jobs.json and nodes.json strictly.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

#include "scheduler/sim/job_sim.h"
#include "common/base/line_counter.h"
#include "scheduler/sim/lines.h"

namespace reeve::sim {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kBytesMax = 256U << 20;
constexpr std::size_t kItemsMax = 5'000'000;
constexpr std::int64_t kSecondsMax = 10LL * 366 * 86'400;
constexpr std::uint64_t kBytesOfMemoryMax = 1ULL << 50;

// A place in a file: "jobs.json: jobs[3].resources.memory".
class Place {
public:
    Place(std::string path, const Json& value) : path_(std::move(path)), value_(&value) {}

    const Json& value() const { return *value_; }
    Place at(const std::string& name) const { return {path_ + "." + name, (*value_)[name]}; }
    bool has(const std::string& name) const {
        return value_->contains(name) && !(*value_)[name].is_null();
    }
    tl::unexpected<Error> error(const std::string& what) const {
        return fail(ErrorCode::kInvalidArgument, path_ + ": " + what);
    }
    Status only(std::initializer_list<std::string_view> known) const {
        if (!value_->is_object()) return error("is not an object");
        for (const auto& [name, ignored] : value_->items()) {
            if (std::find(known.begin(), known.end(), name) == known.end()) {
                return error("unknown field \"" + printable(name.substr(0, 64)) + "\"");
            }
        }
        return {};
    }

private:
    std::string path_;
    const Json* value_;
};

struct Unit {
    std::string_view name;
    double factor;
};
constexpr std::array<Unit, 6> kTimeUnits{
    {{"ms", 0.001}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86'400}, {"w", 604'800}}};
constexpr std::array<Unit, 13> kSizeUnits{{{"B", 1},
                                           {"K", 1024.0},
                                           {"M", 1048576.0},
                                           {"G", 1073741824.0},
                                           {"T", 1099511627776.0},
                                           {"KB", 1e3},
                                           {"MB", 1e6},
                                           {"GB", 1e9},
                                           {"TB", 1e12},
                                           {"KiB", 1024.0},
                                           {"MiB", 1048576.0},
                                           {"GiB", 1073741824.0},
                                           {"TiB", 1099511627776.0}}};

template <std::size_t N>
Result<double> with_unit(const Place& place, const std::array<Unit, N>& units, double most) {
    const Json& value = place.value();
    double number = 0;
    if (value.is_number()) {
        number = value.get<double>();
    } else if (value.is_string()) {
        const auto text = value.get<std::string>();
        const std::size_t digits = text.find_first_not_of("0123456789.-+eE");
        const std::string unit = digits == std::string::npos ? "" : text.substr(digits);
        const auto known = std::find_if(units.begin(), units.end(),
                                        [&](const Unit& each) { return each.name == unit; });
        if (!parse_number(text.substr(0, std::min(digits, text.size())), number)) {
            return place.error("\"" + printable(text.substr(0, 40)) +
                               "\" does not begin with a number");
        }
        if (known == units.end())
            return place.error("unknown unit \"" + printable(unit.substr(0, 20)) + "\"");
        number *= known->factor;
    } else {
        return place.error("is neither a number nor text with a unit");
    }
    if (!std::isfinite(number)) return place.error("is not a finite number");
    if (number < 0) return place.error("is negative");
    if (number > most) return place.error("is too large");
    return number;
}

Status seconds(const Place& parent, const std::string& name, std::int64_t& out) {
    if (!parent.has(name)) return {};
    REEVE_TRY_ASSIGN(const double value,
                     with_unit(parent.at(name), kTimeUnits, static_cast<double>(kSecondsMax)));
    out = static_cast<std::int64_t>(std::ceil(value));
    return {};
}

Status number(const Place& parent, const std::string& name, double least, double most,
              double& out) {
    if (!parent.has(name)) return {};
    const Place place = parent.at(name);
    if (!place.value().is_number()) return place.error("is not a number");
    const auto value = place.value().get<double>();
    if (!std::isfinite(value)) return place.error("is not a finite number");
    if (value < least) return place.error(least == 0 ? "is negative" : "is too small");
    if (value > most) return place.error("is too large");
    out = value;
    return {};
}

Status text(const Place& parent, const std::string& name, std::string& out) {
    if (!parent.has(name)) return {};
    const Place place = parent.at(name);
    if (place.value().is_string()) {
        out = place.value().get<std::string>();
    } else if (place.value().is_number_integer()) {
        out = place.value().dump();
    } else {
        return place.error("is not text");
    }
    return {};
}

Status texts(const Place& parent, const std::string& name, std::vector<std::string>& out) {
    if (!parent.has(name)) return {};
    const Place place = parent.at(name);
    if (!place.value().is_array()) return place.error("is not a list");
    for (const Json& item : place.value()) {
        if (!item.is_string()) return place.error("is not a list of texts");
        out.push_back(item.get<std::string>());
    }
    return {};
}

Status flag(const Place& parent, const std::string& name, bool& out) {
    if (!parent.has(name)) return {};
    const Place place = parent.at(name);
    if (!place.value().is_boolean()) return place.error("is neither true nor false");
    out = place.value().get<bool>();
    return {};
}

// A whole number of each; a name gets the next number when it is first met.
Status named_resources(const Place& place, NamedNumbers& names, NamedCounts& out) {
    if (!place.value().is_object()) return place.error("is not an object");
    for (const auto& [name, ignored] : place.value().items()) {
        if (name == "cpu" || name == "memory" || name == "gpu") continue;
        if (!sound_resource_name(name)) {
            return place.error("\"" + printable(name.substr(0, 64)) +
                               "\" is no name of a resource");
        }
        double count = 0;
        REEVE_TRY(number(place, name, 0, NamedCounts::kCountMax, count));
        if (count != std::floor(count)) return place.at(name).error("is not a whole number");
        const auto index = number_of(names, name);
        if (!index) return place.at(name).error("is the 9th name of a resource; use at most 8");
        out.set(*index, static_cast<std::uint32_t>(count));
    }
    return {};
}

Status fill_resources(const Place& place, NamedNumbers* names, Resources& out) {
    if (names == nullptr) REEVE_TRY(place.only({"cpu", "memory", "gpu"}));
    if (names != nullptr) REEVE_TRY(named_resources(place, *names, out.named));
    double cpu = out.cpu_milli / 1000.0;
    double gpu = out.gpus;
    REEVE_TRY(number(place, "cpu", 0, 1e6, cpu));
    REEVE_TRY(number(place, "gpu", 0, 1e6, gpu));
    if (gpu != std::floor(gpu)) return place.at("gpu").error("is not a whole number");
    if (place.has("cpu")) out.cpu_milli = static_cast<std::uint32_t>(std::lround(cpu * 1000));
    if (place.has("gpu")) out.gpus = static_cast<std::uint32_t>(gpu);
    if (place.has("memory")) {
        REEVE_TRY_ASSIGN(const double bytes, with_unit(place.at("memory"), kSizeUnits,
                                                       static_cast<double>(kBytesOfMemoryMax)));
        out.memory_bytes = static_cast<std::uint64_t>(bytes);
    }
    return {};
}

Status resources(const Place& parent, NamedNumbers& names, Resources& out) {
    return parent.has("resources") ? fill_resources(parent.at("resources"), &names, out) : Status{};
}

Status preempt_mode(const Place& parent, sched::PreemptMode& out) {
    std::string name = "requeue";
    REEVE_TRY(text(parent, "preempt", name));
    constexpr std::array<std::pair<std::string_view, sched::PreemptMode>, 5> kModes{
        {{"never", sched::PreemptMode::kNever},
         {"suspend", sched::PreemptMode::kSuspend},
         {"checkpoint", sched::PreemptMode::kCheckpoint},
         {"requeue", sched::PreemptMode::kRequeue},
         {"cancel", sched::PreemptMode::kCancel}}};
    for (const auto& [known, mode] : kModes) {
        if (known == name) {
            out = mode;
            return {};
        }
    }
    return parent.at("preempt").error("is none of never, suspend, checkpoint, requeue, cancel");
}

Status fill_times(const Place& place, SimJob& out) {
    REEVE_TRY(seconds(place, "submit", out.job.submit));
    if (!place.has("run")) return place.error("needs \"run\", how long the job takes");
    REEVE_TRY(seconds(place, "run", out.run));
    out.run = std::max<std::int64_t>(out.run, 1);
    out.job.limit = out.run;
    REEVE_TRY(seconds(place, "time", out.job.limit));
    if (out.job.limit < 1) return place.at("time").error("is zero");
    REEVE_TRY(seconds(place, "minimum_run", out.job.minimum_run));
    if (place.has("deadline")) {
        std::int64_t relative = 0;
        REEVE_TRY(seconds(place, "deadline", relative));
        out.job.deadline = out.job.submit + relative;
    }
    return {};
}

Status fill_job(const Place& place, NamedNumbers& names, SimJob& out) {
    REEVE_TRY(place.only({"job_id",      "command",  "submit",    "run",    "time",
                          "minimum_run", "deadline", "resources", "nodes",  "priority",
                          "sla",         "user",     "group",     "labels", "limits",
                          "max_price",   "spread",   "preempt",   "output", "name"}));
    if (!place.has("job_id")) return place.error("needs \"job_id\"");
    REEVE_TRY(text(place, "job_id", out.id));
    REEVE_TRY(fill_times(place, out));
    out.job.want.request = Resources{1000, 0, 0};
    REEVE_TRY(resources(place, names, out.job.want.request));
    double nodes = 1;
    double priority = 0;
    REEVE_TRY(number(place, "nodes", 1, 100'000, nodes));
    REEVE_TRY(number(place, "priority", -500'000, 500'000, priority));
    out.job.nodes = static_cast<std::uint32_t>(nodes);
    out.job.priority = static_cast<std::int32_t>(priority);
    std::string sla = "standard";
    REEVE_TRY(text(place, "sla", sla));
    const auto parsed = parse_sla(sla);
    if (!parsed) return place.at("sla").error("is none of critical, standard, flexible, spot");
    out.job.want.sla = *parsed;
    REEVE_TRY(text(place, "user", out.job.user));
    REEVE_TRY(text(place, "group", out.job.group));
    REEVE_TRY(text(place, "name", out.job.name));
    REEVE_TRY(texts(place, "labels", out.job.want.labels));
    REEVE_TRY(texts(place, "limits", out.job.named_limits));
    REEVE_TRY(number(place, "max_price", 0, 1e9, out.job.want.max_price_per_hour));
    REEVE_TRY(flag(place, "spread", out.job.want.spread));
    return preempt_mode(place, out.job.preempt);
}

Status fill_node(const Place& place, NamedNumbers& names, SimNode& out) {
    REEVE_TRY(place.only({"name", "node_id", "resources", "price", "spot", "spot_price", "labels",
                          "zone", "up", "notice", "down"}));
    REEVE_TRY(text(place, place.has("name") ? "name" : "node_id", out.offer.name));
    if (out.offer.name.empty()) return place.error("needs \"name\"");
    if (!place.has("resources")) return place.error("needs \"resources\"");
    REEVE_TRY(resources(place, names, out.offer.capacity));
    REEVE_TRY(number(place, "price", 0, 1e9, out.offer.price_per_hour));
    REEVE_TRY(flag(place, "spot", out.offer.spot));
    out.offer.spot_price_per_hour = out.offer.price_per_hour;
    REEVE_TRY(number(place, "spot_price", 0, 1e9, out.offer.spot_price_per_hour));
    REEVE_TRY(texts(place, "labels", out.offer.labels));
    out.offer.labels.push_back(std::string(kNodeLabel) + out.offer.name);
    std::string zone;
    REEVE_TRY(text(place, "zone", zone));
    if (!zone.empty()) out.offer.labels.push_back("zone=" + zone);
    REEVE_TRY(seconds(place, "up", out.up_at));
    REEVE_TRY(seconds(place, "notice", out.notice_at));
    REEVE_TRY(seconds(place, "down", out.down_at));
    if (out.down_at >= 0 && out.down_at < std::max(out.up_at, out.notice_at)) {
        return place.error("goes down before it is up or warned");
    }
    return {};
}

// Checks the grammar and the depth, and notes on which line each item of a list begins: of the root
// if that is a list, else of the list `name` in it.
class Scan : public nlohmann::json_sax<Json> {
public:
    Scan(std::string_view name, const std::uint32_t& line) : name_(name), line_(line) {}

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(std::size_t) override {
        root_is_object_ = root_is_object_ || depth_ == 0;
        if (depth_ == (root_is_object_ ? 2 : 1) && (!root_is_object_ || here_)) {
            item_lines.push_back(line_);
        }
        keys_.emplace_back();
        return deeper();
    }
    bool key(string_t& name) override {
        if (depth_ == 1) here_ = name == name_;
        if (keys_.back().insert(name).second) return true;
        problem = "field \"" + printable(name.substr(0, 64)) + "\" is given twice";
        return false;
    }
    bool end_object() override {
        keys_.pop_back();
        return --depth_ >= 0;
    }
    bool start_array(std::size_t) override { return deeper(); }
    bool end_array() override { return --depth_ >= 0; }
    bool parse_error(std::size_t, const std::string& token,
                     const nlohmann::detail::exception&) override {
        problem = "not JSON near \"" + printable(token.substr(0, 40)) + "\"";
        return false;
    }

    std::vector<std::size_t> item_lines;
    std::string problem;

private:
    static constexpr int kDepthMax = 64;
    bool deeper() {
        if (++depth_ <= kDepthMax) return true;
        problem = "nested deeper than " + std::to_string(kDepthMax);
        return false;
    }

    std::string_view name_;
    const std::uint32_t& line_;
    std::vector<std::set<std::string>> keys_;
    int depth_ = 0;
    bool root_is_object_ = false;
    bool here_ = false;
};

// The items of the list, or of the list under `name`, each with its place.
struct Items {
    Json root;
    std::vector<Place> places;
};

Result<Items> read_items(const std::string& path, const std::string& name) {
    REEVE_TRY_ASSIGN(const std::string content, read_text(path, kBytesMax));
    LinePlace at;
    Scan scan(name, at.line);
    const char* end = content.data() + content.size();
    if (!Json::sax_parse(LineCounter(&at, content.data()), LineCounter(&at, end), &scan)) {
        return fail(ErrorCode::kInvalidArgument,
                    path + ": line " + std::to_string(at.line) + ": " + scan.problem);
    }
    Items out{Json::parse(content, nullptr, false), {}};
    const Json* list = &out.root;
    if (list->is_object() && list->contains(name)) list = &(*list)[name];
    if (!list->is_array()) {
        return fail(ErrorCode::kInvalidArgument, path + ": no list of " + name + " in it");
    }
    if (list->size() > kItemsMax) {
        return fail(ErrorCode::kInvalidArgument, path + ": too many " + name);
    }
    for (std::size_t i = 0; i < list->size(); ++i) {
        const std::string item = name + "[" + std::to_string(i) + "]";
        if (!(*list)[i].is_object()) {
            return fail(ErrorCode::kInvalidArgument, path + ": " + item + ": is not an object");
        }
        out.places.emplace_back(
            path + ": line " + std::to_string(scan.item_lines.at(i)) + ": " + item, (*list)[i]);
    }
    return out;
}

// The tables beside "jobs": named limits, budgets, shares and quotas.
Status fill_tables(const Place& root, sched::ClusterOptions& out) {
    REEVE_TRY(root.only({"jobs", "limits", "budgets", "shares", "quotas"}));
    const auto each = [&](const char* table, auto&& fill) -> Status {
        if (!root.has(table)) return {};
        const Place place = root.at(table);
        if (!place.value().is_object()) return place.error("is not an object");
        for (const auto& [name, ignored] : place.value().items()) REEVE_TRY(fill(place, name));
        return {};
    };
    const Status limits = each("limits", [&](const Place& place, const std::string& name) {
        double count = 0;
        Status read = number(place, name, 0, 1e6, count);
        out.named_limits[name] = static_cast<std::uint32_t>(count);
        return read;
    });
    REEVE_TRY(limits);
    REEVE_TRY(each("budgets", [&](const Place& place, const std::string& name) {
        return number(place, name, 0, 1e12, out.user_budget[name]);
    }));
    REEVE_TRY(each("shares", [&](const Place& place, const std::string& name) {
        return number(place, name, 0, 1e6, out.shares[name]);
    }));
    return each("quotas", [&](const Place& place, const std::string& name) {
        Resources& quota = out.user_quota[name];
        quota = Resources{~0U, ~0U, ~0ULL};
        return fill_resources(place.at(name), nullptr, quota);
    });
}

}  // namespace

std::optional<std::size_t> number_of(NamedNumbers& names, std::string_view name) {
    const auto known = std::find(names.begin(), names.end(), name);
    const auto index = static_cast<std::size_t>(known - names.begin());
    if (index == NamedCounts::kNamedMax) return std::nullopt;
    if (known == names.end()) names.emplace_back(name);
    return index;
}

Result<std::vector<SimNode>> read_nodes(const std::string& path, NamedNumbers& resource_names) {
    std::vector<SimNode> out;
    std::set<std::string> names;
    REEVE_TRY_ASSIGN(const Items nodes, read_items(path, "nodes"));
    for (const Place& place : nodes.places) {
        SimNode node;
        REEVE_TRY(fill_node(place, resource_names, node));
        if (!names.insert(node.offer.name).second) {
            return place.error("node \"" + printable(node.offer.name.substr(0, 64)) +
                               "\" was already listed");
        }
        out.push_back(std::move(node));
    }
    return out;
}

Result<Workload> read_workload(const std::string& jobs_path, const std::string& nodes_path) {
    Workload out;
    std::set<std::string> ids;
    NamedNumbers resource_names;
    REEVE_TRY_ASSIGN(const Items jobs, read_items(jobs_path, "jobs"));
    if (jobs.root.is_object()) {
        REEVE_TRY(fill_tables(Place(jobs_path + ": root", jobs.root), out.options));
    }
    for (const Place& place : jobs.places) {
        SimJob job;
        REEVE_TRY(fill_job(place, resource_names, job));
        if (!ids.insert(job.id).second) {
            return place.error("job_id \"" + printable(job.id.substr(0, 64)) +
                               "\" was already used");
        }
        out.jobs.push_back(std::move(job));
    }
    REEVE_TRY_ASSIGN(out.nodes, read_nodes(nodes_path, resource_names));
    std::stable_sort(out.jobs.begin(), out.jobs.end(),
                     [](const SimJob& a, const SimJob& b) { return a.job.submit < b.job.submit; });
    return out;
}

}  // namespace reeve::sim
