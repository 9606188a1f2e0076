// The pure parts: placeholders and environment, start records, words for endings.
#include <algorithm>
#include <cerrno>
#include <csignal>

#include <unistd.h>

#include "common/log/log.h"
#include "tests/support/catch.h"
#include "worker/ending.h"
#include "worker/task_text.h"

using namespace reeve;
using namespace reeve::worker;

namespace {

WorkerContext context() {
    WorkerContext worker;
    worker.output_root = "/state/out";
    worker.state_dir = "/state";
    worker.node_name = "worker-1";
    worker.instance = "abc.1.2";
    worker.uid = ::geteuid();
    worker.gid = ::getegid();
    worker.grace_ns = 5'000'000'000;
    return worker;
}

v1::TaskSpec simple() {
    v1::TaskSpec spec;
    spec.add_argv("prog");
    spec.set_cwd("/work dir");
    spec.set_uid(::geteuid());
    spec.set_gid(::getegid());
    return spec;
}

TaskInstance instance() {
    TaskInstance one;
    one.task = {12, 3};
    one.attempt = 2;
    return one;
}

std::string variable(const StartText& start, const std::string& name) {
    for (const auto& one : start.environment) {
        if (one.starts_with(name + "=")) return one.substr(name.size() + 1);
    }
    return "(unset)";
}

StartText made(const v1::TaskSpec& spec, const WorkerContext& worker = context()) {
    UserTable users;
    auto start = make_start(spec, instance(), worker, users);
    REQUIRE(start);
    return *start;
}

}  // namespace

TEST_CASE("Placeholders: every one of them, once, literally", "[worker]") {
    const auto fill = [](const std::string& text) {
        return fill_placeholders(text, instance(), context(), "ann", "/cwd");
    };
    CHECK(fill("%j-%a-%A-%x-%u-%N") == "12-3-12-2-ann-worker-1");
    CHECK(fill("%{JOB_ID}.%{TASK_ID}.%{ATTEMPT}.%{INSTANCE_ID}") == "12.3.2.2");
    CHECK(fill("%{CWD}/o") == "/cwd/o");
    CHECK(fill("100%%") == "100%");
    CHECK(fill("%z %{NOPE} %") == "%z %{NOPE} %");
    CHECK(fill("%{JOB_ID") == "%{JOB_ID");
    CHECK(fill("plain") == "plain");
    // What is filled in is not looked at again.
    CHECK(fill_placeholders("%u", instance(), context(), "%j", "") == "%j");
}

TEST_CASE("TaskText: files", "[worker]") {
    auto spec = simple();
    auto start = made(spec);
    CHECK(start.output == "/state/out/12/3.2.out");
    CHECK((start.head.flags & kStartErrorIsOutput) != 0);
    CHECK(start.directory == "/work dir");

    spec.set_output("logs/%j.%a");
    spec.set_error("e.txt");
    spec.set_input("in");
    start = made(spec);
    CHECK(start.output == "/work dir/logs/12.3");
    CHECK(start.error == "/work dir/e.txt");
    CHECK(start.input == "/work dir/in");
    CHECK((start.head.flags & kStartErrorIsOutput) == 0);

    spec.set_output("none");
    spec.clear_error();
    start = made(spec);
    CHECK((start.head.flags & kStartNoOutput) != 0);
    CHECK((start.head.flags & kStartNoError) != 0);
}

TEST_CASE("TaskText: environment", "[worker]") {
    auto spec = simple();
    spec.mutable_resources()->set_cpu_milli(2500);
    spec.mutable_resources()->set_memory_bytes(1 << 20);
    auto start = made(spec);
    CHECK(variable(start, "REEVE_JOB_ID") == "12");
    CHECK(variable(start, "REEVE_TASK_ID") == "3");
    CHECK(variable(start, "REEVE_ATTEMPT") == "2");
    CHECK(variable(start, "REEVE_INSTANCE") == "abc.1.2");
    CHECK(variable(start, "REEVE_CPUS") == "3");
    CHECK(variable(start, "REEVE_MEM") == "1048576");
    CHECK(variable(start, "REEVE_GPUS") == "0");
    CHECK(variable(start, "OMP_NUM_THREADS") == "3");
    CHECK(variable(start, "CUDA_VISIBLE_DEVICES") == "(unset)");
    CHECK(variable(start, "PATH") == start.path);

    const auto set = [&](const char* name, const char* value) {
        auto* one = spec.add_env();
        one->set_name(name);
        one->set_value(value);
    };
    set("OMP_NUM_THREADS", "1");
    set("PATH", "/first");
    set("PATH", "/last");
    set("REEVE_JOB_ID", "999");
    start = made(spec);
    CHECK(variable(start, "OMP_NUM_THREADS") == "1");
    CHECK(variable(start, "PATH") == "/last");
    CHECK(start.path == "/last");
    CHECK(variable(start, "REEVE_JOB_ID") == "12");  // a task cannot pretend to be another
    CHECK(std::count_if(start.environment.begin(), start.environment.end(),
                        [](const auto& one) { return one.starts_with("PATH="); }) == 1);
}

