// validate: each rule refuses with one line naming the field; what is lawful passes unchanged.
#include "plm/server/validate.h"

#include <functional>

#include <unistd.h>

#include "tests/support/catch.h"

#include "plm/server/prepare.h"

using namespace reeve;
using namespace reeve::plm;

namespace {

v1::JobSpec good_job() {
    v1::JobSpec spec;
    spec.mutable_task()->add_argv("true");
    spec.mutable_task()->set_cwd("/tmp");
    return spec;
}

struct Case {
    const char* field;
    std::function<void(v1::JobSpec&)> change;
};

void add_range(v1::JobSpec& spec, std::uint64_t first, std::uint64_t last) {
    spec.add_elements()->set_first(first);
    spec.mutable_elements(spec.elements_size() - 1)->set_last(last);
}

const std::vector<Case>& bad_jobs() {
    static const std::vector<Case> cases{
        {"task", [](v1::JobSpec& s) { s.clear_task(); }},
        {"task.argv", [](v1::JobSpec& s) { s.mutable_task()->clear_argv(); }},
        {"task.argv", [](v1::JobSpec& s) { s.mutable_task()->set_argv(0, ""); }},
        {"task.argv", [](v1::JobSpec& s) { s.mutable_task()->add_argv(std::string("a\0b", 3)); }},
        {"task.argv",
         [](v1::JobSpec& s) { s.mutable_task()->add_argv(std::string(140'000, 'x')); }},
        {"task.argv",
         [](v1::JobSpec& s) {
             for (int i = 0; i < 17'000; ++i) s.mutable_task()->add_argv("");
         }},
        {"task.env", [](v1::JobSpec& s) { s.mutable_task()->add_env()->set_value("x"); }},
        {"task.env", [](v1::JobSpec& s) { s.mutable_task()->add_env()->set_name("A=B"); }},
        {"task.env", [](v1::JobSpec& s) { s.mutable_task()->add_env()->set_name("A\nB"); }},
        {"task.env",
         [](v1::JobSpec& s) {
             s.mutable_task()->add_env()->set_name("A");
             s.mutable_task()->add_env()->set_name("A");
         }},
        {"task.cwd", [](v1::JobSpec& s) { s.mutable_task()->set_cwd("here"); }},
        {"task.cwd",
         [](v1::JobSpec& s) { s.mutable_task()->set_cwd("/" + std::string(5000, 'd')); }},
        {"task.output",
         [](v1::JobSpec& s) { s.mutable_task()->set_output(std::string("a\0", 2)); }},
        {"task.input",
         [](v1::JobSpec& s) {
             s.mutable_task()->set_input("f");
             s.mutable_task()->set_stdin_data("d");
         }},
        {"task.resources.cpu_milli",
         [](v1::JobSpec& s) { s.mutable_task()->mutable_resources()->set_cpu_milli(5'000'000); }},
        {"task.resources.memory_bytes",
         [](v1::JobSpec& s) {
             s.mutable_task()->mutable_resources()->set_memory_bytes(1ULL << 60);
         }},
        {"task.resources.gpus",
         [](v1::JobSpec& s) { s.mutable_task()->mutable_resources()->set_gpus(65); }},
        {"task.time_limit_ms",
         [](v1::JobSpec& s) { s.mutable_task()->set_time_limit_ms(~std::uint64_t{0}); }},
        {"task.grace_ms", [](v1::JobSpec& s) { s.mutable_task()->set_grace_ms(1ULL << 40); }},
        {"task.retry_mode",
         [](v1::JobSpec& s) { s.mutable_task()->set_retry_mode(static_cast<v1::RetryMode>(9)); }},
        {"task.name", [](v1::JobSpec& s) { s.mutable_task()->set_name("a\x1b[31m"); }},
        {"task.name", [](v1::JobSpec& s) { s.mutable_task()->set_name("a\xC2\x9b"); }},
        {"task.name", [](v1::JobSpec& s) { s.mutable_task()->set_name(std::string(300, 'n')); }},
        {"task",
         [](v1::JobSpec& s) { s.mutable_task()->set_stdin_data(std::string(2u << 20, 'd')); }},
        {"elements", [](v1::JobSpec& s) { add_range(s, 5, 4); }},
        {"elements",
         [](v1::JobSpec& s) {
             add_range(s, 0, 5);
             add_range(s, 5, 9);
         }},
        {"elements",
         [](v1::JobSpec& s) {
             add_range(s, 7, 9);
             add_range(s, 1, 2);
         }},
        {"elements", [](v1::JobSpec& s) { add_range(s, 0, 100'000'000); }},
        {"elements", [](v1::JobSpec& s) { add_range(s, 0, ~std::uint64_t{0}); }},
        {"element_values", [](v1::JobSpec& s) { s.mutable_task()->set_element_variable("V"); }},
        {"element_values",
         [](v1::JobSpec& s) {
             s.mutable_task()->set_element_variable("V");
             s.add_element_values("a");
             s.add_element_values("b");
         }},
        {"task.element_variable", [](v1::JobSpec& s) { s.add_element_values("a"); }},
        {"after", [](v1::JobSpec& s) { s.add_after(); }},
        {"after",
         [](v1::JobSpec& s) {
             s.add_after()->set_job(1);
             s.mutable_after(0)->set_label("x");
         }},
        {"after",
         [](v1::JobSpec& s) {
             s.add_after()->set_job(1);
             s.mutable_after(0)->set_kind(static_cast<v1::DependencyKind>(7));
         }},
        {"label", [](v1::JobSpec& s) { s.set_label("a\tb"); }},
        {"key", [](v1::JobSpec& s) { s.set_key(std::string(256, 'k')); }},
        {"node_name", [](v1::JobSpec& s) { s.set_node_name("\x7f"); }},
        {"priority", [](v1::JobSpec& s) { s.set_priority(500'001); }},
        {"not_before_unix_ms", [](v1::JobSpec& s) { s.set_not_before_unix_ms(1ULL << 44); }},
        {"priority", [](v1::JobSpec& s) { s.set_priority(-500'001); }},
        {"retries", [](v1::JobSpec& s) { s.set_retries(10'001); }},
        {"job",
         [](v1::JobSpec& s) { s.GetReflection()->MutableUnknownFields(&s)->AddVarint(999, 1); }},
        {"task",
         [](v1::JobSpec& s) {
             v1::TaskSpec& task = *s.mutable_task();
             task.GetReflection()->MutableUnknownFields(&task)->AddVarint(999, 1);
         }},
    };
    return cases;
}

}  // namespace

TEST_CASE("validate: refuses each bad field with its name, on one line", "[validate]") {
    for (std::size_t i = 0; i < bad_jobs().size(); ++i) {
        v1::JobSpec spec = good_job();
        bad_jobs()[i].change(spec);
        const Status checked = validate(spec);
        INFO("case " << i << ", field " << bad_jobs()[i].field);
        REQUIRE(!checked);
        CHECK(checked.error().code == ErrorCode::kInvalidArgument);
        const std::string& message = checked.error().message;
        INFO(message);
        CHECK(message.rfind(bad_jobs()[i].field, 0) == 0);
        CHECK(printable_name(message));
        CHECK(message.size() < 400);
    }
}

TEST_CASE("validate: a lawful job passes, with defaults filled", "[validate]") {
    v1::JobSpec spec = good_job();
    spec.mutable_task()->clear_cwd();
    spec.mutable_task()->set_name("café №1");
    spec.mutable_task()->add_env()->set_name("BASH_FUNC_x%%");
    spec.set_priority(-500'000);
    REQUIRE(validate(spec));
    CHECK(spec.task().cwd() == "/");
    CHECK(spec.task().resources().cpu_milli() == 1000);
    CHECK(spec.elements().empty());
    v1::JobSpec array = good_job();
    add_range(array, 1, 99'999'999);
    array.mutable_task()->mutable_resources()->set_cpu_milli(1);
    REQUIRE(validate(array));
    CHECK(array.task().resources().cpu_milli() == 1);
}

TEST_CASE("validate: a batch names the job that is wrong", "[validate]") {
    v1::SubmitRequest request;
    CHECK(validate(request).error().message.rfind("jobs: ", 0) == 0);
    *request.add_jobs() = good_job();
    *request.add_jobs() = good_job();
    request.mutable_jobs(1)->set_label("second");
    REQUIRE(validate(request));
    request.mutable_jobs(1)->mutable_task()->clear_argv();
    CHECK(validate(request).error().message.rfind("jobs[1] 'second': task.argv: ", 0) == 0);
}

TEST_CASE("validate: labels are unique, known and free of circles", "[validate]") {
    v1::SubmitRequest request;
    for (const char* label : {"a", "b", "c"}) {
        *request.add_jobs() = good_job();
        request.mutable_jobs(request.jobs_size() - 1)->set_label(label);
    }
    const auto wait_for = [&](int job, const char* label) {
        request.mutable_jobs(job)->add_after()->set_label(label);
    };
    wait_for(0, "b");  // also before its definition
    wait_for(2, "a");
    wait_for(2, "b");
    REQUIRE(validate(request));
    SECTION("unknown") {
        wait_for(1, "zebra");
        CHECK(validate(request).error().message.find("zebra") != std::string::npos);
    }
    SECTION("twice") {
        request.mutable_jobs(1)->set_label("a");
        CHECK(validate(request).error().message.find("jobs[1]") != std::string::npos);
    }
    SECTION("circle") {
        wait_for(1, "c");
        CHECK(validate(request).error().message.find("circle") != std::string::npos);
    }
    SECTION("itself") {
        wait_for(0, "a");
        CHECK(validate(request).error().message.find("circle") != std::string::npos);
    }
}

TEST_CASE("validate: actions need a job and sane ranges", "[validate]") {
    v1::ActRequest request;
    CHECK(!validate(request));
    request.add_selections();
    CHECK(!validate(request));
    request.mutable_selections(0)->set_job(4);
    CHECK(validate(request));
    request.mutable_selections(0)->add_elements()->set_first(9);
    CHECK(!validate(request));
    request.mutable_selections(0)->mutable_elements(0)->set_last(9);
    CHECK(validate(request));
    request.set_reason("a\nb");
    CHECK(!validate(request));
}

TEST_CASE("prepare: serialises each job once, the task inside it, with the caller's uid",
          "[validate]") {
    v1::SubmitRequest request;
    for (int i = 0; i < 3; ++i) {
        *request.add_jobs() = good_job();
        request.mutable_jobs(i)->mutable_task()->set_stdin_data(
            std::string(static_cast<std::size_t>(i) * 9000, 'd'));
        request.mutable_jobs(i)->set_priority(i);
    }
    request.set_validate_only(true);
    const auto submission =
        prepare(std::move(request), Identity{geteuid() == 0 ? 4321U : geteuid(), 99, 1});
    REQUIRE(submission);
    CHECK(submission->validate_only);
    REQUIRE(submission->jobs.size() == 3);
    for (const SubmittedJob& job : submission->jobs) {
        v1::JobSpec spec;
        REQUIRE(spec.ParseFromString(job.bytes));
        v1::TaskSpec task;
        REQUIRE(task.ParseFromArray(job.task_bytes().data(), static_cast<int>(job.task_size)));
        CHECK(task.SerializeAsString() == spec.task().SerializeAsString());
        CHECK(task.uid() == submission->who.uid);
        CHECK(task.gid() == 99);
        CHECK(spec.priority() == job.spec.priority());
    }
    SubmittedJob broken;
    CHECK(!locate_task(broken));
    broken.bytes = "\x0A\x7F";
    CHECK(!locate_task(broken));
    broken.bytes = "\x0A\xFF\xFF\xFF\xFF\xFF\xFF";
    CHECK(!locate_task(broken));
}
