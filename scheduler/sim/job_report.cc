// What `reeve sim jobs.json nodes.json` prints: a table, JSON, and a timeline page.
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

#include <nlohmann/json.hpp>

#include "scheduler/sim/job_sim.h"

namespace reeve::sim {
namespace {

std::string names_of(const Attempt& attempt, const Workload& workload) {
    std::string out;
    for (const std::uint32_t node : attempt.nodes) {
        if (!out.empty()) out += ',';
        out += workload.nodes[node].offer.name;
    }
    return out;
}

std::string for_page(const std::string& text) {
    std::string out;
    for (const char c : printable(text)) {
        switch (c) {
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '&':
                out += "&amp;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                out += c;
        }
    }
    return out;
}

template <typename... Args>
void add_line(std::string& out, const char* format, Args... args) {
    std::array<char, 512> line{};
    std::snprintf(line.data(), line.size(), format, args...);
    out += line.data();
}

std::map<std::string, double> cost_by(const JobSimResult& result, const Workload& workload,
                                      bool by_user) {
    std::map<std::string, double> costs;
    for (const Attempt& attempt : result.attempts) {
        const sched::ClusterJob& job = workload.jobs[attempt.job].job;
        const std::string name = by_user ? job.user : std::string(to_string(job.want.sla));
        costs[name.empty() ? "-" : name] += attempt.cost;
    }
    return costs;
}

}  // namespace

std::string starts_text(const JobSimResult& result, const Workload& workload) {
    std::map<std::pair<std::size_t, std::string>, std::int64_t> starts;  // numbers as numbers
    for (const Attempt& attempt : result.attempts) {
        const std::string id = printable(workload.jobs[attempt.job].id);
        starts.try_emplace({id.size(), id}, attempt.start);
    }
    std::string out;
    for (const auto& [id, start] : starts) out += id.second + " " + std::to_string(start) + "\n";
    return out;
}

std::string to_table(const JobSimResult& result, const Workload& workload) {
    std::string out;
    add_line(out, "%-20s %-24s %10s %10s %10s  %s\n", "JOB", "NODE", "START", "END", "COST", "");
    for (const Attempt& attempt : result.attempts) {
        add_line(out, "%-20.64s %-24.128s %10lld %10lld %10.4f  %s\n",
                 printable(workload.jobs[attempt.job].id).c_str(),
                 printable(names_of(attempt, workload)).c_str(),
                 static_cast<long long>(attempt.start), static_cast<long long>(attempt.end),
                 attempt.cost, attempt.end_reason.c_str());
    }
    for (const auto& [job, reason] : result.rejected) {
        add_line(out, "%-20.64s rejected: %s\n", printable(workload.jobs[job].id).c_str(),
                 reason.c_str());
    }
    for (const auto& [job, reason] : result.unfinished) {
        add_line(out, "%-20.64s still waiting: %s\n", printable(workload.jobs[job].id).c_str(),
                 reason.c_str());
    }
    out += "\n" + to_table(result.metrics);
    for (const auto& [user, cost] : cost_by(result, workload, true)) {
        add_line(out, "cost of user %-10.64s %.4f\n", printable(user).c_str(), cost);
    }
    for (const auto& [sla, cost] : cost_by(result, workload, false)) {
        add_line(out, "cost of %-15s %.4f\n", sla.c_str(), cost);
    }
    return out;
}

std::string to_json(const JobSimResult& result, const Workload& workload) {
    using Json = nlohmann::ordered_json;
    Json out = Json::parse(to_json(result.metrics));
    Json attempts = Json::array();
    for (const Attempt& attempt : result.attempts) {
        Json nodes = Json::array();
        for (const std::uint32_t node : attempt.nodes) {
            nodes.push_back(workload.nodes[node].offer.name);
        }
        attempts.push_back({{"job_id", workload.jobs[attempt.job].id},
                            {"nodes", nodes},
                            {"start", attempt.start},
                            {"end", attempt.end},
                            {"cost", attempt.cost},
                            {"end_reason", attempt.end_reason}});
    }
    out["attempts"] = attempts;
    const auto list = [&](const auto& pairs) {
        Json items = Json::array();
        for (const auto& [job, reason] : pairs) {
            items.push_back({{"job_id", workload.jobs[job].id}, {"reason", reason}});
        }
        return items;
    };
    out["rejected"] = list(result.rejected);
    out["unfinished"] = list(result.unfinished);
    out["cost_by_user"] = cost_by(result, workload, true);
    out["cost_by_sla"] = cost_by(result, workload, false);
    return out.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string to_timeline(const JobSimResult& result, const Workload& workload) {
    constexpr double kWidth = 1200, kRow = 26, kLeft = 160;
    std::int64_t last = 1;
    for (const Attempt& attempt : result.attempts) last = std::max(last, attempt.end);
    const double scale = kWidth / static_cast<double>(last);
    std::string out =
        "<!doctype html><meta charset=\"utf-8\"><title>reeve sim</title>\n"
        "<style>body{font:13px sans-serif;margin:16px}text{font:11px sans-serif}"
        "rect:hover{opacity:.7}</style>\n";
    add_line(out, "<h3>%s: %zu attempts, makespan %lld s, cost %.4f</h3>\n",
             result.metrics.policy.c_str(), result.attempts.size(),
             static_cast<long long>(result.metrics.makespan), result.metrics.cost);
    add_line(out, "<svg width=\"%.0f\" height=\"%.0f\" xmlns=\"http://www.w3.org/2000/svg\">\n",
             kWidth + kLeft + 20, kRow * static_cast<double>(workload.nodes.size() + 1));
    for (std::size_t i = 0; i < workload.nodes.size(); ++i) {
        const double y = kRow * static_cast<double>(i);
        add_line(out, "<text x=\"0\" y=\"%.1f\">", y + 17);
        out += for_page(workload.nodes[i].offer.name) + "</text>\n";
        add_line(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"22\" fill=\"#eee\"/>\n",
                 kLeft, y, kWidth);
    }
    for (const Attempt& attempt : result.attempts) {
        for (const std::uint32_t node : attempt.nodes) {
            add_line(out,
                     "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"22\" "
                     "fill=\"hsl(%u,60%%,%s)\" fill-opacity=\".75\"><title>",
                     kLeft + scale * static_cast<double>(attempt.start), kRow * node,
                     std::max(1.0, scale * static_cast<double>(attempt.end - attempt.start)),
                     attempt.job * 47 % 360, attempt.end_reason.empty() ? "55%" : "75%");
            out += for_page(workload.jobs[attempt.job].id);
            add_line(out, " %lld-%lld s, cost %.4f %s</title></rect>\n",
                     static_cast<long long>(attempt.start), static_cast<long long>(attempt.end),
                     attempt.cost, attempt.end_reason.c_str());
        }
    }
    add_line(out, "<text x=\"%.0f\" y=\"%.1f\">0</text><text x=\"%.0f\" y=\"%.1f\">%lld s</text>\n",
             kLeft, kRow * static_cast<double>(workload.nodes.size()) + 14, kLeft + kWidth - 40,
             kRow * static_cast<double>(workload.nodes.size()) + 14, static_cast<long long>(last));
    return out + "</svg>\n";
}

}  // namespace reeve::sim