TEST_CASE("TaskText: GPUs are granted by id, and hidden from those without", "[worker]") {
    auto worker = context();
    worker.has_gpus = true;
    UserTable users;
    auto task = instance();
    auto start = make_start(simple(), task, worker, users);
    REQUIRE(start);
    CHECK(variable(*start, "CUDA_VISIBLE_DEVICES").empty());
    task.gpu_ids = {"GPU-aa", "GPU-bb"};
    start = make_start(simple(), task, worker, users);
    CHECK(variable(*start, "CUDA_VISIBLE_DEVICES") == "GPU-aa,GPU-bb");
    CHECK(variable(*start, "REEVE_GPUS") == "2");
}

TEST_CASE("TaskText: what cannot run is refused with a reason", "[worker]") {
    UserTable users;
    auto spec = simple();
    spec.clear_argv();
    CHECK_FALSE(make_start(spec, instance(), context(), users));
    spec.add_argv(std::string("a\0b", 3));
    CHECK(make_start(spec, instance(), context(), users).error().message.find("NUL") !=
          std::string::npos);
    auto worker = context();
    worker.uid = 4711;  // not root
    spec = simple();
    spec.set_uid(4712);
    const auto refused = make_start(spec, instance(), worker, users);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::kPermissionDenied);
}

TEST_CASE("StartRecord: survives the way, damaged ones do not", "[worker]") {
    auto start = made(simple());
    start.head.id = 9;
    start.affinity = {3};
    start.groups = {1, 2, 3};
    start.rlimits.push_back({1, 0, 2, 3});
    start.arguments.push_back("");
    const auto bytes = encode_start(start);
    std::vector<std::uint64_t> aligned((bytes.size() + 7) / 8);
    const auto decode = [&](std::string_view text, StartView& view) {
        std::copy(text.begin(), text.end(), reinterpret_cast<char*>(aligned.data()));
        return decode_start({reinterpret_cast<const char*>(aligned.data()), text.size()}, view);
    };
    StartView view;
    REQUIRE(decode(bytes, view));
    CHECK(view.head.id == 9);
    CHECK(std::string(view.argv[0]) == "prog");
    CHECK(std::string(view.argv[1]).empty());
    CHECK(view.argv[2] == nullptr);
    CHECK(view.envp.size() == start.environment.size() + 1);
    CHECK(view.envp.back() == nullptr);
    CHECK(std::string(view.directory) == start.directory);
    CHECK(view.groups[2] == 3);
    CHECK(view.rlimits[0].hard == 3);
    CHECK(view.affinity[0] == 3);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        StartView cut;
        CHECK_FALSE(decode(std::string_view(bytes).substr(0, size), cut));
    }
    // Any single byte of the counts flipped: refused or still within bounds, never a crash.
    for (std::size_t at = 0; at < sizeof(StartRecord); ++at) {
        auto flipped = bytes;
        flipped[at] = static_cast<char>(flipped[at] ^ 0x81);
        StartView other;
        (void)decode(flipped, other);
    }
}

TEST_CASE("Messages: records in, records out, damage noticed", "[worker]") {
    MessageWriter writer;
    writer.add(RecordKind::kStop, StopRecord{7, StopReason::kCancel, 1});
    writer.add_bytes(RecordKind::kStart, "abc");
    writer.add(RecordKind::kAcknowledge, AcknowledgeRecord{5});
    MessageReader reader(writer.text());
    RecordView record;
    StopRecord stop;
    AcknowledgeRecord done;
    REQUIRE(reader.next(record));
    REQUIRE(record.read(stop));
    CHECK(stop.id == 7);
    REQUIRE(reader.next(record));
    CHECK(record.body == "abc");
    CHECK_FALSE(record.read(stop));  // too short for that
    REQUIRE(reader.next(record));
    REQUIRE(record.read(done));
    CHECK(done.sequence == 5);
    CHECK_FALSE(reader.next(record));
    CHECK_FALSE(reader.damaged());
    MessageReader cut(std::string_view(writer.text()).substr(0, writer.text().size() - 1));
    while (cut.next(record)) {
    }
    CHECK(cut.damaged());
}

TEST_CASE("Ending: start failures fit 63 bytes and keep the end of a long name", "[worker]") {
    ChildReport report;
    report.stage = ChildStage::kOutput;
    for (const int error : {ELOOP, ENXIO, EISDIR, EACCES, ENOENT, ENOTDIR, ENOSPC, EROFS, EMFILE,
                            ENAMETOOLONG, EIO, EPERM}) {
        report.error = error;
        std::snprintf(report.subject, sizeof report.subject, "%s%s", std::string(90, 'd').c_str(),
                      "/tail");
        const auto text = describe_start_failure(report);
        CHECK(text.size() <= 63);
        CHECK(text.find("/tail") != std::string::npos);
    }
    report.stage = ChildStage::kExec;
    report.error = E2BIG;
    CHECK(describe_start_failure(report).find("too long") != std::string::npos);
    CHECK(signal_name(9) == "SIGKILL");
    CHECK(signal_name(40) == "signal 40");
}
