// shm dump: everything in the segment, as text or JSON.
#include <algorithm>
#include <cstdio>

#include "cli/json_writer.h"
#include "cli/look.h"
#include "cli/render.h"
#include "cli/shm_command.h"
#include "cli/text.h"
#include "common/base/clock.h"
#include "common/shm/class_wants.h"
#include "common/shm/ring.h"
#include "common/shm/task_heap.h"
#include "common/shm/worker_heap.h"

namespace reeve::cli {

namespace {

const char* phase_word(shm::Phase phase) {
    switch (phase) {
        case shm::Phase::kInitialising:
            return "initialising";
        case shm::Phase::kReady:
            return "ready";
        case shm::Phase::kRetired:
            return "retired";
    }
    return "damaged";
}

std::string hex(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
    return text;
}

constexpr const char* kParticipantNames[] = {"plm", "scheduler", "register", "spare"};

// One section after the other into one JSON object; the text form is made of it by indenting, so
// that the two never differ.
class Dumper {
public:
    Dumper(const shm::Segment& segment, const ShmOptions& options)
        : segment_(segment), options_(options) {}

    std::string json() {
        json_.begin_object().field("schema", "reeve.shm-dump.v1");
        if (wanted("header")) header();
        if (wanted("participants")) participants();
        if (wanted("workers")) workers();
        if (wanted("classes")) classes();
        if (wanted("jobs")) jobs();
        if (wanted("tasks")) tasks();
        if (wanted("heaps")) heaps();
        if (wanted("rings")) rings();
        json_.end_object();
        return json_.text();
    }

private:
    bool wanted(const char* section) const {
        return options_.sections.empty() ||
               std::find(options_.sections.begin(), options_.sections.end(), section) !=
                   options_.sections.end();
    }

    // Where each part starts, in bytes from the segment's start.
    void offsets(const shm::Layout& at) {
        json_.key("offsets").begin_object().field("participants", at.participants);
        json_.field("task_slots", at.task_slots).field("chunk_owner", at.chunk_owner);
        json_.field("heap_slot_nodes", at.heap_slot_nodes);
        json_.field("heap_group_nodes", at.heap_group_nodes).field("dirty", at.dirty);
        json_.field("dirty_sum", at.dirty_sum).field("classes", at.classes);
        json_.field("workers", at.workers).field("worker_heap", at.worker_heap);
        json_.field("jobs", at.jobs).field("event_rings", at.event_rings);
        json_.field("dispatch_rings", at.dispatch_rings);
        json_.field("completion_rings", at.completion_rings).field("arena", at.arena).end_object();
    }

    void header() {
        const auto& header = segment_.header();
        json_.key("header").begin_object().field("name", segment_.name());
        json_.field("layout_version", header.layout_version);
        json_.field("layout_hash", header.layout_hash).field("total_bytes", header.total_bytes);
        json_.field("cell_id", hex(header.cell_id)).field("generation", header.generation);
        json_.field("phase", phase_word(header.phase.load())).field("epoch", header.epoch.load());
        json_.field("created", format_iso_ns(header.created_wall_ns));
        const auto& config = segment_.config();
        json_.key("config").begin_object().field("task_slots", config.task_slots);
        json_.field("classes", config.classes).field("workers", config.workers);
        json_.field("jobs", config.jobs).field("arena_bytes", config.arena_bytes).end_object();
        offsets(segment_.layout());
        json_.field("placed", header.placed.load());
        json_.field("fenced_reports", header.fenced_reports.load());
        json_.field("healed_nodes", header.healed_nodes.load());
        json_.field("backlog_tasks", header.backlog_tasks.load());
        json_.field("backlog_jobs", header.backlog_jobs.load());
        json_.field("sweep_requested", header.sweep_requested.load());
        json_.field("acknowledging", header.acknowledging.load() != 0).end_object();
    }

    void participant(const shm::Participant& who) {
        const auto beat = who.heartbeat_ns.load();
        const auto now = boot_ns();
        json_.field("pid", who.pid.load()).field("start_ticks", who.start_ticks.load());
        json_.field("epoch", who.epoch.load());
        json_.key("heartbeat_age_ms");
        beat == 0 || beat > now ? json_.null() : json_.value((now - beat) / kMillisecond);
        const auto slot = who.intent_slot.load();
        json_.key("intent_slot");
        slot == shm::kNone32 ? json_.null() : json_.value(slot);
        json_.field("asleep", who.wake.waiting.load() != 0);
    }

