#include "cli/job_file.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/unit/cli/schema.h"

namespace reeve::cli {

namespace {

struct Bad {
    const char* text;
    const char* part;  // of the message
};

// The first refusal of each kind; the message has to name the place and the cure.
const Bad kBad[] = {
    {"", "line 1"},
    {"{", "line 1"},
    {"[{\"command\": \"true\"},]", "line 1"},
    {"{\"command\": \"true\" // comment\n}", "line 1"},
    {"\xff", "line 1"},
    {"null", "expected a job object, found null"},
    {"[]", "the list is empty"},
    {"[1]", "jobs[0] (line 1): expected a job object, found a number"},
    {"{}", "command (line 1): missing"},
    {"{\"command\": \"\"}", "command (line 1): the command is empty"},
    {"{\"command\": []}", "command (line 1): the list is empty"},
    {"{\"command\": 5}", "expected a string or a list of strings, found a number"},
    {"{\"command\": [\"a\", 5]}", "command[1] (line 1): expected a string, found a number"},
    {"{\"command\": \"a | b\"}", "add \"shell\": true"},
    {"{\"command\": \"echo $HOME\"}", "add \"shell\": true"},
    {"{\"command\": \"echo 'open\"}", "not closed"},
    {"{\"command\": \"true\",\n\"comand\": 1}", "comand (line 2): unknown field; did you mean"},
    {"{\"command\": \"true\", \"command\": \"false\"}", "given twice"},
    {"{\"command\": \"true\", \"mem\": \"8G\"}", "write it inside \"resources\" as \"memory\""},
    {"{\"command\": \"true\", \"resources\": {\"memory\": 8}}",
     "resources.memory (line 1): \"8\" has no unit; write 8G"},
    {"{\"command\": \"true\", \"resources\": {\"memory\": \"8 G\"}}", "unknown unit"},
    {"{\"command\": \"true\", \"resources\": {\"cpus\": 2}}", "did you mean \"cpu\"?"},
    {"{\"command\": \"true\", \"resources\": {\"cpu\": -1}}", "resources.cpu"},
    {"{\"command\": \"true\", \"resources\": {\"cpu\": 0}}", "no cpu at all"},
    {"{\"command\": \"true\", \"resources\": {\"gpu\": 0.5}}", "expected a whole number"},
    {"{\"command\": \"true\", \"resources\": {\"gpu\": \"1\"}}", "expected a whole number"},
    {"{\"command\": \"true\", \"resources\": []}", "expected an object"},
    {"{\"command\": \"true\", \"priority\": \"high\"}", "expected a whole number"},
    {"{\"command\": \"true\", \"priority\": 1e9}", "expected a whole number"},
    {"{\"command\": \"true\", \"priority\": 500001}", "from -500000 to 500000"},
    {"{\"command\": \"true\", \"time_limit\": 30}", "has no unit; write 30s"},
    {"{\"command\": \"true\", \"hold\": \"yes\"}", "expected true or false"},
    {"{\"command\": \"true\", \"env\": {\"A\": 1}}", "env.A (line 1): expected a string"},
    {"{\"command\": \"true\", \"env\": {\"A=B\": \"1\"}}", "holds no ="},
    {"{\"command\": \"true\", \"env\": [\"A=1\"]}", "expected an object"},
    {"{\"command\": \"true\", \"array\": \"5-1\"}", "runs backwards"},
    {"{\"command\": \"true\", \"job_id\": \"a b\"}", "is not a job_id"},
    {"{\"command\": \"true\", \"job_id\": \"\"}", "is not a job_id"},
    {"{\"command\": \"true\", \"after\": {\"a\": 1}}", "expected a job_id"},
    {"{\"command\": \"true\", \"after\": \"aftermaybe:1\"}", "is no kind of dependency"},
    {"{\"command\": \"true\", \"after\": \"prepare\"}", "there is no job_id \"prepare\""},
    {"{\"command\": \"true\", \"retries\": \"sometimes\"}", "\"never\""},
    {"{\"command\": \"true\", \"retries\": -1}", "retries"},
    {"{\"command\": \"true\", \"each\": []}", "at least one string"},
    {"{\"command\": \"true\", \"variable\": \"A\"}", "no \"each\""},
    {"{\"command\": \"true\", \"each\": [\"a\"], \"variable\": \"1A\"}", "cannot name a variable"},
    {"{\"command\": \"true\", \"output\": \"\"}", "output (line 1): the text is empty"},
    {"{\"command\": \"true\", \"begin\": \"soon\"}", "not a begin time"},
    {"{\"jobs\": {}}", "jobs (line 1): expected a list of jobs"},
    {"{\"jobs\": [], \"extra\": 1}", "extra (line 1): unknown field beside \"jobs\""},
    {"{\"jobs\": [{\"command\": \"true\"}], \"defaults\": {\"job_id\": \"a\"}}",
     "cannot be a default"},
    {"[{\"job_id\": \"a\", \"command\": \"true\"},\n {\"job_id\": \"a\", \"command\": \"true\"}]",
     "jobs[1] (line 2): job_id \"a\" is already used by jobs[0] (line 1)"},
    {"[{\"job_id\": \"a\", \"command\": \"true\", \"after\": \"b\"},"
     "{\"job_id\": \"b\", \"command\": \"true\", \"after\": \"c\"},"
     "{\"job_id\": \"c\", \"command\": \"true\", \"after\": \"a\"}]",
     "wait for each other for ever: a -> b -> c -> a"},
    {"[{\"job_id\": \"a\", \"command\": \"true\", \"after\": \"a\"}]", "a -> a"},
};

}  // namespace

TEST_CASE("job file: the seeds' form arrives whole", "[cli]") {
    const auto drafts = parse_job_file(R"({
        "job_id": "sum", "command": "sort -n 'my file.txt'",
        "resources": {"cpu": 0.5, "memory": "8G", "gpu": 2},
        "priority": -7, "output": "out/%j.txt", "error": "none", "time_limit": "30m",
        "env": {"SEED": "1"}, "cwd": "/tmp", "retries": "never", "hold": true, "array": "1-9%3",
        "after": [12, "afterany:13"], "name": "n", "grace": "2s", "pin": true, "key": "k",
        "node": "gpu1", "max_failures": 2, "output_limit": "1G"})");
    REQUIRE(drafts);
    REQUIRE(drafts->size() == 1);
    const auto& spec = drafts->front().spec;
    const auto& task = spec.task();
    CHECK(spec.label() == "sum");
    REQUIRE(task.argv_size() == 3);
    CHECK(task.argv(2) == "my file.txt");
    CHECK(task.resources().cpu_milli() == 500);
    CHECK(task.resources().memory_bytes() == 8ULL << 30);
    CHECK(task.resources().gpus() == 2);
    CHECK(spec.priority() == -7);
    CHECK(task.output() == "out/%j.txt");
    CHECK(task.time_limit_ms() == 1'800'000);
    CHECK(task.retry_mode() == v1::RETRY_NEVER);
    CHECK(spec.hold());
    CHECK(spec.elements(0).last() == 9);
    CHECK(spec.max_running() == 3);
    REQUIRE(spec.after_size() == 2);
    CHECK(spec.after(0).job() == 12);
    CHECK(spec.after(1).kind() == v1::AFTER_ANY);
    CHECK(spec.node_name() == "gpu1");
    CHECK(spec.max_failures() == 2);
    CHECK(task.output_limit_bytes() == 1ULL << 30);
}

