// The ledger's gate: can it take the target rate for minutes, with the WAL bounded and no long
// stall?
//
//   ledger_gate [--seconds 180] [--rate 150000] [--bytes 540] [--wal-limit-mb 64]
//               [--retain-mb 0] [--dir .]
// Tasks "arrive" by the clock; whatever has arrived while one commit was flushed is the next batch
// (group commit without a timer). With --retain-mb a snapshot is taken in the background whenever
// that much was written, so the drop of old batches runs alongside. Prints JSON lines.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "plm/ledger/frame.h"
#include "plm/ledger/ledger.h"

namespace {

using namespace reeve;

struct Options {
    double seconds = 180;
    double rate = 150'000;
    std::size_t bytes = 540;
    std::uint64_t wal_limit_mb = 64;
    std::uint64_t retain_mb = 0;
    std::string dir = ".";
};

struct Run {
    std::vector<double> commit_ms;
    std::vector<double> ack_ms;  // of the oldest task in each batch
    std::uint64_t tasks = 0;
    std::uint64_t wal_bytes_max = 0;
    std::atomic<std::uint64_t> snapshots{0};
};

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string name = argv[i];
        const char* value = argv[i + 1];
        if (name == "--seconds")
            options.seconds = std::atof(value);
        else if (name == "--rate")
            options.rate = std::atof(value);
        else if (name == "--bytes")
            options.bytes = static_cast<std::size_t>(std::atol(value));
        else if (name == "--wal-limit-mb")
            options.wal_limit_mb = std::strtoull(value, nullptr, 10);
        else if (name == "--retain-mb")
            options.retain_mb = std::strtoull(value, nullptr, 10);
        else if (name == "--dir")
            options.dir = value;
        else {
            std::fprintf(stderr, "unknown option %s\n", argv[i]);
            std::exit(2);
        }
    }
    return options;
}

void print(const char* name, const char* unit, double value) {
    std::printf("{\"name\": \"ledger_gate.%s\", \"unit\": \"%s\", \"value\": %.3f}\n", name, unit,
                value);
    std::fflush(stdout);
}

double percentile(std::vector<double>& values, double part) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const auto last = static_cast<double>(values.size() - 1);
    return values[static_cast<std::size_t>(part * last)];
}

double cpu_seconds() {
    rusage use{};
    getrusage(RUSAGE_SELF, &use);
    return static_cast<double>(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           static_cast<double>(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

Status drive(plm::Ledger& ledger, const Options& options, Run& run) {
    std::string task(options.bytes, 'x');
    plm::FrameWriter writer;
    std::uint64_t leaf = ledger.next_leaf();
    std::uint64_t written = 0;
    const std::uint64_t begin = boot_ns();
    std::vector<std::string> live(16, std::string(1u << 20, 'l'));
    while (true) {
        const std::uint64_t now = boot_ns();
        const double elapsed = static_cast<double>(now - begin) / 1e9;
        if (elapsed >= options.seconds) return {};
        const auto arrived = static_cast<std::uint64_t>(elapsed * options.rate);
        const auto count = std::min<std::uint64_t>(arrived - run.tasks, 20'000);
        if (count == 0) {
            usleep(50);
            continue;
        }
        const double oldest_at = static_cast<double>(run.tasks) / options.rate;
        writer.clear();
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint64_t id = run.tasks + i;
            std::memcpy(task.data(), &id, sizeof id);
            writer.append(task);
        }
        const std::uint64_t before = boot_ns();
        REEVE_TRY(ledger.commit(writer.bytes(), leaf, static_cast<std::uint32_t>(count)));
        const std::uint64_t after = boot_ns();
        const double took = static_cast<double>(after - before) / 1e6;
        run.commit_ms.push_back(took);
        run.ack_ms.push_back((static_cast<double>(after - begin) / 1e9 - oldest_at) * 1e3);
        run.tasks += count;
        leaf += count;
        written += writer.bytes().size();
        if ((run.commit_ms.size() & 15) == 0) {
            run.wal_bytes_max = std::max(run.wal_bytes_max, ledger.wal_bytes());
        }
        if (options.retain_mb > 0 && written >= options.retain_mb << 20) {
            written = 0;
            ledger.snapshot_in_background(live, ledger.last_seq(), [&run](Status done) {
                if (done) ++run.snapshots;
            });
        }
    }
}

void report(const Options& options, Run& run, const std::string& path, double cpu) {
    const auto over = [&](double limit) {
        return static_cast<double>(std::count_if(run.commit_ms.begin(), run.commit_ms.end(),
                                                 [&](double ms) { return ms > limit; }));
    };
    const double over_50 = over(50);
    const double over_250 = over(250);
    struct stat info {};
    stat(path.c_str(), &info);
    print("seconds", "s", options.seconds);
    print("tasks_per_second", "1/s", static_cast<double>(run.tasks) / options.seconds);
    print("commits", "1", static_cast<double>(run.commit_ms.size()));
    print("commit_p50", "ms", percentile(run.commit_ms, 0.50));
    print("commit_p99", "ms", percentile(run.commit_ms, 0.99));
    print("commit_p999", "ms", percentile(run.commit_ms, 0.999));
    print("commit_worst", "ms", percentile(run.commit_ms, 1.0));
    print("commits_over_50ms", "1", over_50);
    print("commits_over_250ms", "1", over_250);
    print("ack_p50", "ms", percentile(run.ack_ms, 0.50));
    print("ack_p99", "ms", percentile(run.ack_ms, 0.99));
    print("ack_worst", "ms", percentile(run.ack_ms, 1.0));
    print("wal_bytes_max", "MiB", static_cast<double>(run.wal_bytes_max) / (1 << 20));
    print("file_bytes", "MiB", static_cast<double>(info.st_size) / (1 << 20));
    print("snapshots", "1", static_cast<double>(run.snapshots.load()));
    print("cpu_us_per_task", "us",
          cpu * 1e6 / static_cast<double>(std::max<std::uint64_t>(run.tasks, 1)));
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    const std::string path = options.dir + "/ledger_gate.db";
    for (const char* suffix : {"", "-wal", "-shm"}) unlink((path + suffix).c_str());
    plm::LedgerOptions ledger_options;
    ledger_options.wal_limit_bytes = options.wal_limit_mb << 20;
    auto ledger = plm::Ledger::open(path, ledger_options);
    if (!ledger) {
        std::fprintf(stderr, "ledger_gate: %s\n", ledger.error().message.c_str());
        return 1;
    }
    Run run;
    const Status driven = drive(**ledger, options, run);
    if (!driven) std::fprintf(stderr, "ledger_gate: %s\n", driven.error().message.c_str());
    run.wal_bytes_max = std::max(run.wal_bytes_max, (*ledger)->wal_bytes());
    const double cpu = cpu_seconds();
    ledger->reset();
    report(options, run, path, cpu);
    for (const char* suffix : {"", "-wal", "-shm"}) unlink((path + suffix).c_str());
    return driven ? 0 : 1;
}