    void participants() {
        json_.key("participants").begin_array();
        for (std::uint32_t i = 0; i < shm::kParticipants; ++i) {
            json_.begin_object().field("role", kParticipantNames[i]);
            participant(segment_.participant(i));
            json_.end_object();
        }
        json_.end_array();
    }

    void workers() {
        const shm::WorkerRanks ranks(segment_);
        json_.key("workers").begin_array();
        for (const auto& worker : segment_workers(segment_)) {
            json_.begin_object().field("slot", worker.slot).key("worker");
            write_worker(json_, worker);
            json_.key("agent").begin_object();
            participant(segment_.worker(worker.slot).agent);
            json_.end_object();
            json_.field("rank_key", ranks.key(worker.slot)).end_object();
        }
        json_.end_array();
    }

    void classes() {
        json_.key("classes").begin_array();
        for (std::uint32_t i = 0; i < segment_.config().classes; ++i) {
            const auto& entry = segment_.task_class(i);
            if (entry.live.load() == 0) continue;
            json_.begin_object().field("class", i).field("uid", entry.uid);
            write_resources(json_, "request", entry.request);
            const auto wants = shm::read_wants(entry);
            json_.field("node", wants.node_name).key("labels").begin_array();
            for (const auto& label : wants.labels) json_.value(label);
            json_.end_array().field("sla", to_string(wants.sla)).field("spread", wants.spread);
            json_.key("max_price").decimal(wants.max_price_micro, 6);
            json_.field("closed", entry.closed.load()).end_object();
        }
        json_.end_array();
    }

    void jobs() {
        json_.key("jobs").begin_array();
        for (const auto& job : segment_jobs(segment_)) write_job(json_, job);
        json_.end_array();
    }

    void tasks() {
        json_.key("tasks").begin_array();
        for (std::uint32_t i = 0; i < segment_.config().task_slots; ++i) {
            const auto& slot = segment_.task(i);
            const auto word = shm::load_word(slot);
            if (word.state() == shm::SlotState::kFree) continue;
            json_.begin_object().field("slot", i).field("word", hex(word.raw));
            json_.field("state", shm::to_string(word.state())).field("owner", word.owner());
            json_.field("generation", word.generation()).field("attempt", word.attempt());
            json_.field("job", slot.job).field("element", slot.element);
            json_.field("class", slot.class_id).field("key", hex(slot.key.load()));
            json_.field("priority", slot.priority).field("intent", slot.intent.load());
            json_.field("flags", slot.flags).field("claim", slot.claim.load());
            json_.field("gpu_mask", slot.gpu_mask.load()).field("deaths", slot.deaths.load());
            json_.field("payload_offset", slot.payload_offset);
            json_.field("payload_bytes", slot.payload_bytes);
            json_.field("holder", slot.holder_number.load());
            json_.field("holder_incarnation", slot.holder_incarnation.load());
            json_.field("pid", slot.pid.load()).field("exit_code", slot.exit_code.load());
            json_.field("outcome", to_string(static_cast<Outcome>(slot.outcome.load())));
            json_.field("detail", fixed_text(slot.detail, sizeof slot.detail)).end_object();
        }
        json_.end_array();
    }

    void heaps() {
        const shm::BasicTaskHeap<shm::LivePolicy> heap(segment_);
        json_.key("heaps").begin_array();
        for (std::uint32_t chunk = 0; chunk < heap.chunk_count(); ++chunk) {
            const auto owner = segment_.chunk_owner(chunk).load();
            bool damaged = false;
            const auto head = heap.chunk_head(chunk, &damaged);
            if (owner == shm::kNone32 && !head && !damaged) continue;
            json_.begin_object().field("chunk", chunk).key("class");
            owner == shm::kNone32 ? json_.null() : json_.value(owner);
            json_.key("head");
            if (head) {
                json_.begin_object().field("key", hex(head->key)).field("slot", head->slot);
                json_.end_object();
            } else {
                json_.null();
            }
            json_.field("damaged", damaged).end_object();
        }
        json_.end_array();
    }