TEST_CASE("job file: lists, defaults, labels in any order", "[cli]") {
    const auto drafts = parse_job_file(R"({
        "defaults": {"resources": {"memory": "1G"}, "env": {"A": "1", "B": "2"}, "priority": 3},
        "jobs": [
            {"job_id": "join", "command": ["cat"], "after": ["1", "afterany:left"]},
            {"job_id": 1, "command": "true", "priority": 9, "env": {"B": "3"}},
            {"job_id": "left", "command": "a && b", "shell": true, "each": ["x", 2]}]})");
    REQUIRE(drafts);
    REQUIRE(drafts->size() == 3);
    const auto& join = (*drafts)[0].spec;
    CHECK(join.after(0).label() == "1");  // the file's own job_id, not the cell's job 1
    CHECK(join.after(0).job() == 0);
    CHECK(join.after(1).label() == "left");
    CHECK(join.priority() == 3);
    const auto& one = (*drafts)[1].spec;
    CHECK(one.priority() == 9);
    CHECK(one.task().env_size() == 2);
    CHECK(one.task().env(1).value() == "3");
    CHECK((*drafts)[2].shell);
    CHECK((*drafts)[2].spec.task().argv(0) == "a && b");
    CHECK((*drafts)[2].spec.element_values_size() == 2);
}

