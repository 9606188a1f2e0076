#include "cli/events.h"

#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/catalogue.h"
#include "cli/gather.h"
#include "cli/json_writer.h"
#include "cli/selectors.h"
#include "cli/text.h"
#include "common/audit/entry.h"
#include "common/base/clock.h"
#include "common/rpc/client.h"
#include "common/rpc/status.h"

namespace reeve::cli {

namespace {

constexpr std::uint64_t kLostPlmNs = 30 * kSecond;
constexpr std::chrono::milliseconds kLedgerTimeout{10 * 60'000};

void write_id(JsonWriter& json, const char* name, audit::Id id, bool task) {
    json.key(name);
    if (id.none()) {
        json.null();
        return;
    }
    json.begin_object().field(task ? "job" : "worker", id.high);
    if (!task) {
        json.field("incarnation", id.low);
    } else if (id.low == kHeaderElement) {
        json.key("element").null();  // the array as a whole
    } else {
        json.field("element", id.low);
    }
    json.end_object();
}

std::string line_of(std::uint64_t index, const audit::Entry& entry) {
    JsonWriter json;
    json.begin_object().field("schema", "reeve.event.v1").field("index", index);
    json.field("time", format_iso_ns(entry.time_ns));
    json.field("kind", audit::to_string(entry.kind));
    write_id(json, "task", entry.task, true);
    json.field("attempt", entry.attempt);
    write_id(json, "worker", entry.worker, false);
    write_id(json, "peer", entry.peer, false);
    json.field("code", entry.code);
    // Other details are digests; those of administration are words.
    json.field("detail", entry.kind == audit::Kind::kAdmin ? entry.detail : "");
    json.end_object();
    return json.text();
}

class EventPrinter {
public:
    EventPrinter(const Context& context, const EventsOptions& options, rpc::Client& client)
        : context_(context), options_(options), client_(client) {
        request_.set_from(options.from.value_or(0));
        request_.set_live_only(!options.from);
        request_.set_follow(options.follow);
    }

    v1::EventsRequest& request() { return request_; }

    int run() {
        auto last_heard = boot_ns();
        while (true) {
            const auto before = request_.from();
            const auto begun = boot_ns();
            const auto status = stream();
            if (done_ || status) return finish(kExitOk);
            // A stream that stood for a while was heard, too, even where nothing happened.
            if (request_.from() != before || boot_ns() - begun > kSecond) last_heard = boot_ns();
            // A PLM that ends may cancel its streams before it says why.
            const bool went_away = status.error().code == ErrorCode::kUnavailable ||
                                   status.error().code == ErrorCode::kCancelled;
            if (!went_away) return report(status.error());
            if (boot_ns() - last_heard > kLostPlmNs || !rpc::cell_is_run(context_.cell)) {
                return report(rpc::unreachable(context_.cell, "the PLM went away"));
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(rpc::kBackoffMs));
            client_.await_connection(std::chrono::seconds(1));
        }
    }

private:
    Status stream() {
        grpc::ClientContext call;
        rpc::Client::prepare(call, std::chrono::milliseconds(0));
        auto reader = client_.stub().Events(&call, request_);
        v1::EventsReply reply;
        while (!done_ && reader->Read(&reply)) {
            for (const auto& event : reply.events()) {
                if (!print(event)) break;
            }
            request_.set_from(reply.next());
            request_.set_live_only(false);
            if (std::fflush(stdout) != 0) done_ = true;
        }
        if (done_) call.TryCancel();
        return rpc::from_grpc(reader->Finish());
    }

    bool print(const v1::AuditEvent& event) {
        const auto entry = audit::decode(event.entry());
        if (!entry) {
            warn("event " + std::to_string(event.index()) + " is of a kind this reeve does not " +
                 "know; use the reeve of the cell");
            return true;
        }
        write_out(line_of(event.index(), *entry) + "\n");
        ++told_;
        done_ = (options_.count != 0 && told_ >= options_.count) || std::ferror(stdout) != 0;
        return !done_;
    }

    const Context& context_;
    const EventsOptions& options_;
    rpc::Client& client_;
    v1::EventsRequest request_;
    std::uint64_t told_ = 0;
    bool done_ = false;
};

}  // namespace

int events_command(const Context& context, const EventsOptions& options) {
    auto client = rpc::Client::connect(context.cell, warn);
    if (!client) return report(client.error());
    EventPrinter printer(context, options, **client);
    if (!options.selectors.empty()) {
        const auto parsed = parse_selectors(options.selectors);
        if (!parsed) return report(parsed.error());
        const auto selected = select_jobs(context, *parsed, Scope::kKnown);
        if (!selected) return report(selected.error());
        for (const auto& one : *selected) {
            if (!one.elements.empty()) {
                return report(Error{ErrorCode::kInvalidArgument,
                                    "events are chosen by job; write " + std::to_string(one.job) +
                                        " without elements"});
            }
            printer.request().add_jobs(one.job);
        }
    }
    // Waits for a PLM that is being restarted, and refuses one of another version at once.
    const auto info = (*client)->call(&v1::Reeve::Stub::ServerInfo, v1::ServerInfoRequest());
    if (!info) return report(info.error());
    for (const auto job : printer.request().jobs()) {
        if (job > info->last_job_id()) return report(unknown_job(job));
    }
    return printer.run();
}

int ledger_command(const Context& context, bool prune) {
    auto client = rpc::Client::connect(context.cell, warn);
    if (!client) return report(client.error());
    v1::LedgerRequest request;
    request.set_action(prune ? v1::LEDGER_PRUNE : v1::LEDGER_FLUSH);
    const auto reply = (*client)->call(&v1::Reeve::Stub::Ledger, request, kLedgerTimeout);
    if (!reply) return report(reply.error());
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.ledger.v1");
        json.field("action", prune ? "prune" : "flush");
        json.field("bytes_before", reply->bytes_before())
            .field("bytes_after", reply->bytes_after());
        json.field("batches_before", reply->batches_before());
        json.field("batches_after", reply->batches_after());
        json.field("durable_seq", reply->durable_seq());
        json.field("audit_leaves", reply->audit_leaves()).end_object().print();
    } else if (!context.quiet) {
        const auto sizes = format_bytes(reply->bytes_before()) + " before, " +
                           format_bytes(reply->bytes_after()) + " now";
        write_out(prune ? "pruned to what is live: " + sizes + ", " +
                              std::to_string(reply->batches_before() - reply->batches_after()) +
                              " batches dropped\n"
                        : "flushed up to batch " + std::to_string(reply->durable_seq()) + ": " +
                              sizes + "\n");
    }
    return finish(kExitOk);
}

}  // namespace reeve::cli
