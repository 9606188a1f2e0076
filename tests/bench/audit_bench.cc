// What the audit log costs: one JSON line per figure {name, unit, value}. Never asserts a time.
//
//   audit_bench [entries] [directory]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <sys/resource.h>

#include "common/audit/entry.h"
#include "common/audit/log.h"
#include "common/audit/log_view.h"
#include "common/audit/rules.h"
#include "common/audit/tree_writer.h"
#include "common/audit/verify.h"
#include "common/merkle/compact_range.h"
#include "common/merkle/proof.h"
#include "tests/support/temp_directory.h"

using namespace reeve;
using namespace reeve::audit;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

double cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void tell(const char* name, const char* unit, double value) {
    std::printf("{\"name\":\"audit.%s\",\"unit\":\"%s\",\"value\":%.6g}\n", name, unit, value);
    std::fflush(stdout);
}

void check(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "audit_bench: %s\n", what);
    std::exit(1);
}

// Tasks of four entries each, as a busy cell writes them, interleaved by `width`.
std::vector<std::string> make_entries(std::size_t count) {
    std::vector<std::string> entries;
    entries.reserve(count + 8);
    Entry entry;
    entry.kind = Kind::kLogOpened;
    entries.push_back(encode(entry));
    entry.kind = Kind::kWorkerJoined;
    entry.worker = {1, 1};
    entries.push_back(encode(entry));
    constexpr std::uint64_t kWidth = 64;
    for (std::uint64_t job = 1; entries.size() < count; job += kWidth) {
        const std::uint64_t base = entries.size();
        const Kind kinds[] = {Kind::kTaskSubmitted, Kind::kAssigned, Kind::kStarted,
                              Kind::kFinished};
        for (std::uint64_t step = 0; step < 4; ++step) {
            for (std::uint64_t i = 0; i < kWidth; ++i) {
                entry = Entry{};
                entry.kind = kinds[step];
                entry.task = {job + i, 0};
                entry.seq = step;
                entry.prev = step == 0 ? kNoIndex : base + (step - 1) * kWidth + i;
                entry.time_ns = entries.size();
                if (step > 0) {
                    entry.worker = {1, 1};
                    entry.attempt = 1;
                }
                entries.push_back(encode(entry));
            }
        }
    }
    return entries;
}

void bench_hashing(const std::vector<std::string>& entries) {
    const auto begin = Clock::now();
    merkle::CompactRange range;
    for (const auto& entry : entries) range.append(merkle::leaf_hash(entry));
    tell("tree_append", "leaves/s", static_cast<double>(entries.size()) / seconds_since(begin));
    tell("compact_range_size", "bytes", static_cast<double>(range.serialise().size()));
}

void bench_rules(const std::vector<std::string>& entries) {
    Auditor auditor;
    const auto begin = Clock::now();
    for (const auto& entry : entries) {
        auto decoded = decode(entry);
        check(decoded && !auditor.add(*decoded), "the made entries break a rule");
    }
    tell("rules", "entries/s", static_cast<double>(entries.size()) / seconds_since(begin));
}

void bench_writer(const std::string& directory, const std::vector<std::string>& entries) {
    EntryProvider ledger;
    ledger.read = [](std::uint64_t, std::uint64_t, std::vector<std::string>&) { return Status{}; };
    auto log = AuditLog::open({directory + "/audit", directory + "/audit.key", "bench"}, ledger);
    check(log.has_value(), "cannot open the log");
    constexpr std::size_t kBatch = 668;  // 64 KiB of entries, as one commit of the ledger
    double appending = 0;
    double publishing = 0;
    const double cpu_before = cpu_seconds();
    std::size_t publishes = 0;
    for (std::size_t at = 0; at < entries.size();) {
        const auto begin = Clock::now();
        for (int batch = 0; batch < 60 && at < entries.size(); ++batch) {
            const std::size_t count = std::min(kBatch, entries.size() - at);
            log->append(std::span(entries).subspan(at, count));
            at += count;
        }
        appending += seconds_since(begin);
        const auto middle = Clock::now();
        check(log->publish().has_value(), "publish failed");
        publishing += seconds_since(middle);
        ++publishes;
    }
    const auto count = static_cast<double>(entries.size());
    tell("append", "ns/entry", appending / count * 1e9);
    tell("publish", "entries/s", count / publishing);
    tell("publish_call", "ms", publishing / static_cast<double>(publishes) * 1e3);
    tell("cpu", "ns/entry", (cpu_seconds() - cpu_before) / count * 1e9);
    const auto begin = Clock::now();
    check(log->sync_tiles().has_value(), "sync failed");
    tell("sync_tiles", "ms", seconds_since(begin) * 1e3);
}