TEST_CASE("job file: what is wrong is refused with its place and a cure", "[cli]") {
    for (const auto& [text, part] : kBad) {
        INFO(text);
        const auto refused = parse_job_file(text);
        REQUIRE_FALSE(refused);
        INFO(refused.error().message);
        CHECK(refused.error().code == ErrorCode::kInvalidArgument);
        CHECK(refused.error().message.find(part) != std::string::npos);
    }
}

TEST_CASE("job file: hostile nesting and size are refused, not crashed on", "[cli]") {
    CHECK_FALSE(parse_job_file(std::string(100'000, '[')));
    CHECK_FALSE(parse_job_file(std::string(100'000, '{')));
    std::string nested;
    for (int i = 0; i < 10'000; ++i) nested += "{\"a\":";
    CHECK_FALSE(parse_job_file(nested));
    CHECK_FALSE(parse_job_file("{\"command\": 1e99999}"));
    CHECK_FALSE(parse_job_file("{\"command\": \"true\", \"priority\": 99999999999999999999}"));
    CHECK_FALSE(parse_job_file(std::string("{\"command\": [\"a\0b\"]}", 21)));
    CHECK_FALSE(parse_job_file("{\"command\": \"\\ud800\"}"));
}

TEST_CASE("job file: every prefix of a good file is refused or complete", "[cli]") {
    const std::string text = R"([{"job_id": "a", "command": "sort -n x", "resources":
        {"cpu": 1, "memory": "1G"}, "after": []}, {"command": ["true"], "after": "a"}])";
    REQUIRE(parse_job_file(text));
    for (std::size_t size = 0; size < text.size(); ++size) {
        const auto cut = parse_job_file(text.substr(0, size));
        INFO(size);
        CHECK_FALSE(cut);
    }
    // Any single byte changed: an answer, never a crash.
    for (std::size_t at = 0; at < text.size(); ++at) {
        for (const char byte : {'\0', '"', '{', ']', '\xff', '9'}) {
            auto changed = text;
            changed[at] = byte;
            (void)parse_job_file(changed);
        }
    }
}

TEST_CASE("job file: a chain of 60000 jobs is no cycle", "[cli]") {
    std::string text = "[";
    for (int i = 0; i < 60'000; ++i) {
        if (i > 0) text += ",";
        text += "{\"job_id\":\"j" + std::to_string(i) + "\",\"command\":\"true\"";
        if (i > 0) text += ",\"after\":\"j" + std::to_string(i - 1) + "\"";
        text += "}";
    }
    text += "]";
    const auto drafts = parse_job_file(text);
    REQUIRE(drafts);
    CHECK(drafts->size() == 60'000);
}

TEST_CASE("job file: the committed schema agrees with the parser", "[cli]") {
    test::SchemaChecker checker(REEVE_SCHEMA_DIRECTORY);
    const auto good = nlohmann::json::parse(R"({"defaults": {"priority": 1}, "jobs": [
        {"job_id": 7, "command": "true", "after": ["afterany:3"], "each": ["a", 1],
         "variable": "V", "env": {"A": "1"}, "resources": {"cpu": 1.5, "memory": "8GiB"}}]})");
    CHECK(checker.check(good, "job-file.v1.json").empty());
    CHECK(parse_job_file(good.dump()));
    // Every field the parser knows is in the schema, and the other way round.
    std::ifstream in(std::string(REEVE_SCHEMA_DIRECTORY) + "/job-file.v1.json");
    const auto schema = nlohmann::json::parse(in);
    const auto& fields = schema["$defs"]["job"]["properties"];
    for (const auto& rule : option_rules()) {
        const std::string field = rule.field;
        const auto dot = field.find('.');
        INFO(field);
        if (dot == std::string::npos) {
            CHECK(fields.contains(field));
        } else {
            CHECK(fields["resources"]["properties"].contains(field.substr(dot + 1)));
        }
    }
    for (const auto& [field, unused] : fields.items()) {
        INFO(field);
        nlohmann::json probe{{"command", "true"}};
        probe[field] = nullptr;
        const auto refused = parse_job_file(probe.dump());
        REQUIRE_FALSE(refused);
        CHECK(refused.error().message.find("unknown field") == std::string::npos);
    }
}

}  // namespace reeve::cli