    template <typename Ring>
    void ring(const std::string& name, const Ring& ring) {
        if (ring.tail() == 0 && ring.head() == 0) return;
        json_.begin_object().field("ring", name).field("head", ring.head());
        json_.field("tail", ring.tail()).field("waiting", ring.size());
        json_.field("capacity", ring.capacity()).end_object();
    }

    void rings() {
        json_.key("rings").begin_array();
        for (std::uint32_t i = 0; i < shm::event_ring_count(segment_); ++i) {
            ring(ring_name(i), shm::event_ring(segment_, i));
        }
        for (std::uint32_t i = 0; i < segment_.config().workers; ++i) {
            ring("dispatch " + std::to_string(i), shm::dispatch_ring(segment_, i));
            ring("completion " + std::to_string(i), shm::completion_ring(segment_, i));
        }
        json_.end_array();
    }

    const shm::Segment& segment_;
    const ShmOptions& options_;
    JsonWriter json_;
};

// The JSON for people: a title per section, a line per member or item of it, no quotes and commas.
class Lines {
public:
    explicit Lines(const std::string& json) : json_(json) {}

    std::string text() {
        for (at_ = 0; at_ < json_.size(); ++at_) {
            const char c = json_[at_];
            if (c == '"') {
                string();
            } else if (c == '{' || c == '[') {
                open(c);
            } else if (c == '}' || c == ']') {
                close(c);
            } else if (c == ',') {
                depth_ <= 2 ? flush() : append(' ');
            } else if (c == ':') {
                append(depth_ > 2 ? '=' : depth_ == 2 ? ' ' : ':');
                if (depth_ == 1) append(' ');
            } else {
                append(c);
            }
        }
        return std::move(out_);
    }

private:
    void append(char c) { line_ += c; }
    void string() {
        for (++at_; at_ < json_.size() && json_[at_] != '"'; ++at_) {
            if (json_[at_] == '\\') append(json_[at_++]);
            append(json_[at_]);
        }
    }
    void open(char bracket) {
        if (depth_ == 1) {
            flush();
            list_ = bracket == '[';
        }
        ++depth_;
        const bool item = depth_ == 3 && list_ && bracket == '{';
        if (depth_ > 2 && !item) append(bracket);
    }
    void close(char bracket) {
        const bool item = depth_ == 3 && list_ && bracket == '}';
        if (depth_ == 2 || item) {
            flush();
        } else if (depth_ > 2) {
            append(bracket);
        }
        --depth_;
    }
    void flush() {
        if (!line_.empty()) out_ += std::string(depth_ >= 2 ? 2 : 0, ' ') + line_ + "\n";
        line_.clear();
    }

    const std::string& json_;
    std::size_t at_ = 0;
    int depth_ = 0;
    bool list_ = false;
    std::string line_;
    std::string out_;
};

constexpr const char* kSections[] = {"header", "participants", "workers", "classes",
                                     "jobs",   "tasks",        "heaps",   "rings"};

}  // namespace

std::string ring_name(std::uint32_t event_ring) {
    if (event_ring == shm::kEventRingScheduler) return "events scheduler";
    if (event_ring == shm::kEventRingRegister) return "events register";
    return "events worker " + std::to_string(event_ring - shm::kEventRingFirstWorker);
}

Result<std::unique_ptr<shm::Segment>> open_for(const Context& context, const ShmOptions& options) {
    if (options.segment.empty()) return open_segment(context.cell);
    const auto name = options.segment[0] == '/' ? options.segment : "/" + options.segment;
    return shm::Segment::open(name, false);
}

int shm_dump_command(const Context& context, const ShmOptions& options) {
    for (const auto& section : options.sections) {
        const bool known =
            std::find(std::begin(kSections), std::end(kSections), section) != std::end(kSections);
        if (known) continue;
        return report(Error{ErrorCode::kInvalidArgument,
                            "--section: \"" + section +
                                "\" is no section; use header, participants, workers, classes, "
                                "jobs, tasks, heaps or rings"});
    }
    const auto segment = open_for(context, options);
    if (!segment) return report(segment.error());
    const auto json = Dumper(**segment, options).json();
    write_out(context.form() == Form::kJson ? json + "\n" : Lines(json).text());
    return finish(kExitOk);
}

}  // namespace reeve::cli
