#include "cli/result.h"

#include <chrono>
#include <thread>

#include "cli/catalogue.h"
#include "cli/gather.h"
#include "cli/json_writer.h"
#include "cli/render.h"
#include "cli/text.h"

namespace reeve::cli {

namespace {

// The history follows the ledger at a distance of milliseconds, more under load.
constexpr std::chrono::milliseconds kPause{20};
constexpr std::chrono::seconds kPatience{10};

std::string base64(std::string_view bytes) {
    constexpr const char* kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const auto left = std::min<std::size_t>(3, bytes.size() - at);
        std::uint32_t group = 0;
        for (std::size_t i = 0; i < 3; ++i) {
            group = group << 8 | (i < left ? static_cast<unsigned char>(bytes[at + i]) : 0U);
        }
        for (std::size_t i = 0; i < 4; ++i) {
            out += i <= left ? kDigits[group >> (18 - 6 * i) & 63] : '=';
        }
    }
    return out;
}

std::uint64_t wanted_count(const Selected& selected, const v1::JobStatus& status) {
    if (selected.elements.empty()) return status.elements();
    std::uint64_t count = 0;
    for (const auto& range : selected.elements) count += range.last - range.first + 1;
    return count;
}

void write_json(JsonWriter& json, std::uint64_t job, const History::FunctionResult& row) {
    json.begin_object().field("job", job).field("element", row.element);
    json.field("attempt", row.attempt).field("outcome", row.outcome);
    json.field("detail", row.detail).field("bytes", row.bytes.size());
    json.field("result_base64", base64(row.bytes)).end_object();
}

}  // namespace

// All that was asked for, once the history has it; an error when something has not ended.
Result<std::vector<History::FunctionResult>> results_of(const Context& context,
                                                        const Selected& selected,
                                                        std::uint64_t limit) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (true) {
        Gatherer gatherer(context);
        if (gatherer.nothing()) return fail(gatherer.segment_error());
        REEVE_TRY_ASSIGN(const auto status, gatherer.status(selected.job));
        auto rows = gatherer.history() == nullptr
                        ? std::vector<History::FunctionResult>{}
                        : gatherer.history()->function_results(selected, limit);
        if (rows.size() >= std::min(limit, wanted_count(selected, status))) return rows;
        const auto ended = status.succeeded() + status.failed() + status.cancelled();
        const bool late = status.state() == "ended" || ended > rows.size();
        if (!late || std::chrono::steady_clock::now() >= until) {
            return fail(ErrorCode::kNotFound,
                        "job " + std::to_string(selected.job) + " has " +
                            std::to_string(rows.size()) + " of the results asked for; wait for " +
                            "them with: reeve wait " + std::to_string(selected.job));
        }
        std::this_thread::sleep_for(kPause);
    }
}

int result_command(const Context& context, const ResultOptions& options) {
    const auto selected = select_known(context, options.selectors);
    if (!selected) return report(selected.error());
    JsonWriter json;
    json.begin_object().field("schema", "reeve.result.v1").key("results").begin_array();
    int code = kExitOk;
    for (const auto& one : *selected) {
        const auto rows = results_of(context, one, options.limit);
        if (!rows) return report(rows.error());
        const bool several = rows->size() > 1 || selected->size() > 1;
        for (const auto& row : *rows) {
            if (context.json) {
                write_json(json, one.job, row);
            } else if (row.outcome == "succeeded") {
                write_out(row.bytes);
                if (several) write_out("\n");
            } else {
                const auto id = std::to_string(one.job) +
                                (several ? "." + std::to_string(row.element) : std::string());
                warn("task " + id + " " + row.outcome +
                     (row.detail.empty() ? "" : ": " + row.detail));
                if (several) write_out("\n");
            }
            if (row.outcome != "succeeded") code = kExitFailed;
        }
    }
    if (context.json) json.end_array().end_object().print();
    return finish(code);
}

}  // namespace reeve::cli
