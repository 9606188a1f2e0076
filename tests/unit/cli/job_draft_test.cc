#include "cli/job_draft.h"

#include <filesystem>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "cli/output_path.h"
#include "cli/submit.h"
#include "cli/wait.h"
#include "tests/support/catch.h"

namespace reeve::cli {

namespace {

using Words = std::vector<std::string>;

Surroundings surroundings() {
    Surroundings out;
    out.cwd = "/work dir";
    out.getenv = [](const char* name) -> const char* {
        if (std::string_view(name) == "PATH") return "/usr/bin:/bin";
        if (std::string_view(name) == "HOME") return "/home/someone";
        return nullptr;
    };
    return out;
}

JobDraft draft_of(const Words& words) {
    JobDraft draft;
    for (const auto& word : words) draft.spec.mutable_task()->add_argv(word);
    return draft;
}

const OptionRule& rule_of(std::string_view field) {
    for (const auto& rule : option_rules()) {
        if (rule.field == field) return rule;
    }
    FAIL("no such rule");
    return option_rules().front();
}

// A directory of its own for the test's files.
class Scratch {
public:
    Scratch() {
        char name[] = "/tmp/reeve-cli-test-XXXXXX";
        path = mkdtemp(name);
    }
    ~Scratch() { std::filesystem::remove_all(path); }
    std::string write(const std::string& name, const std::string& text, mode_t mode = 0644) const {
        const auto file = path + "/" + name;
        std::ofstream(file) << text;
        chmod(file.c_str(), mode);
        return file;
    }
    std::string path;
};

}  // namespace

TEST_CASE("split_command: words as a shell would, nothing expanded", "[cli]") {
    CHECK(*split_command("a b  c\td\n") == Words{"a", "b", "c", "d"});
    CHECK(*split_command("'a b' \"c d\" e\\ f") == Words{"a b", "c d", "e f"});
    CHECK(*split_command("a'b'\"c\"") == Words{"abc"});
    CHECK(*split_command("'' \"\"") == Words{"", ""});
    CHECK(*split_command("awk '{print $1}'") == Words{"awk", "{print $1}"});
    CHECK(*split_command("\"a\\\"b\\\\c\\d\"") == Words{"a\"b\\c\\d"});
    CHECK(*split_command("cost 5$ *.txt ~") == Words{"cost", "5$", "*.txt", "~"});
    CHECK(*split_command("a \\| b '|'") == Words{"a", "|", "b", "|"});
    for (const char* text : {"", "   ", "'open", "\"open", "a \\", "a|b", "a;b", "a & b", "a > b",
                             "a < b", "`a`", "$(a)", "$A", "\"$A\"", "${A}", "\"`a`\""}) {
        INFO(text);
        CHECK_FALSE(split_command(text));
    }
}

TEST_CASE("add_dependencies: kinds, lists and labels", "[cli]") {
    JobDraft draft;
    REQUIRE(add_dependencies(draft, "12,afterok:13,afterany:14:15,afternotok:label"));
    const auto& after = draft.spec.after();
    REQUIRE(after.size() == 5);
    CHECK(after[0].job() == 12);
    CHECK(after[0].kind() == v1::AFTER_OK);
    CHECK(after[3].job() == 15);
    CHECK(after[3].kind() == v1::AFTER_ANY);
    CHECK(after[4].label() == "label");
    CHECK(after[4].kind() == v1::AFTER_NOT_OK);
    for (const char* text : {"", ",", "12,", "afterok:", "afterok", ":12", "before:12", "0",
                             "99999999999999999999", "afterok::12"}) {
        JobDraft other;
        INFO(text);
        const auto added = add_dependencies(other, text);
        // A bare word is a label, which the caller looks up.
        if (std::string_view(text) == "afterok") {
            CHECK(added);
        } else {
            CHECK_FALSE(added);
        }
    }
}

TEST_CASE("complete: fills cwd, name, cpus, paths and the environment", "[cli]") {
    auto draft = draft_of({"/usr/bin/sort", "-n"});
    draft.spec.mutable_task()->set_output("out/%j.txt");
    REQUIRE(add_environment(draft, "HOME=/elsewhere"));
    REQUIRE(complete(draft, surroundings()));
    const auto& task = draft.spec.task();
    CHECK(task.name() == "sort");
    CHECK(task.cwd() == "/work dir");
    CHECK(task.output() == "/work dir/out/%j.txt");
    CHECK(task.error().empty());
    CHECK(task.resources().cpu_milli() == 1000);
    REQUIRE(task.env_size() == 2);
    CHECK(task.env(0).name() == "PATH");
    CHECK(task.env(1).value() == "/elsewhere");
}

TEST_CASE("complete: a shell is used only when asked for", "[cli]") {
    auto shell = draft_of({"sort", "a", "|", "uniq"});
    shell.shell = true;
    REQUIRE(complete(shell, surroundings()));
    CHECK(shell.spec.task().argv(2) == "sort a | uniq");
    CHECK(shell.spec.task().name() == "sort");
}

TEST_CASE("complete: {} becomes the element's value, quoted whatever it holds", "[cli]") {
    auto draft = draft_of({"cp", "{}", "it's/{}.bak", "plain"});
    REQUIRE(set_element_values(draft, "REEVE_VALUE", {"a", "b"}));
    REQUIRE(complete(draft, surroundings()));
    const auto& task = draft.spec.task();
    CHECK(task.argv(2) == "exec cp \"$REEVE_VALUE\" 'it'\\''s/'\"$REEVE_VALUE\".bak plain");
    CHECK(draft.spec.elements(0).first() == 1);
    CHECK(draft.spec.elements(0).last() == 2);
}

TEST_CASE("complete: refuses what could never run", "[cli]") {
    JobDraft empty;
    CHECK_FALSE(complete(empty, surroundings()));
    auto blank = draft_of({""});
    CHECK_FALSE(complete(blank, surroundings()));
    auto nul = draft_of({std::string("a\0b", 3)});
    CHECK_FALSE(complete(nul, surroundings()));
    auto huge = draft_of({"echo", std::string(200'000, 'x')});
    CHECK_FALSE(complete(huge, surroundings()));
    for (const char* name : {"new\nline", "tab\tname", "\x1b[2J", "\x7f"}) {
        auto draft = draft_of({"true"});
        draft.spec.mutable_task()->set_name(name);
        CHECK_FALSE(complete(draft, surroundings()));
    }
    auto mismatch = draft_of({"true"});
    REQUIRE(rule_of("array").set(mismatch, "1-3"));
    REQUIRE(set_element_values(mismatch, "V", {"a", "b"}));
    CHECK_FALSE(complete(mismatch, surroundings()));
    auto recursive = draft_of({"true"});
    recursive.spec.mutable_task()->set_cwd("/x/%{CWD}");
    CHECK_FALSE(complete(recursive, surroundings()));
}

TEST_CASE("check: programs, directories and files are looked for", "[cli]") {
    Scratch scratch;
    const auto plain = scratch.write("plain", "x");
    const auto script = scratch.write("own-script", "#!/bin/sh\n", 0755);
    const auto message = [&](JobDraft draft) -> std::string {
        auto where = surroundings();
        where.cwd = scratch.path;
        REQUIRE(complete(draft, where));
        const auto checked = check(draft.spec);
        return checked ? "" : checked.error().message;
    };
    CHECK(message(draft_of({"true"})).empty());
    CHECK(message(draft_of({"./own-script"})).empty());
    CHECK(message(draft_of({script})).empty());
    CHECK(message(draft_of({"no-such-program"})).find("in PATH") != std::string::npos);
    CHECK(message(draft_of({"own-script"})).find("write ./own-script") != std::string::npos);
    CHECK(message(draft_of({"./missing"})).find("does not exist") != std::string::npos);
    CHECK(message(draft_of({scratch.path})).find("is a directory") != std::string::npos);
    if (geteuid() != 0) CHECK(message(draft_of({plain})).find("chmod +x") != std::string::npos);
    const auto with = [&](const char* field, const std::string& text) {
        auto draft = draft_of({"true"});
        REQUIRE(rule_of(field).set(draft, text));
        return message(std::move(draft));
    };
    CHECK(with("output", "new/dirs/%j.txt").empty());
    CHECK(with("output", "none").empty());
    CHECK(with("output", "/dev/null").empty());
    CHECK(with("output", "/dev/null/foo").find("output: ") == 0);
    CHECK(with("output", plain + "/%j").find("output: ") == 0);
    CHECK(with("output", scratch.path).find("is a directory") != std::string::npos);
    CHECK(with("error", "/dev/null/nothing/here").find("error: ") == 0);
    CHECK(with("input", "missing.txt").find("input: ") == 0);
    CHECK(with("input", plain).empty());
    CHECK(with("cwd", "/no/such/dir").find("cwd: ") == 0);
}

TEST_CASE("scripts: #REEVE lines up to the first command", "[cli]") {
    const auto words = script_directives(
        "#!/bin/sh\n# a comment\n#REEVE -c 2 --name 'a b'\n\n"
        "#REEVE --mem 4G\n#REEVES no\necho\n#REEVE --hold\n");
    REQUIRE(words);
    CHECK(*words == Words{"-c", "2", "--name", "a b", "--mem", "4G"});
    CHECK_FALSE(script_directives("#REEVE --name 'open\n"));
    CHECK(script_directives("")->empty());
    CHECK(script_directives("#REEVE")->empty());
}

TEST_CASE("prepare: scripts, files and words become jobs", "[cli]") {
    Scratch scratch;
    Words warnings;
    SubmitOptions options;
    options.words = {scratch.write("s.sh", "#!/bin/sh\necho\n", 0755), "x"};
    auto drafts = prepare(options, warnings);
    REQUIRE(drafts);
    CHECK(drafts->front().spec.task().argv(1) == "x");
    CHECK(drafts->front().spec.task().name() == "s.sh");

    options.words = {scratch.write("plain.sh", "echo\n")};
    drafts = prepare(options, warnings);
    REQUIRE(drafts);
    CHECK(drafts->front().spec.task().argv(0) == "/bin/sh");

    options.words = {scratch.write("two.json", "[{\"command\":\"true\"},{\"command\":\"true\"}]")};
    options.values = {{&rule_of("key"), "k"}};
    drafts = prepare(options, warnings);
    REQUIRE(drafts);
    CHECK((*drafts)[1].spec.key() == "k#1");
    options.values = {{&rule_of("priority"), "3"}};
    const auto mixed = prepare(options, warnings);
    REQUIRE_FALSE(mixed);
    CHECK(mixed.error().message.find("--priority does not go with a job file") == 0);

    options = {};
    options.words = {"sleep", "10"};
    const auto words = prepare(options, warnings);
    REQUIRE_FALSE(words);
    CHECK(words.error().message.find("reeve submit -- sleep 10") != std::string::npos);
}

TEST_CASE("prepare: parameters make arrays or all combinations", "[cli]") {
    Words warnings;
    SubmitOptions options;
    options.command = {"echo", "lr={lr}", "{seed}"};
    options.separated = true;
    options.parameters = {"lr=0.1,0.01"};
    auto drafts = prepare(options, warnings);
    REQUIRE(drafts);
    REQUIRE(drafts->size() == 1);
    CHECK(drafts->front().spec.task().element_variable() == "lr");
    CHECK(drafts->front().spec.task().argv(2) == "exec echo lr=\"$lr\" '{seed}'");
    options.parameters = {"lr=0.1,0.01", "seed=1,2,3"};
    drafts = prepare(options, warnings);
    REQUIRE(drafts);
    REQUIRE(drafts->size() == 6);
    CHECK((*drafts)[5].spec.task().argv(1) == "lr=0.01");
    CHECK((*drafts)[5].spec.task().argv(2) == "3");
    for (const Words& wrong : {Words{"lr"}, Words{"=1"}, Words{"a=1", "a=2"}, Words{"1a=1"}}) {
        options.parameters = wrong;
        CHECK_FALSE(prepare(options, warnings));
    }
}

TEST_CASE("placeholder_warnings: unknown ones and files all elements share", "[cli]") {
    JobDraft draft = draft_of({"true"});
    auto* task = draft.spec.mutable_task();
    task->set_output("/o/%j.%a.%x.%u.%N.%A.%%.%{JOB_ID}");
    CHECK(placeholder_warnings(draft.spec).empty());
    task->set_output("/o/%q/%{NOPE}/%");
    CHECK(placeholder_warnings(draft.spec).size() == 3);
    task->set_output("/o/same.txt");
    CHECK(placeholder_warnings(draft.spec).empty());
    auto* range = draft.spec.add_elements();
    range->set_first(1);
    range->set_last(5);
    CHECK(placeholder_warnings(draft.spec).size() == 1);
    task->set_output("/o/%{TASK_ID}.txt");
    CHECK(placeholder_warnings(draft.spec).empty());
    // Below the working directory, where each element has its own.
    task->set_cwd("/w/%a");
    for (const char* path : {"same.txt", "%{CWD}/same.txt"}) {
        task->set_output(path);
        CHECK(placeholder_warnings(draft.spec).empty());
    }
    task->set_error("/o/same.txt");
    REQUIRE(placeholder_warnings(draft.spec).size() == 1);
    CHECK(placeholder_warnings(draft.spec)[0] ==
          "error: all 5 elements write /o/same.txt; add %a to give each its own file");
    task->set_cwd("/w/%j");
    CHECK(placeholder_warnings(draft.spec).size() == 2);
}

TEST_CASE("expand_path: every placeholder, unknown ones stay", "[cli]") {
    const PathFacts facts{12, 3, 2, 0, "gpu1", "/w"};
    CHECK(expand_path("%j.%a.%A.%x.%N.%{CWD}/%{JOB_ID}%{TASK_ID}%{ATTEMPT}%{INSTANCE_ID}", facts) ==
          "12.3.12.2.gpu1./w/12322");
    CHECK(expand_path("100%% %q %{NOPE} %{open %", facts) == "100% %q %{NOPE} %{open %");
    CHECK(expand_path("", facts).empty());
}

TEST_CASE("progress_line: fits the width and counts right", "[cli]") {
    JobStates jobs;
    jobs[1].set_elements(200);
    jobs[1].set_succeeded(50);
    jobs[1].set_failed(50);
    jobs[1].set_running(4);
    const auto line = progress_line(jobs, 1, 10'000'000'000, 100);
    CHECK(line.find("50% 100/200, 4 running, 50 failed, 10.0s left") != std::string::npos);
    for (std::size_t width = 1; width < 120; ++width) {
        CHECK(progress_line(jobs, 1, 1'000'000'000, width).size() <= width + 3);
    }
    CHECK_FALSE(progress_line({}, 1, 0, 80).empty());
}

}  // namespace reeve::cli
