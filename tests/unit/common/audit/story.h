// Story writes audit entries as the PLM does: chains, attempts and causes right by construction.
//
// Each call appends one entry and returns its index; `entries` holds the bytes. The `raw` hook lets
// a test spoil an entry before it is encoded.
#pragma once

#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/files.h"

#include "common/audit/entry.h"
#include "common/audit/log.h"

namespace reeve::audit::testing {

using reeve::test::read_file;
using reeve::test::write_file;

class Story {
public:
    std::vector<std::string> entries;
    std::function<void(Entry&)> raw;

    Story() { scheduler(Kind::kLogOpened); }

    std::uint64_t scheduler(Kind kind) { return add(kind, {}, {}, {}, 0); }
    std::uint64_t worker(Kind kind, std::uint64_t number) {
        return add(kind, {}, {number, 1}, {}, 0);
    }
    std::uint64_t submit(std::uint64_t job) { return task(Kind::kTaskSubmitted, job); }
    std::uint64_t task(Kind kind, std::uint64_t job) { return add(kind, {job, 0}, {}, {}, 0); }
    std::uint64_t assign(std::uint64_t job, std::uint64_t to) {
        ++attempts_[job];
        holders_[job] = to;
        return report(Kind::kAssigned, job);
    }
    std::uint64_t report(Kind kind, std::uint64_t job) {
        return add(kind, {job, 0}, {holders_[job], 1}, {}, attempts_[job]);
    }
    std::uint64_t requeue(std::uint64_t job, std::uint64_t cause = kNoIndex) {
        return add(Kind::kRequeued, {job, 0}, {}, {holders_[job], 1}, attempts_[job], cause);
    }
    std::uint64_t reassign(std::uint64_t job, std::uint64_t to, std::uint64_t cause) {
        const Id peer{holders_[job], 1};
        ++attempts_[job];
        holders_[job] = to;
        return add(Kind::kReassigned, {job, 0}, {to, 1}, peer, attempts_[job], cause);
    }
    // A task that runs well: four entries.
    void run_task(std::uint64_t job, std::uint64_t on) {
        submit(job);
        assign(job, on);
        report(Kind::kStarted, job);
        report(Kind::kFinished, job);
    }
    // A worker dies and its task goes to another: seven entries and one death.
    std::uint64_t lose_task(std::uint64_t job, std::uint64_t from, std::uint64_t to) {
        submit(job);
        assign(job, from);
        report(Kind::kStarted, job);
        const std::uint64_t death = worker(Kind::kWorkerDead, from);
        requeue(job, death);
        assign(job, to);
        report(Kind::kStarted, job);
        report(Kind::kFinished, job);
        return death;
    }

    std::uint64_t add(Kind kind, Id task, Id worker, Id peer, std::uint16_t attempt,
                      std::uint64_t cause = kNoIndex, std::string_view detail = {}) {
        Entry entry;
        entry.kind = kind;
        entry.task = task;
        entry.worker = worker;
        entry.peer = peer;
        entry.attempt = attempt;
        entry.time_ns = 1'763'760'000'000'000'000ULL + entries.size();
        entry.cause = cause;
        entry.detail = detail;
        const auto subject = std::pair(static_cast<int>(subject_of(kind)), subject_id(entry));
        auto& chain = chains_[subject];
        entry.seq = chain.next_seq++;
        entry.prev = chain.last;
        if (raw) raw(entry);
        chain.last = entries.size();
        entries.push_back(encode(entry));
        return chain.last;
    }

private:
    struct Chain {
        std::uint64_t next_seq = 0;
        std::uint64_t last = kNoIndex;
    };
    std::map<std::pair<int, Id>, Chain> chains_;
    std::map<std::uint64_t, std::uint16_t> attempts_;
    std::map<std::uint64_t, std::uint64_t> holders_;
};

// A ledger that holds all of these entries from `first` on.
inline EntryProvider ledger_of(const std::vector<std::string>& entries, std::uint64_t first = 0) {
    EntryProvider provider;
    provider.first = first;
    provider.end = entries.size();
    provider.read = [&entries](std::uint64_t begin, std::uint64_t count,
                               std::vector<std::string>& out) -> Status {
        for (std::uint64_t i = begin; i < begin + count; ++i) out.push_back(entries[i]);
        return {};
    };
    return provider;
}

inline LogOptions options_in(const std::string& directory) {
    return {directory + "/audit", directory + "/audit.key", "reeve.example/test"};
}

// Writes a whole log and returns its checkpoint.
inline std::string write_log(const std::string& directory,
                             const std::vector<std::string>& entries) {
    auto log = AuditLog::open(options_in(directory), ledger_of(entries));
    if (!log) return "error: " + log.error().message;
    log->append(std::span(entries).subspan(log->size()));
    if (auto done = log->publish(); !done) return "error: " + done.error().message;
    return log->checkpoint();
}

inline std::string unhex(const std::string& hex) {
    std::string out;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
        out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    return out;
}

inline const nlohmann::json& demo() {
    static const nlohmann::json vectors = [] {
        std::ifstream file(REEVE_TEST_DATA "/audit_vectors.json");
        return nlohmann::json::parse(file).at("demo");
    }();
    return vectors;
}
inline std::string demo(const char* name) {
    return demo().at(name).get<std::string>();
}
inline std::vector<std::string> demo_entries() {
    std::vector<std::string> entries;
    for (const auto& entry : demo()["entries"]) {
        entries.push_back(unhex(entry["hex"].get<std::string>()));
    }
    return entries;
}

}  // namespace reeve::audit::testing