void bench_small_publish(const std::string& directory, const std::vector<std::string>& entries) {
    EntryProvider ledger;
    auto log = AuditLog::open({directory + "/small", directory + "/small.key", "bench"}, ledger);
    check(log.has_value(), "cannot open the log");
    std::vector<double> times;
    for (std::size_t i = 0; i < 100; ++i) {
        log->append(std::span(entries).subspan(10 * i, 10));
        const auto begin = Clock::now();
        check(log->publish().has_value(), "publish failed");
        times.push_back(seconds_since(begin) * 1e3);
    }
    std::sort(times.begin(), times.end());
    tell("publish_10_entries_p50", "ms", times[50]);
    tell("publish_10_entries_p99", "ms", times[98]);
}

void bench_reader(const std::string& directory, std::size_t count) {
    const std::string audit = directory + "/audit";
    EntryProvider ledger;
    ledger.end = count;
    auto begin = Clock::now();
    auto reopened = AuditLog::open({audit, directory + "/audit.key", "bench"}, ledger);
    check(reopened.has_value() && reopened->size() == count, "cannot open the log again");
    tell("recovery", "ms", seconds_since(begin) * 1e3);

    VerifyOptions options;
    options.directory = audit;
    options.policy = *policy_of_directory(audit);
    for (const bool hashes_only : {false, true}) {
        options.hashes_only = hashes_only;
        const double cpu_before = cpu_seconds();
        begin = Clock::now();
        auto report = verify_directory(options);
        check(report && !report->refusal, "the log does not verify");
        tell(hashes_only ? "verify_hashes_only" : "verify", "entries/s",
             static_cast<double>(count) / seconds_since(begin));
        tell(hashes_only ? "verify_hashes_only_cpu" : "verify_cpu", "ns/entry",
             (cpu_seconds() - cpu_before) / static_cast<double>(count) * 1e9);
    }
    options.hashes_only = false;
    options.threads = 1;
    begin = Clock::now();
    check(verify_directory(options).has_value(), "verify");
    tell("verify_one_hashing_thread", "entries/s",
         static_cast<double>(count) / seconds_since(begin));

    auto view = LogView::open(audit, options.policy);
    check(view.has_value(), "cannot open the view");
    begin = Clock::now();
    constexpr std::size_t kProofs = 2000;
    std::vector<IndexedEntry> proven;
    for (std::size_t i = 0; i < kProofs; ++i) proven.push_back(*view->entry(i * 7919 % count));
    tell("prove_from_tiles", "proofs/s", kProofs / seconds_since(begin));
    begin = Clock::now();
    for (const auto& one : proven) {
        check(merkle::verify_inclusion(one.index, count, merkle::leaf_hash(one.bytes), one.proof,
                                       view->checkpoint().root),
              "a proof does not verify");
    }
    tell("verify_inclusion", "us", seconds_since(begin) / kProofs * 1e6);
    begin = Clock::now();
    check(view->history({count / 8, 0}).has_value(), "history");
    tell("history_scan", "entries/s", static_cast<double>(count) / seconds_since(begin));
}

void bench_signatures() {
    auto key = *SigningKey::generate("bench", KeyType::kNote);
    constexpr int kRounds = 2000;
    const std::string text = Checkpoint{"bench", 5, {}}.body();
    std::string signature;
    auto begin = Clock::now();
    for (int i = 0; i < kRounds; ++i) signature = key.sign(text);
    tell("sign", "us", seconds_since(begin) / kRounds * 1e6);
    begin = Clock::now();
    for (int i = 0; i < kRounds; ++i) check(key.verifier().verify(text, signature), "signature");
    tell("verify_signature", "us", seconds_since(begin) / kRounds * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
    test::TempDirectory temporary;
    const std::string directory = argc > 2 ? argv[2] : temporary.path();
    const auto entries = make_entries(count);
    tell("entries", "count", static_cast<double>(entries.size()));
    bench_hashing(entries);
    bench_rules(entries);
    bench_signatures();
    bench_writer(directory, entries);
    bench_small_publish(directory, entries);
    bench_reader(directory, entries.size());
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    tell("memory_max", "MiB", static_cast<double>(usage.ru_maxrss) / 1024);
    return 0;
}
